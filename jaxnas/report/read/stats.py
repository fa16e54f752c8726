"""Numbers with their uncertainty: intervals, robust means, and two kinds of regret.

All bootstraps are vectorised, seeded and resample *within* strata, so that a report built
twice is identical. Values are in natural units; ``n`` is a number of controllers.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import special

from jaxnas.core.statistics import variance, welch

LEVEL = 0.95
"""Coverage of every interval in a report."""
RESAMPLES = 2000
"""Bootstrap resamples; a 95 % bound then has a Monte-Carlo error of 0.35 % of coverage."""
BOOTSTRAP_SEED = 20250618


class Interval(NamedTuple):
    """An estimate and its 95 % interval; the bounds are NaN where there is none.

    There is none with ``n`` below two, nor for the difference of two constant samples.
    """

    value: float
    low: float
    high: float
    n: int


EVERYWHERE = (-np.inf, np.inf)
"""The range of a quantity that may be any number."""


class Band(NamedTuple):
    """An estimate and its 95 % interval at each of ``Q`` queries."""

    value: Float[np.ndarray, "Q"]
    low: Float[np.ndarray, "Q"]
    high: Float[np.ndarray, "Q"]


def finite_mean(x: np.ndarray, axis: int) -> np.ndarray:
    """Returns the mean of the finite values along an axis, NaN where there is none."""
    there = np.isfinite(x)
    total = np.where(there, x, 0.0).sum(axis=axis, dtype=np.float64)
    counts = np.maximum(1, there.sum(axis=axis))
    return np.where(there.any(axis=axis), total / counts, np.nan)


def carry_forward(curve: Float[np.ndarray, "P Q"]) -> Float[np.ndarray, "P Q"]:
    """Returns the curves with every NaN replaced by the last value before it.

    A controller that stops early keeps what it had, so that a mean over controllers is
    always over all of them and never over finishers only. A leading NaN stays NaN.
    """
    places = np.where(np.isnan(curve), 0, np.arange(curve.shape[1]))
    last = np.maximum.accumulate(places, axis=1)
    return np.take_along_axis(curve, last, axis=1).astype(np.float64)


def student_t(degrees: float) -> float:
    """Returns the two-sided 95 % quantile of Student's t."""
    return float(special.stdtrit(degrees, 0.5 + LEVEL / 2))


def mean_interval(
    x: Float[np.ndarray, "n"], within: tuple[float, float] = EVERYWHERE
) -> Interval:
    """Returns the mean and ``mean -+ t(n - 1) s / sqrt(n)``, over the finite values.

    The count of finite values is ``n``; a controller without any value is not hidden: the
    tables print ``n`` beside the number of controllers.

    Args:
        x: one value a controller.
        within: least and greatest value that there can be; the interval ends there, which
            costs no coverage.
    """
    x = x[np.isfinite(x)].astype(np.float64)
    if len(x) == 0:
        return Interval(np.nan, np.nan, np.nan, 0)
    mean = float(np.mean(x))
    if len(x) == 1:
        return Interval(mean, np.nan, np.nan, 1)
    half = student_t(len(x) - 1.0) * np.sqrt(variance(x) / len(x))
    low, high = _cut(np.array(mean), half, within)
    return Interval(mean, float(low), float(high), len(x))


def _cut(mean: Any, half: Any, within: tuple[float, float]) -> tuple[Any, Any]:
    """Returns ``mean -+ half`` cut at a range, but never past the mean itself."""
    low, high = within
    return (
        np.maximum(mean - half, np.minimum(mean, low)),
        np.minimum(mean + half, np.maximum(mean, high)),
    )


def mean_band(
    curves: Float[np.ndarray, "n Q"], within: tuple[float, float] = EVERYWHERE
) -> Band:
    """Returns the mean of carried-forward curves with its Student-t interval at each query.

    NaN where some controller has no value yet: no mean is over a part of the controllers.
    """
    n = curves.shape[0]
    mean = np.asarray(np.mean(curves, axis=0, dtype=np.float64))
    if n < 2:
        return Band(mean, np.full_like(mean, np.nan), np.full_like(mean, np.nan))
    deviation = np.asarray(np.std(curves, axis=0, ddof=1))
    half = student_t(n - 1.0) * deviation / np.sqrt(n)
    return Band(mean, *_cut(mean, half, within))


def difference(
    x: Float[np.ndarray, "n"],
    y: Float[np.ndarray, "m"],
    within: tuple[float, float] = EVERYWHERE,
) -> Interval:
    """Returns ``mean(x) - mean(y)`` with Welch's interval (unequal variances).

    Two constant samples have none: nothing tells how far their means may be off.

    Reference: Welch 1947; degrees of freedom by Satterthwaite's formula.
    """
    x, y = x[np.isfinite(x)].astype(np.float64), y[np.isfinite(y)].astype(np.float64)
    n = min(len(x), len(y))
    if n == 0:
        return Interval(np.nan, np.nan, np.nan, 0)
    if n == 1:
        return Interval(float(np.mean(x) - np.mean(y)), np.nan, np.nan, 1)
    value, error, degrees = welch(x, y)
    half = student_t(degrees) * error if error else np.nan
    low, high = _cut(np.array(value), half, within)
    return Interval(value, float(low), float(high), n)


def interquartile_mean(x: Float[np.ndarray, "*b n"]) -> Float[np.ndarray, "*b"]:
    """Returns the mean of what is left when ``floor(n / 4)`` go at either end.

    Reference: Agarwal et al. 2021, "Deep RL at the edge of the statistical precipice".
    """
    n = x.shape[-1]
    cut = n // 4
    return np.asarray(np.mean(np.sort(x, axis=-1)[..., cut : n - cut], axis=-1))


def median(x: Float[np.ndarray, "*b n"]) -> Float[np.ndarray, "*b"]:
    """Returns the median over the last axis."""
    return np.asarray(np.median(x, axis=-1))


def bootstrap(
    strata: Sequence[Float[np.ndarray, "_n"]],
    statistic: Callable[[np.ndarray], np.ndarray],
    *,
    resamples: int = RESAMPLES,
    seed: int = BOOTSTRAP_SEED,
) -> Interval:
    """Returns a statistic of the pooled values with its stratified percentile interval.

    Each stratum (a setting, a task) is resampled with replacement on its own, then all are
    pooled, as Agarwal et al. 2021 do over tasks.

    Args:
        strata: values of each stratum; NaN are left out.
        statistic: maps ``[..., n]`` to ``[...]``.
        resamples: number of bootstrap samples.
        seed: of numpy's default generator.
    """
    parts = [part[np.isfinite(part)].astype(np.float64) for part in strata]
    parts = [part for part in parts if len(part)]
    n = sum(len(part) for part in parts)
    if n == 0:
        return Interval(np.nan, np.nan, np.nan, 0)
    value = float(statistic(np.concatenate(parts)))
    if n == 1:
        return Interval(value, np.nan, np.nan, 1)
    rng = np.random.default_rng(seed)
    drawn = [part[rng.integers(0, len(part), (resamples, len(part)))] for part in parts]
    low, high = np.quantile(
        statistic(np.concatenate(drawn, axis=1)), [0.5 - LEVEL / 2, 0.5 + LEVEL / 2]
    )
    return Interval(value, float(low), float(high), n)


def probability_of_improvement(
    x: Float[np.ndarray, "n"],
    y: Float[np.ndarray, "m"],
    *,
    resamples: int = RESAMPLES,
    seed: int = BOOTSTRAP_SEED,
) -> Interval:
    """Returns ``P(X > Y) + P(X = Y) / 2`` with its percentile bootstrap interval.

    The statistic is the Mann-Whitney U divided by ``n m``. Both samples are resampled; a
    resample of ``n`` values is a multinomial draw over the distinct ones, so the cost does
    not depend on ``n m``.
    """
    x, y = x[np.isfinite(x)], y[np.isfinite(y)]
    if min(len(x), len(y)) == 0:
        return Interval(np.nan, np.nan, np.nan, 0)
    support, place = np.unique(np.concatenate([x, y]), return_inverse=True)
    in_x = np.bincount(place[: len(x)], minlength=len(support))
    in_y = np.bincount(place[len(x) :], minlength=len(support))

    def share(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        below = np.cumsum(b, axis=-1) - b / 2
        return np.asarray(np.sum(a * below, axis=-1) / (len(x) * len(y)))

    value = float(share(in_x, in_y))
    n = min(len(x), len(y))
    if n == 1:
        return Interval(value, np.nan, np.nan, n)
    rng = np.random.default_rng(seed)
    again_x = rng.multinomial(len(x), in_x / len(x), resamples)
    again_y = rng.multinomial(len(y), in_y / len(y), resamples)
    low, high = np.quantile(share(again_x, again_y), [0.5 - LEVEL / 2, 0.5 + LEVEL / 2])
    return Interval(value, float(low), float(high), n)


def expected_best(
    values: Float[np.ndarray, "n"], budget: int, *, maximise: bool = True
) -> Float[np.ndarray, "Q"]:
    """Returns the exact expected best of ``1..budget`` draws without replacement.

        E[best of q] = sum_k v_(k) C(k - 1, q - 1) / C(n, q),   v_(1) <= ... <= v_(n)

    which is what an ideal random search reaches on a noise-free table; no simulation.
    """
    ordered = np.sort(values.astype(np.float64))
    ordered = ordered if maximise else -ordered[::-1]
    n = len(ordered)
    out = np.empty(budget)
    alive = np.arange(n, dtype=np.float64)  # how many lie below each value
    weights = np.full(n, 1.0 / n)  # P(the best of q draws is v_(k)), here for q = 1
    for q in range(1, budget + 1):
        if q > n:
            out[q - 1] = out[q - 2]
            continue
        out[q - 1] = weights @ ordered
        # C(k-1, q) / C(n, q+1) from C(k-1, q-1) / C(n, q)
        weights = weights * (alive - q + 1).clip(0) * (q + 1) / (q * max(n - q, 1))
    return out if maximise else -out


def regret(
    value: Float[np.ndarray, "*b"], optimum: float, *, maximise: bool = True
) -> Float[np.ndarray, "*b"]:
    """Returns how far a value lies from the optimum; zero at the optimum."""
    return optimum - value if maximise else value - optimum


class Classes(NamedTuple):
    """What is known of each architecture's isomorphism class, ``[n]`` by row."""

    label: Int[np.ndarray, "n"]
    size: Int[np.ndarray, "n"]
    mean: Float[np.ndarray, "n"]


def classify(label: Int[np.ndarray, "n"], values: Float[np.ndarray, "n"]) -> Classes:
    """Returns the size and the mean value of the class of every row.

    Rows without a value (NaN) do not enter the mean; a class without any has mean NaN.
    """
    _, place = np.unique(label, return_inverse=True)
    size = np.bincount(place)
    there = np.isfinite(values)
    total = np.bincount(place, weights=np.where(there, values, 0.0))
    count = np.bincount(place, weights=there)
    mean = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return Classes(label, size[place], mean[place])


def class_mean_regret(
    classes: Classes,
    rows: Int[np.ndarray, "P"],
    *,
    maximise: bool = True,
    at_least: int = 1,
) -> Float[np.ndarray, "P"]:
    """Returns the best class mean minus the class mean of what was recommended.

    Args:
        classes: from :func:`classify`.
        rows: row of the architecture that each controller recommended by its raw value.
        maximise: direction of the objective.
        at_least: only classes of at least this many rows compete for the best mean. The
            recommended one keeps its own mean whatever its size, so that no controller is
            dropped; it may then be negative.
    """
    means = classes.mean[(classes.size >= at_least) & np.isfinite(classes.mean)]
    if not len(means):  # constraints leave no class of that size
        return np.full(len(rows), np.nan)
    best = means.max() if maximise else means.min()
    return regret(classes.mean[rows], float(best), maximise=maximise)


def spread_within_classes(
    classes: Classes, values: Float[np.ndarray, "n"], among: Bool[np.ndarray, "n"]
) -> float:
    """Returns the pooled standard deviation of rows of one class, over the rows ``among``.

    It says how far two trainings of one network lie apart: a difference below it between
    two *architectures* is not a difference between networks. NaN without any pair.
    """
    _, place = np.unique(classes.label[among], return_inverse=True)
    chosen = values[among].astype(np.float64)
    size = np.bincount(place)
    mean = np.bincount(place, weights=chosen) / size
    degrees = len(chosen) - len(size)
    if degrees < 1:
        return float("nan")
    return float(np.sqrt(np.sum((chosen - mean[place]) ** 2) / degrees))


def first_collapse(flags: Float[np.ndarray, "P U"]) -> Int[np.ndarray, "P"]:
    """Returns the update at which each controller was first flagged, -1 where none.

    ``flags`` is 1 where the collapse detector fired; NaN counts as not fired.
    """
    fired = np.nan_to_num(flags) > 0.5
    return np.where(np.any(fired, axis=1), np.argmax(fired, axis=1), -1)
