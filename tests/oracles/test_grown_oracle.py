"""Grown networks as an oracle: shared beginnings, repeatable, searched, extracted."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnas
from jaxnas.children.count import count_costs
from jaxnas.core.errors import UserError
from jaxnas.core.types import FAILED, OK
from jaxnas.oracles import grown
from jaxnas.oracles.child import Fidelity
from jaxnas.oracles.grown import GrownOracle, Recent
from jaxnas.registry import make_algorithm, make_oracle, make_space
from jaxnas.testing.oracles import GROWTH

SPACE = make_space("grown", **GROWTH)
ROW = np.array([1, 2], np.int32)


def oracle(**options):
    return GrownOracle(
        SPACE, **{"epochs": 1, "begin": 1, "limit": 80, "batch": 16, **options}
    )


@pytest.mark.slow
def test_beginnings_are_shared_and_change_no_bit(monkeypatch):
    asked, calls = oracle(), []
    real = grown._program

    def counted(*settings):
        program = real(*settings)
        return lambda *given: calls.append(1) or program(*given)

    monkeypatch.setattr(grown, "_program", counted)
    grown.BEGUN.clear()
    alone = asked.measure(ROW)
    assert (len(calls), alone.status) == (3, OK)
    assert len(alone.curves["val_accuracy"]) == 3
    asked.measure(np.array([1, 3], np.int32))
    assert len(calls) == 4  # one action more than what is known
    assert asked.select("val_loss").measure(ROW).metrics == alone.metrics
    assert len(calls) == 4
    assert (
        real(SPACE.for_images((8, 8, 1), 10).limits, asked.training(0))._cache_size() == 1
    )
    grown.BEGUN.clear()
    again = asked.measure(ROW)
    assert again.metrics == alone.metrics
    assert again.curves == alone.curves
    other = dataclasses.replace(asked, seed=1).measure(ROW)
    assert other.metrics["val_loss"] != alone.metrics["val_loss"]


@pytest.mark.slow
def test_what_was_trained_is_the_network_of_the_spec():
    """The network that export and validation get scores as the growth did."""
    asked = oracle()
    child, variables, curves = asked.train(ROW)
    data = asked.images
    logits = jax.jit(child.apply)(variables, jnp.asarray(data.x_val))
    right = np.mean(np.argmax(np.asarray(logits), 1) == data.y_val)
    assert right == pytest.approx(float(curves.val_accuracy[-1]), abs=1e-6)
    sizes = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
    assert sizes == count_costs(asked.spec(ROW)).params


@pytest.mark.slow
def test_diverged_growth_is_a_failure():
    found = oracle(lr=1e30).measure(ROW)
    assert found.status == FAILED
    assert np.isnan(found.metrics["val_accuracy"])


def test_little_is_held():
    held = Recent(100)
    for name in "abc":
        held.put(name, np.zeros(10, np.float32))
        held.get("a")
    assert ["a" in held, "b" in held, "c" in held, held.used] == [True, False, True, 80]
    held.put("large", np.zeros(100, np.float32))
    assert ("large" in held, held.used) == (False, 0)


def test_ids_name_what_changes_the_numbers():
    base = oracle()
    changed = {"begin": 2, "epochs": 2, "size": "channels:3", "levels": (Fidelity(2),)}
    ids = {dataclasses.replace(base, **{k: v}).id for k, v in changed.items()}
    assert len(ids | {base.id}) == 5
    assert base.id.startswith("grown-v1(child-v1(")


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"begin": 0}, "begin=1"),
        ({"route": "exact"}, "one route and not 'exact'"),
        ({"size": "stages:2"}, "channels"),
        ({"space": make_space("toy")}, "do not grow; use a space such as grown"),
    ],
)
def test_refusals_are_one_sentence(options, word):
    with pytest.raises(UserError, match=word):
        make_oracle("grown", **{"space": SPACE, "limit": 80, **options})


@pytest.mark.slow
@pytest.mark.parametrize("name", ["random", "evolution", "reinforce", "ppo"])
def test_every_method_searches_growth(name, tmp_path):
    asked = oracle()
    options = {} if name == "random" else {"batch": 4} if name != "evolution" else {}
    algorithm = make_algorithm(name, space=asked.space, **options)
    result = jaxnas.search(algorithm, asked, budget=8, store=tmp_path / "store.sqlite")
    best = result.best(1)[0]
    found = asked.measure(np.array(best["tokens"], np.int32)).metrics
    assert best["val_accuracy"] == pytest.approx(found["val_accuracy"], rel=1e-6)
