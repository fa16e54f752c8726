"""Two coordinates for many numbers: PCA always, t-SNE and UMAP where installed."""

import importlib
import importlib.util
import warnings

import numpy as np
from jaxtyping import Float

from jaxnas.core.errors import UserError

METHODS = ("pca", "tsne", "umap")
_PACKAGE = {"tsne": "sklearn", "umap": "umap"}
NAMES = {"pca": "PCA", "tsne": "t-SNE", "umap": "UMAP"}


def available(method: str) -> str:
    """Returns the method, or ``"pca"`` with a warning where its package is missing.

    Raises:
        UserError: an unknown method.
    """
    if method not in METHODS:
        raise UserError(f"The projection must be one of {METHODS}, not {method!r}.")
    package = _PACKAGE.get(method)
    if package is not None and importlib.util.find_spec(package) is None:
        warnings.warn(
            f"{NAMES[method]} needs the extra: pip install 'jaxnas[plots]'; PCA is drawn "
            "instead.",
            stacklevel=2,
        )
        return "pca"
    return method


def embed(
    points: Float[np.ndarray, "n Z"], method: str = "pca", seed: int = 0
) -> tuple[Float[np.ndarray, "n 2"], str]:
    """Returns two coordinates for each point, and the two axis labels joined by a comma.

    Args:
        points: at least 3; what belongs into one picture must be embedded together.
        method: of ``METHODS``; what is missing falls back to PCA with a warning.
        seed: of t-SNE and UMAP, which start at random.

    Raises:
        UserError: an unknown method or fewer than 3 points.
    """
    points = np.asarray(points, np.float64)
    if len(points) < 3 or not np.isfinite(points).all():
        raise UserError("A picture of a latent space needs at least 3 finite points.")
    method = available(method)
    if method == "pca":
        flat, share = pca(points)
        names = [f"component {i + 1} ({100 * s:.0f} % of variance)" for i, s in share]
        return flat, ",".join(names)
    flat = _tsne(points, seed) if method == "tsne" else _umap(points, seed)
    return flat, f"{NAMES[method]} 1,{NAMES[method]} 2"


def pca(
    points: Float[np.ndarray, "n Z"],
) -> tuple[Float[np.ndarray, "n 2"], list[tuple[int, float]]]:
    """Returns the two directions of most variance and each one's share of it.

    By singular values of the centred points; signs are fixed so that the largest loading
    of a direction is positive.
    """
    centred = points - points.mean(axis=0)
    if points.shape[1] == 1:
        centred = np.hstack([centred, np.zeros_like(centred)])
    _, values, axes = np.linalg.svd(centred, full_matrices=False)
    first = axes[:2]
    biggest = np.abs(first).argmax(axis=1)
    first = first * np.sign(first[np.arange(2), biggest])[:, None]
    share = values**2 / max(float(np.sum(values**2)), 1e-300)
    return centred @ first.T, [(i, float(share[i])) for i in range(2)]


def _tsne(points: Float[np.ndarray, "n Z"], seed: int) -> Float[np.ndarray, "n 2"]:
    from sklearn.manifold import TSNE

    near = min(30.0, (len(points) - 1) / 3)
    made = TSNE(2, perplexity=near, init="pca", random_state=seed)
    return np.asarray(made.fit_transform(points), np.float64)


def _umap(points: Float[np.ndarray, "n Z"], seed: int) -> Float[np.ndarray, "n 2"]:
    near = min(15, len(points) - 1)
    with warnings.catch_warnings():
        # it misses tensorflow, which nothing here needs
        warnings.simplefilter("ignore", ImportWarning)
        umap = importlib.import_module("umap")  # optional: the checker may not have it
        # a fixed seed makes it run on one core, which it says on every call
        warnings.filterwarnings("ignore", message="n_jobs value", category=UserWarning)
        made = umap.UMAP(n_neighbors=near, random_state=seed)
        return np.asarray(made.fit_transform(points), np.float64)
