"""The boosted-tree models that both sides evaluate, by name, and rows for them.

``fitted-150x4`` and ``fitted-100x6`` are fitted here on AnalogNAS-Bench, always the same.
The others are published files, found in the folder ``$JAXNAS_SHARED/data`` or in
``../shared/data`` beside the checkout.
"""

import itertools
import os
import tempfile
from pathlib import Path

import numpy as np
import xgboost

FITTED = ("fitted-150x4", "fitted-100x6")
VQVAE_PROJECT = "vqvae_surrogate_model"
IBM = tuple(f"xgboost_{m}{t}" for m, t in itertools.product(
    ("ranker", "std", "avm"), ("", "_kws", "_vww")
))  # fmt: skip
PUBLISHED = (VQVAE_PROJECT, *(f"{n}_acc" if n == "xgboost_ranker" else n for n in IBM))
MOST = (128, 5, *[16] * 5, *[4, 4, 12] * 5)
"""Largest value of each of the 22 features of the published models."""


def published() -> Path:
    """Returns the folder of the published files, which need not be there."""
    beside = Path(__file__).resolve().parents[3] / "shared"
    return Path(os.environ.get("JAXNAS_SHARED", beside)) / "data"


def available() -> list[str]:
    """Returns the names of all models that can be had here."""
    return [*FITTED, *(n for n in PUBLISHED if (published() / f"{n}.json").exists())]


def fit(name: str) -> xgboost.Booster:
    """Returns 150 trees of depth 4 with categories, or 100 of depth 6 without.

    Features are the 30 indicators of the six edges' operations; with categories also the
    six operations themselves. The target is the accuracy after a day.
    """
    from jaxnas.data.tables.analog_nasbench import METRICS, table

    tokens = np.array(list(itertools.product(range(5), repeat=6)))
    x = np.eye(5)[tokens].reshape(len(tokens), 30)
    kinds = ["int"] * 30
    if name == "fitted-150x4":
        x, kinds = np.concatenate([x, tokens], axis=1), kinds + ["c"] * 6
    y = table().scores[:, [metric.name for metric, _ in METRICS].index("analog_1day")]
    data = xgboost.DMatrix(x, label=y, feature_types=kinds, enable_categorical=True)
    trees, depth = map(int, name.removeprefix("fitted-").split("x"))
    setting = {"max_depth": depth, "eta": 0.1, "nthread": 1, "seed": 0}
    return xgboost.train(setting, data, trees)


def booster(name: str) -> xgboost.Booster:
    """Returns the model, set to one thread."""
    if name in FITTED:
        model = fit(name)
    else:
        model = xgboost.Booster()
        model.load_model(published() / f"{name}.json")
    model.set_param({"nthread": 1})
    return model


def read_ours(name: str):
    """Returns the model as jaxnas reads it from a file."""
    from jaxnas.data.formats.xgboost_model import read

    if name not in FITTED:
        return read(published() / f"{name}.json")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.json"
        booster(name).save_model(file)
        return read(file)


def most(name: str) -> np.ndarray:
    """Returns the largest value of each feature; all are integers from 0 on."""
    if name in PUBLISHED:
        return np.array(MOST, np.float32)
    edges = 6 if name == "fitted-150x4" else 0
    return np.array([1] * 30 + [4] * edges, np.float32)


def rows(name: str, batch: int) -> np.ndarray:
    """Returns ``float32[batch, F]``: uniform values of every feature."""
    rng = np.random.default_rng(0)
    high = most(name).astype(int) + 1
    return rng.integers(0, high, (batch, len(high))).astype(np.float32)
