"""The environment of growing networks: pure, paid by accuracy, learned on."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnas
from jaxnas.core.errors import UserError
from jaxnas.registry import make_env, make_oracle, make_space
from jaxnas.testing.oracles import GROWTH

KEY = jax.random.key(0)
SPACE = make_space("grown", **{**GROWTH, "channels": 8})


@pytest.fixture(scope="module")
def env():
    return make_env("grown", space=SPACE, begin=2, batch=8)


@pytest.fixture(scope="module")
def step(env):
    return jax.jit(env.step)


@pytest.mark.slow
def test_an_episode_pays_the_change_of_accuracy_and_ends(env, step):
    task = env.params()
    state, seen = env.reset(KEY, task)
    assert seen.mask.tolist() == [True] * 4
    assert seen.obs.shape == (env.observation_size,)
    rewards = []
    for t, action in enumerate((1, 2)):
        state, seen = step(jax.random.fold_in(KEY, t), state, jnp.int32(action), task)
        rewards.append(float(seen.reward))
    assert state.tokens.tolist() == [1, 2]
    assert seen.mask.tolist() == [True, False, False, True]
    assert bool(seen.terminated)
    assert sum(rewards) == pytest.approx(float(state.accuracy - task.accuracy), abs=1e-6)
    np.testing.assert_allclose(seen.obs, [1, 1, 0, 1, state.accuracy])
    after, again = step(KEY, state, jnp.int32(3), task)
    assert jax.tree.all(jax.tree.map(np.array_equal, after, state))
    assert float(again.reward) == 0.0
    assert step._cache_size() == 1


@pytest.mark.slow
def test_training_is_what_pays(env, step):
    """A step on wrong labels is paid less than one on the true ones, and is a loss."""
    task = env.params()
    state, _ = env.reset(KEY, task)
    _, seen = step(KEY, state, jnp.int32(0), task)
    wrong = task.images._replace(y_train=(task.images.y_train + 1) % 10)
    _, misled = step(KEY, state, jnp.int32(0), task._replace(images=wrong))
    assert float(misled.reward) < min(-0.1, float(seen.reward))


@pytest.mark.slow
def test_actions_out_of_range_are_keep(env, step):
    task = env.params()
    state, _ = env.reset(KEY, task)
    kept, _ = step(KEY, state, jnp.int32(0), task)
    for action in (-1, 99):
        other, _ = step(KEY, state, jnp.int32(action), task)
        assert jax.tree.all(jax.tree.map(np.array_equal, other, kept))


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"space": make_space("toy")}, "do not grow"),
        ({"batch": 4000}, "smaller batch"),
        ({"epochs": 0}, "at least 1"),
        ({"begin": 0}, "begin=1"),
        ({"lr": -1.0}, "lr"),
        ({"data": "digitz"}, "digits"),
    ],
)
def test_refusals_are_one_sentence(options, word):
    with pytest.raises(UserError, match=word):
        make_env("grown", **{"limit": 80, **options})


def test_an_oracle_that_is_no_part_of_a_program_is_refused():
    oracle = make_oracle("grown", space=make_space("grown", **GROWTH), limit=80)
    with pytest.raises(UserError, match="runs on the host"):
        make_env("tokens", oracle=oracle)


@pytest.mark.slow
def test_ppo_trains_on_growth(env):
    trained = jaxnas.rl.train(
        env, "ppo", seeds=2, updates=2, num_envs=2, num_steps=4, minibatches=2
    )
    assert trained.returns.shape[-2:] == (2, 2)
    assert np.isfinite(trained.returns).all()
