"""Environments: conformance, legality, scores, tasks without recompiling, faces, probes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from probes import LADDER

from jaxnas import registry
from jaxnas.controllers.mlp import MLP
from jaxnas.core.errors import UserError
from jaxnas.envs.base import AutoReset, default_params
from jaxnas.envs.change import ChangeEnv
from jaxnas.envs.scored import ScoredEnv
from jaxnas.envs.tokens import TokenEnv
from jaxnas.rl.training import EnvHparams, EnvTraining, train_population
from jaxnas.testing.envs import ENV_CHECKS
from jaxnas.testing.fakes import LinearLatent
from jaxnas.testing.oracles import GROWTH

SPACE = registry.make_space("toy")
ORACLE = registry.make_oracle("toy", space=SPACE)
MODEL = LinearLatent(SPACE)
OPTIONS = {
    "latent": {"model": MODEL, "history": 2},
    "latent-continuous": {"model": MODEL},
    "grown": {"space": registry.make_space("grown", **GROWTH), "limit": 64},
}
NAMED = {
    name: registry.make_env(name, **OPTIONS.get(name, {"space": SPACE}))
    for name in registry.names("env")
}
ENVS = {
    **NAMED,
    "change": ChangeEnv(NAMED["latent"], ORACLE, reward="delta_from_zero"),
    "change-continuous": ChangeEnv(NAMED["latent-continuous"], ORACLE),
    "scored": ScoredEnv(TokenEnv(SPACE), ORACLE),
    "restarting": AutoReset(ScoredEnv(TokenEnv(SPACE), ORACLE)),
    **{type(probe).__name__: probe for probe in LADDER},
}
NAMES = [pytest.param(n, marks=[pytest.mark.slow] * (n == "grown")) for n in ENVS]
"""Each step of a growing network is a training, which takes long to compile."""
KEY = jax.random.key(0)


@pytest.mark.parametrize("check", ENV_CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", NAMES)
def test_environment_conforms(name, check):
    check(ENVS[name], default_params(ENVS[name]))


def test_writing_follows_the_mask_and_ends():
    env = TokenEnv(SPACE)
    state, timestep = env.reset(KEY, ())
    written = []
    for t in range(SPACE.length):
        token = int(np.flatnonzero(np.asarray(timestep.mask))[-1])
        want = SPACE.mask(jnp.asarray(written + [0] * (SPACE.length - t)), jnp.int32(t))
        np.testing.assert_array_equal(timestep.mask, want)
        written.append(token)
        state, timestep = env.step(KEY, state, jnp.int32(token), ())
    assert bool(timestep.terminated)
    assert bool(env.complete(state))
    assert env.queries(state).tolist() == written


@pytest.mark.parametrize("action", [-1, 99, "illegal"])
def test_illegal_actions_end_the_episode_and_are_never_scored(action):
    env = ScoredEnv(TokenEnv(SPACE), ORACLE, penalty=-7.0)
    params = env.params()
    state, timestep = env.reset(KEY, params)
    if action == "illegal":
        first = int(np.flatnonzero(np.asarray(timestep.mask))[-1])
        state, timestep = env.step(KEY, state, jnp.int32(first), params)
        action = int(np.flatnonzero(~np.asarray(timestep.mask))[0])
    state, timestep = env.step(KEY, state, jnp.int32(action), params)
    assert bool(timestep.terminated)
    assert float(timestep.reward) == -7.0
    assert not bool(env.complete(state))


def test_switching_task_does_not_recompile_and_tasks_are_vmapped():
    space = registry.make_space("nb201")
    names = ("digital", "analog_1month")
    oracles = [registry.make_oracle("analog-nasbench", objective=n) for n in names]
    env = ScoredEnv(TokenEnv(space), oracles[0])
    traces = []

    def episode(params):
        traces.append(1)
        state, _ = env.reset(KEY, params)
        for token in (2, 2, 0, 4, 2, 1):
            state, timestep = env.step(KEY, state, jnp.int32(token), params)
        return timestep.reward

    tasks = [{"dynamics": (), "oracle": o.params()} for o in oracles]
    run = jax.jit(episode)
    got = [float(run(task)) for task in tasks]
    assert len(traces) == 1
    np.testing.assert_allclose(got, [93.47, 90.00], atol=0.005)
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *tasks)
    np.testing.assert_allclose(jax.vmap(episode)(stacked), got)


@pytest.mark.filterwarnings("ignore")
def test_gymnasium_face_passes_check_env():
    pytest.importorskip("gymnasium")
    from gymnasium.utils.env_checker import check_env

    from jaxnas.envs.gymnasium_face import GymnasiumEnv, GymnasiumVectorEnv

    scored = ScoredEnv(TokenEnv(SPACE), ORACLE)
    env = GymnasiumEnv(scored)
    check_env(env, skip_render_check=True)
    many = GymnasiumVectorEnv(scored, 3)
    obs, info = many.reset(seed=5)
    singles = [GymnasiumEnv(scored) for _ in range(3)]
    for i, one in enumerate(singles):
        first, facts = one.reset(seed=5 + i)
        np.testing.assert_array_equal(obs[i], first)
        np.testing.assert_array_equal(info["action_mask"][i], facts["action_mask"])
    actions = np.argmax(info["action_mask"], axis=1)
    obs, reward, terminated, _, _ = many.step(actions)
    for i, one in enumerate(singles):
        got = one.step(actions[i])
        np.testing.assert_array_equal(obs[i], got[0])
        assert (reward[i], terminated[i]) == (got[1], got[2])
    with pytest.raises(UserError, match="num_envs"):
        GymnasiumVectorEnv(scored, 0)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["ppo", "a2c", "reinforce"])
@pytest.mark.parametrize("probe", LADDER, ids=lambda p: type(p).__name__)
def test_probe_ladder(probe, method):
    """Of 8 seeds all find the best actions, and 6 at least every known value within 0.1.

    At this learning rate one seed of 24 is 0.1 to 0.2 off: which one, rounding decides.
    """
    size = {"num_actions": probe.num_actions, "hidden": 32}
    steps, updates = (32, 60) if method == "ppo" else (16, 150)
    training = EnvTraining(probe, MLP(**size), method=method, num_steps=steps)
    hparams = EnvHparams(lr=5e-3, gamma=0.9)
    keys = jax.random.split(jax.random.key(0), 8)
    run = jax.jit(lambda keys: train_population(training, keys, hparams, (), updates)[0])
    state = run(keys)
    known = probe.known(0.9)
    out = jax.vmap(lambda params: training.act(params, jnp.asarray(known.obs)))(
        state.params
    )
    errors = np.abs(np.asarray(out.value) - known.value).max(axis=1)
    assert np.sort(errors)[5] < 0.1, errors
    assert errors.max() < 0.4, errors
    decided = known.action >= 0
    best = np.argmax(np.asarray(out.logits), axis=-1)
    assert (best[:, decided] == known.action[decided]).all()


def test_faces_take_numpy_seeds_and_give_masks():
    pytest.importorskip("gymnasium")
    from jaxnas.envs.gymnasium_face import GymnasiumEnv, GymnasiumVectorEnv

    scored = registry.make_env("tokens", oracle=ORACLE)
    env = GymnasiumEnv(scored)
    with pytest.raises(UserError, match="Call `reset`"):
        env.action_masks()
    env.reset(seed=np.int64(3))
    want = np.asarray(SPACE.mask(jnp.zeros(SPACE.length, jnp.int32), jnp.int32(0)))
    np.testing.assert_array_equal(env.action_masks(), want)
    assert env.action_masks().dtype == bool
    with pytest.raises(UserError, match="out of range"):
        env.step(SPACE.vocab)
    for seed in (np.int64(3), np.asarray([3, 4])):
        obs, _ = GymnasiumVectorEnv(scored, 2).reset(seed=seed)
        assert obs.shape == (2, scored.observation_size)


def test_gymnax_face_truncates_at_its_limit_and_describes_its_state():
    from jaxnas.envs.gymnax_face import GymnaxFace

    face = GymnaxFace(registry.make_env("tokens", oracle=ORACLE))
    assert face.default_params.max_steps_in_episode == SPACE.length
    params = face.default_params.replace(max_steps_in_episode=2)
    _, state = face.reset(KEY, params)
    for time in (1, 0):
        _, state, _, terminated, truncated, _ = face.step(
            KEY, state, jnp.argmax(state.mask), params
        )
        assert (int(state.time), bool(truncated)) == (time, time == 0)
        assert not bool(terminated)
    pytest.importorskip("gymnax")
    space = face.state_space()
    assert {box.shape for box in space.spaces.values()} >= {(), (SPACE.length,)}


@pytest.mark.external
def test_maskable_ppo_of_sb3_contrib_trains():
    contrib = pytest.importorskip("sb3_contrib")
    from jaxnas.envs.gymnasium_face import GymnasiumEnv

    env = GymnasiumEnv(registry.make_env("tokens", oracle=ORACLE, penalty=-100.0))
    agent = contrib.MaskablePPO("MlpPolicy", env, n_steps=64, batch_size=32, seed=0)
    agent.learn(128)
    obs, _ = env.reset(seed=1)
    action, _ = agent.predict(obs, action_masks=env.action_masks())
    assert env.action_masks()[int(action)]
    returns = [episode["r"] for episode in agent.ep_info_buffer]
    assert min(returns) > -100.0  # masked: no episode was illegal


@pytest.mark.external
def test_ppo_of_rejax_trains():
    rejax = pytest.importorskip("rejax")
    from jaxnas.envs.gymnax_face import GymnaxFace

    face = GymnaxFace(registry.make_env("tokens", oracle=ORACLE), joined=True)
    agent = rejax.PPO.create(
        env=face, total_timesteps=512, eval_freq=256, num_envs=4, num_steps=16,
        num_epochs=1, num_minibatches=2, learning_rate=1e-3, gamma=1.0,
    )  # fmt: skip
    _, (lengths, returns) = jax.jit(agent.train)(jax.random.key(0))
    assert (np.asarray(lengths) <= SPACE.length).all()
    assert np.isfinite(np.asarray(returns)).all()
