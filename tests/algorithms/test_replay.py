"""PPO with replay and DyNA-PPO: what they remember, and that they ask nothing twice."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnas
from jaxnas.algorithms import history as hs
from jaxnas.core import tokens as tk
from jaxnas.core.errors import UserError
from jaxnas.core.types import FAILED, OK, Evaluation, Proposal
from jaxnas.testing.tiny import TinyNets

SPACE = jaxnas.make_space("nb201")
FAST = {
    "ppo-replay": {"hidden": 16, "steps": 2},
    "dyna-ppo": {"hidden": 16, "steps": 2, "samples": 8, "candidates": 32},
}


def asked(result, seed=0):
    """Returns the architectures of a seed, in order."""
    return result.arrays["tokens"][seed][: result.arrays["count"][seed]]


def evaluation(reward, status):
    zero = jnp.zeros(len(reward), jnp.float32)
    return Evaluation(reward[:, None], zero, zero, status, reward)


def test_unseen_is_what_a_python_set_says():
    known = jax.random.randint(jax.random.key(0), (20, 2), 0, 4)
    tokens = jax.random.randint(jax.random.key(1), (30, 2), 0, 4)
    found = hs.unseen(tokens, known, jnp.int32(7))
    seen = {tuple(map(int, row)) for row in known[:7]}
    for row, new in zip(tokens, found, strict=True):
        assert bool(new) == (tuple(map(int, row)) not in seen)
        seen.add(tuple(map(int, row)))
    assert 0 < int(found.sum()) < len(tokens)


def test_rank_scores_know_the_order_only():
    """Equal for any increasing function of the rewards; those not held have none."""
    reward = jax.random.normal(jax.random.key(0), (200,))
    held = jnp.arange(200) < 150
    scores = hs.rank_scores(reward, held)
    np.testing.assert_array_equal(scores, hs.rank_scores(jnp.exp(3 * reward), held))
    assert (np.asarray(scores)[150:] == 0).all()
    mine = np.asarray(scores)[:150]
    assert (np.argsort(mine) == np.argsort(np.asarray(reward)[:150])).all()
    assert abs(mine.mean()) < 0.02
    assert 0.9 < mine.std() < 1.1


def test_the_history_is_a_ring_without_failures():
    history = hs.empty(3, 2, 4)
    wrote = (jnp.ones((2, 2, 4), bool), jnp.zeros((2, 2)))
    for i, status in enumerate([(OK, FAILED), (OK, OK), (OK, OK)]):
        tokens = jnp.full((2, 2), i, jnp.int32)
        active = jnp.array([True, i != 1])
        proposal = Proposal(tokens, jnp.zeros(2, jnp.int32), active)
        told = evaluation(jnp.array([10.0 * i, 10.0 * i + 1]), jnp.array(status))
        history = hs.record(history, *wrote, proposal, told)
    assert int(history.told) == 5
    # Told: 0, a failure, 10, 20, 21; an inactive lane takes no place.
    np.testing.assert_array_equal(history.reward, [20.0, 21.0, 10.0])
    np.testing.assert_array_equal(history.tokens[:, 0], [2, 2, 1])


@pytest.mark.parametrize("objective", ["clip", "weigh", "imitate", "match"])
def test_every_objective_learns_what_is_best(objective):
    """Count of one operation, which is 1.2 in uniform architectures.

    The mean over queries 80 to 100 is above 1.8 for every one of 8 seeds; for uniform draws
    that is 2.7 standard deviations each.
    """
    oracle = jaxnas.oracle(
        lambda t: jnp.sum(t == 2).astype(jnp.float32), SPACE, traced=True
    )
    options = {"hidden": 16, "objective": objective, "capacity": 128}
    settings = {"sharpness": 2.0, "entropy": 0.2 if objective == "imitate" else 0.02}
    algo = jaxnas.make_algorithm("ppo-replay", space=SPACE, **options)
    result = jaxnas.search(algo, oracle, budget=100, seeds=8, hparams=settings)
    late = np.asarray(result.arrays["objectives"])[:, 80:, 0].mean(axis=1)
    assert (late > 1.8).all(), late


@pytest.mark.parametrize(
    "name", ["ppo-replay", pytest.param("dyna-ppo", marks=pytest.mark.slow)]
)
def test_nothing_is_asked_twice_and_failures_stop_nothing(name):
    """A third of all architectures fail."""

    def value(tokens):
        return jnp.where(tokens[0] % 3 == 0, jnp.nan, jnp.sum(tokens) / 1.0)

    oracle = jaxnas.oracle(value, SPACE, traced=True)
    algo = jaxnas.make_algorithm(name, space=SPACE, batch=3, **FAST[name])
    result = jaxnas.search(algo, oracle, budget=30, seeds=2)
    assert (result.arrays["proposals"] == 30).all()
    for seed in range(2):
        assert len(np.unique(asked(result, seed), axis=0)) == 30
    entropy = np.asarray(result.arrays["metric_entropy"])[:, 5:10]
    assert np.isfinite(entropy).all()


@pytest.mark.parametrize(
    "name", ["ppo-replay", pytest.param("dyna-ppo", marks=pytest.mark.slow)]
)
def test_a_small_space_is_asked_to_its_last_member(name):
    space = TinyNets()
    total = tk.count(space)
    oracle = jaxnas.oracle(lambda t: jnp.sum(t) / 1.0, space, traced=True)
    algo = jaxnas.make_algorithm(name, space=space, batch=2, **FAST[name])
    result = jaxnas.search(algo, oracle, budget=total, max_proposals=4 * total)
    assert len(np.unique(asked(result), axis=0)) == total


def test_the_bonus_follows_its_target():
    """Rises where the entropy is below the target, falls where it is above."""
    oracle = jaxnas.make_oracle("analog-nasbench", space=SPACE, objective="ptq")
    algo = jaxnas.make_algorithm("ppo-replay", space=SPACE, hidden=16)
    last = []
    for target in (0.1, 1.55):
        settings = {"hparams": {"target": target, "entropy": 0.05}}
        result = jaxnas.search(algo, oracle, budget=60, seeds=4, **settings)
        last.append(np.asarray(result.arrays["metric_bonus"])[:, 29])
    assert (last[0] < 0.05).all()
    assert (last[1] > 0.05).all()


@pytest.mark.slow
def test_dyna_needs_fewer_queries_than_evolution():
    """Eight seeds, 60 queries of a tuning objective: lower regret, p < 0.01 by rank sum."""
    from scipy.stats import mannwhitneyu

    oracle = jaxnas.make_oracle("analog-nasbench", space=SPACE, objective="digital")
    best = {}
    for name in ("dyna-ppo", "evolution"):
        algo = jaxnas.make_algorithm(name, space=SPACE)
        best[name] = jaxnas.search(algo, oracle, seeds=8, budget=60).curve[:, -1]
    assert mannwhitneyu(*best.values(), alternative="greater").pvalue < 0.01


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("ppo-replay", {"objective": "guess"}, "must be in"),
        ("ppo-replay", {"batch": 40}, "its batch of 40"),
        ("dyna-ppo", {"candidates": 1, "batch": 2}, "its batch of 2"),
        ("dyna-ppo", {"rollouts": 0}, "DyNA-PPO needs positive"),
        ("dyna-ppo", {"capacity": 4096}, "Model-based search needs"),
    ],
)
def test_sizes_that_cannot_be_are_refused(name, options, said):
    with pytest.raises(UserError, match=said):
        jaxnas.make_algorithm(name, space=SPACE, **options)
