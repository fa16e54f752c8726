"""Response surfaces: what every setting of a sweep reached, over its hyperparameters."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from jaxnas.report.draw import maps, plots
from jaxnas.report.read import stats
from jaxnas.report.read.compare import Method, Study
from jaxnas.report.say.drawing import Drawing, finish, slug
from jaxnas.report.say.text import bracket, difference_unit, number, short, unit

HPARAMS = {"lr": "learning rate (lr)", "entropy": "entropy bonus (entropy)"}
"""Hyperparameters in words, with the name that the command line takes."""


def draw_surface(study: Study, method: Method) -> Drawing | None:
    """Returns a sweep's response surface, or None where nothing was swept."""
    run, results = method.run, method.results
    grid = {n: np.asarray(v, float) for n, v in (run.config.get("grid") or {}).items()}
    axes = [n for n, v in grid.items() if len(v) > 1 and n in run.hparams]
    if not axes:
        return None
    known = study.task.known
    final = stats.carry_forward(results.curve[:, : study.budget])[:, -1]
    if known is not None:
        maximise = study.task.objective.maximise
        final = stats.regret(final, known.optimum, maximise=maximise)
    what = "mean regret" if known is not None else "mean best value"
    where = difference_unit(study) if known is not None else unit(study)
    less = known is not None or not study.task.objective.maximise
    if not np.isfinite(final).any():
        return None
    spent = results.count >= study.budget
    settings = _settings(final, spent, results.setting, run.num_settings)
    places = {n: _places(run.hparams[n], grid[n]) for n in axes}
    on_grid = np.all([places[n] >= 0 for n in axes], axis=0)
    on_grid &= _others_as_preset(run.hparams, axes, run.preset)
    preset = run.preset if run.preset is not None and on_grid[run.preset] else None
    named = [maps.Axis(HPARAMS.get(n) or n, [short(v) for v in grid[n]]) for n in axes]
    label = f"{what}{bracket(where)}"
    if len(axes) <= 2:
        figure = _heat_map(named, places, axes, settings, on_grid, preset, label, less)
        around = " ± standard deviation" if np.isfinite(settings[1]).any() else ""
        spread = f"Each cell: mean{around} over its controllers. " + (
            "Framed: the preset, fixed before the run."
            if preset is not None
            else "The preset, fixed before the run, is no cell of this grid."
        )
    else:
        points = [(places[n][on_grid], settings[0][on_grid]) for n in axes]
        mine = [int(places[n][preset]) if preset is not None else None for n in axes]
        figure = maps.marginals(named, points, mine, value_label=label)
        spread = "Grey: every setting. Blue: mean along the axis."
        spread += " Dashed: the preset." if preset is not None else ""
    low, high = number(float(np.nanmin(settings[0]))), number(float(np.nanmax(settings[0])))
    return finish(
        f"surface-{slug(method.name)}",
        f"Response surface of {method.name}",
        f"{spread} n = {int(run.config['seeds'])} controllers a setting, "
        f"{run.num_settings} settings, {study.budget:,} distinct queries. The best cell of "
        "a grid is known only after the fact and is no result.",
        f"Chart of {what} over {', '.join(axes)}: between {low} and {high}.",
        figure,
        owner=method.name,
    )


def _settings(
    final: Float[np.ndarray, "P"],
    spent: np.ndarray,
    setting: Int[np.ndarray, "P"],
    count: int,
) -> Float[np.ndarray, "3 G"]:
    """Returns mean, standard deviation and share that spent the budget, by setting."""
    out = np.full((3, count), np.nan)
    for s in range(count):
        values = final[setting == s]
        there = values[np.isfinite(values)]  # the others found nothing
        out[0, s] = np.mean(there) if len(there) else np.nan
        out[1, s] = np.std(there, ddof=1) if len(there) > 1 else np.nan
        out[2, s] = np.mean(spent[setting == s])
    return out


def _places(column: Float[np.ndarray, "G"], values: Float[np.ndarray, "k"]) -> np.ndarray:
    """Returns where on an axis each setting lies, -1 where it does not."""
    close = np.isclose(column[:, None], values[None, :], rtol=1e-5, atol=0)
    return np.where(close.any(axis=1), close.argmax(axis=1), -1)


def _others_as_preset(
    hparams: dict[str, np.ndarray], axes: Sequence[str], preset: int | None
) -> np.ndarray:
    """Returns which settings differ from the preset in the swept hyperparameters only."""
    keep = np.ones(len(next(iter(hparams.values()))), bool)
    for name, column in hparams.items():
        if name not in axes and preset is not None:
            keep &= np.isclose(column, column[preset], rtol=1e-5, atol=0)
    return keep


def _heat_map(
    named: Sequence[maps.Axis],
    places: dict[str, np.ndarray],
    axes: Sequence[str],
    settings: Float[np.ndarray, "3 G"],
    on_grid: np.ndarray,
    preset: int | None,
    label: str,
    less_is_better: bool,
) -> plots.Figure:
    rows = named[0] if len(named) == 2 else maps.Axis("", [""])
    columns = named[-1]
    layers = np.full((3, len(rows.values), len(columns.values)), np.nan)
    r = places[axes[0]] if len(named) == 2 else np.zeros(len(on_grid), int)
    c = places[axes[-1]]
    layers[:, r[on_grid], c[on_grid]] = settings[:, on_grid]
    box = None if preset is None else (int(r[preset]), int(c[preset]))
    words: dict[str, Any] = {"value_label": label, "less_is_better": less_is_better}
    mean, low, high = layers
    return maps.surface((rows, columns), mean, low, high, box, **words)
