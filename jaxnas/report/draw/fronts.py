"""Draws what is traded off: attainment surfaces, pairs of objectives, hypervolumes."""

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from jaxnas.report.draw.plots import (
    FAINT,
    INK,
    Axes,
    Figure,
    Look,
    canvas,
    legend_below,
)


class Surface(NamedTuple):
    """A method's attainment surfaces, both coordinates better when larger."""

    label: str
    look: Look
    x: Float[np.ndarray, "k"]
    y: Float[np.ndarray, "3 k"]
    """What many, half and few of the controllers reach; -inf where they reach nothing."""


class Cloud(NamedTuple):
    """Points of one method."""

    label: str
    look: Look
    points: Float[np.ndarray, "k M"]


class Growth(NamedTuple):
    """A mean curve over queries with its interval."""

    label: str
    look: Look
    band: Any
    """``stats.Band``."""


def attainment(
    surfaces: Sequence[Surface],
    everything: Float[np.ndarray, "n 2"],
    exact: Float[np.ndarray, "e 2"],
    *,
    labels: Sequence[str],
    signs: Float[np.ndarray, "2"],
    window: Float[np.ndarray, "2 2"],
) -> Figure:
    """Returns the median surface of each method, banded, beside the exact front.

    Args:
        surfaces: one a method, with signs applied.
        everything: all architectures in natural units; may be empty.
        exact: the exact front in natural units; may be empty.
        labels: axis labels with units.
        signs: +1 where more is better; an axis where less is better runs backwards.
        window: least and greatest ``x`` and ``y`` that are shown, with signs applied.
    """
    figure, axes = canvas(4.2)
    axis = axes[0, 0]
    (left, right), (bottom, top) = window
    floor = bottom - (top - bottom)
    axis.scatter(*everything.T, s=3, color=FAINT, lw=0, rasterized=True, zorder=1)
    for item in surfaces:
        color, dash, _ = item.look
        low, middle, high = (_staircase(item.x, y, left, floor) for y in item.y)
        band = {"color": color, "alpha": 0.16, "lw": 0, "zorder": 2}
        x, y = low
        axis.fill_between(signs[0] * x, signs[1] * y, signs[1] * high[1], **band)
        line = {"color": color, "ls": dash, "lw": 1.8, "zorder": 4, "label": item.label}
        axis.plot(signs[0] * middle[0], signs[1] * middle[1], **line)
    if len(exact):
        x, y = exact.T * signs[:, None]
        steps = _staircase(np.sort(x), y[np.argsort(x)], left, floor)
        axis.plot(signs[0] * steps[0], signs[1] * steps[1], color=INK, lw=0.8, zorder=3)
        ring = {"mfc": "none", "mec": INK, "ls": "none", "zorder": 5}
        axis.plot(*exact.T, "o", ms=5, label=f"exact front ({len(exact)})", **ring)
    axis.set(xlabel=labels[0], ylabel=labels[1])
    axis.set(xlim=signs[0] * np.array([left, right]))
    axis.set(ylim=signs[1] * np.array([bottom, top]))
    legend_below(figure, axis, 5)
    return figure


def _staircase(
    x: Float[np.ndarray, "k"], y: Float[np.ndarray, "k"], left: float, floor: float
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the corners of a surface that holds ``y`` up to each ``x``, from ``left``."""
    start = np.concatenate([[min(left, x[0])], x[:-1]])
    corners = np.stack([start, x], axis=1).ravel()
    height = np.maximum(np.repeat(y, 2), floor)
    return np.append(corners, x[-1]), np.append(height, floor)


def pairs(
    clouds: Sequence[Cloud],
    everything: Float[np.ndarray, "n M"],
    exact: Float[np.ndarray, "e M"],
    *,
    labels: Sequence[str],
    signs: Float[np.ndarray, "M"],
) -> Figure:
    """Returns a panel for each pair of the first four objectives; better is up and right.

    Args:
        clouds: the front of all controllers of each method, in natural units.
        everything: all architectures; may be empty.
        exact: the exact front; may be empty.
        labels: axis labels with units.
        signs: +1 where more is better.
    """
    chosen = list(itertools.combinations(range(min(len(labels), 4)), 2))
    figure, axes = canvas(2.7 * (len(chosen) // 3), columns=3, rows=len(chosen) // 3)
    for axis, (i, j) in zip(axes.flat, chosen, strict=True):
        axis.scatter(everything[:, i], everything[:, j], s=1.5, color=FAINT, lw=0,
                     rasterized=True, zorder=1)  # fmt: skip
        ring = {"facecolors": "none", "edgecolors": INK, "lw": 0.6, "zorder": 5}
        if len(exact):
            label = f"exact front ({len(exact)})"
            axis.scatter(exact[:, i], exact[:, j], s=20, label=label, **ring)
        for cloud in clouds:
            style = {"color": cloud.look.color, "marker": cloud.look.marker, "s": 11}
            style |= {"alpha": 0.75, "lw": 0, "zorder": 3, "label": cloud.label}
            axis.scatter(cloud.points[:, i], cloud.points[:, j], **style)
        _frame(axis, [c.points[:, [i, j]] for c in clouds], signs[[i, j]])
        axis.set(xlabel=labels[i], ylabel=labels[j])
        axis.locator_params(axis="x", nbins=3)  # counts have long numbers
    legend_below(figure, axes.flat[0], 5)
    return figure


def _frame(axis: Axes, points: Sequence[np.ndarray], signs: Float[np.ndarray, "2"]) -> None:
    """Shows points, each ``[k, 2]``, with some room, better up and right."""
    every = np.concatenate(points)
    low, high = every.min(axis=0), every.max(axis=0)
    room = 0.05 * (high - low) + 1e-9
    ends = np.stack([low - room, high + room], axis=1)
    axis.set_xlim(*ends[0][:: int(signs[0])])
    axis.set_ylim(*ends[1][:: int(signs[1])])


def growth(
    places: Sequence[int], curves: Sequence[Growth], *, label: str, most: float | None
) -> Figure:
    """Returns the hypervolume against queries; ``most`` is that of the exact front."""
    figure, axes = canvas(3.0)
    axis = axes[0, 0]
    for item in curves:
        color, dash, _ = item.look
        axis.plot(places, item.band.value, color=color, ls=dash, label=item.label)
        band = {"color": color, "alpha": 0.16, "lw": 0}
        axis.fill_between(places, item.band.low, item.band.high, **band)
    if most is not None:
        axis.axhline(most, color=INK, lw=0.9, ls=(0, (6, 3)), label="exact front")
    axis.set(xlabel="distinct queries", ylabel=label)
    axis.set_ylim(bottom=0)
    legend_below(figure, axis, 5)
    return figure
