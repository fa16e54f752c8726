"""What logistic regression on words and on n-grams of characters reaches on texts."""

from typing import NamedTuple

import numpy as np

from jaxnas.data.texts.sources import load_texts
from jaxnas.data.texts.task import TextData

ITERATIONS = 1000
"""Most L-BFGS iterations of a logistic regression."""
GRAMS = {
    "words": {"analyzer": "word"},
    "characters 2-4": {"analyzer": "char", "ngram_range": (2, 4)},
}
"""What tf-idf counts, by name; settings of scikit-learn's ``TfidfVectorizer``."""


class Hardness(NamedTuple):
    """Accuracies on one split of one task of texts, each in [0, 1]; higher is easier."""

    task: str
    split: str
    train_rows: int
    evaluated_rows: int
    majority: float
    """Of the most frequent training class."""
    logistic: dict[str, float]
    """Of logistic regression, by what it counts."""


def measure(name: str, split: str) -> Hardness:
    """Returns what the regressions reach; UserError where the task cannot be read."""
    data = load_texts(name)
    labels = data.splits.pairs()[split][1]
    often = np.bincount(data.y_train).argmax()
    scores = {grams: logistic(data, grams, split)[0] for grams in GRAMS}
    sizes = len(data.y_train), len(labels)
    return Hardness(data.name, split, *sizes, float(np.mean(labels == often)), scores)


def logistic(data: TextData, grams: str, split: str) -> tuple[float, int]:
    """Returns the accuracy on a split in [0, 1], and the number of weights.

    tf-idf of the training texts and a logistic regression with C = 1, as scikit-learn has
    them by default.

    Args:
        data: the task.
        grams: a name of :data:`GRAMS`.
        split: to evaluate on.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    counts = TfidfVectorizer(**GRAMS[grams])
    x = counts.fit_transform(data.texts["train"])
    model = LogisticRegression(max_iter=ITERATIONS)
    model.fit(x, data.y_train)
    labels = data.splits.pairs()[split][1]
    score = model.score(counts.transform(data.texts[split]), labels)
    learned = np.size(model.coef_) + np.size(model.intercept_)
    return float(score), int(learned)
