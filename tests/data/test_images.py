"""Image tasks: parity with their sources, splits fixed by content, no image shared."""

import numpy as np
import pytest

from jaxnas.core.errors import UserError
from jaxnas.data import image_splits as sp
from jaxnas.data.images import load_images


def test_digits_are_those_of_scikit_learn():
    datasets = pytest.importorskip("sklearn.datasets")
    x, y = datasets.load_digits(return_X_y=True)
    data = load_images("digits")
    ours = np.concatenate([data.x_train, data.x_val, data.x_test]).reshape(-1, 64)
    labels = np.concatenate([data.y_train, data.y_val, data.y_test])
    theirs = {(row.tobytes(), int(c)) for row, c in zip((x / 16).astype(np.float32), y)}
    assert {(row.tobytes(), int(c)) for row, c in zip(ours, labels)} == theirs
    assert len(ours) == len(x) == 1_797


def test_digits_have_their_stated_form():
    data = load_images("digits")
    assert [len(y) for _, y in data.splits.pairs().values()] == [1_079, 359, 359]
    for x, y in data.splits.pairs().values():
        assert x.shape[1:] == (8, 8, 1)
        assert (x.dtype, y.dtype) == (np.float32, np.int32)
        assert x.min() == 0
        assert x.max() == 1
        assert len(x) == len(y)
    assert data.num_classes == 10
    assert not any(sp.shared(data.splits).values())


def test_bad_requests_are_refused():
    for options, text in (
        ({"limit": 0}, "1 or more"),
        ({"limit": 9}, "no image of class"),
        ({"size": 9}, "between 1 and 8"),
        ({"size": 0}, "between 1 and 8"),
    ):
        with pytest.raises(UserError, match=text):
            load_images("digits", **options)
    with pytest.raises(UserError, match="Did you mean 'digits'"):
        load_images("digit")
