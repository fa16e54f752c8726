"""Candidates go from tokens to chips; nothing is measured twice."""

import importlib.util
import json

import numpy as np
import pytest

from jaxnas.analog.bridge.jobs import INSTALL
from jaxnas.core.errors import UserError
from jaxnas.handoff.validate import FILE, Settings, read_validation, validate
from jaxnas.oracles.child import ChildOracle
from jaxnas.report.say import validation_section as section
from jaxnas.testing.tiny import TinyNets

CANDIDATES = [np.array([1, 0], np.int32), np.array([2, 2], np.int32)]
needs_aihwkit = pytest.mark.skipif(
    importlib.util.find_spec("aihwkit") is None,
    reason=f"aihwkit is not installed; {INSTALL}",
)


def oracle(**options):
    return ChildOracle(TinyNets(), **{"epochs": 8, "limit": 400, **options})


@pytest.mark.slow
@needs_aihwkit
def test_candidates_end_in_one_record(tmp_path):
    settings = Settings(epochs=2, repetitions=4, draws=5)
    events = []
    made = validate(oracle(), CANDIDATES, tmp_path, settings, events.append)
    assert made == read_validation(tmp_path)
    for row, tokens in zip(made["candidates"], CANDIDATES, strict=True):
        assert row["tokens"] == tokens.tolist()
        # torch and flax evaluate the same network on the same images.
        assert row["digital"] == pytest.approx(row["training"]["test_accuracy"], abs=0.011)
        chips, simulated = np.array(row["aihwkit"]), np.array(row["simulated"])
        assert chips.shape == (4, 4)
        assert simulated.shape == (5, 4)
        # A coarse agreement: same weights, same model; 4 and 5 chips.
        np.testing.assert_allclose(chips.mean(0), simulated.mean(0), atol=0.15)
        assert min(chips.mean(0)[0], simulated.mean(0)[0]) > 0.2
    assert {"probe", "train", "epoch", "repetition", "simulate"} <= {
        e["event"] for e in events
    }
    folders = [tmp_path / row["folder"] for row in made["candidates"]]
    stamps = [(f / "metrics.json").stat().st_mtime_ns for f in folders]
    again = validate(oracle(), CANDIDATES, tmp_path, settings)
    assert [(f / "metrics.json").stat().st_mtime_ns for f in folders] == stamps
    timeless = lambda row: {k: v for k, v in row.items() if not k.endswith("_s")}
    assert list(map(timeless, again["candidates"])) == list(
        map(timeless, made["candidates"])
    )
    other = validate(oracle(), CANDIDATES[:1], tmp_path, Settings(epochs=0, repetitions=1))
    assert (folders[0] / "metrics.json").stat().st_mtime_ns != stamps[0]
    assert other["candidates"][0]["losses"] == []
    assert other["candidates"][0]["p_values"] == [None] * 4
    drawing = section.draw(made)
    assert drawing.name == "validation"
    assert b"<svg" in drawing.svg


def test_no_aihwkit_is_one_sentence_before_any_training(tmp_path):
    with pytest.raises(UserError, match="cannot be started"):
        validate(oracle(), CANDIDATES, tmp_path, Settings(python=str(tmp_path / "none")))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "word"),
    [("{", "run 'jaxnas validate' again"), ('{"format": "other"}', "'other'")],
)
def test_a_damaged_record_is_refused(tmp_path, text, word):
    assert read_validation(tmp_path) is None
    (tmp_path / FILE).write_text(text)
    with pytest.raises(UserError, match=word):
        read_validation(tmp_path)


@pytest.mark.parametrize(
    "options", [{"repetitions": 0}, {"epochs": -1}, {"times": ()}, {"times": (-1.0,)}]
)
def test_settings_are_checked(options):
    with pytest.raises(UserError, match=r"at least|seconds"):
        Settings(**options)


def test_tables_say_what_was_measured(tmp_path):
    row = {
        "tokens": [1, 0], "folder": "x", "digital": 0.9, "losses": [0.1], "tiles": 3,
        "aihwkit": [[0.8, 0.6], [0.9, 0.7]], "simulated": [[0.85, 0.65]],
        "p_values": [None, 0.25], "aihwkit_cpu_s": 1.0, "simulator_cpu_s": 2.0,
        "training": {"params": 10, "flops": 20, "val_accuracy": 0.91, "test_accuracy": 0.9},
    }  # fmt: skip
    record = {
        "format": "jaxnas-validation-1", "oracle": "child-v1(x)", "data": "digits",
        "test_images": 50, "times": [60.0, 2592000.0], "preset": "ibm-benchmark",
        "epochs": 3, "versions": {"torch": "2.13.0"}, "candidates": [row],
    }  # fmt: skip
    (tmp_path / FILE).write_text(json.dumps(record))
    table = section.table(read_validation(tmp_path))
    assert table.columns[3:5] == ("1 min (%)", "30 days (%)")
    kit, jax_row, difference = table.rows
    assert kit[3:6] == ("85.00 ± 7.07", "65.00 ± 7.07", "20.00")
    assert jax_row[3:6] == ("85.00", "65.00", "20.00")  # one chip has no spread
    assert difference[3:5] == ("no test", "0.25")
    assert "3 epochs" in table.note
    assert "one below" not in table.note  # of a single test
    assert section.costs(record).rows[0][1:4] == ("10", "20", "3")
    assert section.summary(record)[0]["aihwkit"] == pytest.approx([0.85, 0.65])
