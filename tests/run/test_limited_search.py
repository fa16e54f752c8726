"""Searches under constraints: what is handled, recorded, recommended and resumed."""

import jax.numpy as jnp
import numpy as np
import pytest

import jaxnas
from jaxnas.core.constraints import HANDLINGS, make_handling
from jaxnas.core.errors import UserError
from jaxnas.run import waves
from jaxnas.testing.fakes import OnHost

SPACE = jaxnas.make_space("toy")
LIMITS = ("layers<=2", "flops<=80")
ORACLE = jaxnas.make_oracle("toy", space=SPACE, constraints=LIMITS)
COLUMNS = ORACLE.columns()
SAME = ("curve", "tokens", "objectives", "violation", "limited", "best_tokens", "best_true")


def run(handling="penalty", oracle=ORACLE, name="evolution", **options):
    algo = jaxnas.make_algorithm(name, space=SPACE, batch=2)
    options = {"budget": 24, "seeds": 4, "chunk": 2, **options}
    return jaxnas.search(algo, oracle, handling=handling, **options)


def assert_same(a, b, names=SAME):
    for name in names:
        np.testing.assert_array_equal(a.arrays[name], b.arrays[name], err_msg=name)


def rows_of(tokens):
    from jaxnas.core import tokens as tk

    members = tk.enumerate_space(SPACE)
    return np.argmax((members[None] == tokens[:, None]).all(axis=-1), axis=1)


@pytest.mark.parametrize("handling", HANDLINGS)
def test_each_limited_metric_of_each_query_is_recorded(handling):
    found = run(handling).arrays
    asked = np.arange(24) < found["count"][:, None]
    rows = rows_of(found["tokens"][asked])
    expected = np.stack([COLUMNS["layers"][rows], COLUMNS["flops"][rows]], axis=1)
    np.testing.assert_allclose(found["limited"][asked], expected)
    assert np.isnan(found["limited"][~asked]).all()
    over = np.maximum(expected / np.array([2, 80]) - 1, 0).sum(axis=1)
    np.testing.assert_allclose(found["violation"][asked], over, atol=1e-6)


@pytest.mark.parametrize("handling", HANDLINGS)
def test_only_what_is_feasible_is_recommended(handling):
    result = run(handling)
    known = np.isfinite(result.arrays["best_true"])
    assert known.any()
    rows = rows_of(result.arrays["best_tokens"][known])
    assert (COLUMNS["layers"][rows] <= 2).all()
    assert (COLUMNS["flops"][rows] <= 80).all()
    np.testing.assert_allclose(
        result.arrays["best_true"][known], COLUMNS["score"][rows], rtol=1e-6
    )


@pytest.mark.parametrize("handling", HANDLINGS)
def test_the_host_path_gives_the_same(handling):
    """Violations up to the rounding of a sum that another program makes."""
    fused, split = run(handling), run(handling, OnHost(ORACLE))
    assert_same(fused, split, [name for name in SAME if name != "violation"])
    a, b = fused.arrays["violation"], split.arrays["violation"]
    np.testing.assert_allclose(a, b, rtol=1e-6)


@pytest.mark.parametrize("oracle", [ORACLE, OnHost(ORACLE)], ids=["fused", "split"])
@pytest.mark.parametrize("handling", ["lagrangian", "feasible-first"])
def test_what_a_handling_remembers_is_resumed(handling, oracle, tmp_path, monkeypatch):
    monkeypatch.setattr(waves, "CHECKPOINT_EVERY_S", 0.0)
    left = [3]

    def interrupt(event):
        left[0] -= event["event"] == "progress"
        if left[0] == 0:
            raise KeyboardInterrupt

    whole = run(handling, oracle)
    with pytest.raises(KeyboardInterrupt):
        run(handling, oracle, out=tmp_path / "a", callbacks=[interrupt])
    seen = []
    again = run(handling, oracle, out=tmp_path / "a", callbacks=[seen.append])
    assert seen[0]["update"] > 0
    assert_same(whole, again)


def test_handlings_differ_and_are_part_of_the_configuration(tmp_path):
    found = {name: run(name).arrays["tokens"] for name in HANDLINGS}
    assert len({array.tobytes() for array in found.values()}) > 1
    config = run("lagrangian", out=tmp_path / "a").config
    assert config["handling"]["name"] == "lagrangian"
    assert config["limits"] == [["layers", "<=", 2.0], ["flops", "<=", 80.0]]
    with pytest.raises(UserError, match=r"handling\.step"):
        run(make_handling("lagrangian", step=3.0), out=tmp_path / "a")
    free = run(oracle=jaxnas.make_oracle("toy", space=SPACE))
    assert "limited" not in free.arrays
    assert "handling" not in free.config


def test_a_handling_reaches_what_the_method_learns_from():
    """One proposal through the budget: rewards by hand."""
    tokens = jnp.asarray([[0, 0, 0, 0], [1, 2, 1, 2], [0, 1, 0, 0]], jnp.int32)
    lanes = jnp.zeros(3, jnp.int32), jnp.ones(3, bool)
    import jax

    rewards = {}
    for name in HANDLINGS:
        book = jaxnas.budgeted(ORACLE, 8, handling=make_handling(name))
        params = book.params()
        state = book.init(jax.random.key(0), params)
        _, found = book.evaluate(jax.random.key(0), params, state, tokens, *lanes)
        rewards[name] = np.asarray(found.reward)
    value = COLUMNS["score"][rows_of(np.asarray(tokens))]
    over = float(found.violation[1])
    assert over > 0
    for name, expected in {
        "penalty": value[1] - 100 * over, "death": -1000.0, "lagrangian": value[1] - over,
        "feasible-first": value[[0, 2]].min() - over,
    }.items():  # fmt: skip
        np.testing.assert_allclose(rewards[name], [value[0], expected, value[2]], rtol=1e-5)
