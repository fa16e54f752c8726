"""Every registered oracle, and each way of combining them, conforms."""

import dataclasses

import jax.numpy as jnp
import pytest

from jaxnas import registry
from jaxnas.oracles.combine import Joined, constrained
from jaxnas.oracles.cost import CostOracle
from jaxnas.oracles.toy import ToyOracle
from jaxnas.spaces.toy import Toy
from jaxnas.testing.oracles import (
    ORACLE_CHECKS,
    check_inactive_skipped,
    check_permutation,
    example,
)

LARGE = Toy(length=20, vocab=4)
ORACLES = {
    **{name: lambda name=name: example(name) for name in registry.names("oracle")},
    "several": lambda: registry.make_oracle(
        "analog-nasbench", objective="digital,analog_1month"
    ),
    "host cost": lambda: CostOracle(LARGE, "flops,params"),
    "joined": lambda: Joined((ToyOracle(), CostOracle(Toy(), "params"))),
    "joined, part host": lambda: Joined((ToyOracle(LARGE), CostOracle(LARGE))),
    "constrained": lambda: constrained(ToyOracle(), ("layers<=2", "flops<=80")),
}


NAMES = [pytest.param(n, marks=[pytest.mark.slow] * (n == "grown")) for n in ORACLES]
"""Morphs and training of a growing network take long to compile."""


@pytest.fixture(scope="module", params=NAMES)
def oracle(request):
    return ORACLES[request.param]()


@pytest.mark.parametrize("check", ORACLE_CHECKS, ids=lambda check: check.__name__)
def test_oracle_conforms(oracle, check):
    check(oracle)


@dataclasses.dataclass(frozen=True)
class Faulty(ToyOracle):
    """Planted faults: lane 0 gets a bonus, and inactive lanes are answered."""

    def evaluate(self, key, params, state, tokens, fidelity, active):
        everyone = jnp.ones_like(active)
        state, answer = super().evaluate(key, params, state, tokens, fidelity, everyone)
        return state, answer._replace(objectives=answer.objectives.at[0].add(1.0))


@pytest.mark.parametrize("check", [check_permutation, check_inactive_skipped])
def test_planted_faults_are_caught(check):
    with pytest.raises(AssertionError):
        check(Faulty())
