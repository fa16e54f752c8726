"""Broken contracts are one sentence that names the method and the leaf, before a search."""

import dataclasses
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnas
from jaxnas.core import tokens as tk
from jaxnas.core.errors import UserError
from jaxnas.core.types import OK, Evaluation, Proposal
from jaxnas.oracles.toy import ToyOracle
from jaxnas.run.contracts import check_algorithm, check_oracle
from jaxnas.run.host.processes import Processes
from jaxnas.spaces.toy import Toy
from jaxnas.testing.fakes import FakeChild, OnHost

SPACE = Toy()
ORACLE = ToyOracle(SPACE)


class Settings(NamedTuple):
    """A preset with an int, which the run layer casts like any other number."""

    shift: int = 0


class State(NamedTuple):
    hparams: Settings
    count: jax.Array


@dataclass(frozen=True)
class Draws:
    """Random legal architectures: an algorithm that keeps every contract."""

    space: Toy = SPACE
    batch: int = 4

    id = "draws-v1"
    rounds = 1
    preferred_width = 8

    def default_hparams(self):
        return Settings()

    def init(self, key, hparams):
        return State(hparams, jnp.int32(0))

    def draw(self, key):
        keys = jax.random.split(key, self.batch)
        return jax.vmap(lambda k: tk.sample(k, self.space))(keys)

    def ask(self, key, state):
        lanes = jnp.zeros(self.batch, jnp.int32)
        return state, Proposal(self.draw(key), lanes, lanes == 0)

    def tell(self, key, state, proposal, evaluation):
        return state._replace(count=state.count + jnp.sum(evaluation.status == OK))

    def learn(self, key, state):
        return state, {"shift": state.hparams.shift}


def variant(**members):
    """An instance of :class:`Draws` with other methods."""
    return type("Mine", (Draws,), members)()


def asks(change):
    """An ``ask`` whose proposal is changed."""

    def ask(self, key, state):
        state, proposal = Draws.ask(self, key, state)
        return state, change(proposal)

    return ask


class Plain:
    """Everything but a frozen dataclass."""

    __init__ = lambda self: None
    space, batch, rounds, preferred_width, id = SPACE, 4, 1, 8, "plain-v1"
    default_hparams, init, ask = Draws.default_hparams, Draws.init, Draws.ask
    tell, learn = Draws.tell, Draws.learn


class Missing(Draws):
    """Lacks a method."""

    tell = property(lambda self: (_ for _ in ()).throw(AttributeError("no tell")))


@dataclass(frozen=True)
class Listed(Draws):
    """Its hash fails: a list is no static argument."""

    sizes: list = dataclasses.field(default_factory=list)


FAULTS = {
    "class": (Draws, "Draws is a class; make one"),
    "method": (Missing(), "Missing has no 'tell', which every Algorithm needs"),
    "dataclass": (Plain(), "Plain must be a dataclass with frozen=True"),
    "hash": (Listed(), r"Listed must be hashable \(unhashable type: 'list'\)"),
    "batch": (Draws(batch=0), "Draws.batch must be a positive int, got 0"),
    "dict": (
        variant(default_hparams=lambda self: {"shift": 0.0}),
        "Mine.default_hparams must return a NamedTuple of numbers, got dict",
    ),
    "number": (
        variant(default_hparams=lambda self: Settings("adam")),
        "Mine.default_hparams must return numbers, but shift is 'adam'",
    ),
    "alone": (
        variant(ask=lambda self, key, state: Draws.ask(self, key, state)[1]),
        r"Mine.ask must return a pair \(state, ...\), got Proposal",
    ),
    "proposal": (
        variant(ask=asks(lambda p: p.tokens)),
        r"Mine.ask must return the record Proposal, got int32\[4, 4\]",
    ),
    "length": (
        variant(ask=asks(lambda p: p._replace(tokens=p.tokens[:, :3]))),
        r"Mine.ask returned tokens as int32\[4, 3\]; it must be int32\[4, 4\]",
    ),
    "lanes": (
        variant(ask=asks(lambda p: p._replace(active=p.active[:2]))),
        r"Mine.ask returned active as bool\[2\]; it must be bool\[4\]",
    ),
    "dtype": (
        variant(ask=asks(lambda p: p._replace(tokens=p.tokens * 1.0))),
        r"Mine.ask returned tokens as float32\[4, 4\]",
    ),
    "structure": (
        variant(tell=lambda self, key, state, *_: state.count),
        "Mine.tell returned a state of another structure than init",
    ),
    "leaf": (
        variant(learn=lambda self, key, s: (s._replace(count=s.count * 1.0), {})),
        r"Mine.learn returned the leaf state.count as float32\[\]; it must stay int32\[\]",
    ),
    "metrics": (
        variant(learn=lambda self, key, state: (state, state.count)),
        r"Mine.learn must return \(state, metrics by name\), got int32\[\]",
    ),
    "metric": (
        variant(learn=lambda self, key, state: (state, {"loss": jnp.zeros(3)})),
        r"Mine.learn returned the metric 'loss' as float32\[3\]; it must be float32\[\]",
    ),
}
EARLY = ("class", "method")
"""Faults that the run-time type checker of these tests would refuse before ``search``."""
TOKENS = {
    "vocabulary": (
        variant(ask=asks(lambda p: p._replace(tokens=p.tokens.at[1, 3].set(7)))),
        r"Mine.ask returned the token 7 at position 3 of \(.*, 7\); the tokens of 'toy",
    ),
    "negative": (
        variant(ask=asks(lambda p: p._replace(tokens=p.tokens.at[0, 0].set(-1)))),
        "Mine.ask returned the token -1 at position 0",
    ),
}


def run(algo, oracle=ORACLE, **options):
    return jaxnas.search(algo, oracle, budget=8, **options)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_broken_algorithm_is_one_sentence_before_anything_is_written(fault, tmp_path):
    algo, message = FAULTS[fault]
    head = check_algorithm if fault in EARLY else lambda a: run(a, out=tmp_path / "run")
    with pytest.raises(UserError, match=message) as error:
        head(algo)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("host", [False, True], ids=["traced", "host"])
@pytest.mark.parametrize("fault", TOKENS)
def test_the_tokens_of_the_first_batch_are_checked(fault, host):
    algo, message = TOKENS[fault]
    with pytest.raises(UserError, match=message):
        run(algo, OnHost(ORACLE) if host else ORACLE)


@dataclass(frozen=True)
class OddOnly(Toy):
    """The toy space, in which the last token is never 0."""

    def mask(self, tokens, t):
        return (jnp.arange(self.vocab) > 0) | (t < self.length - 1)


@pytest.mark.parametrize("host", [False, True], ids=["traced", "host"])
def test_the_mask_is_checked_on_the_first_batch(host):
    space = OddOnly()
    oracle = ToyOracle(space)
    oracle = OnHost(oracle) if host else oracle
    assert run(Draws(space), oracle).arrays["count"].tolist() == [8]
    wrong = dataclasses.replace(
        variant(ask=asks(lambda p: p._replace(tokens=p.tokens.at[:, 3].set(0)))),
        space=space,
    )
    with pytest.raises(UserError, match=r"forbids its token 0 at position 3; draw tokens"):
        run(wrong, oracle)


def evaluates(change):
    """A toy oracle whose answer is changed."""

    def evaluate(self, *args):
        state, found = ToyOracle.evaluate(self, *args)
        return change(state, found)

    return type("Odd", (ToyOracle,), {"evaluate": evaluate})(SPACE)


ANSWERS = {
    "flat": (
        lambda s, f: (s, f._replace(objectives=f.objectives[:, 0])),
        r"Odd.evaluate returned objectives as float32\[B\]; it must be float32\[B, 1\]",
    ),
    "status": (
        lambda s, f: (s, f._replace(status=f.status * 1.0)),
        r"Odd.evaluate returned status as float32\[B\]; it must be int32\[B\]",
    ),
    "record": (
        lambda s, f: (s, f.objectives),
        r"Odd.evaluate must return the record Evaluation, got float32\[B, 1\]",
    ),
}


@pytest.mark.parametrize("answer", ANSWERS)
def test_an_answer_of_another_shape_is_refused(answer):
    change, message = ANSWERS[answer]
    with pytest.raises(UserError, match=message.replace("B", "4")):
        run(Draws(), evaluates(change))
    host = OnHost(evaluates(change))
    with pytest.raises(UserError, match=message.replace("B", "1").replace("Odd", "OnHost")):
        run(Draws(), host)


class Flat(FakeChild):
    """A host oracle that no worker can measure; its answers lack an axis."""

    measure = property(lambda self: (_ for _ in ()).throw(AttributeError("measure")))

    def evaluate(self, key, params, state, tokens, fidelity, active):
        n = np.zeros(len(tokens), np.float32)
        return state, Evaluation(n, n, n, np.zeros(len(tokens), np.int32), n)


def test_a_sentence_from_a_worker_is_the_same_sentence():
    message = r"Flat.evaluate returned objectives as float32\[1\]"
    with Processes(workers=1) as executor, pytest.raises(UserError, match=message):
        run(Draws(), Flat(SPACE), executor=executor)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        (
            {"params": property(lambda s: s._)},
            "Odd has no 'params', which every Oracle",
        ),
        ({"__hash__": None}, "Odd must be hashable"),
        ({"objectives": ()}, "Odd.objectives must be a tuple of at least one Objective"),
    ],
)
def test_a_broken_oracle_is_one_sentence(members, message):
    with pytest.raises(UserError, match=message):
        check_oracle(type("Odd", (ToyOracle,), members)(SPACE))


def test_the_run_layer_casts_hyperparameters():
    """A preset of ints is a leaf of float32, and what was asked for is not rounded."""
    result = run(Draws(), hparams={"shift": 0.5})
    assert result.arrays["metric_shift"].dtype == np.float32
    assert result.arrays["metric_shift"][0, 0] == 0.5
    assert result.config["hparams"] == {"shift": [0.5]}
