"""Every row gets a label or a clear error."""

import csv

import numpy as np
import pytest

from jaxnas.core.errors import UserError
from jaxnas.latent import labels as lb


def test_edges_are_the_published_ones():
    assert len(lb.EDGES) == 17
    np.testing.assert_allclose(np.diff(lb.EDGES)[:6], 0.05)
    np.testing.assert_allclose(np.diff(lb.EDGES)[6:], 0.005)
    assert (lb.EDGES[0], lb.EDGES[-1]) == (0.60, 0.95)


def by_hand(score):
    """The original's rule: the first interval that holds the score, both ends included."""
    pairs = zip(lb.EDGES, lb.EDGES[1:], strict=False)
    return next(i for i, (low, high) in enumerate(pairs) if low <= score <= high)


def test_bins_equal_the_first_interval_that_holds_a_score():
    scores = np.concatenate([np.random.default_rng(0).uniform(0.6, 0.95, 500), lb.EDGES])
    np.testing.assert_array_equal(lb.bin_scores(scores, 16), [by_hand(s) for s in scores])


def test_the_circulating_table_fills_14_bins(shared_folder):
    with (shared_folder / "dataset_cifar10_v1.csv").open() as handle:
        scores = np.array([float(r["1_day_accuracy"]) for r in csv.DictReader(handle)])
    bins = lb.bin_scores(scores, 14)
    assert len(bins) == 1200
    np.testing.assert_array_equal(np.unique(bins), np.arange(14))


@pytest.mark.parametrize(
    ("scores", "text"),
    [
        ([0.7, 0.59], r"Row 1 has the score 0.59, outside the 14 bins from 0.6 to 0.94"),
        ([0.945], "outside the 14 bins"),
        ([0.7, 0.7, np.nan], "Row 2 has the score nan, which is not a finite number"),
        ([np.inf], "not a finite number"),
    ],
)
def test_a_row_without_a_label_is_an_error(scores, text):
    with pytest.raises(UserError, match=text):
        lb.bin_scores(np.array(scores), 14)


def test_quantile_bins_hold_equally_many_and_say_when_rows_are_too_few():
    scores = np.random.default_rng(0).standard_normal(140)
    bins = lb.bin_scores(scores, 14, lb.quantile_edges(scores, 14))
    assert set(np.bincount(bins)) == {10}
    for few in (scores[:13], np.array([1.0, 2.0] * 30), np.zeros(0)):
        with pytest.raises(UserError, match="too few for 14 bins"):
            lb.quantile_edges(few, 14)


def test_labels_are_checked():
    tokens = np.zeros((2, 3), np.int32)
    with pytest.raises(UserError, match=r"Row 1 .* not a finite number"):
        lb.make_labels(tokens, np.array([1.0, np.nan]))
    with pytest.raises(UserError, match="one each"):
        lb.make_labels(tokens, np.array([1.0]))
    with pytest.raises(UserError, match="at least one"):
        lb.make_labels(tokens[:0], np.zeros(0))
    assert lb.no_labels(3).weight.sum() == 0


def test_floor_is_the_variance_inside_bins():
    x = np.array([[0.0, 1], [2, 1], [5, 5]])
    assert lb.floor(x, np.array([0, 0, 1])) == pytest.approx(2 / 6)
    assert lb.floor(x, np.array([0, 1, 2])) == 0
