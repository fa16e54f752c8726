"""NSGA-II: what survives, what is proposed, and that it finds fronts."""

import jax
import jax.numpy as jnp
import moocore
import numpy as np
import pytest

import jaxnas
from jaxnas.core import tokens as tk
from jaxnas.core.algorithm import ManyObjective, prepare
from jaxnas.core.types import FAILED, OK, Evaluation
from jaxnas.spaces.toy import Toy

SPACE = Toy(length=6, vocab=4)
GOALS = (
    jaxnas.Objective("large", "", True),
    jaxnas.Objective("uneven", "", False),
)


def score(tokens):
    """Two objectives in conflict: the sum, and how much of it stands in front."""
    weight = jnp.arange(1, 7)
    return jnp.array([jnp.sum(tokens), jnp.sum(tokens * weight) / 6.0])


def oracle():
    names = {"large": True, "uneven": False}
    function = lambda tokens: dict(zip(names, score(tokens), strict=True))
    return jaxnas.oracle(function, SPACE, maximise=names, traced=True)


def run(algo, updates, evaluate, seed=0):
    """Proposals and states of a search without budget or run layer."""

    def step(state, key):
        keys = jax.random.split(key, 3)
        state, proposal = algo.ask(keys[0], state)
        evaluation = evaluate(proposal.tokens)
        state = algo.tell(keys[1], state, proposal, evaluation)
        return algo.learn(keys[2], state)[0], (proposal.tokens, evaluation)

    state = algo.init(jax.random.key(seed), algo.default_hparams())
    keys = jax.random.split(jax.random.key(seed + 1), updates)
    return jax.jit(lambda s: jax.lax.scan(step, s, keys))(state)


def evaluated(tokens):
    values = jax.vmap(score)(tokens).astype(jnp.float32)
    zero = jnp.zeros(len(tokens))
    status = jnp.full(len(tokens), OK, jnp.int32)
    return Evaluation(values, zero, zero, status, values[:, 0] - values[:, 1])


def test_only_what_needs_the_objectives_gets_them():
    algo = jaxnas.make_algorithm("nsga2", space=SPACE)
    told = prepare(algo, GOALS)
    assert isinstance(algo, ManyObjective)
    assert told.objectives == GOALS
    assert told.space == SPACE
    plain = jaxnas.make_algorithm("evolution", space=SPACE)
    assert prepare(plain, GOALS) is plain
    with pytest.raises(jaxnas.UserError, match="objectives"):
        jaxnas.make_algorithm("nsga2", space=SPACE, objectives=GOALS)


def test_the_population_is_what_sorting_everything_leaves():
    """While no front overflows, survivors are the whole-history fronts of moocore."""
    algo = jaxnas.make_algorithm("nsga2", space=SPACE, population=60, batch=4)
    algo = prepare(algo, GOALS)
    state, (tokens, evaluation) = run(algo, 60, evaluated)
    points = np.asarray(evaluation.objectives).reshape(-1, 2) * [1, -1]
    first = moocore.is_nondominated(points, maximise=True, keep_weakly=True)
    assert first.sum() < 60
    rows = np.asarray(tokens).reshape(-1, 6)[first]
    kept = np.asarray(state.tokens)[np.asarray(state.rank) == 0]
    assert {tuple(r) for r in rows.tolist()} == {tuple(r) for r in kept.tolist()}
    own = moocore.pareto_rank(np.asarray(state.points), maximise=True)
    np.testing.assert_array_equal(state.rank, own)


def test_nothing_is_proposed_twice_while_there_is_something_new():
    algo = prepare(jaxnas.make_algorithm("nsga2", space=SPACE, batch=8), GOALS)
    _, (tokens, _) = run(algo, 60, evaluated)
    rows = np.asarray(tokens).reshape(-1, 6)
    assert len(np.unique(rows, axis=0)) > 0.99 * len(rows)
    tiny = Toy(length=2, vocab=3)  # fewer than are proposed, and it goes on
    algo = jaxnas.make_algorithm("nsga2", space=tiny, batch=4, population=6)
    _, (tokens, _) = run(algo, 20, lambda t: one_objective(t))
    assert len(np.unique(np.asarray(tokens).reshape(-1, 2), axis=0)) == tk.count(tiny)


def one_objective(tokens):
    zero = jnp.zeros(len(tokens))
    reward = jnp.sum(tokens, axis=1).astype(jnp.float32)
    status = jnp.full(len(tokens), OK, jnp.int32)
    return Evaluation(reward[:, None], zero, zero, status, reward)


def test_a_space_too_large_for_a_bitmap():
    space = Toy(length=14, vocab=4)
    algo = jaxnas.make_algorithm("nsga2", space=space, batch=8, memory=100)
    state, (tokens, _) = run(algo, 40, one_objective)
    first = np.asarray(tokens).reshape(-1, 14)[:100]
    assert len(np.unique(first, axis=0)) == 100
    assert int(state.stored) == 100


def test_with_one_objective_the_best_survive():
    algo = jaxnas.make_algorithm("nsga2", space=SPACE, population=10, batch=8)
    for fitted in (algo, prepare(algo, GOALS[:1])):
        state, (_, evaluation) = run(fitted, 50, one_objective)
        seen = np.sort(np.asarray(evaluation.reward).ravel())[::-1]
        np.testing.assert_allclose(np.sort(state.points[:, 0])[::-1], seen[:10])
        assert seen[0] == tk.enumerate_space(SPACE).sum(axis=1).max()


def test_failures_and_infeasible_architectures_come_last():
    """Token 0 at the front fails, token 1 breaks a constraint."""

    def strict(tokens):
        found = evaluated(tokens)
        failed = tokens[:, 0] == 0
        values = jnp.where(failed[:, None], jnp.nan, found.objectives)
        return found._replace(
            objectives=values,
            status=jnp.where(failed, FAILED, OK),
            violation=jnp.where(tokens[:, 0] == 1, 1.0, 0.0),
        )

    algo = prepare(jaxnas.make_algorithm("nsga2", space=SPACE, population=16), GOALS)
    state, _ = run(algo, 120, strict)
    assert (np.asarray(state.tokens)[:, 0] >= 2).all()
    assert np.isfinite(state.points).all()


def test_search_finds_more_volume_than_random_and_a_weighted_sum():
    """The mean of 24 seeds, against the mean of 24: three standard errors apart."""
    volumes = {}
    for name in ("nsga2", "random", "evolution"):
        algo = jaxnas.make_algorithm(name, space=SPACE)
        result = jaxnas.search(algo, oracle(), budget=120, seeds=24)
        values = result.arrays["objectives"] * [1, -1]
        there = [v[np.isfinite(v).all(axis=1)] for v in values]
        volume = lambda p: moocore.hypervolume(p, ref=[0, -9], maximise=True)
        volumes[name] = np.array([volume(p) for p in there])
    best = volumes.pop("nsga2")
    for name, other in volumes.items():
        error = np.sqrt(best.var(ddof=1) / 24 + other.var(ddof=1) / 24)
        assert best.mean() - other.mean() > 3 * error, name


def test_studies_give_it_their_objectives():
    directions = {"large": "maximise", "uneven": "minimise"}
    study = jaxnas.Study(SPACE, "nsga2", 1, directions, population=8, batch=2)
    for _ in range(20):
        (trial,) = study.ask()
        values = score(jnp.asarray(trial.tokens))
        study.tell(trial.id, dict(zip(directions, map(float, values), strict=True)))
    population = study._driver.state
    assert population.points.shape == (8, 2)
    assert (np.asarray(population.points)[:, 1] <= 0).all()  # minimised, so negated
