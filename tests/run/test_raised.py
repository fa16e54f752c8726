"""A raised budget: the bits of a run that had it from the start, and nothing ever lost."""

import functools
import json
import os
import shutil

import methods
import numpy as np
import pytest

import jaxnas
from jaxnas import registry
from jaxnas.core.errors import UserError
from jaxnas.data.formats.npz import read_npz
from jaxnas.data.store.packed import pack
from jaxnas.report.read.load import load
from jaxnas.run import raised, store, waves
from jaxnas.testing.fakes import OnHost

TOY = jaxnas.make_oracle("toy", space=methods.SPACE)
SHORT = {"budget": 12, "max_proposals": 24, "seeds": 3, "chunk": 2}
LONG = {**SHORT, "budget": 20, "max_proposals": 40}
FILES = ("results.npz", "archive.npz", "policies.npz")


def assert_same_run(a, b):
    """Every array that two directories hold has the same bits."""
    for name in FILES:
        assert (a / name).exists() == (b / name).exists()
        if (a / name).exists():
            x, y = read_npz(a / name), read_npz(b / name)
            assert x.keys() == y.keys()
            for part in x:
                np.testing.assert_array_equal(x[part], y[part], err_msg=f"{name} {part}")


def evolution():
    return methods.make("evolution", None)


@pytest.fixture
def short(tmp_path):
    """A finished run of the smaller budget."""
    jaxnas.search(evolution(), TOY, out=tmp_path / "run", **SHORT)
    return tmp_path / "run"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that had the larger budget from the start."""
    path = tmp_path_factory.mktemp("whole") / "run"
    jaxnas.search(evolution(), TOY, out=path, **LONG)
    return path


def stop_after(number, event):
    """Ctrl-C at the n-th progress event; ``number`` is a list of one."""
    if event["event"] == "progress":
        number[0] -= 1
        if not number[0]:
            raise KeyboardInterrupt


def test_a_raised_run_is_the_longer_run(short, whole):
    before = read_npz(short / "results.npz")["tokens"]
    found = raised.raise_budget(evolution(), TOY, out=short, **LONG)
    assert_same_run(whole, short)
    assert found.path == short
    assert not (short / store.RAISING).exists()
    after = read_npz(short / "results.npz")["tokens"]
    np.testing.assert_array_equal(after[:, : before.shape[1]], before)
    again = jaxnas.search(evolution(), TOY, out=short, **LONG)
    np.testing.assert_array_equal(again.arrays["curve"], found.arrays["curve"])
    assert raised.raise_budget(evolution(), TOY, out=short, **LONG).path == short


def test_final_states_could_not_have_gone_on(short, whole):
    """What a spent budget cuts short is seen: proposals of the last update differ."""
    a, b = (read_npz(p / "results.npz") for p in (short, whole))
    assert (a["count"] == SHORT["budget"]).any()
    updates = a["metric_queries"].shape[1]
    assert not np.array_equal(a["metric_queries"], b["metric_queries"][:, :updates])


class Counted:
    """Counts what a host oracle is asked."""

    def __init__(self, monkeypatch):
        self.asked = []
        inner = OnHost.evaluate

        def evaluate(oracle, key, params, state, tokens, fidelity, active):
            self.asked += [tuple(row) for row in np.asarray(tokens)[np.asarray(active)]]
            return inner(oracle, key, params, state, tokens, fidelity, active)

        monkeypatch.setattr(OnHost, "evaluate", evaluate)


def test_a_host_oracle_is_asked_only_what_is_new(tmp_path, monkeypatch, whole):
    oracle, counted = OnHost(TOY), Counted(monkeypatch)
    jaxnas.search(evolution(), oracle, out=tmp_path / "a", **SHORT)
    known = set(counted.asked)
    counted.asked.clear()
    raised.raise_budget(evolution(), oracle, out=tmp_path / "a", **LONG)
    assert counted.asked
    assert not known & set(counted.asked)
    assert len(set(counted.asked)) == len(counted.asked)
    assert_same_run(whole, tmp_path / "a")
    made = json.loads((tmp_path / "a/provenance.json").read_text())["evaluations"]
    assert made["evaluations"] == len(known) + len(counted.asked)


def test_without_answers_it_says_so_and_asks_again(tmp_path, whole):
    """A run of an earlier jaxnas left none."""
    oracle, heard = OnHost(TOY), []
    jaxnas.search(evolution(), oracle, out=tmp_path / "a", **SHORT)
    (tmp_path / "a/answers.npz").unlink()
    raised.raise_budget(
        evolution(), oracle, out=tmp_path / "a", callbacks=[heard.append], **LONG
    )
    assert any("evaluated again" in event.get("text", "") for event in heard)
    assert_same_run(whole, tmp_path / "a")


@pytest.mark.parametrize("moment", [1, 4])
def test_an_interrupted_raise_loses_nothing_and_goes_on(
    short, whole, moment, monkeypatch, tmp_path
):
    monkeypatch.setattr(waves, "CHECKPOINT_EVERY_S", 0.0)
    before = (short / "results.npz").read_bytes()
    stop = functools.partial(stop_after, [moment])
    with pytest.raises(KeyboardInterrupt):
        raised.raise_budget(evolution(), TOY, out=short, callbacks=[stop], **LONG)
    assert (short / "results.npz").read_bytes() == before
    assert jaxnas.load_result(short).config["budget"] == SHORT["budget"]
    assert [run.path for run in load(short.parent)] == [short]
    assert not [name for name in pack(short, tmp_path / "a.zip") if store.RAISING in name]
    with pytest.raises(UserError, match="being raised to a budget of 20"):
        raised.raise_budget(evolution(), TOY, out=short, **{**LONG, "budget": 16})
    heard = []
    raised.raise_budget(evolution(), TOY, out=short, callbacks=[heard.append], **LONG)
    assert heard[0]["update"] > 0, "it goes on from the checkpoint"
    assert_same_run(whole, short)


def test_an_interrupted_run_is_finished_and_raised(tmp_path, whole, monkeypatch):
    monkeypatch.setattr(waves, "CHECKPOINT_EVERY_S", 0.0)
    stop = functools.partial(stop_after, [2])
    with pytest.raises(KeyboardInterrupt):
        jaxnas.search(evolution(), TOY, out=tmp_path / "a", callbacks=[stop], **SHORT)
    raised.raise_budget(evolution(), TOY, out=tmp_path / "a", **LONG)
    assert_same_run(whole, tmp_path / "a")


@pytest.mark.parametrize("file", ["archive.npz", "results.npz"])
def test_a_process_that_dies_while_files_move_is_finished_later(
    short, whole, file, monkeypatch
):
    replace = os.replace

    def dies(source, target):
        if str(source).endswith(f"{store.RAISING}/{file}"):
            raise KeyboardInterrupt
        return replace(source, target)

    monkeypatch.setattr(os, "replace", dies)
    with pytest.raises(KeyboardInterrupt):
        raised.raise_budget(evolution(), TOY, out=short, **LONG)
    monkeypatch.setattr(os, "replace", replace)
    raised.raise_budget(evolution(), TOY, out=short, **LONG)
    assert_same_run(whole, short)
    assert not (short / store.RAISING).exists()


def test_a_run_that_does_not_repeat_itself_is_left_alone(short):
    arrays = dict(read_npz(short / "results.npz"))
    arrays["tokens"][0, 3, 0] ^= 1
    np.savez(short / "results.npz", **arrays)
    before = (short / "results.npz").read_bytes()
    for _ in range(2):
        with pytest.raises(UserError, match="does not repeat itself"):
            raised.raise_budget(evolution(), TOY, out=short, **LONG)
        assert (short / "results.npz").read_bytes() == before


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"budget": 8}, "can be raised and not lowered to 8"),
        ({"max_proposals": 20}, "can be raised and not lowered to 20"),
        ({"seeds": 4}, "seeds: 3 -> 4"),
        ({"budget": 10**6, "max_proposals": None}, "is more than the"),
        ({"resume": "never"}, "give out"),
    ],
)
def test_refused_by_name(short, changes, words):
    before = sorted(p.name for p in short.iterdir())
    with pytest.raises(UserError, match=words):
        raised.raise_budget(evolution(), TOY, out=short, **{**LONG, **changes})
    assert sorted(p.name for p in short.iterdir()) == before


def test_answers_of_another_oracle_are_refused(tmp_path):
    jaxnas.search(evolution(), OnHost(TOY), out=tmp_path / "a", **SHORT)
    space = jaxnas.make_space("toy", length=methods.SPACE.length - 1)
    other = OnHost(jaxnas.make_oracle("toy", space=space))
    algo = jaxnas.make_algorithm("evolution", space=space, batch=2)
    with pytest.raises(UserError, match="no answers of this oracle"):
        jaxnas.search(algo, other, answers=tmp_path / "a", budget=4)


@pytest.mark.slow
@pytest.mark.parametrize("place", ["compiled", "host"])
@pytest.mark.parametrize("name", registry.names("algorithm"))
def test_every_method(name, place, tmp_path):
    """No schedule of ours depends on the budget, so every method can be raised."""
    oracle = TOY if place == "compiled" else OnHost(TOY)
    algo = methods.make(name, tmp_path)
    jaxnas.search(algo, oracle, out=tmp_path / "whole", **LONG)
    jaxnas.search(algo, oracle, out=tmp_path / "raised", **SHORT)
    raised.raise_budget(algo, oracle, out=tmp_path / "raised", **LONG)
    assert_same_run(tmp_path / "whole", tmp_path / "raised")


@pytest.mark.slow
def test_networks_that_are_trained_are_not_trained_again(tmp_path):
    """Without a store: the answers are the run's own."""
    from jaxnas.oracles.child import ChildOracle
    from jaxnas.testing.tiny import TinyNets

    oracle = ChildOracle(TinyNets(), epochs=1, limit=100)
    algo = jaxnas.make_algorithm("evolution", space=oracle.space, batch=1)
    options = {"seeds": 2, "max_proposals": 12, "chunk": 1}
    jaxnas.search(algo, oracle, out=tmp_path / "a", budget=3, **options)
    shutil.copytree(tmp_path / "a", tmp_path / "kept")
    raised.raise_budget(algo, oracle, out=tmp_path / "a", budget=5, **options)
    old, new = (read_npz(tmp_path / n / "answers.npz") for n in ("kept", "a"))
    first = {tuple(row): v for row, v in zip(old["tokens"], old["cost"], strict=True)}
    again = {tuple(row): v for row, v in zip(new["tokens"], new["cost"], strict=True)}
    assert first.items() <= again.items(), "seconds of training, which a clock measured"
    assert len(again) > len(first)
