"""The front door: scored environments, training, own oracles, vmapped updates."""

import functools
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnas
from jaxnas.core import rng
from jaxnas.core.errors import UserError
from jaxnas.testing.fakes import LinearLatent

SPACE = jaxnas.make_space("toy")
ORACLE = jaxnas.make_oracle("toy", space=SPACE)
TWO = jaxnas.make_oracle("toy", space=SPACE, objective="score,layers")
LATENT = {"model": LinearLatent(SPACE), "max_steps": 4}


@dataclass(frozen=True)
class Corridor:
    """An environment as a person writes one: no masks, no parameters."""

    num_actions = 2

    def reset(self, key, params=None):
        place = jax.random.uniform(key, (1,))
        return (place, 0), jaxnas.timestep(place)

    def step(self, key, state, action, params=None):
        place, time = state[0] + 0.1 * (2 * action - 1), state[1] + 1
        reward = -jnp.abs(place[0])
        return (place, time), jaxnas.timestep(place, None, reward, truncated=time >= 10)


@pytest.mark.parametrize("name", ["tokens", "latent", "latent-continuous"])
def test_an_environment_made_with_an_oracle_is_scored_without_parameters(name):
    options = {} if name == "tokens" else LATENT
    env = jaxnas.make_env(name, oracle=ORACLE, **options)
    keys = jax.random.split(jax.random.key(0), 16)
    action = jnp.zeros((16, env.action_size)) if env.action_size else jnp.zeros(16, int)
    state, seen = jax.jit(jax.vmap(env.reset))(keys)
    total = 0.0
    for _ in range(SPACE.length if name == "tokens" else 1):
        state, seen = jax.jit(jax.vmap(env.step))(keys, state, action)
        total += seen.reward
    held = jax.vmap(lambda one: env.queries(one, env.params()))(state)
    want = ORACLE.truth(ORACLE.params(), held)[:, 0]
    if name == "tokens":
        np.testing.assert_allclose(total, want, rtol=1e-6)
    else:
        np.testing.assert_allclose(state.score, want, rtol=1e-6)


def test_rewards_are_chosen_and_refused():
    options = {"oracle": TWO, "penalty": -9.0}
    env = jaxnas.make_env("latent", reward="final", weights=(1.0, 0.5), **options, **LATENT)
    assert env.scalariser.weights == (1.0, 0.5)
    assert env.penalty == -9.0
    assert env.id.startswith("scored-v1")
    with pytest.raises(UserError, match=r"delta_from_zero.*final"):
        jaxnas.make_env("latent", oracle=ORACLE, reward="best", **LATENT)
    other = jaxnas.make_space("toy", length=SPACE.length + 1)
    with pytest.raises(UserError, match="one space"):
        jaxnas.make_env("tokens", oracle=ORACLE, space=other)
    with pytest.raises(UserError, match="penaltie"):
        jaxnas.make_env("tokens", oracle=ORACLE, penaltie=1.0)


def test_own_environment_trains_and_learning_rates_are_vmapped():
    options = {"seeds": 2, "total_steps": 1000, "num_envs": 8, "num_steps": 16}
    run = functools.partial(jaxnas.rl.train, Corridor(), **options)
    both = run(hparams={"lr": [0.0, 0.01]})
    assert both.returns.shape == both.metrics["loss"].shape == (2, 2, 8)
    assert all(leaf.shape[:2] == (2, 2) for leaf in jax.tree.leaves(both.params))
    gain = both.returns[..., -2:].mean(-1) - both.returns[..., 1]
    assert gain[1].mean() > gain[0].mean() + 0.5
    rates = jnp.asarray([0.0, 0.01])
    alone = jax.vmap(lambda lr: run(hparams={"lr": lr}).returns[0])(rates)
    before = np.s_[..., :5]  # later, a rounding may turn an action
    np.testing.assert_allclose(alone[before], both.returns[before], rtol=1e-4)
    policy = both.training.act(
        jax.tree.map(lambda x: x[1, 0], both.params), jnp.ones((3, 1))
    )
    assert policy.logits.shape == (3, 2)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"method": "pppo"}, "Unknown method"),
        ({"hparams": {"rate": 1.0}}, "rate"),
        ({"hparams": {"lr": [1.0, 2.0], "gamma": [1.0, 1.0, 1.0]}}, "length"),
        ({"minibatch": 4}, "minibatches"),
        ({"seeds": 0}, "positive"),
        ({"updates": 1, "total_steps": 1}, "not both"),
    ],
)
def test_training_refuses_in_a_sentence(options, match):
    with pytest.raises(UserError, match=match):
        jaxnas.rl.train(Corridor(), **options)


def test_an_environment_that_cannot_be_hashed_is_refused():
    with pytest.raises(UserError, match="frozen dataclass"):
        jaxnas.rl.train(type("Loose", (Corridor,), {"__hash__": None})())


def sum_of(tokens):
    return tokens.sum() * 1.0


@pytest.mark.parametrize("traced", [True, False])
def test_an_oracle_from_a_function_is_searched(traced):
    oracle = jaxnas.oracle(sum_of, SPACE, traced=traced, takes="tokens")
    found = jaxnas.search(jaxnas.make_algorithm("random", space=SPACE), oracle, budget=16)
    tokens = found.arrays["tokens"][0]
    np.testing.assert_array_equal(found.arrays["objectives"][0, :, 0], tokens.sum(1))
    assert found.best(1)[0]["score"] == tokens.sum(1).max()
    assert found.config["oracle"]["id"] == "sum_of-v1"


def test_functions_of_several_numbers_and_of_none():
    count = lambda tokens: {"zeros": (tokens == 0).sum(), "sum": tokens.sum()}
    names = {"sum": True, "zeros": False}
    oracle = jaxnas.oracle(count, SPACE, names, traced=True, name="counts")
    assert [o.maximise for o in oracle.objectives] == [True, False]
    tokens = jnp.asarray([[0] * SPACE.length, [1] * SPACE.length])
    lanes = jnp.zeros(2, jnp.int32), jnp.asarray([True, True])
    found = oracle.evaluate(jax.random.key(0), (), (), tokens, *lanes)[1]
    assert found.objectives.tolist() == [[0, SPACE.length], [SPACE.length, 0]]
    failing = jaxnas.oracle(lambda t: 1.0 / t.sum(), SPACE, traced=True)
    status = failing.evaluate(jax.random.key(0), (), (), tokens, *lanes)[1].status
    assert status.tolist() == [jaxnas.FAILED, jaxnas.OK]
    for wrong, match in [(lambda t: {"b": 1}, "score"), (lambda t: t, "one number")]:
        bad = jaxnas.oracle(wrong, SPACE, traced=True)
        with pytest.raises(UserError, match=match):
            bad.evaluate(jax.random.key(0), (), (), tokens, *lanes)


def test_update_is_vmapped_over_rates_and_scanned_over_keys_as_a_search_does():
    algo = jaxnas.make_algorithm("reinforce", space=SPACE, batch=4, hidden=8)
    oracle = jaxnas.budgeted(ORACLE, budget=40, max_proposals=40)
    params, rates = oracle.params(), jnp.asarray([0.001, 0.1])

    def run(controller, lr):
        key = rng.controller_key(rng.root_key(0), controller)
        hparams = algo.default_hparams()._replace(lr=lr)
        state = algo.init(rng.stream(key, "algorithm"), hparams)
        account = oracle.init(rng.stream(key, "oracle"), params)

        def step(carry, i):
            now = rng.step_key(key, i)
            *carry, metrics = jaxnas.update(algo, oracle, now, params, *carry)
            return tuple(carry), metrics["entropy"]

        (_, account), entropy = jax.lax.scan(step, (state, account), jnp.arange(10))
        return account.ledger, entropy

    ledger, entropy = jax.jit(jax.vmap(run))(jnp.arange(2), rates)
    options = {"budget": 40, "max_proposals": 40, "hparams": {"lr": rates}}
    found = jaxnas.search(algo, ORACLE, jaxnas.RunOptions(**options))
    np.testing.assert_array_equal(ledger.tokens, found.arrays["tokens"])
    np.testing.assert_allclose(entropy, found.arrays["metric_entropy"], rtol=1e-5)
