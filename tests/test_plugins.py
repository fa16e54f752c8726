"""A stranger's package: a space, an oracle and an algorithm, and no edit of jaxnas.

The package is one file outside the repository, found through entry points. What it holds is
as short as it can be; the public conformance suites, the search and the report then work
on it.
"""

import importlib
import importlib.metadata
import json
import sys
import textwrap

import pytest

from jaxnas import registry
from jaxnas.cli import main
from jaxnas.core.errors import UserError
from jaxnas.testing.algos import ALGORITHM_CHECKS
from jaxnas.testing.oracles import ORACLE_CHECKS
from jaxnas.testing.spaces import SPACE_CHECKS

PACKAGE = '''
"""Bit strings, how many ones they hold, and a climber that flips one bit."""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas import OK, SKIPPED, Evaluation, Graph, Objective, Proposal, UserError
from jaxnas.core import tokens as tk


@dataclass(frozen=True)
class Bits:
    """Bit strings."""

    length: int = 6
    vocab: int = 2
    id: str = "bits-v1"

    def mask(self, tokens, t):
        return jnp.ones(2, bool)

    def canonical(self, tokens):
        return tokens

    def to_graph(self, tokens):
        n = self.length
        wired = jnp.arange(n)[None, :] == jnp.arange(n)[:, None] + 1
        return Graph(tokens + 1, wired, jnp.ones(n, bool))

    def to_spec(self, tokens):
        vector = {"kind": "vector", "shape": [8]}
        name, nodes = "x", []
        for i, bit in enumerate(int(b) for b in tokens):
            op = "relu" if bit else "identity"
            nodes.append({"name": f"n{i}", "op": op, "inputs": [name], "attributes": {}})
            name = f"n{i}"
        return {
            "format": "jaxnas-spec-1", "space": self.id, "inputs": {"x": vector},
            "outputs": {name: vector}, "blocks": {}, "nodes": nodes,
        }

    def from_spec(self, spec):
        if spec["space"] != self.id:
            raise UserError(f"A spec of {spec['space']!r} is not one of {self.id!r}.")
        return np.array([node["op"] == "relu" for node in spec["nodes"]], np.int32)


@dataclass(frozen=True)
class Ones:
    """Number of ones in a bit string."""

    space: Bits = Bits()
    id: str = "ones-v1"
    objectives: tuple = (Objective("ones", "bits", True, "ones in the string"),)
    traced: bool = True

    def params(self):
        return ()

    def init(self, key, params):
        return ()

    def evaluate(self, key, params, state, tokens, fidelity, active):
        ones = jnp.where(active, tokens.sum(axis=1).astype(jnp.float32), jnp.nan)
        zero = jnp.zeros(len(tokens))
        status = jnp.where(active, OK, SKIPPED)
        return state, Evaluation(ones[:, None], zero, zero, status, zero * jnp.nan)


class NoHparams(NamedTuple):
    pass


class ClimberState(NamedTuple):
    hparams: NoHparams
    best: jax.Array
    reward: jax.Array


@dataclass(frozen=True)
class Climber:
    """Flips one bit of the best so far."""

    space: Bits
    batch: int = 8
    rounds: int = 1
    id: str = "climber-v1"
    preferred_width: int = 64

    def default_hparams(self):
        return NoHparams()

    def init(self, key, hparams):
        return ClimberState(hparams, tk.sample(key, self.space), jnp.float32(-jnp.inf))

    def ask(self, key, state):
        keys = jax.random.split(key, self.batch)
        near = jax.vmap(lambda k: tk.mutate(k, self.space, state.best))(keys)
        lanes = jnp.zeros(self.batch, jnp.int32)
        return state, Proposal(near, lanes, jnp.ones(self.batch, bool))

    def tell(self, key, state, proposal, evaluation):
        ok = (evaluation.status == OK) & proposal.active
        reward = jnp.where(ok, evaluation.reward, -jnp.inf)
        lane = jnp.argmax(reward)
        better = reward[lane] > state.reward
        best = jnp.where(better, proposal.tokens[lane], state.best)
        return ClimberState(state.hparams, best, jnp.maximum(reward[lane], state.reward))

    def learn(self, key, state):
        return state, {}
'''

KINDS = {"space": "bits", "oracle": "ones", "algorithm": "climber"}


@pytest.fixture
def stranger(tmp_path, monkeypatch):
    """The installed package, known by its entry points only."""
    (tmp_path / "stranger.py").write_text(textwrap.dedent(PACKAGE))
    monkeypatch.syspath_prepend(str(tmp_path))
    points = {
        f"jaxnas.{kind}s": [
            importlib.metadata.EntryPoint(name, f"stranger:{name.title()}", group="")
        ]
        for kind, name in KINDS.items()
    }
    monkeypatch.setattr(
        importlib.metadata, "entry_points", lambda group: points.get(group, [])
    )
    registry._plugins.cache_clear()
    yield importlib.import_module("stranger")
    registry._plugins.cache_clear()
    del sys.modules["stranger"]


def test_strangers_pass_the_public_suites(stranger):
    space = registry.make_space("bits")
    for check in SPACE_CHECKS:
        check(space)
    oracle = registry.make_oracle("ones", space=space)
    for check in ORACLE_CHECKS:
        check(oracle)
    algo = registry.make_algorithm("climber", space=space)
    for check in ALGORITHM_CHECKS:
        check(algo, oracle)


def test_strangers_are_searched_listed_and_reported(stranger, capsys, tmp_path):
    with pytest.raises(SystemExit) as stop:
        main(
            [
                "search", "--oracle", "ones", "--budget", "40",
                "--algorithms", "random", "climber", "--seeds", "4", "--quiet",
                "--out", str(tmp_path), "--name", "run",
            ]
        )  # fmt: skip
    assert not stop.value.code
    assert "climber" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["report", str(tmp_path / "run"), "--json"])
    assert json.loads(capsys.readouterr().out)["studies"]
    with pytest.raises(SystemExit):
        main(["list"])
    listed = capsys.readouterr().out
    assert all(name in listed for name in KINDS.values())


def test_identity_is_no_setting_and_an_oracle_needs_no_objective(stranger, capsys):
    """``ones`` has no ``info`` and no ``objective``; both used to end in an error."""
    with pytest.raises(SystemExit) as stop:
        main(["info", "ones", "--json"])
    assert not stop.value.code
    facts = json.loads(capsys.readouterr().out)
    assert facts["id"] == "ones-v1"
    assert facts["metrics"]["ones"]["unit"] == "bits"
    assert facts["options"] == "space=Bits(length=6, vocab=2, id='bits-v1')"
    for option in registry.IDENTITY:
        with pytest.raises(UserError, match=f"'ones': '{option}'. .*Available: space"):
            registry.make_oracle("ones", **{option: "mine"})
    with pytest.raises(SystemExit) as stop:
        main(["search", "--oracle", "ones", "--objective", "zeros", "--budget", "4"])
    assert stop.value.code == 2
    assert "Unknown option of oracle 'ones': 'objective'" in capsys.readouterr().err


def test_a_broken_algorithm_ends_with_one_sentence(stranger, capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(stranger.Climber, "default_hparams", lambda self: {"lr": 0.1})
    with pytest.raises(SystemExit) as stop:
        main(["search", "--oracle", "ones", "--algorithms", "climber", "--out",
              str(tmp_path / "runs")])  # fmt: skip
    assert stop.value.code == 2
    said = capsys.readouterr().err
    assert "Climber.default_hparams must return a NamedTuple of numbers, got dict" in said
    assert not (tmp_path / "runs").exists()
