"""Agents on environments: whole episodes, files, continuous actions, REINFORCE."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from probes import MatchedReward

from jaxnas import registry
from jaxnas.controllers.actions import Categorical, Gaussian
from jaxnas.controllers.mlp import MLP
from jaxnas.core.errors import UserError
from jaxnas.core.tokens import inverse_cdf
from jaxnas.envs.base import AutoReset, timestep
from jaxnas.envs.change import ChangeEnv
from jaxnas.envs.latent import ContinuousLatentEnv, LatentEnv
from jaxnas.rl.agents import evaluate
from jaxnas.rl.training import EnvHparams, EnvTraining, train_population
from jaxnas.testing.fakes import LinearLatent

SPACE = registry.make_space("toy")
ORACLE = registry.make_oracle("toy", space=SPACE)
MODEL = LinearLatent(SPACE)
KEY = jax.random.key(0)


def latent_training(space=SPACE, **options):
    oracle = registry.make_oracle("toy", space=space)
    dynamics = LatentEnv(LinearLatent(space), history=2, max_steps=6)
    env = ChangeEnv(dynamics, oracle)
    module = MLP(env.num_actions, hidden=16, **options)
    return EnvTraining(env, module, num_envs=2, num_steps=8)


@pytest.fixture(scope="module")
def trained():
    """A latent agent after a few updates, its training and its task."""
    training = latent_training()
    task = training.env.params()
    run = lambda keys: train_population(training, keys, EnvHparams(), task, 2)
    state, metrics = jax.jit(run)(jax.random.split(KEY, 2))
    assert np.isfinite(metrics["loss"]).all()
    return training, jax.tree.map(lambda x: x[0], state.params), task


def test_episodes_are_whole_and_their_final_score_is_the_oracles(trained):
    training, params, task = trained
    run = jax.jit(
        lambda key, greedy: evaluate(
            key, training, params, task, episodes=20, horizon=9, greedy=greedy
        ),
        static_argnums=1,
    )
    played = run(KEY, False)
    assert ((played.length >= 1) & (played.length <= 6)).all()
    assert (played.terminated | (played.length == 6)).all()
    queries = jax.vmap(training.env.dynamics.queries, (0, None))
    tokens = queries(played.state.dynamics, task["dynamics"])
    truth = ORACLE.truth(task["oracle"], tokens)[:, 0]
    np.testing.assert_allclose(played.score, truth, atol=1e-6)
    starts = played.score - played.returns
    assert len(np.unique(np.round(starts, 5))) > 3
    greedy, again = run(KEY, True), run(KEY, True)
    jax.tree.map(np.testing.assert_array_equal, greedy, again)
    with pytest.raises(UserError, match="restarts itself"):
        evaluate(KEY, EnvTraining(AutoReset(training.env), training.module), params, task)


def test_a_greedy_agent_takes_the_most_likely_action():
    probe = MatchedReward()
    training = EnvTraining(probe, MLP(2, hidden=8))
    state = training.init(KEY, EnvHparams(), ())
    played = evaluate(KEY, training, state.params, (), episodes=16, horizon=2)
    obs = played.state.obs
    best = np.argmax(training.act(state.params, obs).logits, axis=1)
    right = np.where((best == 1) == (obs[:, 0] > 0), 1.0, -1.0)
    np.testing.assert_array_equal(played.returns, right)
    assert np.isnan(played.score).all()


def test_gaussian_head_is_a_density():
    head = Gaussian(2)
    logits = jnp.array([0.3, -0.2, 0.1, -0.5])
    std = np.exp(np.array([0.1, -0.5]) - 0.7)
    uniforms = jax.random.uniform(KEY, (20000, 2))
    many = jnp.broadcast_to(logits, (20000, 4))
    drawn = np.asarray(head.sample(uniforms, many, None, 1.0))
    error = 5.0 * std / np.sqrt(20000)
    assert (abs(drawn.mean(axis=0) - [0.3, -0.2]) < error).all()
    assert (abs(drawn.std(axis=0) / std - 1.0) < 0.03).all()
    grid = np.linspace(-4.0, 4.0, 201)
    points = jnp.asarray(np.stack(np.meshgrid(grid, grid), axis=-1).reshape(-1, 2))
    out = head.choice(jnp.broadcast_to(logits, (len(points), 4)), None, 1.0, points)
    cell = (grid[1] - grid[0]) ** 2
    density = np.exp(np.asarray(out.log_prob))
    np.testing.assert_allclose(density.sum() * cell, 1.0, atol=1e-3)
    entropy = -(density * np.asarray(out.log_prob)).sum() * cell
    np.testing.assert_allclose(entropy, out.entropy[0], atol=1e-2)
    hot = head.choice(logits, None, 2.0, jnp.zeros(2))
    assert float(hot.entropy) > float(out.entropy[0])
    assert (head.best(logits, None) == logits[:2]).all()


@pytest.mark.slow
def test_a_head_needs_as_many_logits_as_it_says():
    assert Categorical(7).num_logits == 7
    assert Gaussian(7).num_logits == 14
    env = ChangeEnv(ContinuousLatentEnv(MODEL, max_steps=5), ORACLE)
    training = EnvTraining(env, MLP(2 * env.action_size, hidden=8), num_steps=8)
    run = lambda keys: train_population(training, keys, EnvHparams(), env.params(), 2)
    state, metrics = jax.jit(run)(jax.random.split(KEY, 2))
    assert np.isfinite(metrics["return"]).all()
    assert state.stream.obs.shape == (2, 4, env.observation_size)


@pytest.mark.parametrize("count", [32, 113])
def test_wide_choices_are_drawn_by_weight_and_never_at_weight_zero(count):
    rng = np.random.default_rng(count)
    weights = rng.uniform(0.1, 1.0, count).astype(np.float32)
    weights[rng.choice(count, count // 3, replace=False)] = 0.0
    weights[[0, -1]] = 0.0
    uniforms = (np.arange(100_000, dtype=np.float32) + 0.5) / 100_000
    rows = jnp.broadcast_to(weights, (len(uniforms), count))
    drawn = np.asarray(jax.jit(inverse_cdf)(uniforms, rows))
    assert (np.diff(drawn) >= 0).all()
    share = np.bincount(drawn, minlength=count) / len(uniforms)
    np.testing.assert_allclose(share, weights / weights.sum(), atol=1e-4)
    ends = jnp.array([0.0, np.nextafter(np.float32(1), np.float32(0))])
    edge = inverse_cdf(ends, rows[:2])
    assert (weights[np.asarray(edge)] > 0).all()
    assert (np.asarray(edge) == np.flatnonzero(weights)[[0, -1]]).all()


@dataclass(frozen=True)
class Target:
    """One continuous step: minus the squared distance to the observation."""

    num_actions: int = 1
    action_size: int = 1
    observation_size: int = 1
    observation_bounds: tuple[float, float] = (-1.0, 1.0)

    def reset(self, key, params):
        obs = jax.random.uniform(key, (1,), minval=-0.8, maxval=0.8)
        return obs, timestep(obs, jnp.ones(1, bool))

    def step(self, key, state, action, params):
        yes = jnp.asarray(True)
        reward = -jnp.sum(jnp.square(jnp.clip(action, -1.0, 1.0) - state))
        return state, timestep(state, jnp.ones(1, bool), reward, yes, ~yes)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["ppo", "a2c", "reinforce"])
def test_continuous_actions_find_the_target(method):
    """Two seeds come within 0.1 of the target everywhere; fresh ones are off by 0.4."""
    training = EnvTraining(Target(), MLP(2, hidden=32), method=method, num_steps=32)
    updates, lr = (400, 1e-3) if method == "ppo" else (600, 5e-3)
    keys = jax.random.split(KEY, 2)
    hparams = EnvHparams(lr=lr, entropy=0.0)
    run = jax.jit(lambda keys: train_population(training, keys, hparams, (), updates)[0])
    state = run(keys)
    obs = jnp.linspace(-0.8, 0.8, 9)[:, None]
    out = jax.vmap(lambda params: training.act(params, obs).logits)(state.params)
    np.testing.assert_allclose(out[..., 0], np.tile(obs[:, 0], (2, 1)), atol=0.1)


@dataclass(frozen=True)
class ThreeStates:
    """A chain: right, right, right pays 1; leaving it on the left pays 0.1 at once."""

    num_actions: int = 2
    observation_size: int = 3
    observation_bounds: tuple[float, float] = (0.0, 1.0)

    def reset(self, key, params):
        state = jax.random.randint(key, (), 0, 3)
        return state, timestep(jax.nn.one_hot(state, 3), jnp.ones(2, bool))

    def step(self, key, state, action, params):
        after = state + jnp.where(action == 1, 1, -1)
        reward = jnp.where(after == 3, 1.0, jnp.where(after < 0, 0.1, 0.0))
        over = (after == 3) | (after < 0)
        after = jnp.clip(after, 0, 2)
        seen = timestep(jax.nn.one_hot(after, 3), jnp.ones(2, bool), reward, over, ~over)
        return after, seen._replace(truncated=jnp.asarray(False))


@pytest.mark.slow
@pytest.mark.parametrize("method", ["ppo", "a2c", "reinforce"])
def test_three_states_are_solved(method):
    """Two seeds find the best action and the value 0.9^n in every state, within 0.1."""
    training = EnvTraining(ThreeStates(), MLP(2, hidden=32), method=method, num_steps=32)
    updates = 60 if method == "ppo" else 400
    keys, hparams = jax.random.split(KEY, 2), EnvHparams(lr=5e-3, gamma=0.9)
    run = jax.jit(lambda keys: train_population(training, keys, hparams, (), updates)[0])
    state = run(keys)
    out = jax.vmap(lambda params: training.act(params, jnp.eye(3)))(state.params)
    assert (np.argmax(out.logits, axis=-1) == 1).all()
    np.testing.assert_allclose(out.value, np.tile([0.81, 0.9, 1.0], (2, 1)), atol=0.1)
