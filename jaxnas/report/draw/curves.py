"""Draws lines from plain arrays: regret, interquartile means, diagnostics, drift."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from jaxnas.report.draw.plots import (
    ACCENT,
    FAINT,
    INK,
    MIDDLE,
    MUTED,
    NOTE,
    Axes,
    Figure,
    FixedLocator,
    Look,
    Normalize,
    NullLocator,
    canvas,
    ink_on,
    legend_below,
    matrix,
    plain_log,
)
from jaxnas.report.read.stats import Interval


class Curve(NamedTuple):
    """A mean curve with its interval, in value and in regret."""

    label: str
    look: Look
    value: Any
    """``stats.Band``."""


def regret_curves(
    curves: Sequence[Curve],
    *,
    value_label: str,
    regret_label: str,
    optimum: float | None,
    direction: float,
    exact: Float[np.ndarray, "Q"] | None,
    resolution: float,
    marks: Sequence[int],
) -> Figure:
    """Returns best true value (left) and, where the optimum is known, regret (right, log).

    Args:
        curves: one a method.
        value_label: axis label with unit.
        regret_label: axis label with unit.
        optimum: best value of the table, or None.
        direction: +1 where more is better.
        exact: expected best of random search, drawn where no random run is.
        resolution: spread between trainings of one network; NaN for none.
        marks: queries at which markers are set.
    """
    known = optimum is not None
    figure, axes = canvas(3.5, columns=2 if known else 1)
    places = [q - 1 for q in marks]
    _value_panel(axes[0, 0], curves, optimum, direction, exact, places)
    axes[0, 0].set(ylabel=value_label, title="Best value so far")
    if optimum is not None:
        _regret_panel(axes[0, 1], curves, optimum, direction, exact, resolution, places)
        axes[0, 1].set(ylabel=regret_label, title="Regret (log scale)")
    for axis in axes[0]:
        axis.set_xlabel("distinct queries")
        axis.locator_params(axis="x", integer=True)
    legend_below(figure, axes[0, 0], min(len(curves) + (exact is not None), 5))
    return figure


def _value_panel(
    axis: Axes,
    curves: Sequence[Curve],
    optimum: float | None,
    direction: float,
    exact: np.ndarray | None,
    places: list[int],
) -> None:
    """Draws values; the first steps, far below what matters, run out of the frame."""
    queries = np.arange(1, len(curves[0].value.value) + 1)
    for curve in curves:
        _curve(axis, queries, curve.value, curve, places)
    if exact is not None:
        axis.plot(queries, exact, color=MUTED, lw=1, ls=":", label="random search (exact)")
    start = min(len(queries) - 1, max(4, len(queries) // 40))
    score = np.stack([direction * c.value.value for c in curves])
    late = score[:, start:][np.isfinite(score[:, start:])]
    low, high = (late.min(), late.max()) if len(late) else (0.0, 1.0)
    high = high if optimum is None else direction * optimum
    room = 0.06 * (high - low) or 1.0
    axis.set_ylim(*sorted((direction * (low - 0.2 * room), direction * (high + room))))
    if optimum is None:
        return
    axis.axhline(optimum, color=INK, lw=0.9, ls=(0, (6, 3)))
    place: dict[str, Any] = {
        "xytext": (0, 2 * direction),
        "va": "bottom" if direction > 0 else "top",
    }
    axis.annotate(f"optimum {optimum:.2f}", (queries[-1], optimum), **place, **NOTE)


def _curve(axis: Axes, x: np.ndarray, band: Any, curve: Curve, places: list[int]) -> None:
    color, dash, marker = curve.look
    axis.fill_between(x, band.low, band.high, color=color, alpha=0.18, lw=0)
    marks: dict[str, Any] = {
        "marker": marker,
        "markevery": places,
        "ms": 4,
        "mec": "white",
        "mew": 0.5,
    }
    axis.plot(x, band.value, color=color, ls=dash, label=curve.label, **marks)


def _regret_panel(
    axis: Axes,
    curves: Sequence[Curve],
    optimum: float,
    direction: float,
    exact: np.ndarray | None,
    resolution: float,
    places: list[int],
) -> None:
    queries = np.arange(1, len(curves[0].value.value) + 1)
    axis.set_yscale("log")
    lowest = np.inf
    for curve in curves:
        gaps = [direction * (optimum - v) for v in curve.value]
        positive = gaps[0][gaps[0] > 0]
        lowest = min(lowest, positive.min()) if len(positive) else lowest
    floor = lowest / 2 if np.isfinite(lowest) else 1e-3
    for curve in curves:
        gaps = [np.maximum(direction * (optimum - v), floor / 10) for v in curve.value]
        low, high = (gaps[2], gaps[1]) if direction > 0 else (gaps[1], gaps[2])
        _curve(axis, queries, type(curve.value)(gaps[0], low, high), curve, places)
    if exact is not None:
        axis.plot(queries, direction * (optimum - exact), color=MUTED, lw=1, ls=":")
    if np.isfinite(resolution):
        axis.axhline(resolution, color=MUTED, lw=0.8, ls=(0, (1, 2)))
        text = f"dotted: one network trained twice,\ns.d. {resolution:.2f}"
        style: dict[str, Any] = {"ha": "right", "va": "top", "fontsize": 7.5}
        axis.text(0.99, 0.98, text, transform=axis.transAxes, color=MUTED, **style)
    axis.set_ylim(bottom=floor)
    plain_log(axis.yaxis)


def aggregate(
    labels: Sequence[str],
    styles: Sequence[Look],
    iqm: Sequence[Interval],
    improvement: Sequence[Sequence[Interval | None]],
    *,
    value_label: str,
    optimum: float | None,
) -> Figure:
    """Returns interquartile means (left) and probabilities of improvement (right).

    Args:
        labels: methods, best first.
        styles: how each is drawn.
        iqm: interquartile mean of each.
        improvement: ``[i][j]`` is the probability that ``i`` does better than ``j``; None
            on the diagonal.
        value_label: axis label with unit.
        optimum: best value of the table, or None.
    """
    k = len(labels)
    height = max(2.4, 0.55 + 0.42 * k)
    figure, axes = canvas(height, columns=2, width_ratios=(1, 1.35) if k > 1 else (1, 0.01))
    left, right = axes[0]
    for i, (look, found) in enumerate(zip(styles, iqm)):
        spread = [[found.value - found.low], [found.high - found.value]]
        style = {"color": look.color, "marker": look.marker, "ms": 6, "mec": "white"}
        left.errorbar(found.value, i, xerr=np.nan_to_num(spread), lw=2.2, **style)
    if optimum is not None:
        left.axvline(optimum, color=INK, lw=0.9, ls=(0, (6, 3)))
    left.set_yticks(range(k), labels)
    left.set_ylim(k - 0.5, -0.5)
    left.grid(visible=False, axis="y")
    left.locator_params(axis="x", nbins=5)
    left.set(xlabel=value_label, title="Interquartile mean")
    if k == 1:
        right.set_visible(False)
        return figure
    _odds(right, improvement)
    right.set_xticks(range(k), labels, rotation=20 if k > 4 else 0)
    right.set_yticks(range(k), labels)
    right.set(xlabel="than this method", title="Probability that the row does better")
    return figure


def _odds(axis: Axes, improvement: Sequence[Sequence[Interval | None]]) -> None:
    values = [[np.nan if c is None else c.value for c in row] for row in improvement]
    image = matrix(axis, np.array(values), Normalize(-0.2, 1.2), "PuOr")
    for i, row in enumerate(improvement):
        for j, cell in enumerate(row):
            if cell is None or not np.isfinite(cell.value):
                continue
            middle = {**MIDDLE, "color": ink_on(image.to_rgba(cell.value))}
            axis.text(j, i - 0.1, f"{cell.value:.2f}", **middle)
            if np.isfinite(cell.low):
                text = f"{cell.low:.2f} to {cell.high:.2f}"
                axis.text(j, i + 0.24, text, fontsize=6, **middle)


class Trace(NamedTuple):
    """Diagnostics of one method over its updates."""

    label: str
    look: Look
    x: Float[np.ndarray, "U"]
    entropy: Float[np.ndarray, "3 U"] | None
    """Lower quartile, median, upper quartile over the controllers."""
    unique: Float[np.ndarray, "3 U"] | None
    collapsed: Float[np.ndarray, "U"] | None
    """Share of controllers flagged so far."""
    marks: Int[np.ndarray, "k"]
    """Updates at which a controller was first flagged."""


def diagnostics(traces: Sequence[Trace], *, x_label: str) -> Figure:
    """Returns entropy, share of new architectures, and share of collapsed controllers."""
    panels = [
        ("entropy", "Policy entropy", "nats per token"),
        ("unique", "Distinct architectures", "share of a batch"),
        ("collapsed", "Collapsed controllers", "share flagged so far"),
    ]
    panels = [p for p in panels if any(getattr(t, p[0]) is not None for t in traces)]
    figure, axes = canvas(2.9, columns=len(panels))
    for axis, (name, title, y_label) in zip(axes[0], panels):
        for trace in traces:
            lines = getattr(trace, name)
            if lines is None:
                continue
            color, dash, _ = trace.look
            if name != "collapsed":
                low, lines, high = lines
                axis.fill_between(trace.x, low, high, color=color, alpha=0.18, lw=0)
            axis.plot(trace.x, lines, color=color, ls=dash, label=trace.label)
            if name != "collapsed" and len(trace.marks):
                at, cross = trace.marks, {"ls": "", "marker": "x", "ms": 4, "mew": 1}
                axis.plot(trace.x[at], lines[at], color=color, **cross)
        axis.set(title=title, ylabel=y_label, xlabel=x_label)
        axis.set_ylim(bottom=-0.02, top=None if name == "entropy" else 1.04)
    legend_below(figure, axes[0, 0], min(len(traces), 5))
    return figure


def panels(items: Sequence[tuple[str, str, Sequence[Curve]]], *, x_label: str) -> Figure:
    """Returns small charts side by side, each a title, an axis label and its curves."""
    figure, axes = canvas(2.9, columns=len(items))
    for axis, (title, y_label, lines) in zip(axes[0], items, strict=True):
        for line in lines:
            _curve(axis, np.arange(1, len(line.value.value) + 1), line.value, line, [])
        axis.set(title=title, ylabel=y_label, xlabel=x_label)
    legend_below(figure, axes[0, 0], 5)
    return figure


class Drift(NamedTuple):
    """One architecture's accuracy over time."""

    label: str
    seconds: Float[np.ndarray, "T"]
    value: Float[np.ndarray, "T"]
    spread: Float[np.ndarray, "T"]
    digital: float
    others: Float[np.ndarray, "F T"]
    """The same times of further families, such as the network without retraining."""


def drift(
    items: Sequence[Drift], *, value_label: str, names: Sequence[str], ticks: Sequence[str]
) -> Figure:
    """Returns small multiples, one an architecture: mean, uncertainty, digital accuracy.

    Args:
        items: the architectures, best first.
        value_label: axis label with unit.
        names: labels of the line, of the digital level and of each further family.
        ticks: names of the times.
    """
    columns = min(5, len(items))
    rows = -(-len(items) // columns)
    height = 0.9 + 1.45 * rows
    figure, axes = canvas(height, columns, rows, sharex=True, sharey=True)
    line = {"color": ACCENT, "marker": "o", "ms": 3.2, "zorder": 3}
    dots = {"color": "#D55E00", "lw": 1.2, "ls": ":", "marker": "s", "ms": 2.5}
    for i, (axis, item) in enumerate(zip(axes.flat, items)):
        for other in items:
            axis.plot(other.seconds, other.value, color=FAINT, lw=0.6, zorder=1)
        band = (item.value - item.spread, item.value + item.spread)
        axis.fill_between(item.seconds, *band, color=ACCENT, alpha=0.2, lw=0, zorder=2)
        axis.plot(item.seconds, item.value, label=names[0], **line)
        axis.axhline(item.digital, color=INK, lw=1, ls=(0, (5, 2)), label=names[1])
        for family, values in zip(names[2:], item.others):
            axis.plot(item.seconds, values, label=family, **dots)
        axis.set_xscale("log")
        axis.xaxis.set_major_locator(FixedLocator(item.seconds.tolist()))
        axis.xaxis.set_minor_locator(NullLocator())
        axis.set_xticks(item.seconds, list(ticks))
        axis.tick_params(axis="x", rotation=50, labelsize=7)
        axis.set_title(f"{i + 1}.  {item.label}", fontsize=8)
    for axis in list(axes.flat)[len(items) :]:
        axis.set_visible(False)
    figure.supylabel(value_label, fontsize=8.5)
    axes[-1, columns // 2].set_xlabel("time after programming (log scale)")
    legend_below(figure, axes[0, 0], 4)
    return figure
