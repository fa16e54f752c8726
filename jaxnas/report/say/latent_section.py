"""What a report says of latent searches: the space they moved in, and how they moved."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from jaxnas.core.errors import UserError
from jaxnas.latent import files
from jaxnas.report.draw import curves, plots
from jaxnas.report.read import stats
from jaxnas.report.read.compare import Method, Study
from jaxnas.report.say import latent_figures
from jaxnas.report.say.drawing import Drawing, finish
from jaxnas.report.say.text import number

POINTS = 3000
"""Architectures on the map of a latent space, every n-th of them."""
PANELS = (
    ("return", "Return of an episode", "acquisition gained"),
    ("length", "Length of an episode", "steps"),
    ("surrogate_error", "Error of the surrogate", "RMSE of the look-ups"),
)


def draw_latent(study: Study) -> tuple[list[Drawing], list[str]]:
    """Returns the figures of a study's latent searches, and what could not be drawn."""
    methods = [m for m in study.methods if m.latent]
    if not methods:
        return [], []
    drawn = [d for d in (_walks(study, methods),) if d is not None]
    notes = []
    for path in dict.fromkeys(_model_path(m) for m in methods):
        mine = [m for m in methods if _model_path(m) == path]
        try:
            stored = files.load(path, study.task.space)
        except UserError as error:
            notes.append(f"The latent space is not drawn: {error}")
            continue
        drawn = [*_space(study, mine, stored), *drawn]
    return drawn, notes


def _model_path(method: Method) -> str:
    """Returns the latent model of a run: beside it if it is there, else where it was."""
    named = Path(str(method.run.config["algorithm"]["fields"]["latent"]))
    beside = method.run.path.parent / named.name
    return str(beside if beside.exists() else named)


def _space(study: Study, methods: Sequence[Method], stored: files.Stored) -> list[Drawing]:
    """Returns the map of the latent space with walks, and how the space was learned."""
    known, drawn = study.task.known, []
    if known is not None:
        rows = np.arange(0, len(known.members), max(1, len(known.members) // POINTS))
        encode = jax.jit(jax.vmap(lambda row: stored.model.encode(stored.params, row)))
        latents = np.asarray(encode(jnp.asarray(known.members[rows])))
        first, goal = methods[0], study.task.objective
        entries = np.asarray(stored.model.entries(stored.params))
        words: dict[str, Any] = {"score_name": goal.name, "unit": goal.unit}
        words["path_label"] = f"episode of {first.name}"
        parts = (latents, known.value[rows], entries, _paths(first))
        drawn.append(latent_figures.draw_space(*parts, **words))
    if stored.history:
        plan: Any = stored.facts.get("plan", {})
        curves_ = {name: np.asarray(column) for name, column in stored.history.items()}
        steps = int(plan.get("steps", 0)) or len(next(iter(curves_.values())))
        drawn.append(latent_figures.draw_training(curves_, steps, stored.model.codes))
    return drawn


def _paths(method: Method) -> list[Float[np.ndarray, "T Z"]]:
    """Returns the walks of the first controllers, without the steps after their end."""
    paths = []
    for path in method.results.kept["path"][method.keep][:5]:
        moved = np.any(np.diff(path, axis=0) != 0, axis=1)
        last = int(np.max(np.flatnonzero(moved), initial=-1)) + 1
        if np.isfinite(path).all() and last > 0:
            paths.append(path[: last + 1])
    return paths


def _walks(study: Study, methods: Sequence[Method]) -> Drawing | None:
    """Returns return, length and surrogate error against queries, with intervals."""
    lines: dict[str, list[curves.Curve]] = {name: [] for name, *_ in PANELS}
    every = plots.looks([m.run.algorithm for m in study.methods])
    looks = {m.name: look for m, look in zip(study.methods, every, strict=True)}
    for method in methods:
        metrics = method.results.metrics
        queries = metrics["queries"][method.keep]
        for name, *_ in PANELS:
            whole = _at_queries(queries, metrics[name][method.keep], study.budget)
            if np.isfinite(whole).any():
                band = stats.mean_band(whole)
                lines[name].append(curves.Curve(method.name, looks[method.name], band))
    panels = [(title, y, lines[name]) for name, title, y in PANELS if lines[name]]
    if not panels:
        return None
    ends = ", ".join(
        f"{curve.label} {number(_last(curve.value.value))}" for curve in lines["length"]
    )
    with plots.style():
        figure = curves.panels(panels, x_label="distinct queries")
    return finish(
        "walks",
        "How the policies moved",
        "Mean over controllers with its 95 % Student-t interval, against distinct queries; "
        "a controller that stopped keeps its last. The surrogate pays the walks, so they "
        "cost no query. The acquisition is 0 at the median and 1 at the best of what is "
        "known, and its scale moves with that. The error is that of the predictions for "
        "what was looked up next, in units of the objective.",
        f"Line charts over queries. Last mean episode length: {ends or 'none'}.",
        figure,
    )


def _last(values: Float[np.ndarray, "Q"]) -> float:
    finite = values[np.isfinite(values)]
    return float(finite[-1]) if len(finite) else float("nan")


def _at_queries(
    queries: Float[np.ndarray, "n U"], column: Float[np.ndarray, "n U"], budget: int
) -> Float[np.ndarray, "n Q"]:
    """Returns a logged metric after each query, carried forward; NaN before the first."""
    found = np.full((len(queries), budget), np.nan)
    for row, (spent, values) in enumerate(zip(queries, column, strict=True)):
        for q, value in zip(spent, values, strict=True):
            if np.isfinite(q) and np.isfinite(value) and q >= 1:
                found[row, int(q) - 1] = value
    return stats.carry_forward(found)
