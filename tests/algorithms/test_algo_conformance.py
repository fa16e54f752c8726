"""Every registered algorithm conforms on a small space with a known score."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import pytest

from jaxnas import registry
from jaxnas.algorithms.random_search import RandomSearch
from jaxnas.algorithms.reinforce import Reinforce, ReinforceHparams
from jaxnas.oracles.toy import ToyOracle
from jaxnas.spaces.toy import Toy
from jaxnas.testing import algos

SPACE = Toy(length=5, vocab=4)
ORACLE = ToyOracle(SPACE)
OPTIONS = {
    name: registry.settable("algorithm", name) for name in registry.names("algorithm")
}
GRADIENT = {name for name, options in OPTIONS.items() if "hidden" in options}
"""Algorithms whose state holds trained weights: not bit-equal between widths."""
SMALL = {
    "model-based": {"batch": 4, "capacity": 64, "shortlist": 64, "steps": 2},
    "nsga2": {"batch": 2},
    "analog-ea": {"batch": 4, "capacity": 64, "generations": 2, "steps": 2},
    "ppo-replay": {"batch": 2, "capacity": 64},
    "dyna-ppo": {"batch": 2, "capacity": 64, "steps": 2, "samples": 16, "candidates": 32},
}
"""Options of what fits a model: the checks map over seeds, which takes every branch. And of
what proposes nothing twice: it must not run out of good architectures."""
MODEL = {"model-based", "analog-ea", "dyna-ppo"}
ROUNDED = GRADIENT | MODEL
"""Algorithms whose state holds what products of matrices gave: equal but for rounding."""
LATENT = {name for name, options in OPTIONS.items() if "latent" in options}
"""Algorithms that move through a latent space."""


@pytest.fixture(scope="module")
def latent_file(tmp_path_factory):
    """A latent space of the toy space, trained for a second."""
    from jaxnas.core import tokens as tk
    from jaxnas.latent import files, fit, labels
    from jaxnas.latent.vqvae import VQVAE

    model = VQVAE(SPACE, codes=6, dims=2, hidden=32)
    rows = jnp.asarray(tk.enumerate_space(SPACE))
    none = labels.no_labels(SPACE.length)
    train = jax.jit(lambda key: fit.fit(model, key, rows, none, plan=fit.Plan(steps=400)))
    path = tmp_path_factory.mktemp("latent") / "toy.npz"
    files.save(path, model, train(jax.random.key(0)).params)
    return str(path)


def example(name, latent_file):
    if name in LATENT:
        return registry.make_algorithm(
            name, space=SPACE, batch=2, latent=latent_file, labels=16, members=2,
            fit_steps=60, capacity=128, num_envs=4, num_steps=8, max_steps=8, hidden=16,
        )  # fmt: skip
    small = {"hidden": 16} if name in GRADIENT else {}
    small |= SMALL.get(name, {})
    return registry.make_algorithm(name, space=SPACE, **{"batch": 8, **small})


LIGHT = {
    algos.check_static_argument, algos.check_state_fixed, algos.check_hparams_in_state,
}  # fmt: skip
"""Checks that compile nothing; the others take half a minute where there is a model."""


def cases():
    for name in registry.names("algorithm"):
        for check in algos.ALGORITHM_CHECKS:
            long = name in LATENT | MODEL and check not in LIGHT
            marks = [pytest.mark.slow] if long else []
            if (name, check) == ("analog-ea", algos.check_single_and_one_trace):
                why = "Adam makes a step of a gradient that is rounding (length scales)"
                marks.append(pytest.mark.xfail(reason=why, strict=False))
            yield pytest.param(name, check, marks=marks, id=f"{name}-{check.__name__}")


@pytest.mark.parametrize(("name", "check"), list(cases()))
def test_algorithm_conforms(name, check, latent_file):
    algo = example(name, latent_file)
    if check is algos.check_single_and_one_trace:
        check(algo, ORACLE, exact=name not in ROUNDED)
    elif check is algos.check_beats_random and name == "random":
        with pytest.raises(AssertionError, match="seeds beat random"):
            check(algo, ORACLE)  # the check can tell
    else:
        check(algo, ORACLE)


@dataclass(frozen=True)
class Careless(Reinforce):
    """Planted faults: failed lanes teach their NaN, and the state changes type."""

    def tell(self, key, state, proposal, evaluation):
        state = super().tell(key, state, proposal, evaluation)
        reward = evaluation.reward
        return state._replace(
            episodes=state.episodes._replace(reward=reward, valid=jnp.ones(8, bool))
        )

    def learn(self, key, state):
        state, metrics = super().learn(key, state)
        return state, {name: value.astype(jnp.float16) for name, value in metrics.items()}


@pytest.mark.parametrize("check", [algos.check_finite, algos.check_state_fixed])
def test_planted_faults_are_caught(check):
    with pytest.raises(AssertionError):
        check(Careless(space=SPACE, batch=8, hidden=16), ORACLE)


@dataclass(frozen=True)
class Collapsed(Reinforce):
    """Planted fault: steps so large that the policy is one architecture at once."""

    rate: float = 1.0

    def default_hparams(self):
        return ReinforceHparams(lr=self.rate, entropy=0.0)


def test_a_collapsed_policy_does_not_beat_random():
    """Its mean proposal is above a uniform draw's: what it repeats is a good one."""
    planted = Collapsed(space=SPACE, batch=8, hidden=16)
    with pytest.raises(AssertionError, match=r"seed \d+ has collapsed: \d+ distinct"):
        algos.check_beats_random(planted, ORACLE)


@dataclass(frozen=True)
class Greedy(RandomSearch):
    """Planted fault: uniform for 30 of 60 updates, then the best architecture alone."""

    batch: int = 8

    def init(self, key, hparams):
        best = jnp.zeros(self.space.length, jnp.int32)
        return (super().init(key, hparams), best, jnp.float32(-jnp.inf))

    def ask(self, key, state):
        state, best, reward = state
        late = state.position >= 30 * self.batch
        state, proposal = super().ask(key, state)
        tokens = jnp.where(late, best, proposal.tokens)
        return (state, best, reward), proposal._replace(tokens=tokens)

    def tell(self, key, state, proposal, evaluation):
        state, best, reward = state
        i = jnp.argmax(evaluation.reward)
        better = evaluation.reward[i] > reward
        best = jnp.where(better, proposal.tokens[i], best)
        return (state, best, jnp.maximum(reward, evaluation.reward[i]))

    def learn(self, key, state):
        return state, {}


def test_repeating_the_best_of_uniform_draws_does_not_beat_random():
    """Its proposals are better than uniform draws, the architectures it queried are not."""
    with pytest.raises(AssertionError, match="equally many distinct architectures"):
        algos.check_beats_random(Greedy(SPACE), ORACLE)
