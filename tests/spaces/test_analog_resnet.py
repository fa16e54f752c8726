"""The AnalogNAS ResNet space against its published formulas and counts, by hand."""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnas
from jaxnas import registry
from jaxnas.core import tokens as tk
from jaxnas.core.errors import UserError
from jaxnas.core.space import Counted, Featured, Projectable, Sized
from jaxnas.data.tables import analognas_csv
from jaxnas.oracles.cost import CostOracle, count_costs
from jaxnas.spaces.analog_resnet import AnalogResNet
from jaxnas.testing import spaces as conformance
from jaxnas.testing.stats import P_MIN

IBM, CSV = AnalogResNet("ibm"), AnalogResNet("csv")
SMALL_IBM = AnalogResNet(
    "ibm", channels=(8, 64), groups=2, blocks=2, widenings=(0.5, 0.8), branches=1
)
SMALL_CSV = AnalogResNet(
    "csv", channels=(8,), groups=3, blocks=2, types="A", widenings=(1.0, 3.0), branches=2
)
R, TYPE, WIDEN, B = slice(2, 7), slice(7, 22, 3), slice(8, 22, 3), slice(9, 22, 3)


@functools.partial(jax.jit, static_argnums=0)
def on_device(function, rows):
    """One function of one row, for many."""
    return jax.vmap(function)(rows)


@functools.partial(jax.jit, static_argnums=0)
def sampled(space, keys):
    """One architecture a key."""
    return jax.vmap(lambda key: tk.sample(key, space))(keys)


def numbers(space, tokens):
    """The published numbers of many architectures, as the space gives them."""
    features = on_device(space.features, jnp.asarray(tokens))
    return np.asarray(features, np.float64).round(6)


def forms(space, tokens):
    """The canonical forms of many architectures."""
    return np.asarray(on_device(space.canonical, jnp.asarray(tokens)))


def drawn(space, n, seed=0):
    """Architectures with uniform tokens, so that every number of groups is common."""
    keys = jax.random.split(jax.random.key(seed), -(-n // 256) * 256)
    return np.asarray(sampled(space, keys))[:n]


def residual_blocks(space, row):
    """The network as a list of (channels in, channels out, type, branches), by hand."""
    channels, made = int(row[0]), [int(row[0])]
    for m in range(int(row[1])):
        factor = float(row[WIDEN][m])
        wide = channels // factor if space.variant == "ibm" else channels * factor
        for _ in range(max(1, int(row[R][m]))):
            made.append((channels, int(wide), int(row[TYPE][m]), int(row[B][m])))
            channels = int(wide)
    return tuple(made)


def convolution_weights(kind, i, o):
    """Weights of a branch's convolutions and channels of its batch norms."""
    m = max(1, o // 4)
    return {
        1: (9 * i * o + 9 * o * o, 2 * o),
        2: (i * m + 9 * m * m + m * o, 2 * m + o),
        3: (9 * i + i * o, o),
        4: (9 * i * o, o),
    }[kind]


def costs_by_hand(space, row, maps=28, pooled=21):
    """Parameters and FLOPs by the formulas of the published network."""
    stem, *blocks = residual_blocks(space, row)
    convs, norms = 147 * stem, stem
    for i, o, kind, branches in blocks:
        weights, channels = convolution_weights(kind, i, o)
        convs, norms = convs + branches * weights, norms + branches * channels
        if i != o:
            convs, norms = convs + i * o, norms + o
    linear = pooled**2 * blocks[-1][1] * 10 + 10
    return convs + 2 * norms + linear, convs * maps**2 + linear


@pytest.mark.parametrize("space", [IBM, CSV, SMALL_CSV], ids=lambda space: space.id)
def test_costs_equal_the_closed_forms(space):
    """80 random architectures, one to five groups, all types, odd channels."""
    tokens = drawn(space, 80)
    for row, values in zip(tokens, numbers(space, tokens), strict=True):
        assert count_costs(space.to_spec(row)) == costs_by_hand(space, values)


def test_published_formula_of_a_type_a_network():
    """147 c0 + 2 c0; per block B (9 i o + 9 o^2 + 4 o) [+ i o + 2 o]; 4410 c + 10."""
    row = np.zeros((1, 22))
    row[0, [0, 1, 2, 7, 8, 9]] = 16, 1, 3, 1, 0.5, 2
    tokens = IBM.tokens_from_features(row)[0]
    first = 2 * (9 * 16 * 32 + 9 * 32**2 + 4 * 32) + 16 * 32 + 2 * 32
    rest = 2 * (9 * 32 * 32 + 9 * 32**2 + 4 * 32)
    expected = 147 * 16 + 2 * 16 + first + 2 * rest + 4410 * 32 + 10
    assert count_costs(IBM.to_spec(tokens)).params == expected


def test_image_and_pool_change_the_head_only():
    """On 8x8 digits the stem leaves 4x4, which a pool of 4 makes one pixel."""
    digits = AnalogResNet(image=(8, 8, 3), pool=4)
    tokens = drawn(IBM, 20)
    for row, values in zip(tokens, numbers(IBM, tokens), strict=True):
        assert count_costs(digits.to_spec(row)) == costs_by_hand(IBM, values, 4, 1)


def test_sizes_of_the_ibm_sampler():
    """Measured with IBM's real factors: 35 % below a million, median 2.0 M, 10 % > 27 M."""
    tokens = drawn(AnalogResNet(types="A"), 2000)
    params = np.array([costs_by_hand(IBM, row)[0] for row in numbers(IBM, tokens)])
    assert 0.30 < np.mean(params < 1e6) < 0.40
    assert 1.6e6 < np.median(params) < 2.4e6
    assert 20e6 < np.quantile(params, 0.9) < 34e6


def test_counts_by_hand():
    """Choices of a group: csv 16 x 4 x 4 x 12; ibm 15 (first) or 16 x 2 x 4 x 4."""
    assert CSV.count() == 121 * sum(3072**m for m in range(1, 6))
    assert IBM.count() == 6 * sum(480 * 512**m for m in range(4))
    assert SMALL_IBM.count() == 2 * (8 + 8 * 12)
    assert SMALL_CSV.count() == 8 + 64 + 512
    for space in (IBM, CSV):
        assert isinstance(space, Sized)
        assert isinstance(space, Counted)
        assert isinstance(space, Featured)
        assert isinstance(space, Projectable)


SMALL_CHECKS = (
    conformance.check_samples_valid,
    conformance.check_canonical,
    conformance.check_graph,
    conformance.check_count,
    conformance.check_completions,
    conformance.check_projection,
)


@pytest.mark.parametrize("check", SMALL_CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("space", [SMALL_IBM, SMALL_CSV], ids=lambda space: space.id)
def test_restricted_spaces_conform(space, check):
    """Small enough to be listed, so sizes and shares are compared with all members."""
    check(space)


def test_restricted_space_is_sampled_uniformly():
    """Architecture by architecture, where uniform tokens would be far from it."""
    assert conformance.sampling_p(SMALL_IBM, tk.sample_uniform, uniform=True) > P_MIN


SLOW = {conformance.check_neighbours, conformance.check_sampling_frequencies}


@pytest.mark.parametrize(
    "check",
    [
        pytest.param(c, id=c.__name__, marks=[pytest.mark.slow] if c in SLOW else [])
        for c in conformance.SPACE_CHECKS
    ],
)
def test_csv_variant_conforms(check):
    """121 values a token: what costs minutes without compiler passes is marked slow."""
    check(CSV)


@pytest.mark.parametrize("space", [SMALL_IBM, SMALL_CSV], ids=lambda space: space.id)
def test_canonical_is_equality_of_networks(space):
    """All members: equal canonical tokens are exactly equal lists of blocks."""
    members = tk.enumerate_space(space)
    canonical = forms(space, members)
    networks = [residual_blocks(space, row) for row in numbers(space, members)]
    assert networks == [residual_blocks(space, row) for row in numbers(space, canonical)]
    pairs = set(zip(map(tuple, canonical.tolist()), networks, strict=True))
    assert len(pairs) == len(set(networks)) == len({form for form, _ in pairs})
    assert len(set(networks)) < len(members)


def test_long_runs_are_packed_into_full_groups():
    """Sixteen blocks a group, five groups, nearly all going on with the one before."""
    space = AnalogResNet("csv", types="AD", widenings=(1.0, 2.0), branches=1)
    tokens = drawn(space, 300)
    before, after = numbers(space, tokens), numbers(space, forms(space, tokens))
    for old, new in zip(before, after, strict=True):
        assert residual_blocks(space, old) == residual_blocks(space, new)
    assert (after[:, 1] < before[:, 1]).sum() > 30


def test_no_blocks_means_one_in_ibm_code():
    tokens = IBM.tokens_from_features(numbers(IBM, drawn(IBM, 1)))[0]
    tokens[[1, *range(2, 7)]] = 1, 3, 0, 0, 0, 0
    tokens[7:13], tokens[13:] = 1, 0
    one = np.asarray(IBM.canonical(jnp.asarray(tokens)))
    assert tokens[3] == 0
    assert one[3] == 1
    assert count_costs(IBM.to_spec(tokens)) == count_costs(IBM.to_spec(one))
    np.testing.assert_array_equal(IBM.from_spec(IBM.to_spec(tokens)), tokens)


@pytest.mark.parametrize("space", [IBM, CSV], ids=lambda space: space.id)
def test_the_type_of_a_block_always_shows(space):
    """The original's reward did not see it: features, spec and canonical form do."""
    rows = drawn(space, 64, seed=3)
    places = 7 + 3 * np.random.default_rng(0).integers(rows[:, 1] + 1)
    others = rows.copy()
    lanes = np.arange(len(rows))
    others[lanes, places] = rows[lanes, places] % len(space.ranges.types) + 1
    assert (numbers(space, rows) != numbers(space, others)).sum(axis=1).tolist() == [1] * 64
    assert (forms(space, rows) != forms(space, others)).any(axis=1).all()
    for row, other in zip(rows[:16], others[:16], strict=True):
        assert space.to_spec(row)["blocks"] != space.to_spec(other)["blocks"]


@pytest.mark.parametrize("space", [IBM, CSV], ids=lambda space: space.id)
def test_projection_takes_the_nearest_value_of_each_column(space):
    """Against a search in Python over the values of each column, 100 vectors."""
    full = space.ranges
    rng = np.random.default_rng(0)
    wild = rng.uniform(-2, 20, (100, 22))
    wild[:, 0] = rng.uniform(0, 150, 100)
    wild[:, 8::3] = rng.uniform(0.4, 5, (100, 5))
    nearest = lambda x, values: min(values, key=lambda v: (abs(v - np.float32(x)), v))
    made = on_device(space.project, jnp.float32(wild))
    for x, got in zip(wild, numbers(space, made), strict=True):
        row = np.zeros(22)
        row[0] = nearest(x[0], full.channels)
        row[1] = nearest(x[1], range(1, full.groups + 1))
        for m in range(int(row[1])):
            fewest = full.fewest if m else 1
            row[R][m] = nearest(x[R][m], range(fewest, full.blocks + 1))
            row[TYPE][m] = nearest(x[TYPE][m], range(1, len(full.types) + 1))
            row[WIDEN][m] = nearest(x[WIDEN][m], full.widenings)
            row[B][m] = nearest(x[B][m], range(1, full.branches + 1))
        assert residual_blocks(space, row) == residual_blocks(space, got)


def test_type_a_alone_is_what_ibm_code_builds():
    space = AnalogResNet("ibm", types="A")
    assert space.count() == 6 * sum(240 * 256**m for m in range(4))
    assert space.id == IBM.id
    row = drawn(space, 1)[0]
    assert IBM.to_spec(row) == space.to_spec(row)
    with pytest.raises(UserError, match="within its ranges"):
        space.from_spec(IBM.to_spec(np.where(np.arange(22) == 7, 2, row)))


def test_a_host_oracle_counts_its_costs():
    """Too large for a table, and as exact as one."""
    oracle = CostOracle(IBM, "params")
    assert not oracle.traced
    tokens = drawn(IBM, 3)
    expected = [[costs_by_hand(IBM, row)[0]] for row in numbers(IBM, tokens)]
    np.testing.assert_allclose(oracle.truth(oracle.params(), tokens), expected, rtol=1e-6)
    assert oracle.info()["size"] == IBM.count()


def test_graph_of_equal_networks_is_equal_and_of_others_differs():
    members = tk.enumerate_space(SMALL_CSV)
    graph = on_device(SMALL_CSV.to_graph, jnp.asarray(members))
    flat = np.concatenate([np.reshape(leaf, (len(members), -1)) for leaf in graph], axis=1)
    networks = [residual_blocks(SMALL_CSV, row) for row in numbers(SMALL_CSV, members)]
    graphs = {tuple(row) for row in flat.tolist()}
    pairs = set(zip(networks, map(tuple, flat.tolist()), strict=True))
    assert len(pairs) == len(graphs) == len(set(networks))


@pytest.fixture(scope="module")
def table(shared_folder):
    return analognas_csv.read(shared_folder / "dataset_cifar10_v1.csv")


def test_every_row_of_the_circulating_table_is_an_architecture(table):
    tokens = CSV.tokens_from_features(table.features)
    assert tokens.shape == (1200, 22)
    legal = on_device(lambda row: tk.is_valid(CSV, row), jnp.asarray(tokens))
    assert np.asarray(legal).all()
    np.testing.assert_array_equal(numbers(CSV, tokens), table.features)


def test_sizes_of_the_circulating_table(table):
    """All branches as type A and no head: 49 rows < 1 M, 108 < 3 M, 462 > 1,000 M.

    By the formulas, and every twentieth row by a walk over its specification.
    """
    rows = table.features.copy()
    rows[:, TYPE] = np.minimum(rows[:, TYPE], 1)
    whole = [costs_by_hand(CSV, row)[0] for row in rows]
    for place, tokens in list(enumerate(CSV.tokens_from_features(rows)))[::20]:
        assert count_costs(CSV.to_spec(tokens)).params == whole[place]
    channels = [row[0] * math.prod(row[WIDEN][: int(row[1])]) for row in rows]
    params = np.array(whole) - 4410 * np.array(channels) - 10
    sizes = [(params < limit).sum() for limit in (1e6, 3e6)]
    assert [*sizes, (params > 1e9).sum()] == [49, 108, 462]


def test_feature_names_are_those_of_the_table():
    assert IBM.feature_names == CSV.feature_names == analognas_csv.FEATURES
    named = [
        f"{n}{i}" for i, n in itertools.product(range(1, 6), ("convblock", "widenfact"))
    ]
    assert set(named) < set(IBM.feature_names)
    assert len(set(IBM.feature_names)) == 22


def test_a_search_over_host_counts():
    """Too large for a table: costs are counted on the host, and are true."""
    oracle = registry.make_oracle("cost", space=IBM, objective="params")
    algo = registry.make_algorithm("random", space=IBM, batch=4)
    result = jaxnas.search(algo, oracle, budget=8, seeds=2)
    curve, tokens = result.arrays["curve"], result.arrays["tokens"]
    by_hand = [[costs_by_hand(IBM, r)[0] for r in numbers(IBM, run)] for run in tokens]
    np.testing.assert_allclose(curve, np.minimum.accumulate(by_hand, axis=1), rtol=1e-6)
