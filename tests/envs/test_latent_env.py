"""The latent environments: their actions, starts and ends, and what a step is paid.

What the original got wrong here is checked by functions, and each of them is shown to fail
on an environment with that fault.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas import registry
from jaxnas.controllers.mlp import MLP
from jaxnas.core.errors import UserError
from jaxnas.envs.change import ChangeEnv
from jaxnas.envs.gymnax_face import GymnaxFace
from jaxnas.envs.latent import BOUND, ContinuousLatentEnv, LatentEnv
from jaxnas.envs.scored import ScoredEnv
from jaxnas.envs.tokens import TokenEnv
from jaxnas.rl.rollout import collect, compute_gae, head_of, open_stream
from jaxnas.rl.training import EnvTraining
from jaxnas.testing.fakes import LinearLatent

SPACE = registry.make_space("toy")
ORACLE = registry.make_oracle("toy", space=SPACE)
MODEL = LinearLatent(SPACE, num_codes=14, latent_size=8)
PARAMS = MODEL.params()
KEY = jax.random.key(0)
STOP = 112
FROM_ZERO = pytest.param("delta_from_zero", marks=pytest.mark.slow)
BOTH = ["delta_from_start", FROM_ZERO]


def played(env, params, actions, key=KEY):
    """The first state and time step, then those after each action."""

    def step(state, action):
        state, seen = env.step(key, state, action, params)
        return state, (state, seen)

    @jax.jit
    def run(actions):
        first = env.reset(key, params)
        return first, jax.lax.scan(step, first[0], actions)[1]

    return run(jnp.asarray(actions))


@jax.jit
def _score(latent):
    tokens = MODEL.decode(PARAMS, latent)
    return ORACLE.truth(ORACLE.params(), tokens[None])[0, 0]


def score(latent):
    """The oracle's value of what a latent vector decodes into."""
    return float(_score(jnp.asarray(latent)))


def test_action_17_writes_codebook_2_1_and_112_ends():
    env = LatentEnv(MODEL)
    assert env.num_actions == 113
    (start, _), (states, seen) = played(env, env.params(), [17, STOP, 17])
    want = np.array(start.latent)
    want[1] = PARAMS.entries[2, 1]
    np.testing.assert_array_equal(states.latent, [want] * 3)
    assert seen.terminated.tolist() == [False, True, True]
    assert not seen.truncated.any()
    assert not seen.reward.any()


@pytest.mark.parametrize("action", [-1, 113, 10**6])
def test_an_action_out_of_range_moves_nothing_and_uses_a_step(action):
    env = LatentEnv(MODEL, history=2)
    (_start, _), (states, seen) = played(env, env.params(), [3, action])
    np.testing.assert_array_equal(states.latent[1], states.latent[0])
    np.testing.assert_array_equal(states.actions[1], [3, -1])
    assert states.time.tolist() == [1, 2]
    assert not (seen.terminated | seen.truncated).any()


@pytest.mark.parametrize("reward", BOTH)
def test_a_thousand_random_actions_agree_with_numpy(reward):
    limit = 40
    env = ChangeEnv(LatentEnv(MODEL, 2, limit, "normal"), ORACLE, reward=reward)
    params = env.params()
    # The ending action is 1 of 113: here 1 of 28, so that episodes end in both ways.
    rng = np.random.default_rng(0)
    actions = rng.integers(0, 116, (25, 40))
    actions = np.where(actions > 112, 112, actions).astype(np.int32)
    keys = jax.random.split(KEY, 25)
    step = lambda a, k: played(env, params, a, k)
    played_all = jax.jit(jax.vmap(step))(actions, keys)
    (first, _opening), (states, seen) = jax.tree.map(np.asarray, played_all)
    entries = np.asarray(PARAMS.entries)
    for lane in range(25):
        latent = np.array(first.dynamics.latent[lane])
        held = score(latent) if reward == "delta_from_start" else 0.0
        history, over = [-1, -1], False
        for t, action in enumerate(actions[lane]):
            paid = 0.0
            if not over and action < 112:
                latent[action % 8] = entries[action // 8, action % 8]
                history = [action, history[0]]
                now = score(latent)
                paid, held = now - held, now
            over = over or action == 112
            at = lambda x, lane=lane, t=t: x[lane, t]
            np.testing.assert_array_equal(at(states.dynamics.latent), latent)
            np.testing.assert_array_equal(at(states.dynamics.actions), history)
            np.testing.assert_allclose(at(seen.reward), paid, atol=1e-6)
            assert at(seen.terminated) == over
            assert at(seen.truncated) == (not over and t + 1 == limit)
            units = np.arcsinh(latent)
            np.testing.assert_allclose(at(seen.obs)[:8], units, atol=1e-5)


def check_limit_truncates(env, params):
    """The step limit cuts an episode off, it does not end it; afterwards nothing moves."""
    actions = [3] * 4 + [17]
    _, (states, seen) = played(env, params, actions)
    assert seen.truncated.tolist() == [False, False, False, True, True]
    assert not seen.terminated.any()
    np.testing.assert_array_equal(states.latent[4], states.latent[3])


@dataclass(frozen=True)
class EndsTwice(LatentEnv):
    """Planted: the original's limit, which both terminated and truncated."""

    def step(self, key, state, action, params):
        state, seen = super().step(key, state, action, params)
        return state, seen._replace(terminated=seen.terminated | seen.truncated)


def test_the_step_limit_truncates():
    env = LatentEnv(MODEL, max_steps=4)
    check_limit_truncates(env, env.params())
    with pytest.raises(AssertionError):
        check_limit_truncates(EndsTwice(MODEL, max_steps=4), env.params())


def test_stopping_at_the_last_step_is_termination():
    env = LatentEnv(MODEL, max_steps=2)
    _, (_, seen) = played(env, env.params(), [3, STOP])
    assert seen.terminated.tolist() == [False, True]
    assert not seen.truncated.any()


def advantages(dynamics):
    """GAE of one rollout of 12 steps, by the learner's code and by hand."""
    env = ChangeEnv(dynamics, ORACLE)
    params, module = env.params(), MLP(env.num_actions)
    training = EnvTraining(env, module, num_envs=2, num_steps=12)
    state = training.init(KEY, training.default_hparams(), params)
    # Fresh values are small: larger ones make a lost bootstrap plain.
    weights = jax.tree.map(lambda w: 2.0 * w, state.params)

    @jax.jit
    def run(begun):
        after, seen = collect(KEY, env, module, weights, params, begun, 1.0, 12)
        estimates = compute_gae(head_of(env), module, weights, seen, after, 1.0, 0.9, 0.8)
        return seen, estimates, training.act(weights, seen.final_obs.reshape(24, -1)).value

    seen, estimates, final = jax.tree.map(np.asarray, run(state.stream))
    before, after = seen.potential
    np.testing.assert_allclose(after - before, seen.reward, atol=1e-6)
    # The critic says what the episode will end with: to come is that, less the score.
    value, follows = estimates.value - before, final.reshape(12, 2) - after
    wanted, ahead = np.zeros((12, 2)), np.zeros(2)
    for t in reversed(range(12)):
        delta = seen.reward[t] + 0.9 * follows[t] - value[t]
        cut = (t + 1) % 4 == 0  # by the limit: the stream restarts, its value is still owed
        ahead = delta + (0.0 if cut else 0.9 * 0.8 * ahead)
        wanted[t] = ahead
    return estimates.advantage, wanted


@dataclass(frozen=True)
class NeverStops(LatentEnv):
    """The terminal action writes instead, so that every episode meets the limit."""

    def step(self, key, state, action, params):
        return super().step(key, state, jnp.minimum(action, STOP - 1), params)


@dataclass(frozen=True)
class NeverStopsEndsTwice(NeverStops):
    """Planted: as :class:`EndsTwice`."""

    def step(self, key, state, action, params):
        state, seen = super().step(key, state, action, params)
        over = seen.terminated | seen.truncated
        return state, seen._replace(terminated=over, truncated=over & False)


def test_gae_bootstraps_at_the_step_limit():
    got, wanted = advantages(NeverStops(MODEL, max_steps=4))
    np.testing.assert_allclose(got, wanted, atol=1e-5)
    got, wanted = advantages(NeverStopsEndsTwice(MODEL, max_steps=4))
    assert np.abs(got - wanted).max() > 1e-2


ACTIONS = [3, 17, 60, 17, 99]


def check_first_step_pays_its_change(env):
    """An action that writes what is there already changes nothing, and pays nothing."""
    params, dynamics = env.params(), env.params()["dynamics"]
    state, _ = env.reset(KEY, params)
    codes = np.flatnonzero(dynamics.entries[:, 0] == state.dynamics.latent[0])
    _, seen = env.step(KEY, state, jnp.int32(codes[0] * 8), params)
    assert abs(float(seen.reward)) < 1e-6


def test_the_return_telescopes_and_the_first_step_is_paid_its_change():
    for reward, begins in (("delta_from_start", True), ("delta_from_zero", False)):
        env = ChangeEnv(LatentEnv(MODEL), ORACLE, reward=reward)
        (first, _), (states, seen) = played(env, env.params(), [*ACTIONS, STOP])
        final = score(states.dynamics.latent[-1])
        start = score(first.dynamics.latent) if begins else 0.0
        np.testing.assert_allclose(np.sum(seen.reward), final - start, atol=1e-6)
        assert float(seen.reward[-1]) == 0.0
    check_first_step_pays_its_change(ChangeEnv(LatentEnv(MODEL), ORACLE))
    # The original's mode is the planted fault: it pays the start's whole score.
    assert abs(score(first.dynamics.latent)) > 1e-3
    with pytest.raises(AssertionError):
        check_first_step_pays_its_change(
            ChangeEnv(LatentEnv(MODEL), ORACLE, reward="delta_from_zero")
        )


def check_starts_near_the_codebook(start):
    """A start lies where actions could have led: every number is an entry."""
    env = LatentEnv(MODEL, start=start)
    params = env.params(data=PARAMS.entries)
    keys = jax.random.split(KEY, 4096)
    latents = np.asarray(jax.vmap(lambda k: env.reset(k, params)[0].latent)(keys))
    entries = np.asarray(PARAMS.entries)
    known = (latents[:, None] == entries).any(axis=1)
    assert known.all()
    return (latents[:, None] == entries).sum(axis=0)


def test_starts_are_where_they_should_be():
    counts = check_starts_near_the_codebook("codebook")
    # 14 equal cells, 4096 draws in each of 8 dimensions: 45 is the 0.99998 quantile.
    expected = 4096 / 14
    chi = ((counts - expected) ** 2 / expected).sum(axis=0)
    assert (chi < 45).all(), chi
    rows = check_starts_near_the_codebook("data")
    assert (rows == rows[:, :1]).all()
    with pytest.raises(AssertionError):
        check_starts_near_the_codebook("normal")
    env = LatentEnv(MODEL, start="normal")
    keys = jax.random.split(KEY, 4096)
    drawn = jax.vmap(lambda k: env.reset(k, env.params())[0].latent)(keys)
    far = np.asarray(drawn) / np.asarray(PARAMS.entries).std(axis=0)
    assert abs(np.mean(drawn)) < 4.0 / np.sqrt(4096 * 8)
    assert abs(np.std(drawn) - 1.0) < 4.0 / np.sqrt(2 * 4096 * 8)
    assert np.std(far) > 15.0  # spreads of the codebook: what the original started from


def test_a_key_decides_everything():
    env = ChangeEnv(LatentEnv(MODEL, history=2, start="normal"), ORACLE)
    once, again = (played(env, env.params(), ACTIONS) for _ in range(2))
    other = played(env, env.params(), ACTIONS, jax.random.key(1))
    jax.tree.map(np.testing.assert_array_equal, once, again)
    latents = [run[0][0].dynamics.latent for run in (once, other)]
    assert (np.asarray(latents[0]) != np.asarray(latents[1])).all()


@pytest.mark.parametrize("history", [0, 2, 6, 12])
def test_observations_remember_the_last_actions(history):
    env = LatentEnv(MODEL, history=history)
    _, (states, seen) = played(env, env.params(), ACTIONS)
    obs = jax.tree.map(lambda x: x[-1], seen.obs)
    flat = np.asarray(env.flatten(obs))
    units = np.asarray(states.latent[-1]) / np.asarray(PARAMS.entries).std(axis=0)
    np.testing.assert_allclose(flat[:8], np.arcsinh(units), atol=1e-5)
    assert flat.shape == (env.flat_size,) == (8 + 22 * history,)
    assert (np.abs(flat) <= BOUND).all()
    past = flat[8:].reshape(history, 22)
    for row, action in zip(past, reversed(ACTIONS), strict=False):
        want = np.zeros(22)
        want[[action // 8, 14 + action % 8]] = 1.0
        np.testing.assert_array_equal(row, want)
    assert not past[len(ACTIONS) :].any()


def test_four_thousand_keys_at_once():
    env = ChangeEnv(LatentEnv(MODEL, history=2), ORACLE)
    params = env.params()

    @jax.jit
    def run(keys):
        def one(key):
            state, _ = env.reset(key, params)
            action = jax.random.randint(key, (), 0, 113)
            return env.step(key, state, action, params)

        return jax.vmap(one)(keys)

    keys = jax.random.split(KEY, 4096)
    states, seen = run(keys)
    assert seen.obs.shape == (4096, env.observation_size)
    alone = run(keys[7:8])
    np.testing.assert_allclose(seen.reward[7], alone[1].reward[0], atol=1e-6)
    np.testing.assert_array_equal(states.dynamics.latent[7], alone[0].dynamics.latent[0])


def test_a_continuous_step_is_bounded_and_its_size_is_traced():
    env = ChangeEnv(ContinuousLatentEnv(MODEL, 1, 3, "codebook"), ORACLE)
    moves = np.linspace(-3.0, 3.0, 24).reshape(3, 8).astype(np.float32)
    traces = []

    @jax.jit
    def run(params):
        traces.append(1)
        return played(env, params, moves)

    for size in (0.5, 2.0):
        params = {**env.params(), "dynamics": env.dynamics.params(step=size)}
        (first, _), (states, seen) = run(params)
        want = first.dynamics.latent + size * np.cumsum(np.clip(moves, -1, 1), axis=0)
        np.testing.assert_allclose(states.dynamics.latent, want, rtol=1e-5)
        np.testing.assert_array_equal(seen.obs[-1, 8:], np.clip(moves[-1], -1, 1))
        assert seen.truncated.tolist() == [False, False, True]
        assert not seen.terminated.any()
        gain = score(want[-1]) - score(first.dynamics.latent)
        np.testing.assert_allclose(np.sum(seen.reward), gain, atol=1e-5)
    assert len(traces) == 1


@pytest.mark.parametrize("reward", BOTH)
def test_rewards_paid_after_the_rollout_are_those_paid_at_each_step(reward):
    env = ChangeEnv(LatentEnv(MODEL, 1, 6), ORACLE, reward=reward)
    params, module = env.params(), MLP(env.num_actions)

    @dataclass(frozen=True)
    class AtOnce(ChangeEnv):
        def defers(self, params):
            return False

    def rollouts(env):
        @jax.jit
        def run(keys, begun):
            def one(key, begun):
                weights = module.init(KEY, (), begun.obs, begun.reset)
                return collect(key, env, module, weights, params, begun, 1.0, 9)

            return jax.vmap(one)(keys, begun)

        keys = jax.random.split(KEY, 3)
        opened = jax.vmap(lambda key: open_stream(key, env, module, params, 5))
        begun = jax.jit(opened)(keys)
        after, seen = run(keys, begun)
        _, more = run(jax.vmap(jax.random.fold_in, (0, None))(keys, 1), after)
        return [
            (r.action, r.reward, r.terminated, r.truncated, r.returns) for r in (seen, more)
        ]

    later, at_once = rollouts(env), rollouts(AtOnce(env.dynamics, ORACLE, reward=reward))
    for a, b in zip(jax.tree.leaves(later), jax.tree.leaves(at_once), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    assert np.asarray(later[1][3]).any()


def test_an_oracle_with_a_memory_is_asked_at_each_step():
    noisy = registry.make_oracle("toy", space=SPACE)
    env = ChangeEnv(LatentEnv(MODEL), noisy)
    assert env.defers(env.params())

    @dataclass(frozen=True)
    class Remembers(type(noisy)):
        def init(self, key, params):
            return jnp.zeros(())

    env = ChangeEnv(LatentEnv(MODEL), Remembers(SPACE))
    assert not env.defers(env.params())


def test_the_final_architecture_alone_can_be_paid_too():
    env = ScoredEnv(LatentEnv(MODEL), ORACLE)
    _, (states, seen) = played(env, env.params(), [*ACTIONS, STOP])
    want = [0.0] * len(ACTIONS) + [score(states.dynamics.latent[-1])]
    np.testing.assert_allclose(seen.reward, want, atol=1e-6)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["latent", "latent-continuous"])
def test_gymnasium_faces(kind):
    pytest.importorskip("gymnasium")
    from gymnasium.utils.env_checker import check_env

    from jaxnas.envs.gymnasium_face import GymnasiumEnv, GymnasiumVectorEnv

    scored = ChangeEnv(registry.make_env(kind, model=MODEL, max_steps=5), ORACLE)
    env = GymnasiumEnv(scored)
    check_env(env, skip_render_check=True)
    env.reset(seed=1)
    if kind == "latent":
        with pytest.raises(UserError, match="113 is out of range; choose from 0 to 112"):
            env.step(113)
    else:
        with pytest.raises(UserError, match="out of range; choose from -1 to 1"):
            env.step(np.full(8, 1.5, np.float32))
        with pytest.raises(UserError, match="shape"):
            env.step(0)
    many = GymnasiumVectorEnv(scored, 3)
    many.reset(seed=1)
    for _ in range(5):
        _, _, terminated, truncated, info = many.step(many.action_space.sample() * 0)
    assert truncated.all()
    assert not terminated.any()
    assert len(info["final_obs"]) == 3


def test_gymnax_face():
    pytest.importorskip("gymnax")
    face = GymnaxFace(ChangeEnv(LatentEnv(MODEL, max_steps=2), ORACLE))
    assert face.action_space().n == 113
    obs, state = face.reset(KEY)
    assert face.observation_space().contains(obs)
    for action in (3, 4):
        obs, state, _reward, terminated, truncated, info = face.step(KEY, state, action)
    assert (bool(terminated), bool(truncated)) == (False, True)
    assert float(info["discount"]) == 1.0
    moving = GymnaxFace(ChangeEnv(ContinuousLatentEnv(MODEL), ORACLE))
    assert moving.action_space().shape == (8,)
    _, state = moving.reset(KEY)
    moved = moving.step(KEY, state, jnp.full(8, 0.5))[1]
    assert (moved.inner.dynamics.latent > state.inner.dynamics.latent).all()


def test_what_cannot_be_is_said():
    with pytest.raises(UserError, match="Unknown start 'far'"):
        LatentEnv(MODEL, start="far")
    with pytest.raises(UserError, match="history is -1"):
        LatentEnv(MODEL, history=-1)
    with pytest.raises(UserError, match="max_steps is 0"):
        ContinuousLatentEnv(MODEL, max_steps=0)
    with pytest.raises(UserError, match="needs latent vectors to start from"):
        LatentEnv(MODEL, start="data").params()
    with pytest.raises(UserError, match="Unknown reward"):
        ChangeEnv(LatentEnv(MODEL), ORACLE, reward="delta")
    with pytest.raises(UserError, match="use ScoredEnv"):
        ChangeEnv(TokenEnv(SPACE), ORACLE)

    class Bare(LinearLatent):
        params = None

    with pytest.raises(UserError, match="parameters of its fitted model"):
        LatentEnv(Bare(SPACE)).params()
