"""A wrapper has exactly the capabilities of what it wraps, and says so truly."""

import ast
import dataclasses
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest

import jaxnas
from jaxnas.core.errors import UserError
from jaxnas.core.oracle import (
    CAPABILITIES,
    Described,
    Enumerated,
    Measuring,
    MultiFidelity,
    OracleWrapper,
    Predictor,
    Repeating,
    Scalable,
    Selectable,
    Spreading,
    Truthful,
    Uncertain,
    capability,
    required,
)
from jaxnas.core.types import OK, SKIPPED, Evaluation, Objective
from jaxnas.oracles.budget import Budgeted, budgeted
from jaxnas.oracles.combine import Constrained, Joined, constrained
from jaxnas.oracles.cost import CostOracle
from jaxnas.oracles.noise import Noisy
from jaxnas.run.host.measurements import Recalled
from jaxnas.run.search import search
from jaxnas.spaces.toy import Toy
from jaxnas.testing.fakes import Flaky, OnHost

TOY = Toy()
TOKENS = jnp.array([[0, 1, 2, 0], [1, 1, 1, 1]])


@dataclass(frozen=True)
class Bare:
    """Twice the sum of the tokens; no capability at all."""

    space: Toy = TOY
    name: str = "double"

    id = "bare-v1"
    traced = True
    objectives = property(lambda self: (Objective(self.name, "points", True, "sum"),))
    params = lambda self: jnp.float32(2.0)
    init = lambda self, key, params: ()

    def evaluate(self, key, params, state, tokens, fidelity, active):
        value = jnp.where(active, params * tokens.sum(axis=1), jnp.nan)
        zero = jnp.zeros(len(tokens))
        status = jnp.where(active, OK, SKIPPED)
        return state, Evaluation(value[:, None], zero, zero, status, zero * jnp.nan)


truth = lambda self, params, tokens: (params * tokens.sum(axis=1))[:, None]
spread = lambda self, params, tokens: jnp.zeros((len(tokens), 1))
ABLE = {
    Measuring: {"seed": 5, "data_checksum": "abc", "measure": lambda self, t, f: "read"},
    Truthful: {"truth": truth},
    Uncertain: {"truth": truth, "spread": spread},
    Predictor: {
        "features": lambda self, tokens: tokens * 1.0,
        "predict": lambda self, params, tokens: SimpleNamespace(mean=params * tokens),
    },
    Repeating: {"repeats": "resample"},
    MultiFidelity: {
        "num_fidelities": 3,
        "effort": lambda self, tokens, fidelity: 1.0 / (1 + fidelity),
    },
    Scalable: {"cheaper": lambda self, resource, eta, least: {resource: eta}},
    Enumerated: {"columns": lambda self: {self.name: np.arange(81.0)}},
    Described: {"info": lambda self: {"source": "nowhere"}},
    Spreading: {"spreads": lambda self: {self.name: np.ones(81)}},
    Selectable: {
        "metric_names": ("double", "other"),
        "select": lambda self, name: dataclasses.replace(self, name=name),
    },
}


def fake(kinds):
    """A bare oracle with some capabilities."""
    members = {name: member for kind in kinds for name, member in ABLE[kind].items()}
    return type("Fake", (Bare,), members)()


WRAPPERS = {
    Noisy: Noisy,
    Constrained: lambda oracle: constrained(oracle, ("flops<=80",)),
    Budgeted: lambda oracle: budgeted(oracle, 8),
    Recalled: lambda oracle: Recalled(oracle, {}),
    OnHost: OnHost,
    Flaky: Flaky,
}
SETS = [(), *((kind,) for kind in CAPABILITIES), CAPABILITIES]


def test_every_wrapper_and_every_capability_is_here():
    def below(kind):
        return {kind, *(deep for one in kind.__subclasses__() for deep in below(one))}

    here = {k for k in below(OracleWrapper) if k.__module__.startswith("jaxnas.")}
    assert here - {OracleWrapper} == set(WRAPPERS)
    assert set(ABLE) == set(CAPABILITIES)


@pytest.mark.parametrize("wrapper", WRAPPERS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("kinds", SETS, ids=lambda s: f"{len(s)}{s[-1:]}")
def test_a_wrapper_has_exactly_the_capabilities_of_what_it_wraps(wrapper, kinds):
    inner = fake(kinds)
    if wrapper is Noisy and not isinstance(inner, Uncertain):
        with pytest.raises(UserError, match="records no uncertainty"):
            Noisy(inner)
        return
    wrapped = WRAPPERS[wrapper](inner)
    for kind in CAPABILITIES:
        expected = kind in wrapper.adds or isinstance(inner, kind)
        expected = expected and kind not in wrapper.hides
        assert (capability(wrapped, kind) is not None) == expected, kind
        if not expected:
            with pytest.raises(UserError, match=f"is not {kind.__name__}"):
                required(wrapped, kind)


@pytest.mark.parametrize("wrapper", WRAPPERS, ids=lambda kind: kind.__name__)
def test_what_a_wrapper_says_is_what_the_inner_oracle_says(wrapper):
    inner = fake(CAPABILITIES)
    wrapped = WRAPPERS[wrapper](inner)
    params = wrapped.params() if wrapper is not Recalled else inner.params()
    expected = 2.0 * np.asarray(TOKENS).sum(axis=1)[:, None]
    found = required(wrapped, Truthful).truth(params, TOKENS)
    np.testing.assert_array_equal(found, expected)
    assert required(wrapped, Uncertain).spread(params, TOKENS).shape == (2, 1)
    model = required(wrapped, Predictor)
    np.testing.assert_array_equal(model.features(TOKENS), TOKENS)
    np.testing.assert_array_equal(model.predict(params, TOKENS).mean, 2 * TOKENS)
    assert required(wrapped, Enumerated).columns()["double"][-1] == 80
    assert required(wrapped, Described).info()["source"] == "nowhere"
    assert required(wrapped, Measuring).measure(TOKENS[0], 0) == "read"
    repeats = required(wrapped, Repeating).repeats
    assert repeats == ("stored" if wrapper is Noisy else "resample")
    assert required(wrapped, MultiFidelity).effort(TOKENS[0], 1) == 0.5
    assert required(wrapped, Scalable).cheaper("epochs", 3.0, 1) == {"epochs": 3.0}
    if Selectable not in wrapper.hides:
        other = required(wrapped, Selectable).select("other")
        assert type(other) is wrapper
        assert [o.name for o in other.objectives] == ["other"]
        assert other.id == wrapped.id


@pytest.mark.parametrize("kind", CAPABILITIES, ids=lambda kind: kind.__name__)
def test_joined_oracles_can_what_their_parts_can(kind):
    able, cost = fake((kind,)), CostOracle(Toy())
    both = Joined((able, dataclasses.replace(able, name="again")))
    own = {Truthful, Uncertain, Enumerated, Described, Repeating, Selectable}
    assert (capability(both, kind) is not None) == (kind in own)
    mixed = Joined((fake(()), cost))
    assert {k for k in CAPABILITIES if capability(mixed, k)} == {Described}
    if kind is Repeating:
        assert required(both, Repeating).repeats == "resample"
        assert required(Joined((able, cost)), Repeating).repeats == "resample"
        assert budgeted(Joined((able, cost)), 8).resample


def test_noise_on_an_oracle_without_facts_or_columns_can_be_searched():
    """It used to claim both, and the search ended with an AttributeError."""
    from jaxnas import make_algorithm

    oracle = Noisy(fake((Uncertain,)))
    result = search(make_algorithm("random", space=oracle.space), oracle, budget=8)
    assert result.arrays["count"].tolist() == [8]


BY_ITSELF = {"run/host/measurements.py", "run/host/cache.py"}
"""Where a measuring oracle is told from one around it."""


def asked_directly(source):
    """Lines that ask a capability by isinstance, which sees no further than a wrapper."""
    names = {kind.__name__ for kind in CAPABILITIES}
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    for call in calls:
        inside = {getattr(n, "id", "") for arg in call.args for n in ast.walk(arg)}
        if getattr(call.func, "id", "") == "isinstance" and names & inside:
            yield call.lineno


def test_nothing_asks_a_capability_by_isinstance():
    package = Path(jaxnas.__file__).parent
    found = {
        path.relative_to(package).as_posix(): lines
        for path in package.rglob("*.py")
        if (lines := list(asked_directly(path.read_text())))
    }
    assert set(found) == BY_ITSELF
    assert list(asked_directly("isinstance(x, (int, Truthful))")) == [1]
