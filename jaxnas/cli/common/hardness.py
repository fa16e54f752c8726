"""How hard an image task is: what three plain classifiers reach on it."""

import warnings
from typing import Any, NamedTuple

import numpy as np

from jaxnas.core.errors import UserError
from jaxnas.core.ranges import COUNT, check
from jaxnas.data.images.sources import load_images
from jaxnas.data.images.task import ImageData
from jaxnas.data.splits import SEED

ITERATIONS = 200
"""Most L-BFGS iterations of a logistic regression."""
INVERSE_PENALTIES = (0.1, 1.0)
"""The C of which validation chooses: small images want the larger, large the smaller."""


class Hardness(NamedTuple):
    """Accuracies on one split of one task, each in [0, 1]; higher is easier."""

    task: str
    split: str
    train_rows: int
    evaluated_rows: int
    majority: float
    """Of the most frequent training class."""
    logistic: tuple[float, ...]
    """Of a multinomial logistic regression, the better of two penalties on validation; one
    value a draw of the training images."""
    neighbours: tuple[float, ...]
    """Of the 3 nearest training images, Euclidean, one value a draw."""
    converged: bool
    """Whether every logistic regression ended before its last allowed iteration."""


def measure(name: str, split: str, rows: int, seeds: int) -> Hardness:
    """Returns what the three classifiers reach.

    A seed draws ``rows`` training images at random; where there are no more than that, all
    are used, once.

    Raises:
        UserError: the task cannot be read, or a number is out of range.
    """
    check("--rows", rows, COUNT)
    check("--seeds", seeds, COUNT)
    data = load_images(name)
    evaluated = data.splits.pairs()[split][1]
    logistic, neighbours, majority, converged = [], [], [], True
    draws = seeds if len(data.y_train) > rows else 1
    for seed in range(SEED, SEED + draws):
        x, y = _draw(data, rows, seed)
        score, done = _logistic(x, y, data, split)
        logistic.append(score)
        neighbours.append(_neighbours(x, y, data, split))
        majority.append(float(np.mean(evaluated == np.bincount(y).argmax())))
        converged &= done
    sizes = min(rows, len(data.y_train)), len(evaluated)
    scores = float(np.mean(majority)), tuple(logistic), tuple(neighbours)
    return Hardness(name, split, *sizes, *scores, converged)


def _draw(data: ImageData, rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns training images as vectors, and their classes."""
    order = np.random.default_rng(seed).permutation(len(data.y_train))[:rows]
    if len(np.unique(data.y_train[order])) < 2:
        raise UserError(f"--rows {rows} leaves one class only; use more rows.")
    return data.x_train[order].reshape(len(order), -1), data.y_train[order]


def _flat(data: ImageData, split: str) -> tuple[np.ndarray, np.ndarray]:
    x, y = data.splits.pairs()[split]
    return x.reshape(len(x), -1), y


def _logistic(
    x: np.ndarray, y: np.ndarray, data: ImageData, split: str
) -> tuple[float, bool]:
    """Returns the accuracy of logistic regression, and whether every fit ended."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    mean = x.mean(axis=0)  # centred: the same optimum, found sooner
    x_val, y_val = _flat(data, "validation")
    models: list[Any] = []
    for penalty in INVERSE_PENALTIES:
        model = LogisticRegression(C=penalty, max_iter=ITERATIONS)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # reported by `converged`
            models.append(model.fit(x - mean, y))
    best = max(models, key=lambda model: model.score(x_val - mean, y_val))
    x_judge, y_judge = _flat(data, split)
    ended = all(np.max(model.n_iter_) < ITERATIONS for model in models)
    return float(best.score(x_judge - mean, y_judge)), bool(ended)


def _neighbours(x: np.ndarray, y: np.ndarray, data: ImageData, split: str) -> float:
    from sklearn.neighbors import KNeighborsClassifier

    model = KNeighborsClassifier(min(3, len(x))).fit(x, y)
    return float(model.score(*_flat(data, split)))
