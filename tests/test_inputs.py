"""What a user brings: JAX configuration, ranges, names, encodings, platforms, messages."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from probes import LADDER

from jaxnas import registry
from jaxnas.controllers.mlp import MLP
from jaxnas.core import tokens as tk
from jaxnas.envs.base import default_params
from jaxnas.envs.change import ChangeEnv
from jaxnas.envs.scored import ScoredEnv
from jaxnas.envs.tokens import TokenEnv
from jaxnas.latent import files, fit, labels
from jaxnas.latent.vqvae import VQVAE
from jaxnas.oracles.toy import ToyOracle
from jaxnas.rl.rollout import head_of
from jaxnas.rl.training import METHODS, EnvTraining
from jaxnas.spaces.toy import Toy
from jaxnas.surrogates import ensemble
from jaxnas.testing import algos
from jaxnas.testing.fakes import LinearLatent
from jaxnas.testing.tiny import TinyNets

SPACE = Toy(length=4, vocab=3)
ORACLE = ToyOracle(SPACE)
KEY = jax.random.key(0)
ROWS = jnp.asarray(tk.enumerate_space(SPACE))[:30]
LEARNERS = [
    (name, controller)
    for name in registry.names("algorithm")
    for controller in (registry.CONTROLLERS if name == "reinforce" else ("",))
]


@pytest.fixture(scope="module")
def latent_file(tmp_path_factory):
    """An untrained latent model of the small space."""
    model = VQVAE(SPACE, codes=6, dims=2, hidden=16)
    path = tmp_path_factory.mktemp("latent") / "toy.npz"
    files.save(path, model, model.init(KEY))
    return str(path)


def algorithm(name, latent_file, **options):
    if name.startswith("latent-"):
        options |= {
            "batch": 2, "latent": latent_file, "labels": 16, "members": 2, "fit_steps": 4,
            "capacity": 64, "num_envs": 2, "num_steps": 8, "max_steps": 4, "hidden": 8,
        }  # fmt: skip
    return registry.make_algorithm(name, space=SPACE, **options)


def same_types(function, *args):
    """Asserts that 64-bit defaults change no type of a result; traces, computes nothing."""
    usual = jax.eval_shape(function, *args)
    with jax.enable_x64(True):
        jax.tree.map(_same, usual, jax.eval_shape(lambda *a: function(*a), *args))


def _same(a, b):
    assert (a.shape, a.dtype) == (b.shape, b.dtype)


@pytest.mark.parametrize(("name", "controller"), LEARNERS)
def test_algorithms_with_64_bit_defaults(name, controller, latent_file):
    algo = algorithm(
        name, latent_file, **({"controller": controller} if controller else {})
    )
    with jax.enable_x64(True):
        algos.check_state_fixed(algo, ORACLE)
    same_types(lambda key: algo.init(key, algo.default_hparams()), KEY)


def environments():
    dynamics = {name: registry.make_env(name, model=LinearLatent(SPACE)) for name in (
        "latent", "latent-continuous")}  # fmt: skip
    yield "scored", ScoredEnv(TokenEnv(SPACE), ORACLE)
    yield from ((name, ChangeEnv(env, ORACLE)) for name, env in dynamics.items())
    yield from ((type(probe).__name__, probe) for probe in LADDER)


@pytest.mark.parametrize(
    ("env", "method"),
    [
        pytest.param(env, method, id=f"{name}-{method}")
        for name, env in environments()
        for method in (("ppo",) if env in LADDER else METHODS)
    ],
)
def test_environments_with_64_bit_defaults(env, method):
    module = MLP(head_of(env).num_logits, hidden=8)
    training = EnvTraining(
        env, module, method=method, num_envs=2, num_steps=4, minibatches=2
    )

    def train(key, params):
        state = training.init(key, training.default_hparams(), params)
        return training.train(key, state, params, 2)

    same_types(train, KEY, default_params(env))


@pytest.mark.parametrize("mode", ["instance", "label"])
@pytest.mark.parametrize("ema", [True, False])
def test_latent_training_with_64_bit_defaults(mode, ema):
    model = VQVAE(SPACE, mode=mode, ema=ema, codes=6, dims=2, hidden=16)
    scored = labels.make_labels(np.asarray(ROWS), np.arange(30.0))
    bins = jnp.zeros(30, jnp.int32) if mode == "label" else None
    plan = fit.Plan(steps=4, batch=8, labelled=8, records=2)
    hparams = fit.Hparams(dropout=0.1)
    same_types(lambda key: fit.fit(model, key, ROWS, scored, hparams, plan, bins), KEY)


@pytest.mark.parametrize("kind", ["ranks", "values"])
def test_surrogate_training_with_64_bit_defaults(kind):
    config = ensemble.Ensemble(2, hidden=(8,), steps=3, batch=8, labels=kind)

    def train(key, x):
        params = ensemble.fit(config, key, x, x[:, :1], jnp.ones(len(x), jnp.float32))
        return params, ensemble.predict(config, params, x)

    same_types(train, KEY, ROWS.astype(jnp.float32))


@pytest.mark.slow
def test_children_train_with_64_bit_defaults():
    measure = functools.partial(
        registry.make_oracle, "child", space=TinyNets(), epochs=1, limit=100
    )
    for options in ({"augment": "shift-flip"}, {"route": "exact"}):
        found = {}
        for wide in (False, True):
            with jax.enable_x64(wide):
                found[wide] = measure(**options).measure(np.array([1, 2], np.int32)).metrics
        assert found[True] == pytest.approx(found[False], rel=1e-3)
