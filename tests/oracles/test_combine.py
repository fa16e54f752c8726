"""Joined and constrained oracles, with the arithmetic by hand."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas.core import tokens as tk
from jaxnas.core.errors import UserError
from jaxnas.core.oracle import Enumerated, Selectable, Truthful, capability, required
from jaxnas.core.types import FAILED, OK
from jaxnas.oracles.combine import Constrained, Joined, constrained
from jaxnas.oracles.cost import CostOracle
from jaxnas.oracles.table import analog_nasbench
from jaxnas.oracles.toy import ToyOracle
from jaxnas.registry import make_oracle, recipe
from jaxnas.spaces.toy import Toy
from jaxnas.testing.oracles import ask

TOY = Toy()
TOKENS = np.array([[0, 0, 0, 0], [1, 2, 1, 2], [2, 0, 2, 0], [0, 1, 0, 0]], np.int32)


@dataclasses.dataclass(frozen=True)
class Flaky:
    """A host oracle without a known truth, which fails on architectures starting with 2."""

    space: Toy = TOY
    id: str = "flaky-v1"
    traced: bool = False

    @property
    def objectives(self):
        return (dataclasses.replace(ToyOracle().objectives[0], name="flaky"),)

    def params(self):
        return ()

    def init(self, key, params):
        return ()

    def evaluate(self, key, params, state, tokens, fidelity, active):
        assert isinstance(tokens, np.ndarray), "a host oracle must be given numpy arrays"
        template = ask(ToyOracle(), tokens, active)
        bad = tokens[:, 0] == 2
        return (), template._replace(
            objectives=np.where(bad[:, None], np.nan, template.objectives).astype(
                np.float32
            ),
            status=np.where(bad & active, FAILED, template.status).astype(np.int32),
        )


def test_joined_puts_the_parts_side_by_side():
    toy, cost = ToyOracle(objective="layers"), CostOracle(Toy(), "flops,params")
    both = Joined((toy, cost))
    assert [o.name for o in both.objectives] == ["layers", "flops", "params"]
    assert both.traced
    assert capability(both, Enumerated) is both
    assert capability(both, Truthful) is both
    found = ask(both, TOKENS)
    np.testing.assert_array_equal(found.objectives[:, :1], ask(toy, TOKENS).objectives)
    np.testing.assert_array_equal(found.objectives[:, 1:], ask(cost, TOKENS).objectives)
    np.testing.assert_array_equal(found.cost, ask(toy, TOKENS).cost)
    assert set(both.columns()) == {"score", "layers", *cost.metric_names}
    assert set(both.info()) == {toy.id, cost.id}


def test_joining_with_a_host_oracle_makes_a_host_oracle():
    """It claims no truth that a part lacks, and a failed lane fails whole."""
    both = Joined((CostOracle(Toy()), Flaky()))
    assert not both.traced
    assert capability(both, Truthful) is None
    assert capability(both, Enumerated) is None
    found = ask(both, TOKENS)
    np.testing.assert_array_equal(found.status, [OK, OK, FAILED, OK])
    assert np.isnan(found.objectives[2]).all()
    assert np.isfinite(found.objectives[found.status == OK]).all()


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ((), "At least one oracle"),
        ((ToyOracle(), ToyOracle(task=1)), "same thing twice"),
        ((ToyOracle(), CostOracle(Toy(5, 3))), "one space"),
    ],
)
def test_what_cannot_be_joined(parts, message):
    with pytest.raises(UserError, match=message):
        Joined(parts)


def test_violation_is_the_summed_relative_excess():
    """Layers 0, 4, 2, 1 against <= 2 and >= 1; FLOPs against <= 80, in their own scale."""
    oracle = constrained(ToyOracle(), ("layers<=2", "layers >= 1", "flops<=80"))
    flops = ask(CostOracle(Toy(), "flops"), TOKENS).objectives[:, 0]
    layers = np.array([0.0, 4.0, 2.0, 1.0])
    expected = np.maximum(layers - 2, 0) / 2 + np.maximum(1 - layers, 0)
    expected += np.maximum(flops - 80, 0) / 80
    found = ask(oracle, TOKENS)
    np.testing.assert_allclose(found.violation, expected, rtol=1e-6)
    assert [o.name for o in oracle.objectives] == ["score"]
    np.testing.assert_array_equal(found.objectives, ask(ToyOracle(), TOKENS).objectives)


def test_a_limit_at_zero_is_in_the_metric_own_unit():
    found = ask(constrained(ToyOracle(), ("layers<=0",)), TOKENS)
    np.testing.assert_array_equal(found.violation, [0, 4, 2, 1])


def test_an_objective_may_be_limited_too():
    oracle = constrained(ToyOracle(objective="score,layers"), ("layers<=2",))
    assert oracle.gauges == ()
    assert [o.name for o in oracle.objectives] == ["score", "layers"]


def test_constraints_by_name_on_the_benchmark():
    """Another column of the table and an exact cost, by the registry, with noise."""
    oracle = make_oracle(
        "analog-nasbench", constraints=("digital>=93", "params<=1e6"), noise="stored"
    )
    columns = analog_nasbench().columns()
    members = tk.enumerate_space(oracle.space)
    rows = [0, 7611, 15_624]
    params = CostOracle(oracle.space).columns()["params"][rows]
    expected = np.maximum(93 - columns["digital"][rows], 0) / 93
    expected += np.maximum(params - 1e6, 0) / 1e6
    found = ask(oracle, members[rows])
    np.testing.assert_allclose(found.violation, expected, rtol=1e-4, atol=1e-7)
    truth = required(oracle, Truthful).truth(oracle.params(), jnp.asarray(members[rows]))
    truth = truth[:, 0]
    np.testing.assert_allclose(truth, columns["analog_1month"][rows], rtol=1e-6)
    assert oracle.id == "analog-nasbench-v1|digital>=93|params<=1e+06+noise-stored"
    assert {"params", "digital"} <= set(required(oracle, Enumerated).columns())


def test_failed_lanes_carry_no_violation_number():
    """A lane that was not measured is FAILED; its violation is 0 and means nothing."""
    oracle = Constrained(Flaky(), (("params", "<=", 10.0),), (CostOracle(Toy()),))
    found = ask(oracle, TOKENS)
    np.testing.assert_array_equal(found.status, [OK, OK, FAILED, OK])
    assert found.violation[2] == 0
    assert capability(constrained(Flaky(), ("params<=10",)), Truthful) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("layers<2", "is not a constraint; write one such as"),
        ("layers<=", "is not a constraint"),
        ("layers<=1e", "is not a constraint"),
        ("layer<=2", "Did you mean 'layers'"),
        ("layers<=1e999", "a finite number"),
    ],
)
def test_bad_constraints_are_one_sentence(text, message):
    with pytest.raises(UserError, match=message):
        constrained(ToyOracle(), (text,))


def test_constrained_is_one_traced_program():
    """It composes under jit and vmap over controllers, tables shared."""
    oracle = constrained(ToyOracle(), ("layers<=2",))
    params = oracle.params()
    keys = jax.random.split(jax.random.key(0), 3)
    state = jax.vmap(lambda key: oracle.init(key, params))(keys)
    lanes = jnp.zeros(4, jnp.int32), jnp.ones(4, bool)

    @jax.jit
    @jax.vmap
    def run(key, state):
        return oracle.evaluate(key, params, state, jnp.asarray(TOKENS), *lanes)[1]

    np.testing.assert_array_equal(run(keys, state).violation[1], [0, 1, 0, 0])


def test_costs_stand_beside_what_an_oracle_measures():
    oracle = make_oracle("analog-nasbench", objective="digital, analog_1month,params,tiles")
    names = [item.name for item in oracle.objectives]
    assert names == ["digital", "analog_1month", "params", "tiles"]
    members = tk.enumerate_space(oracle.space)[[3, 7611]]
    found = np.asarray(ask(oracle, members).objectives)
    columns = required(oracle, Enumerated).columns()
    wanted = np.stack([columns[name][[3, 7611]] for name in names], axis=1)
    np.testing.assert_allclose(found, wanted, rtol=1e-6)
    name, options = recipe(oracle)
    assert make_oracle(name, **options) == oracle


def test_other_metrics_of_a_joined_oracle():
    oracle = make_oracle("analog-nasbench", objective="digital,params")
    other = required(oracle, Selectable).select(("flops", "ptq"))
    assert [item.name for item in other.objectives] == ["ptq", "flops"]
    with pytest.raises(UserError, match="Did you mean 'energy'"):
        oracle.select("enrgy")
    limited = make_oracle(
        "analog-nasbench", objective="digital,params", constraints=("qat>=90",)
    )
    assert limited.limits == (("qat", ">=", 90.0),)


def test_a_cost_comes_last():
    with pytest.raises(UserError, match="write digital,params"):
        make_oracle("analog-nasbench", objective="params,digital")
    alone = make_oracle("cost", space=TOY, objective="params,flops")
    assert isinstance(alone, CostOracle)
