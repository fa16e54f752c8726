"""How hard an image task is: what three plain classifiers reach on it."""

import warnings
from typing import Any, NamedTuple

import numpy as np

from jaxnas.core.errors import UserError
from jaxnas.data.image_splits import SEED
from jaxnas.data.images import ImageData, load_images

ITERATIONS = 300
"""Most L-BFGS iterations of the logistic regression."""


class Hardness(NamedTuple):
    """Accuracies on one split of one task, each in [0, 1]; higher is easier."""

    task: str
    split: str
    train_rows: int
    judged_rows: int
    majority: float
    """Of the most frequent training class."""
    logistic: tuple[float, ...]
    """Of a multinomial logistic regression, one value a draw of the training images."""
    neighbours: tuple[float, ...]
    """Of the 3 nearest training images, Euclidean, one value a draw."""
    converged: bool
    """Whether every logistic regression ended before its last allowed iteration."""


def measure(name: str, split: str, rows: int, seeds: int) -> Hardness:
    """Returns what the three classifiers reach.

    A seed draws ``rows`` training images at random; where there are no more than that, all
    are used, once.

    Args:
        name: of a task, or a path.
        split: ``"validation"`` or ``"test"``.
        rows: most training images.
        seeds: draws of the training images.

    Raises:
        UserError: the task cannot be read, or a number is out of range.
    """
    if rows < 1 or seeds < 1:
        raise UserError(f"--rows and --seeds must be 1 or more, got {rows} and {seeds}.")
    data = load_images(name)
    x_judge, y_judge = data.splits.pairs()[split]
    logistic, neighbours, majority, converged = [], [], 0.0, True
    draws = seeds if len(data.y_train) > rows else 1
    for seed in range(SEED, SEED + draws):
        x, y = _draw(data, rows, seed)
        scores, done = _fit(x, y, x_judge.reshape(len(x_judge), -1), y_judge)
        logistic.append(scores[0])
        neighbours.append(scores[1])
        converged &= done
        majority += float(np.mean(y_judge == np.bincount(y).argmax())) / draws
    return Hardness(
        task=name,
        split=split,
        train_rows=min(rows, len(data.y_train)),
        judged_rows=len(y_judge),
        majority=majority,
        logistic=tuple(logistic),
        neighbours=tuple(neighbours),
        converged=converged,
    )


def _draw(data: ImageData, rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns training images as vectors, and their classes."""
    order = np.random.default_rng(seed).permutation(len(data.y_train))[:rows]
    if len(np.unique(data.y_train[order])) < 2:
        raise UserError(f"--rows {rows} leaves one class only; use more rows.")
    return data.x_train[order].reshape(len(order), -1), data.y_train[order]


def _fit(
    x: np.ndarray, y: np.ndarray, x_judge: np.ndarray, y_judge: np.ndarray
) -> tuple[tuple[float, float], bool]:
    """Returns the accuracies of both, and whether the logistic regression ended."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier

    model: Any = LogisticRegression(max_iter=ITERATIONS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # told by `converged`
        model.fit(x, y)
    near: Any = KNeighborsClassifier(min(3, len(x))).fit(x, y)
    scores = float(model.score(x_judge, y_judge)), float(near.score(x_judge, y_judge))
    return scores, bool(np.max(model.n_iter_) < ITERATIONS)
