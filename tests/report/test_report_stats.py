"""Every statistic against scipy, brute force or a number worked out by hand."""

import itertools

import numpy as np
import pytest
from scipy import stats as reference

from jaxnas.report.read import stats


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_curves_are_carried_forward_and_leading_gaps_stay():
    nan = np.nan
    curve = np.array([[1.0, nan, 3.0, nan], [nan, 2.0, nan, nan]])
    found = stats.carry_forward(curve)
    np.testing.assert_array_equal(found, [[1.0, 1.0, 3.0, 3.0], [nan, 2.0, 2.0, 2.0]])


def test_a_mean_curve_is_over_all_controllers_not_over_finishers():
    curve = np.array([[1.0, np.nan], [1.0, 9.0]])
    band = stats.mean_band(stats.carry_forward(curve))
    np.testing.assert_allclose(band.value, [1.0, 5.0])  # nanmean would say 9.0


def test_mean_interval_is_students(rng):
    x = rng.normal(3.0, 2.0, 17)
    low, high = reference.t.interval(0.95, 16, x.mean(), reference.sem(x))
    found = stats.mean_interval(np.append(x, np.nan))
    np.testing.assert_allclose(found, (x.mean(), low, high, 17), rtol=1e-12)


def test_mean_band_is_the_mean_interval_at_each_query(rng):
    curves = rng.normal(size=(9, 4))
    band = stats.mean_band(curves)
    for q in range(4):
        one = stats.mean_interval(curves[:, q])
        np.testing.assert_allclose((band.value[q], band.low[q], band.high[q]), one[:3])


def test_one_seed_has_no_interval():
    assert stats.mean_interval(np.array([2.0]))[0] == 2.0
    assert np.isnan(stats.mean_interval(np.array([2.0])).low)
    assert np.isnan(stats.mean_band(np.ones((1, 3))).low).all()
    assert np.isnan(stats.mean_interval(np.array([])).value)


def test_difference_is_welchs(rng):
    x, y = rng.normal(1.0, 1.0, 12), rng.normal(0.0, 3.0, 30)
    wanted = reference.ttest_ind(x, y, equal_var=False).confidence_interval(0.95)
    found = stats.difference(x, y)
    np.testing.assert_allclose(found[:3], (x.mean() - y.mean(), *wanted), rtol=1e-10)
    flat = stats.difference(np.ones(4), np.zeros(4))
    assert flat.value == 1.0
    assert np.isnan(flat[1:3]).all()  # neither varies: no test


def test_intervals_end_at_the_range_of_the_metric():
    x = np.array([80.0, 92.6])
    assert stats.mean_interval(x).high > 100  # Student's t with one degree of freedom
    found = stats.mean_interval(x, (0.0, 100.0))
    assert found[1:] == (pytest.approx(6.26, abs=0.01), 100.0, 2)
    band = stats.mean_band(x[:, None], (0.0, 100.0))
    assert (band.low[0], band.high[0]) == (found.low, 100.0)
    assert stats.mean_interval(np.array([101.0, 103.0]), (0.0, 100.0)).high == 102.0
    gap = stats.difference(x, np.array([50.0, 51.0]), (-100.0, 100.0))
    assert gap.high == 100.0


@pytest.mark.parametrize("n", [1, 3, 4, 7, 64, 101])
def test_interquartile_mean_is_the_quarter_trimmed_mean(rng, n):
    x = rng.exponential(size=(5, n))
    wanted = reference.trim_mean(x, 0.25, axis=1)
    np.testing.assert_allclose(stats.interquartile_mean(x), wanted)


def test_bootstrap_agrees_with_scipys_percentile_interval(rng):
    x = rng.exponential(size=40)
    found = stats.bootstrap([x], stats.interquartile_mean)
    wanted = reference.bootstrap(
        (x,),
        lambda v, axis: reference.trim_mean(v, 0.25, axis=axis),
        n_resamples=20000,
        method="percentile",
        rng=np.random.default_rng(1),
    )
    assert found.value == pytest.approx(reference.trim_mean(x, 0.25))
    # Monte-Carlo error of a 2.5 % quantile at 2,000 resamples; s.e. of the statistic 0.11
    scale = wanted.standard_error
    assert abs(found.low - wanted.confidence_interval.low) < 0.2 * scale
    assert abs(found.high - wanted.confidence_interval.high) < 0.2 * scale


def test_bootstrap_resamples_inside_strata_only():
    strata = [np.zeros(10), np.full(10, 8.0)]
    found = stats.bootstrap(strata, lambda x: np.mean(x, axis=-1))
    assert found[:3] == (4.0, 4.0, 4.0)  # pooled resampling would move the mean
    pooled = stats.bootstrap([np.concatenate(strata)], lambda x: np.mean(x, axis=-1))
    assert pooled.low < 3.0 < 5.0 < pooled.high


def test_bootstrap_is_the_same_every_time(rng):
    x = rng.normal(size=20)
    assert stats.bootstrap([x], stats.median) == stats.bootstrap([x], stats.median)


def test_probability_of_improvement_is_mann_whitney(rng):
    x, y = rng.integers(0, 6, 30) * 1.0, rng.integers(1, 7, 45) * 1.0
    u = reference.mannwhitneyu(x, y).statistic
    found = stats.probability_of_improvement(x, y)
    assert found.value == pytest.approx(u / (30 * 45))
    other = stats.probability_of_improvement(y, x)
    assert found.value + other.value == pytest.approx(1.0)


def test_probability_of_improvement_interval_matches_resampling_indices(rng):
    x, y = rng.normal(0.5, 1.0, 25), rng.normal(0.0, 1.0, 20)
    found = stats.probability_of_improvement(x, y, resamples=4000)
    draws = np.empty(4000)
    for b in range(4000):
        a, c = rng.choice(x, 25), rng.choice(y, 20)
        draws[b] = np.mean(a[:, None] > c) + 0.5 * np.mean(a[:, None] == c)
    low, high = np.quantile(draws, [0.025, 0.975])
    # two independent Monte-Carlo quantiles: each has s.e. about 0.045 of the spread
    assert abs(found.low - low) < 0.25 * draws.std()
    assert abs(found.high - high) < 0.25 * draws.std()


@pytest.mark.parametrize("maximise", [True, False])
def test_expected_best_is_the_mean_over_all_subsets(maximise):
    values = np.array([3.0, 1.0, 4.0, 1.0, 5.0, 9.0, 2.0])
    best = max if maximise else min
    wanted = [
        np.mean([best(chosen) for chosen in itertools.combinations(values, q)])
        for q in range(1, 8)
    ]
    found = stats.expected_best(values, 9, maximise=maximise)
    np.testing.assert_allclose(found[:7], wanted, rtol=1e-12)
    np.testing.assert_allclose(found[7:], best(values), rtol=1e-12)


def test_class_mean_regret_by_hand():
    # classes: a = {10, 4}, b = {8}, c = {6, 7, 8, 9}; means 7, 8, 7.5
    values = np.array([10.0, 4.0, 8.0, 6.0, 7.0, 8.0, 9.0])
    classes = stats.classify(np.array([5, 5, 2, 9, 9, 9, 9]), values)
    np.testing.assert_array_equal(classes.size, [2, 2, 1, 4, 4, 4, 4])
    np.testing.assert_allclose(classes.mean, [7, 7, 8, 7.5, 7.5, 7.5, 7.5])
    rows = np.array([0, 2, 6])
    np.testing.assert_allclose(stats.class_mean_regret(classes, rows), [1.0, 0.0, 0.5])
    large = stats.class_mean_regret(classes, rows, at_least=4)
    np.testing.assert_allclose(large, [0.5, -0.5, 0.0])
    cheap = stats.class_mean_regret(classes, rows, maximise=False)
    np.testing.assert_allclose(cheap, [0.0, 1.0, 0.5])


def test_a_class_mean_leaves_rows_without_a_value_out():
    classes = stats.classify(np.array([0, 0, 1]), np.array([2.0, np.nan, np.nan]))
    np.testing.assert_array_equal(classes.mean, [2.0, 2.0, np.nan])


def test_spread_within_classes_is_the_pooled_deviation(rng):
    label = np.repeat([0, 1, 2, 3], [1, 2, 5, 9])
    values = rng.normal(size=17) + 10 * label
    among = np.ones(17, bool)
    squares = sum(
        np.sum((values[label == k] - values[label == k].mean()) ** 2) for k in range(4)
    )
    found = stats.spread_within_classes(stats.classify(label, values), values, among)
    assert found == pytest.approx(np.sqrt(squares / (17 - 4)))
    assert np.isnan(
        stats.spread_within_classes(stats.classify(label, values), values, label == 0)
    )


def test_the_first_collapse_by_hand():
    flags = np.array([[0, 0, 1.0], [0, 1, 0], [0, np.nan, np.nan], [0, 0, 0]])
    np.testing.assert_array_equal(stats.first_collapse(flags), [2, 1, -1, -1])
