"""Histories of finished runs for other tools, read back by those tools' own readers."""

import importlib.util
import json
import struct
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnas
from jaxnas.core import tokens as tk
from jaxnas.core.errors import UserError
from jaxnas.data.formats.npz import read_npz
from jaxnas.report import log
from jaxnas.report.loggers.histories import POINTS, histories, rows
from jaxnas.report.read.load import read_run

SPACE = jaxnas.make_space("toy")
ORACLE = jaxnas.make_oracle("toy", space=SPACE)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Two settings of three controllers."""
    out = tmp_path_factory.mktemp("runs") / "search" / "reinforce"
    algo = jaxnas.make_algorithm("reinforce", space=SPACE, batch=4, hidden=8)
    hparams = {"lr": [0.01, 0.1]}
    jaxnas.search(
        algo, ORACLE, out=out, budget=16, max_proposals=24, seeds=3, hparams=hparams
    )
    return out


def best_of_all():
    """The optimum, by brute force."""
    members = tk.enumerate_space(SPACE)
    params, key = ORACLE.params(), jax.random.key(0)
    lanes = jnp.zeros(len(members), jnp.int32), jnp.ones(len(members), bool)
    state = ORACLE.init(key, params)
    _, found = ORACLE.evaluate(key, params, state, jnp.asarray(members), *lanes)
    return float(np.max(found.objectives))


def assert_of_run(path, setting, found):
    """Scalars ``{name: {step: value}}`` are those of the arrays, computed one by one."""
    arrays = read_npz(path / "results.npz")
    mine = arrays["setting"] == setting
    for step in (1, 9, 16):
        best = []
        for curve in arrays["curve"][mine]:
            known = [v for v in curve[:step] if not np.isnan(v)]
            best.append(float(known[-1]))
        assert found["value/mean"][step] == pytest.approx(sum(best) / 3, rel=1e-5)
        assert found["value/median"][step] == pytest.approx(sorted(best)[1], rel=1e-5)
        if "regret/mean" in found:
            total = found["value/mean"][step] + found["regret/mean"][step]
            assert total == pytest.approx(best_of_all(), rel=1e-5)
    for name in ("entropy", "loss", "queries"):
        column = arrays[f"metric_{name}"][mine]
        there = column[:, 0][~np.isnan(column[:, 0])]
        assert found[f"train/{name}"][1] == pytest.approx(there.mean(), rel=1e-5)


def as_dict(history):
    found = {}
    for _, step, values in rows(history):
        for name, value in values.items():
            found.setdefault(name, {})[step] = value
    return found


def test_histories_are_the_arrays_of_the_run(run):
    made = histories(read_run(run), best_of_all())
    assert [h.hparams["lr"] for h in made] == pytest.approx([0.01, 0.1])
    for history in made:
        found = as_dict(history)
        assert {"regret/mean", "regret/median", "value/q25", "value/q75"} <= set(found)
        assert_of_run(run, history.setting, found)
    assert "regret/mean" not in as_dict(histories(read_run(run), None)[0])


def test_long_curves_keep_their_ends(run):
    data = read_run(run)
    long = np.linspace(0.0, 1.0, 3 * POINTS)[None].repeat(6, axis=0)
    data.results.metrics["long"] = long
    (curve,) = (c for c in histories(data, None)[0].curves if c.name == "train/long")
    assert len(curve.steps) == POINTS
    assert (curve.steps[0], curve.steps[-1]) == (1, 3 * POINTS)
    np.testing.assert_allclose(curve.values, long[0][curve.steps - 1])


class Dead:
    """A logger whose disk is full."""

    @staticmethod
    def write(run, found):
        raise OSError(28, "No space left on device")


def test_a_dead_logger_is_one_sentence(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "dead_logger", Dead)
    monkeypatch.setitem(log.LOGGERS, "dead", ("dead_logger", "json"))
    heard = []
    log.log([run], ["dead"], heard.append)
    assert len(heard) == 1
    assert "No space left on device" in heard[0]
    assert "the run itself is complete" in heard[0]


def test_a_missing_package_is_named_with_its_extra(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for name in ("tensorboard", "wandb"):
        with pytest.raises(UserError, match=rf"pip install 'jaxnas\[{name}\]'"):
            log.check([name])
    with pytest.raises(UserError, match="Did you mean 'wandb'"):
        log.check(["wanb"])


@pytest.mark.external
def test_tensorboard_reads_what_was_written(run):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    heard = []
    for _ in range(2):  # the second time in place of the first
        log.log([run], ["tensorboard"], heard.append)
    assert "tensorboard --logdir" in heard[0], heard
    for setting in (0, 1):
        events = EventAccumulator(str(run / "tensorboard" / f"setting-{setting}"))
        events.Reload()
        found = {
            name: {e.step: e.value for e in events.Scalars(name)}
            for name in events.Tags()["scalars"]
        }
        assert_of_run(run, setting, found)
        assert len(events.Scalars("value/mean")) == 16
    assert not [p for p in run.iterdir() if p.name.startswith(".tensorboard")]


@pytest.mark.external
def test_a_full_disk_is_heard_of(run, monkeypatch):
    """tensorboardX itself would go on in a thread that has ended."""
    from tensorboardX.record_writer import RecordWriter

    inner, heard, room = RecordWriter.write, [], [3]

    def full(self, data):
        room[0] -= 1
        if room[0] < 0:
            raise OSError(28, "No space left on device")
        inner(self, data)

    monkeypatch.setattr(RecordWriter, "write", full)
    log.log([run], ["tensorboard"], heard.append)
    assert "No space left on device" in heard[0]
    assert (run / "tensorboard").is_dir(), "what was there before stays"


def records(file):
    """The records of a file of wandb: a header, then the log format of LevelDB."""
    data, place, parts = file.read_bytes(), 7, []
    assert data[:4] == b":W&B"
    while place + 7 <= len(data):
        left = 32768 - place % 32768
        if left < 7:
            place += left
            continue
        size, kind = struct.unpack_from("<HB", data, place + 4)
        if not kind:
            place += left
            continue
        parts.append(data[place + 7 : place + 7 + size])
        place += 7 + size
        if kind in (1, 4):  # whole, or the last part
            yield b"".join(parts)
            parts = []


@pytest.mark.external
def test_wandb_keeps_a_run_offline(run, monkeypatch):
    """Read back from its file, which ``wandb sync`` sends."""
    from wandb.proto.wandb_internal_pb2 import Record

    monkeypatch.setenv("WANDB_MODE", "offline")
    heard = []
    log.log([run], ["wandb"], heard.append)
    assert heard[0].startswith("reinforce: wandb: "), heard
    files = sorted((run / "wandb").glob("offline-run-*/*.wandb"))
    assert len(files) == 2
    seen = []
    for file in files:
        found, lr = {}, None
        for data in records(file):
            record = Record()
            record.ParseFromString(data)
            if record.WhichOneof("record_type") == "run":
                updates = {u.key: u.value_json for u in record.run.config.update}
                lr = json.loads(updates["hparams"])["lr"]
            if record.WhichOneof("record_type") == "history":
                items = {
                    "/".join(i.nested_key) or i.key: json.loads(i.value_json)
                    for i in record.history.item
                }
                step = items.pop("query", None) or items.pop("update", None)
                for name, value in items.items():
                    found.setdefault(name, {})[step] = value
        seen.append(lr)
        assert_of_run(run, [0.01, 0.1].index(round(lr, 4)), found)
    assert sorted(seen) == pytest.approx([0.01, 0.1])
