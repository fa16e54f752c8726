"""Hyperparameter search over the nine axes of the original's table; numeric ones vmapped.

Settings are ranked by what counts on architectures that no fit has seen: exact
reconstruction and smoothness of the true score. The total loss is recorded and never
ranks: the original's best setting was the one whose push-away term, unbounded below, had
grown most.
"""

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from jaxnas.core.errors import UserError, unknown_name
from jaxnas.core.ranges import check_hparams
from jaxnas.latent.fit import Hparams, Labels, Plan, fit
from jaxnas.latent.quality import Quality, assess
from jaxnas.latent.vqvae import VQVAE

NUMERIC = ("lr", "weight_decay", "commitment", "divergence", "dropout")
"""Axes that are traced: all their settings train in one compiled program."""
STRUCTURAL = ("batch", "embed_dim", "hidden", "layers")
"""Axes that change a shape: each combination compiles once."""
AXES = (*STRUCTURAL, *NUMERIC)
Numbers = tuple[int | float, ...]
GRID: dict[str, Numbers] = {
    "batch": (64, 128),
    "embed_dim": (2, 3, 4),
    "hidden": (64, 128),
    "layers": (0, 1),
    "lr": (3e-3, 1e-2, 2e-2),
    "weight_decay": (0.0, 1e-4, 1e-2),
    "commitment": (0.25, 0.5, 1.0),
    "divergence": (0.0, 0.25, 1.0),
    "dropout": (0.0, 0.05, 0.2),
}
"""Values that are tried unless others are named."""


class Trial(NamedTuple):
    """One setting and what came of it."""

    setting: dict[str, int | float]
    quality: dict[str, float]
    """Means over the seeds of every field of ``Quality``."""
    loss: float
    """Total loss at the end of training; for the record, it does not rank."""


def check_grid(grid: Mapping[str, Sequence[Any]]) -> dict[str, Numbers]:
    """Returns the default grid with axes replaced; UserError on a wrong axis or value."""
    full = dict(GRID)
    for name, values in grid.items():
        if name not in AXES:
            raise unknown_name("axis of a latent sweep:", name, AXES)
        wrong = [
            v
            for v in values
            if not isinstance(v, int | float)
            or not np.isfinite(v)
            or v < 0
            or (name == "dropout" and v >= 1)
            or (name in STRUCTURAL and (v != int(v) or (v < 1 and name != "layers")))
        ]
        if wrong or not values:
            raise UserError(
                f"The axis {name!r} needs {_needs(name)}, got {list(values)}; for example "
                f"{name}={','.join(f'{v:g}' for v in GRID[name])}."
            )
        check_hparams(Hparams, {name: values})
        full[name] = tuple(values)
    return full


def _needs(name: str) -> str:
    if name in STRUCTURAL:
        return "whole numbers of at least " + ("0" if name == "layers" else "1")
    return "numbers from 0 up to but not 1" if name == "dropout" else "numbers from 0"


def settings(
    grid: Mapping[str, Numbers], trials: int, seed: int
) -> dict[Numbers, list[Numbers]]:
    """Returns numeric settings for each structural one, drawn without repeats.

    The structural combinations that occur are drawn first, at most one for eight trials,
    because each of them compiles; the trials are spread evenly over them.
    """
    rng = np.random.default_rng(seed)
    shapes = list(itertools.product(*(grid[name] for name in STRUCTURAL)))
    numbers = list(itertools.product(*(grid[name] for name in NUMERIC)))
    num = min(len(shapes), max(1, trials // 8))
    chosen = [shapes[i] for i in rng.permutation(len(shapes))[:num]]
    each = min(len(numbers), -(-trials // num))
    return {s: [numbers[i] for i in rng.permutation(len(numbers))[:each]] for s in chosen}


def sweep(
    model: VQVAE,
    plan: Plan,
    key: Key[Array, ""],
    tokens: Int[Array, "N L"],
    labels: Labels,
    heldout: Int[Array, "H L"],
    scores: Float[Array, "H"],
    grid: Mapping[str, Numbers],
    *,
    hparams: Hparams,
    trials: int,
    seeds: int = 1,
    seed: int = 0,
    tell: Callable[[str], None] = lambda text: None,
) -> list[Trial]:
    """Returns trials, best first, one compilation a shape; UserError in label mode."""
    if trials < 1 or seeds < 1 or model.mode != "instance":
        raise UserError("A sweep needs at least one trial and one seed, in instance mode.")
    drawn = settings(grid, trials, seed)
    keys = jax.random.split(key, seeds)
    found: list[Trial] = []
    for number, (shape, numbers) in enumerate(drawn.items(), start=1):
        axes = {name: int(v) for name, v in zip(STRUCTURAL, shape, strict=True)}
        shown = ", ".join(f"{n} {v}" for n, v in axes.items())
        tell(f"{number}/{len(drawn)}: {len(numbers)} settings with {shown}")
        sized = dataclasses.replace(
            model, dims=axes["embed_dim"], hidden=axes["hidden"], layers=axes["layers"]
        )
        planned = dataclasses.replace(plan, batch=axes["batch"])
        columns = np.asarray(numbers, np.float32).T
        numeric = dict(zip(NUMERIC, map(jnp.asarray, columns), strict=True))

        def run(one: Hparams, own: Key[Array, ""]) -> tuple[Quality, Float[Array, ""]]:
            fitted = fit(sized, own, tokens, labels, one, planned)  # noqa: B023
            quality = assess(sized, fitted.params, key, heldout, scores)  # noqa: B023
            return quality, fitted.curves["loss"][-1]

        fill = lambda value: jnp.full(len(numbers), value)  # noqa: B023
        stacked = jax.tree.map(fill, hparams._replace(dropout=0.0))._replace(**numeric)
        both = jax.vmap(jax.vmap(run, in_axes=(None, 0)), in_axes=(0, None))
        quality, loss = jax.device_get(jax.jit(both)(stacked, keys))
        found += _trials(axes, numbers, quality, loss)
    return rank(found)


def _trials(
    axes: Mapping[str, int], numbers: Sequence[Numbers], quality: Any, loss: Any
) -> list[Trial]:
    """Returns the trials of one structural combination, means over the seeds."""
    means = {n: np.mean(v, axis=1) for n, v in quality._asdict().items()}
    return [
        Trial(
            {**axes, **dict(zip(NUMERIC, values, strict=True))},
            {n: float(v[i]) for n, v in means.items()},
            float(np.mean(loss[i])),
        )
        for i, values in enumerate(numbers)
    ]


def rank(trials: Sequence[Trial]) -> list[Trial]:
    """Returns the trials, best first: by the mean of two ranks, never by the loss.

    The ranks are those of exact reconstruction and of smoothness, both held out; equal
    values share a rank, and ties go to the better reconstruction. A number that is not
    finite ranks last.
    """
    matches, smooth = (
        np.nan_to_num([t.quality[n] for t in trials], nan=-np.inf)
        for n in ("match", "smoothness")
    )
    order = np.lexsort((-matches, _places(matches) + _places(smooth)))
    return [trials[i] for i in order]


def _places(x: Float[np.ndarray, "n"]) -> Float[np.ndarray, "n"]:
    """Returns how many of the values are larger, halves for equal ones."""
    more = (x[None] > x[:, None]).sum(axis=1)
    return more + 0.5 * ((x[None] == x[:, None]).sum(axis=1) - 1)
