"""Failures of the public suites say what was expected, of which leaf, and the mend."""

import ast
from dataclasses import dataclass
from pathlib import Path

import jax.numpy as jnp
import pytest
from probes import ConstantReward

from jaxnas import testing
from jaxnas.algorithms.random_search import RandomSearch
from jaxnas.oracles.toy import ToyOracle
from jaxnas.spaces.toy import Toy
from jaxnas.testing import algos, envs, oracles, spaces

SPACE = Toy()
ORACLE = ToyOracle(SPACE)


def silent(source):
    """Lines that assert something and do not say what."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Assert) and node.msg is None:
            yield node.lineno
        called = getattr(node.func, "attr", "") if isinstance(node, ast.Call) else ""
        words = {k.arg for k in node.keywords} if isinstance(node, ast.Call) else set()
        if called.startswith("assert_") and "err_msg" not in words:
            yield node.lineno


def test_no_assertion_is_silent():
    folder = Path(testing.__file__).parent
    found = {p.name: [*silent(p.read_text())] for p in folder.glob("*.py")}
    assert not {name: lines for name, lines in found.items() if lines}
    planted = "assert x\nassert y, 'why'\nnp.testing.assert_allclose(a, b)"
    assert [*silent(planted)] == [1, 3]


@dataclass(frozen=True)
class Undocumented(Toy):
    """Planted faults."""

    def canonical(self, tokens):
        return tokens.astype(jnp.float32)


class Weak(RandomSearch):
    """Planted fault: a weakly typed counter."""

    def init(self, key, hparams):
        return super().init(key, hparams)._replace(position=jnp.asarray(0))

    def ask(self, key, state):
        state, proposal = super().ask(key, state)
        return state, proposal._replace(tokens=proposal.tokens.at[:, 3].set(5))


class Nameless(ToyOracle):
    """Planted faults: no version, a reward of its own, no axis of objectives."""

    id = "nameless"

    def evaluate(self, *args):
        state, found = super().evaluate(*args)
        return state, found._replace(cost=found.cost - 1, reward=found.cost)


class Blind(ConstantReward):
    """Planted fault: nothing is ever legal."""

    def reset(self, key, params):
        state, step = super().reset(key, params)
        return state, step._replace(mask=step.mask & False)


CASES = [
    (spaces.check_canonical, (Undocumented(),),
     r"canonical tokens is float32\[41, 4\]; make it int32\[41, 4\]"),
    (algos.check_state_fixed, (Weak(SPACE), ORACLE),
     r"state.position is weakly typed and compiles twice; write jnp.float32"),
    (algos.check_valid, (Weak(SPACE), ORACLE),
     r"ask proposed \(0, 0, 0, 5\), which the mask forbids; repair it"),
    (oracles.check_static_argument, (Nameless(SPACE),),
     "the id 'nameless' lacks a version, as in 'my-v1'"),
    (oracles.check_record, (Nameless(SPACE),),
     r"evaluation.reward must be NaN: the budget fills it \(6 of 6 fail, first at \[0\]\)"),
    (envs.check_masks_and_ends, (Blind(), ()),
     "reset returned a mask without a legal action; leave one"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("check", "args", "message"), CASES, ids=lambda part: getattr(part, "__name__", "")
)
def test_a_planted_fault_is_named_with_its_mend(check, args, message):
    with pytest.raises(AssertionError, match=message):
        check(*args)
