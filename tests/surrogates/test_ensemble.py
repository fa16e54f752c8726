"""The ensemble against known functions, and its behaviour under jit and vmap."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import kendalltau, norm, spearmanr

from jaxnas.core.errors import UserError
from jaxnas.surrogates import ensemble as en
from jaxnas.surrogates import quality as q
from jaxnas.surrogates.ensemble import Ensemble, EnsembleHparams, check_rows, fit, predict

ROWS, FEATURES = 200, 4
CONFIG = Ensemble(4, (24, 24), 200, 32)
VALUES = Ensemble(4, (24, 24), 200, 32, labels="values")


def truth(x):
    """A smooth function with a long lower tail, like accuracies, and its noise."""
    signal = x[:, 0] + np.sin(3 * x[:, 1])
    return 90 - np.exp(1.5 - signal), 0.2


def sample(seed, rows=ROWS):
    draw = np.random.default_rng(seed)
    x = draw.uniform(-1, 1, (rows, FEATURES)).astype(np.float32)
    mean, noise = truth(x)
    return x, (mean + noise * draw.normal(size=rows)).astype(np.float32)[:, None]


@pytest.fixture(scope="module")
def fitter():
    return jax.jit(functools.partial(fit, CONFIG))


@pytest.fixture(scope="module")
def teller():
    return jax.jit(functools.partial(predict, CONFIG))


@pytest.fixture(scope="module")
def fitted(fitter):
    x, y = sample(0)
    return fitter(jax.random.key(0), x, y, np.ones(ROWS, np.float32), EnsembleHparams())


def test_it_learns_an_order_it_was_not_shown(fitted, teller):
    """Tau above 0.85 on fresh rows, whose noise alone leaves 0.93; a constant has 0."""
    x, y = sample(1, 500)
    predicted = jax.tree.map(np.asarray, teller(fitted, x))
    assert kendalltau(predicted.mean[:, 0], y[:, 0]).statistic > 0.85
    assert np.sqrt(np.mean((predicted.mean - y) ** 2)) < 0.5 * y.std()


def test_intervals_hold_what_they_say(fitted, teller):
    """90 % intervals hold 80 to 99 % of fresh labels."""
    x, y = sample(2, 500)
    predicted = jax.tree.map(np.asarray, teller(fitted, x))
    inside = np.abs(predicted.mean - y) < 1.645 * np.hypot(
        predicted.epistemic, predicted.aleatoric
    )
    assert 0.8 < inside.mean() < 0.99


def test_extrapolation_is_flagged(fitted, teller):
    """All rows outside the range of the training rows, few rows inside it."""
    x, _ = sample(3, 500)
    assert np.asarray(teller(fitted, 0.9 * x).extrapolates).mean() < 0.2
    x[:, 3] = 1.5
    assert np.asarray(teller(fitted, x).extrapolates).all()


def test_training_rows_do_not_extrapolate(fitted, teller):
    x, _ = sample(0)
    assert not np.asarray(teller(fitted, x).extrapolates).any()


def test_disagreement_beyond_the_training_rows_is_flagged(fitted, teller):
    x, _ = sample(3, 500)
    timid = fitted._replace(limit=fitted.limit * 0)
    assert np.asarray(teller(timid, x).extrapolates).all()


def test_absent_rows_do_not_matter(fitter):
    """Weight 0 hides a row whatever stands there, NaN too; of equal length it is exact."""
    x, y = sample(4)
    weight = np.ones(ROWS, np.float32)
    weight[::5] = 0
    spoiled_x, spoiled_y = x.copy(), y.copy()
    spoiled_x[::5], spoiled_y[::5] = np.inf, np.nan
    key, hparams = jax.random.key(1), EnsembleHparams()
    clean = fitter(key, x, y, weight, hparams)
    spoiled = fitter(key, spoiled_x, spoiled_y, weight, hparams)
    jax.tree.map(np.testing.assert_array_equal, clean, spoiled)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(clean))


def test_vmap_over_data_sets_is_a_loop_and_compiles_once(fitter):
    """Data, seeds and hyperparameters are traced: new values are no new program."""

    @chex.assert_max_traces(n=1)
    def counted(*arguments):
        return fit(CONFIG, *arguments)

    wide = jax.jit(jax.vmap(counted))
    pairs = [sample(seed) for seed in (5, 6)]
    x, y = (np.stack(parts) for parts in zip(*pairs, strict=True))
    weight = np.ones((2, ROWS), np.float32)
    keys = jax.random.split(jax.random.key(2), 2)
    rates = EnsembleHparams(*(np.full(2, v, np.float32) for v in EnsembleHparams()))
    both = wide(keys, x, y, weight, rates)
    other = wide(keys, x, y, weight, rates._replace(lr=np.float32([0.02, 0.001])))
    one = fitter(keys[0], x[0], y[0], weight[0], EnsembleHparams())
    for a, b in zip(jax.tree.leaves(both), jax.tree.leaves(one), strict=True):
        np.testing.assert_allclose(a[0], b, rtol=2e-4, atol=2e-4)
    for a, b in zip(jax.tree.leaves(both), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(a[0], b[0])
    assert not np.allclose(both.kernels[0][1], other.kernels[0][1])


@pytest.fixture(scope="module")
def two_outputs():
    """Labels of two scales, learned as they are, with losses chosen by their weights.

    The second is noisy where the third feature is positive: 0.5 against 0.05.
    """
    x, y = sample(7)
    noise = np.where(x[:, 2] > 0, 0.5, 0.05) * np.random.default_rng(8).normal(size=ROWS)
    both = np.concatenate([y, 1e-3 * (x[:, :1] + noise[:, None])], axis=1)
    both = both.astype(np.float32)
    fitter = jax.jit(functools.partial(fit, VALUES))
    teller = jax.jit(functools.partial(predict, VALUES))
    weight = np.ones(ROWS, np.float32)

    def made(**losses):
        hparams = EnsembleHparams(**{"mse": 0.0, "nll": 0.0, "rank": 0.0, **losses})
        params = fitter(jax.random.key(3), x, both, weight, hparams)
        return jax.tree.map(np.asarray, teller(params, x))

    return x, both, made


@pytest.mark.parametrize("loss", ["mse", "nll", "rank"])
def test_each_loss_alone_orders_the_rows_of_every_output(two_outputs, loss):
    _, labels, made = two_outputs
    predicted = made(**{loss: 1.0})
    assert predicted.mean.shape == predicted.epistemic.shape == labels.shape
    for k in range(2):
        assert kendalltau(predicted.mean[:, k], labels[:, k]).statistic > 0.6


def test_without_a_loss_nothing_is_learned(two_outputs):
    """The companion case: the same check fails on networks that were only decayed."""
    _, labels, made = two_outputs
    predicted = made()
    for k in range(2):
        assert abs(kendalltau(predicted.mean[:, k], labels[:, k]).statistic) < 0.5


def test_the_likelihood_learns_where_labels_are_noisy(two_outputs):
    """Ten times the noise gives more than three times the spread."""
    x, _, made = two_outputs
    predicted = made(mse=1.0, nll=1.0)
    noisy = x[:, 2] > 0.1
    clean = x[:, 2] < -0.1
    spread = predicted.aleatoric[:, 1]
    assert np.median(spread[noisy]) > 3 * np.median(spread[clean])


@functools.partial(jax.jit, static_argnums=1)
def round_trip(y, ranks):
    """Knots, scores, and the labels of the scores."""
    knots = en._knots(y, jnp.full(len(y), 1 / len(y)), ranks)[:, None]
    z = en._to_score(knots, y[:, None])
    return knots[:, 0], z[:, 0], en._to_label(knots, z)[:, 0]


def test_scores_and_labels_are_inverse():
    """S is strictly monotone, also with ties and a constant; linear, or normal ranks."""
    draw = np.random.default_rng(8)
    skewed = draw.exponential(size=50).astype(np.float32)
    tied = np.repeat(draw.normal(size=10), 5).astype(np.float32)
    for y in (skewed, tied, np.full(50, 3, np.float32)):
        for ranks in (True, False):
            knots, _, back = round_trip(y, ranks)
            assert (np.diff(knots) > 0).all()
            np.testing.assert_allclose(back, y, rtol=1e-4, atol=1e-4)
    _, z, _ = round_trip(skewed, False)
    np.testing.assert_allclose([z.mean(), z.std()], [0, 1], atol=1e-5)
    _, z, _ = round_trip(skewed, True)
    expected = norm.ppf((np.argsort(np.argsort(skewed)) + 0.5) / 50)
    middle = np.abs(expected) < 2
    np.testing.assert_allclose(z[middle], expected[middle], atol=0.15)


def test_weighted_quantiles_are_those_of_repeated_rows():
    draw = np.random.default_rng(9)
    y = draw.normal(size=400).astype(np.float32)
    share = draw.integers(0, 4, 400).astype(np.float32)
    at = jnp.array([0.1, 0.5, 0.9])
    found = jax.jit(en._quantile)(y, share / share.sum(), at)
    repeated = np.repeat(y, share.astype(int))
    np.testing.assert_allclose(found, np.quantile(repeated, at), atol=0.03)


@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        (lambda x, y, w: y.__setitem__((3, 0), np.nan), "1 of 20 labels are NaN.*row 3"),
        (lambda x, y, w: x.__setitem__((0, 0), np.inf), "features of the training rows"),
        (
            lambda x, y, w: w.__setitem__(slice(0, 11), 0),
            "at least 10 labelled rows, got 9",
        ),
        (lambda x, y, w: w.__setitem__(0, -1), "not negative"),
    ],
)
def test_rows_that_cannot_be_fitted_are_refused(spoil, text):
    x, y, weight = np.zeros((20, 2)), np.zeros((20, 1)), np.ones(20)
    check_rows(x, y, weight)
    spoil(x, y, weight)
    with pytest.raises(UserError, match=text):
        check_rows(x, y, weight)


def test_nan_is_admitted_where_the_weight_is_zero():
    x, y, weight = np.zeros((20, 2)), np.zeros((20, 1)), np.ones(20)
    y[4], weight[4] = np.nan, 0
    check_rows(x, y, weight)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"members": 1}, "at least 2 members"),
        ({"hidden": ()}, ">= 1"),
        ({"steps": 0}, ">= 1"),
        ({"labels": "logits"}, "'ranks' or 'values'"),
    ],
)
def test_sizes_that_no_ensemble_has_are_refused(options, text):
    with pytest.raises(UserError, match=text):
        Ensemble(**options)


def rows_for_quality(n=400, spread=0.5):
    draw = np.random.default_rng(10)
    label = draw.normal(size=n)
    mean = label + 0.5 * draw.normal(size=n)
    return q.Scored(label, mean, np.full(n, spread), np.arange(n) < n // 4)


def test_quality_is_what_scipy_says():
    rows = rows_for_quality()
    found = q.quality(rows)
    assert found["kendall"].value == kendalltau(rows.label, rows.mean).statistic
    np.testing.assert_allclose(
        found["spearman"].value, spearmanr(rows.label, rows.mean).statistic
    )
    best = np.argsort(-rows.label)[:40]
    tau = kendalltau(rows.label[best], rows.mean[best]).statistic
    assert found["kendall_top_decile"].value == tau
    np.testing.assert_allclose(found["rmse"].value, 0.5, atol=0.05)
    np.testing.assert_allclose(found["coverage_50"].value, 0.5, atol=0.08)
    np.testing.assert_allclose(found["coverage_90"].value, 0.9, atol=0.05)
    assert found["extrapolating"].value == 0.25
    for name, one in found.items():
        assert one.low <= one.value <= one.high, name
        assert one.high - one.low < (0.6 if name == "kendall_top_decile" else 0.3), name


def test_the_top_decile_of_what_is_minimised_is_the_lowest():
    rows = rows_for_quality()
    flipped = rows._replace(label=-rows.label, mean=-rows.mean)
    up, down = q.quality(rows), q.quality(flipped, maximise=False)
    assert up["kendall_top_decile"].value == down["kendall_top_decile"].value


def test_a_predictor_of_one_value_and_one_without_spread():
    rows = rows_for_quality(spread=0.0)
    flat = rows._replace(mean=np.zeros(len(rows.label)))
    found = q.quality(flat)
    for name in ("kendall", "spearman", "coverage_50", "coverage_90", "nll"):
        assert np.isnan(found[name].value), name
    assert q.num_distinct(flat) == 1
    assert found["r2"].value < 1e-6
    with pytest.raises(UserError, match="two held-out rows"):
        q.quality(q.take(rows, np.arange(1)))
    with pytest.raises(UserError, match="NaN"):
        q.quality(rows._replace(label=np.full(400, np.nan)))


def test_a_spread_that_is_too_small_shows_in_coverage_and_likelihood():
    good, sure = q.quality(rows_for_quality()), q.quality(rows_for_quality(spread=0.05))
    assert sure["coverage_90"].value < 0.3
    assert sure["nll"].value > good["nll"].value + 10
