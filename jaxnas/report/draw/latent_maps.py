"""Draws latent spaces from plain arrays: maps, training curves, parallel coordinates."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from jaxnas.report.draw.plots import (
    ACCENT,
    FAINT,
    INK,
    MUTED,
    NOTE,
    SEQUENTIAL,
    Axes,
    Figure,
    Normalize,
    ScalarMappable,
    canvas,
    legend_below,
    plain_log,
)

_PATHS = ("#D55E00", "#009E73", "#CC79A7", "#E69F00", "#000000")


def space(
    points: Float[np.ndarray, "n 2"],
    scores: Float[np.ndarray, "n"],
    entries: Float[np.ndarray, "K 2"],
    paths: Sequence[Float[np.ndarray, "T 2"]],
    *,
    axes_labels: Sequence[str],
    score_label: str,
    path_label: str,
) -> Figure:
    """Returns architectures coloured by score, codes as crosses, walks from o to diamond.

    Args:
        points: two coordinates of each architecture.
        scores: colour; the scale ends at the 5th and the 95th percentile.
        entries: of each code.
        paths: of the walks, at most five.
        axes_labels: of both axes.
        score_label: of the colour scale, with unit.
        path_label: what a walk is.
    """
    figure, axes = canvas(4.6)
    axis: Axes = axes[0, 0]
    low, high = np.percentile(scores, [5, 95])
    norm = Normalize(low, high if high > low else low + 1)
    order = np.argsort(scores)  # the best are drawn last, on top
    style: dict[str, Any] = {"s": 11, "lw": 0.25, "edgecolors": MUTED}
    style |= {"cmap": SEQUENTIAL.reversed(), "norm": norm}
    axis.scatter(*points[order].T, c=scores[order], **style)
    axis.scatter(*entries.T, marker="x", s=60, color="white", lw=4)
    axis.scatter(*entries.T, marker="x", s=46, color=INK, lw=1.6, label="codebook entry")
    for number, path in enumerate(paths[: len(_PATHS)]):
        color = _PATHS[number]
        name = path_label if number == 0 else None
        axis.plot(*path.T, color="white", lw=3.2, zorder=4)
        axis.plot(*path.T, color=color, lw=1.5, label=name, zorder=4)
        start = {"marker": "o", "s": 42, "label": None if number else "start"}
        end = {"marker": "D", "s": 44, "label": None if number else "end"}
        for place, mark in ((path[0], start), (path[-1], end)):
            axis.scatter(*place, color=color, edgecolors="white", lw=1, zorder=5, **mark)
    shades = ScalarMappable(norm, SEQUENTIAL.reversed())
    bar = figure.colorbar(shades, ax=axis, extend="both", pad=0.01, aspect=30)
    bar.set_label(score_label)
    bar.outline.set_visible(False)
    axis.set(xlabel=axes_labels[0], ylabel=axes_labels[1])
    legend_below(figure, axis, 4)
    return figure


def training(curves: dict[str, np.ndarray], steps: int, codes: int) -> Figure:
    """Returns reconstruction, its exact matches, and perplexity over the training steps.

    Args:
        curves: ``reconstruction``, ``match`` and ``perplexity``, ``[R]`` or ``[seeds R]``.
        steps: gradient steps in all.
        codes: ``K``, the most that perplexity can be.
    """
    figure, axes = canvas(2.6, columns=3)
    panels = (
        ("reconstruction", "Reconstruction error", "nats per architecture"),
        ("match", "Exact reconstruction", "share of a batch"),
        ("perplexity", "Codes in use", "perplexity"),
    )
    for axis, (name, title, label) in zip(axes[0], panels, strict=True):
        lines = np.atleast_2d(curves[name])
        x = steps * (np.arange(lines.shape[1]) + 0.5) / lines.shape[1]
        for line in lines:
            axis.plot(x, line, color=ACCENT, lw=1.6 if len(lines) == 1 else 0.9)
        axis.set(title=title, ylabel=label, xlabel="gradient step")
        axis.locator_params(axis="x", nbins=4)
    axes[0, 0].set_yscale("log")
    plain_log(axes[0, 0].yaxis)
    axes[0, 1].set_ylim(-0.02, 1.04)
    axes[0, 2].axhline(codes, color=INK, lw=0.9, ls=(0, (6, 3)))
    axes[0, 2].set_ylim(0, 1.12 * codes)
    place = {"xytext": (0, 2), "va": "bottom"}
    axes[0, 2].annotate(f"all {codes} codes alike", (steps, codes), **place, **NOTE)
    return figure


def parallel(
    names: Sequence[str],
    columns: Float[np.ndarray, "n A"],
    quality: Float[np.ndarray, "n"],
    *,
    quality_label: str,
    best: int,
) -> Figure:
    """Returns one line a setting over its axes, coloured by quality, the best on top.

    Each axis is labelled with the values that were tried, evenly spaced in their order.

    Args:
        names: of the axes.
        columns: value of each axis for each setting; the last ones may be results.
        quality: colour.
        quality_label: of the colour scale.
        best: row that is highlighted.
    """
    figure, axes = canvas(3.6)
    axis: Axes = axes[0, 0]
    low, high = float(np.min(quality)), float(np.max(quality))
    norm = Normalize(low, high if high > low else low + 1)
    shades = ScalarMappable(norm, SEQUENTIAL.reversed())
    heights, marks = _heights(columns)
    place = np.arange(len(names))
    spread = np.linspace(-0.018, 0.018, len(columns))  # equal values stay apart
    for row in np.argsort(quality):
        color = shades.to_rgba(quality[row])
        axis.plot(place, heights[row] + spread[row], color=color, lw=1, alpha=0.75)
    axis.plot(place, heights[best], color="white", lw=4.5)
    axis.plot(place, heights[best], color="#D55E00", lw=2.2, marker="o", ms=5, label="best")
    for x, labels in enumerate(marks):
        axis.axvline(x, color=FAINT, lw=0.8, zorder=0)
        for height, text in labels:
            box = {"facecolor": "white", "alpha": 0.8, "lw": 0, "pad": 0.6}
            note = {**NOTE, "xytext": (-4, 0), "va": "center", "fontsize": 7, "bbox": box}
            axis.annotate(text, (x, height), zorder=6, **note)
    axis.set_xticks(place, [n.replace("_", "\n") for n in names], fontsize=6.8)
    axis.set_yticks([])
    axis.set_xlim(-0.45, len(names) - 0.9)
    axis.set_ylim(-0.06, 1.06)
    axis.grid(visible=False)
    axis.tick_params(length=0)
    for side in ("left", "bottom"):
        axis.spines[side].set_visible(False)
    bar = figure.colorbar(shades, ax=axis, pad=0.01, aspect=30)
    bar.set_label(quality_label)
    bar.outline.set_visible(False)
    legend_below(figure, axis, 1)
    return figure


def _heights(
    columns: Float[np.ndarray, "n A"],
) -> tuple[Float[np.ndarray, "n A"], list[list[tuple[float, str]]]]:
    """Returns each value's height in [0, 1] and the marks of every axis.

    Few different values are spaced evenly; many, as of a result, to scale.
    """
    heights = np.zeros_like(columns, dtype=float)
    marks = []
    for i, column in enumerate(columns.T):
        values = np.unique(column)
        if len(values) <= 6:
            at = np.linspace(0, 1, len(values)) if len(values) > 1 else np.array([0.5])
            heights[:, i] = at[np.searchsorted(values, column)]
            marks.append([(float(h), f"{v:g}") for h, v in zip(at, values, strict=True)])
        else:
            low, high = values[0], values[-1]
            heights[:, i] = (column - low) / (high - low)
            marks.append([(0.0, f"{low:.2g}"), (1.0, f"{high:.3g}")])
    return heights, marks
