"""The tables: what is known of their numbers, as tests; nothing is sampled."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import kendalltau, spearmanr

from jaxnas.core import tokens as tk
from jaxnas.core.errors import UserError
from jaxnas.oracles.table import TableOracle, analog_nasbench, nb201_table
from jaxnas.spaces.nb201 import EDGES, NB201, NONE
from jaxnas.spaces.toy import Toy

SPACE = NB201()
MEMBERS = tk.enumerate_space(SPACE)
ANALOG = analog_nasbench().columns()
MONTH = ANALOG["analog_1month"]
PUBLISHED = nb201_table().columns()
OPTIMUM = (2, 2, 0, 4, 2, 1)


def row(*tokens):
    return int(np.ravel_multi_index(tokens, (5,) * 6))


def test_341_disconnected_cells_are_exactly_those_at_chance():
    """A cell at exactly 10.0 % baseline is one whose input cannot reach its output."""
    paths = [(2,), (0, 4), (1, 5), (0, 3, 5)]
    connected = np.any([(MEMBERS[:, p] != NONE).all(axis=1) for p in paths], axis=0)
    np.testing.assert_array_equal(ANALOG["digital"] == 10.0, ~connected)
    assert (~connected).sum() == 341


def test_encoding_agrees_with_the_published_table():
    """Correlation above 0.98; the mirrored cell, the only rival, correlates less."""
    straight = np.corrcoef(ANALOG["digital"], PUBLISHED["cifar10"])[0, 1]
    flipped = [EDGES.index((5 - b, 5 - a)) for a, b in EDGES]
    mirrored = np.ravel_multi_index(tuple(MEMBERS[:, flipped].T), (5,) * 6)
    crossed = np.corrcoef(ANALOG["digital"], PUBLISHED["cifar10"][mirrored])[0, 1]
    assert straight > 0.98
    assert crossed < straight


@pytest.mark.parametrize(
    ("metric", "value", "tokens"),
    [
        ("digital", 94.07, (2, 2, 0, 2, 3, 2)),
        ("analog", 91.33, OPTIMUM),
        ("analog_1day", 90.53, OPTIMUM),
        ("analog_1month", 90.00, OPTIMUM),
    ],
)
def test_optima(metric, value, tokens):
    assert ANALOG[metric].max() == pytest.approx(value, abs=0.005)
    assert ANALOG[metric].argmax() == row(*tokens)
    assert analog_nasbench(objective=metric).info()["metrics"][metric]["optimum"] == tokens


def test_best_published_seed_means():
    best = [PUBLISHED[name].max() for name in ("cifar10", "cifar100", "imagenet16-120")]
    np.testing.assert_allclose(best, [91.61, 73.49, 46.73], atol=0.005)
    others = [
        spearmanr(PUBLISHED["cifar10"], PUBLISHED[n])[0] for n in list(PUBLISHED)[4::4]
    ]
    np.testing.assert_allclose(others, [0.98, 0.96], atol=0.01)


def test_class_means():
    """The raw optimum is the luckiest of 65 equal cells; no class mean beats 89.67."""
    classes = SPACE.classes()
    sizes = np.bincount(classes)
    means = np.bincount(classes, MONTH) / sizes
    own = classes[row(*OPTIMUM)]
    assert (sizes[own], sizes[means.argmax()]) == (65, 1)
    np.testing.assert_allclose([means.max(), means[own]], [89.67, 88.04], atol=0.005)
    assert means.max() - means[own] == pytest.approx(1.63, abs=0.005)
    assert means[sizes >= 4].max() - means[own] == pytest.approx(0.66, abs=0.005)
    first = SPACE.canonical(jnp.array(OPTIMUM))
    assert MONTH[row(*np.asarray(first))] == pytest.approx(87.54)


def test_isomorphic_rows_differ_by_retraining():
    """Pooled deviation within classes whose mean is in the top tenth of all rows."""
    classes = SPACE.classes()
    sizes = np.bincount(classes)
    found = []
    for name in ("digital", "analog", "analog_1month"):
        means = np.bincount(classes, ANALOG[name]) / sizes
        top = (means > np.quantile(ANALOG[name], 0.9)) & (sizes > 1)
        chosen = top[classes]
        squares = (ANALOG[name] - means[classes])[chosen] ** 2
        found.append(np.sqrt(squares.sum() / (sizes[top] - 1).sum()))
    np.testing.assert_allclose(found, [0.20, 0.63, 1.06], atol=0.02)


def test_digital_rank_is_not_analog_rank():
    names = ["ptq", "qat", "analog", "analog_1month", "noisy"]
    tau = [kendalltau(ANALOG["digital"], ANALOG[name])[0] for name in names]
    np.testing.assert_allclose(tau, [0.95, 0.87, 0.66, 0.65, 0.33], atol=0.01)
    top = np.argsort(-ANALOG["digital"])[:1000]
    inside = [kendalltau(ANALOG["digital"][top], ANALOG[n][top])[0] for n in names[2:4]]
    np.testing.assert_allclose(inside, [0.22, 0.27], atol=0.01)
    best = ANALOG["digital"].argmax()
    ranked = np.argsort(-ANALOG["analog_1day"], kind="stable")  # ties span 1,267 to 1,280
    assert np.flatnonzero(ranked == best)[0] + 1 == 1275


def test_front_of_digital_against_one_month():
    """Seven networks, from the best digital one to one at 90.00 after a month."""
    order = np.lexsort((-MONTH, -ANALOG["digital"]))
    best = np.maximum.accumulate(np.append(-np.inf, MONTH[order][:-1]))
    front = order[MONTH[order] > best]
    ends = [(ANALOG["digital"][i], MONTH[i]) for i in front[[0, -1]]]
    assert len(front) == 7
    np.testing.assert_allclose(ends, [(94.07, 86.44), (93.47, 90.00)], atol=0.005)


def test_trivial_transfer():
    """In the order of the mean rank over four cheap columns: regret 0.37, then 0 at 85."""
    ranks = [np.argsort(np.argsort(-ANALOG[n])) for n in ("digital", "ptq", "qat", "noisy")]
    asked = MONTH[np.argsort(np.mean(ranks, axis=0), kind="stable")]
    regret = MONTH.max() - np.maximum.accumulate(asked)
    np.testing.assert_allclose(regret[[24, 49]], 0.37, atol=0.005)
    assert np.flatnonzero(regret == 0)[0] + 1 == 85


def test_uncertainty_is_recorded_for_drift_only():
    spreads = analog_nasbench().spreads()
    means = {name: column.mean() for name, column in spreads.items()}
    for name, mean in means.items():
        assert (
            (0.9 < mean < 2.8) if name.endswith(("min", "h", "day", "month")) else mean == 0
        )


def test_every_name_of_the_wheel_is_an_alias():
    """5 plain attributes and 8 drift ones, plus upstream's name for the noisy network."""
    aliases = [
        *[f"{n}_accuracy" for n in ("baseline", "ptq", "qat", "noisy", "analog")],
        *[
            f"{n}_drift_{s}"
            for n in ("baseline", "analog")
            for s in (60, 3600, 86400, 2592000)
        ],
    ]
    made = [analog_nasbench(objective=alias).objectives[0].name for alias in aliases]
    assert made == list(ANALOG)
    noisy = analog_nasbench(objective="noisy_drift_86400")
    assert noisy == analog_nasbench(objective="noisy_1day")


def test_objectives_in_any_form_are_one_oracle():
    forms = ["digital,analog_1day", "baseline_accuracy, analog_drift_86400"]
    made = {analog_nasbench(objective=f) for f in [*forms, ("digital", "analog_1day")]}
    assert len(made) == 1
    (oracle,) = made
    assert [(o.name, o.unit, o.maximise) for o in oracle.objectives] == [
        ("digital", "%", True),
        ("analog_1day", "%", True),
    ]


def test_switching_task_does_not_compile_again():
    """The column is an argument: one trace serves every metric."""
    traces = []

    @jax.jit
    def ask(params, tokens):
        traces.append(1)
        oracle = analog_nasbench()
        lanes = jnp.zeros(2, jnp.int32), jnp.ones(2, bool)
        return oracle.evaluate(jax.random.key(0), params, (), tokens, *lanes)[1].objectives

    tokens = jnp.asarray(MEMBERS[[7, 7611]])
    for name in ("digital", "analog_1month", "noisy"):
        found = ask(analog_nasbench(objective=name).params(), tokens)[:, 0]
        np.testing.assert_allclose(found, ANALOG[name][[7, 7611]], rtol=1e-6)
    assert len(traces) == 1


def test_truth_and_spread_accept_what_a_host_has():
    """Reports ask with numpy; drift is recorded with a spread, which is looked up alike."""
    oracle = analog_nasbench()
    params, tokens = oracle.params(), MEMBERS[[7611, 0]]
    np.testing.assert_allclose(
        oracle.truth(params, tokens)[:, 0], MONTH[[7611, 0]], rtol=1e-6
    )
    recorded = oracle.spreads()["analog_1month"][[7611, 0]]
    np.testing.assert_allclose(oracle.spread(params, tokens)[:, 0], recorded, rtol=1e-6)


def test_published_table_costs_its_training_runs_once():
    """Accuracy and time of one data set come from one run; two data sets are two runs."""
    seconds = {name: PUBLISHED[f"{name}_time"] for name in ("cifar10", "cifar100")}
    one = nb201_table(objective="cifar10,cifar10_time").params().seconds
    np.testing.assert_allclose(one, seconds["cifar10"], rtol=1e-6)
    two = nb201_table(objective="cifar10,cifar100").params().seconds
    np.testing.assert_allclose(two, sum(seconds.values()), rtol=1e-6)
    assert not np.asarray(nb201_table(objective="cifar10_params").params().seconds).any()
    assert not np.asarray(analog_nasbench().params().seconds).any()


def test_directions_of_published_metrics():
    minimised = [
        o.name for o in nb201_table(objective=list(PUBLISHED)).objectives if not o.maximise
    ]
    assert all(n.endswith(("_time", "_latency", "_params")) for n in minimised)
    assert len(minimised) == 9


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: analog_nasbench(objective="analog_1mont"), "Did you mean 'analog_1month'"),
        (lambda: analog_nasbench(objective="cifar10"), "Unknown metric"),
        (lambda: analog_nasbench(objective=""), "Unknown metric"),
        (lambda: analog_nasbench(objective=()), "at least one"),
        (lambda: analog_nasbench(objective="digital,baseline_accuracy"), "all different"),
        (lambda: analog_nasbench(space=Toy()), "not of 'toy-v1'"),
        (lambda: TableOracle(SPACE, "analog-nas", ("digital",)), "'analog-nasbench'"),
    ],
)
def test_what_cannot_be_asked_is_refused(make, message):
    with pytest.raises(UserError, match=message):
        make()
