"""Every registered algorithm keeps its promises on a small space with a known score."""

from dataclasses import dataclass

import jax.numpy as jnp
import pytest

from jaxnas import registry
from jaxnas.algorithms.reinforce import Reinforce
from jaxnas.oracles.toy import ToyOracle
from jaxnas.spaces.toy import Toy
from jaxnas.testing import algos

SPACE = Toy(length=5, vocab=4)
ORACLE = ToyOracle(SPACE)
GRADIENT = {"reinforce", "a2c", "ppo"}
"""Algorithms whose state holds trained weights: not bit-equal between widths."""


def example(name):
    small = {"hidden": 16} if name in GRADIENT else {}
    return registry.make_algorithm(name, space=SPACE, batch=8, **small)


@pytest.fixture(scope="module", params=registry.names("algorithm"))
def name(request):
    return request.param


@pytest.mark.parametrize("check", algos.ALGORITHM_CHECKS, ids=lambda check: check.__name__)
def test_algorithm_keeps_promise(name, check):
    if check is algos.check_single_and_one_trace:
        check(example(name), ORACLE, exact=name not in GRADIENT)
    elif check is algos.check_beats_random and name == "random":
        with pytest.raises(AssertionError, match="seeds beat random"):
            check(example(name), ORACLE)  # the check can tell
    else:
        check(example(name), ORACLE)


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
