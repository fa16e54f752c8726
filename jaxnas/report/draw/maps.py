"""Draws areas from plain arrays: token shares, cells, the front, response surfaces."""

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
    SEQUENTIAL,
    Axes,
    Figure,
    Look,
    Normalize,
    Rectangle,
    ScalarMappable,
    TwoSlopeNorm,
    canvas,
    ink_on,
    legend_below,
    matrix,
)


def actions(
    panels: Sequence[tuple[str, Float[np.ndarray, "V L"]]],
    *,
    chance: Float[np.ndarray, "V L"],
    tokens: Sequence[str],
    positions: Sequence[str],
    position_label: str,
    choices: Sequence[Sequence[str]] = (),
) -> Figure:
    """Returns how often each token stands at each position, coloured against chance.

    ``panels`` are methods and their shares, ``chance`` the shares over the whole space; a
    token that no architecture has at a position is left blank. ``choices`` are names of the
    tokens of each position, where a token means another thing at each.
    """
    columns = len(panels) if len(panels) < 4 else 2 if len(panels) == 4 else 3
    columns = 1 if choices else columns
    rows = -(-len(panels) // columns)
    height = rows * (0.75 + (0.38 if choices else 0.26) * len(tokens)) + 0.5
    long = max(map(len, positions)) * len(positions) * columns > 120
    height += 0.6 * rows * long
    figure, axes = canvas(height, columns=columns, rows=rows, sharey=True)
    scale = TwoSlopeNorm(0, -3, 3)
    for axis, panel in zip(axes.flat, panels):
        name, shares = panel
        ratio = np.log2(np.maximum(shares, 1e-3) / np.maximum(chance, 1e-9))
        ratio = np.where((chance > 0) | (shares > 0), ratio, np.nan)
        image = matrix(axis, ratio, scale, "RdBu_r")
        for v, t in np.argwhere(np.isfinite(ratio)):
            style = {**MIDDLE, "fontsize": 7, "color": ink_on(image.to_rgba(ratio[v, t]))}
            named = f"{choices[t][v]}\n" if choices and v < len(choices[t]) else ""
            axis.text(t, v, f"{named}{100 * shares[v, t]:.0f}", **style)
        turned = {"rotation": 40, "ha": "right"} if long else {}
        axis.set_xticks(range(len(positions)), positions, fontsize=7, **turned)
        axis.set_yticks(range(len(tokens)), [] if choices else tokens)
        axis.set_title(name)
    for axis in axes[-1]:
        axis.set_xlabel(position_label)
    for axis in list(axes.flat)[len(panels) :]:
        axis.set_visible(False)
    shades = ScalarMappable(scale, "RdBu_r")
    ticks = [-3, -2, -1, 0, 1, 2, 3]
    bar = figure.colorbar(shades, ax=axes, shrink=0.8, pad=0.01, ticks=ticks)
    bar.ax.set_yticklabels(["1/8", "1/4", "1/2", "chance", "2x", "4x", "8x"], fontsize=7)
    bar.ax.tick_params(length=0)
    return figure


class Cell(NamedTuple):
    """An architecture as a small graph."""

    label: str
    edges: Sequence[tuple[str, str, str]]
    """Source, target, operation."""
    nodes: Sequence[str]
    """In order of the signal: input first, output last."""


_EDGES = {
    "conv 3x3": ("#0072B2", "solid"),
    "conv 1x1": ("#CC79A7", (0, (6, 1.2))),
    "pool 3x3": ("#D55E00", (0, (3, 1.2))),
    "skip": ("#6b7480", (0, (1, 1))),
}
_SPARE_EDGES = (
    ("#009E73", "solid"),
    ("#E69F00", (0, (6, 1.5, 1, 1.5))),
    ("#000000", (0, (2, 1))),
    ("#56B4E9", "solid"),
    ("#8a6d00", (0, (4, 2))),
    ("#7b3294", "solid"),
    ("#a6611a", (0, (1, 2))),
)


def cells(items: Sequence[Cell], labels: Sequence[str]) -> Figure:
    """Returns architectures as graphs; each of at most seven operations has its look."""
    spare = iter(_SPARE_EDGES)
    look = {name: _EDGES.get(name) or next(spare) for name in sorted(labels)}
    columns = min(5, len(items))
    rows = -(-len(items) // columns)
    figure, axes = canvas(0.45 + 0.95 * rows, columns=columns, rows=rows)
    for i, (axis, item) in enumerate(zip(axes.flat, items)):
        _cell(axis, item, look)
        axis.set_title(f"{i + 1}.  {item.label}", fontsize=8)
    for axis in list(axes.flat):
        axis.set_axis_off()
    for name, (color, dash) in look.items():
        axes[0, 0].plot([], [], color=color, ls=dash, label=name)
    legend_below(figure, axes[0, 0], len(look))
    return figure


def _cell(axis: Axes, item: Cell, look: dict[str, tuple[str, Any]]) -> None:
    """Draws one graph: nodes on a line, longer edges as wider arcs on either side."""
    place = {name: i for i, name in enumerate(item.nodes)}
    ahead, back = {item.nodes[0]}, {item.nodes[-1]}
    for source, target, _ in item.edges:
        ahead |= {target} if source in ahead else set()
    for source, target, _ in reversed(item.edges):
        back |= {source} if target in back else set()
    for source, target, name in item.edges:
        alive = source in ahead and target in back
        a, b = place[source], place[target]
        side = 1 if a == 0 else -1
        arc = 0.0 if b == a + 1 else side * 0.42 * (b - a) / len(place) * 2
        color, dash = look[name]
        arrow = {"color": color, "ls": dash, "lw": 1.5, "shrinkA": 4, "shrinkB": 4}
        arrow |= {"connectionstyle": f"arc3,rad={-arc}", "alpha": 1.0 if alive else 0.18}
        arrow["arrowstyle"] = "-|>,head_length=0.35,head_width=0.18"
        axis.annotate("", (b, 0), (a, 0), arrowprops=arrow)
    for name, i in place.items():
        face, edge = (INK, INK) if name in ahead and name in back else ("white", FAINT)
        axis.plot(i, 0, marker="o", ms=7, mfc=face, mec=edge, zorder=5)
    axis.set(xlim=(-0.4, len(place) - 0.6), ylim=(-0.65, 0.95))


class Found(NamedTuple):
    """What one method recommends, as points."""

    label: str
    look: Look
    x: Float[np.ndarray, "k"]
    y: Float[np.ndarray, "k"]
    share: Float[np.ndarray, "k"]
    """Share of its controllers that recommend each point."""


def pareto(
    x: Float[np.ndarray, "n"],
    y: Float[np.ndarray, "n"],
    front: tuple[Float[np.ndarray, "k"], Float[np.ndarray, "k"]],
    names: Sequence[str],
    found: Sequence[Found],
    *,
    labels: tuple[str, str],
    directions: tuple[float, float],
) -> Figure:
    """Returns all architectures (left) and the corner with the exact front (right).

    Args:
        x: first metric of every architecture.
        y: second metric.
        front: coordinates of the exact front.
        names: the front's architectures.
        found: what the methods recommend.
        labels: axis labels with units.
        directions: +1 where more is better.
    """
    figure, axes = canvas(3.7, columns=2, width_ratios=(1, 1.9))
    left, right = axes[0]
    order = np.argsort(front[0])
    fx, fy = front[0][order], front[1][order]
    step = "steps-pre" if directions[0] > 0 else "steps-post"
    for axis, size in ((left, 1.0), (right, 7.0)):
        style = {"color": FAINT, "lw": 0, "rasterized": True, "label": "all architectures"}
        axis.scatter(x, y, s=size, **style)
        axis.plot(fx, fy, color=INK, lw=0.9, drawstyle=step, zorder=3)
        axis.set(xlabel=labels[0])
        for side, invert in zip(directions, (axis.invert_xaxis, axis.invert_yaxis)):
            if side < 0:
                invert()
    front_label = f"exact front ({len(fx)})"
    ring = {"ms": 6.5, "mfc": "none", "mec": INK, "mew": 1.1, "zorder": 6}
    right.plot(fx, fy, "o", label=front_label, **ring)
    _name_points(right, fx, fy, [str(name) for name in np.asarray(names)[order]])
    _points(right, found)
    left.set(title="Every architecture", ylabel=labels[1])
    right.set(title="The best corner, and what the methods recommend")
    window = [
        _window(corner, np.concatenate([corner, *points]))
        for corner, points in ((fx, [f.x for f in found]), (fy, [f.y for f in found]))
    ]
    right.set(xlim=window[0][:: int(directions[0])], ylim=window[1][:: int(directions[1])])
    (x0, x1), (y0, y1) = window
    left.indicate_inset((x0, y0, x1 - x0, y1 - y0), edgecolor=INK, alpha=0.9)
    legend_below(figure, right, 6)
    return figure


def _name_points(
    axis: Axes, x: Float[np.ndarray, "k"], y: Float[np.ndarray, "k"], names: Sequence[str]
) -> None:
    """Writes each point's name beside it: below where the next point is close."""
    width, height = np.ptp(x) or 1.0, np.ptp(y) or 1.0
    for i, name in enumerate(names):
        crowded = i + 1 < len(x) and x[i + 1] - x[i] < 0.25 * width
        below = crowded and abs(y[i + 1] - y[i]) < 0.06 * height
        place = {"xytext": (6, 4), "ha": "left", "va": "bottom"}
        if below:
            place = {"xytext": (-6, -4), "ha": "right", "va": "top"}
        style: dict[str, Any] = {"textcoords": "offset points", "fontsize": 6.5, **place}
        axis.annotate(name, (x[i], y[i]), zorder=7, **style)


def _points(axis: Axes, found: Sequence[Found]) -> None:
    for item in found:
        color, _, marker = item.look
        style: dict[str, Any] = {"color": color, "marker": marker, "label": item.label}
        style |= {"alpha": 0.7, "lw": 0.4, "edgecolors": "white", "zorder": 5}
        axis.scatter(item.x, item.y, s=14 + 220 * item.share, **style)


def _window(
    corner: Float[np.ndarray, "k"], values: Float[np.ndarray, "m"]
) -> tuple[float, float]:
    """Returns limits around the front and all but the furthest recommendations."""
    low, high = np.quantile(values, [0.02, 0.98])
    low, high = min(low, corner.min()), max(high, corner.max())
    room = 0.12 * (high - low) or 0.5
    return float(low - room), float(high + room)


class Axis(NamedTuple):
    """One swept hyperparameter."""

    name: str
    values: Sequence[str]


def surface(
    axes: tuple[Axis, Axis],
    mean: Float[np.ndarray, "r c"],
    deviation: Float[np.ndarray, "r c"],
    spent: Float[np.ndarray, "r c"],
    preset: tuple[int, int] | None,
    *,
    value_label: str,
    less_is_better: bool,
) -> Figure:
    """Returns heat maps over two hyperparameters: the value, and who spent the budget.

    Args:
        axes: rows and columns.
        mean: over the seeds of each cell; NaN where the sweep has none.
        deviation: standard deviation over those seeds.
        spent: share of controllers that spent the budget.
        preset: cell of the preset, or None where it is not on the grid.
        value_label: what ``mean`` is, with unit.
        less_is_better: whether dark (good) is low.
    """
    rows, columns = mean.shape
    figure, panels = canvas(
        max(1.7, 1.0 + 0.5 * rows), columns=2, width_ratios=(1.5, 1), sharey=True
    )
    shade = SEQUENTIAL if less_is_better else SEQUENTIAL.reversed()
    norm = Normalize(np.nanmin(mean), np.nanmax(mean))
    values = matrix(panels[0, 0], mean, norm, shade)
    shares = matrix(panels[0, 1], spent, Normalize(0, 2.6), "Greys")
    middle = {**MIDDLE, "fontsize": 7.5}
    for r, c in np.ndindex(mean.shape):
        if not np.isfinite(mean[r, c]):
            continue
        text = f"{mean[r, c]:.2f}"
        if np.isfinite(deviation[r, c]):
            text += f"\n± {deviation[r, c]:.2f}"
        color = ink_on(values.to_rgba(mean[r, c]))
        panels[0, 0].text(c, r, text, color=color, **middle)
        color = ink_on(shares.to_rgba(spent[r, c]))
        panels[0, 1].text(c, r, f"{100 * spent[r, c]:.0f}", color=color, **middle)
    for panel in panels[0]:
        panel.set_xticks(range(columns), axes[1].values)
        panel.set_yticks(range(rows), axes[0].values)
        panel.set_xlabel(axes[1].name)
        if preset is not None:
            box = ((preset[1] - 0.46, preset[0] - 0.46), 0.92, 0.92)
            panel.add_patch(Rectangle(*box, fill=False, ec="#D55E00", lw=2))
    panels[0, 0].set_ylabel(axes[0].name)
    panels[0, 0].set_title(value_label)
    panels[0, 1].set_title("spent the budget (%)")
    return figure


def marginals(
    axes: Sequence[Axis],
    points: Sequence[tuple[Int[np.ndarray, "s"], Float[np.ndarray, "s"]]],
    preset: Sequence[int | None],
    *,
    value_label: str,
) -> Figure:
    """Returns one panel a swept hyperparameter: every setting, and the mean along it.

    ``points`` are, for each axis, the place on it and the mean of every setting; ``preset``
    is the preset's place on each; ``value_label`` is what is drawn, with unit.
    """
    columns = min(len(axes), 3)
    rows = -(-len(axes) // columns)
    figure, panels = canvas(0.4 + 2.3 * rows, columns=columns, rows=rows, sharey=True)
    for panel, axis, (place, mean), mine in zip(panels.flat, axes, points, preset):
        panel.plot(place, mean, ls="", marker="o", ms=3.5, color=FAINT, mec=MUTED, mew=0.4)
        at = np.unique(place)
        along = [np.mean(mean[place == a]) for a in at]
        panel.plot(at, along, color=ACCENT, marker="o", ms=5)
        if mine is not None:
            panel.axvline(mine, color="#D55E00", lw=1.2, ls=(0, (4, 2)))
        panel.set_xticks(range(len(axis.values)), axis.values)
        panel.set(xlabel=axis.name)
    for panel in panels[:, 0]:
        panel.set_ylabel(value_label)
    for panel in list(panels.flat)[len(axes) :]:
        panel.set_visible(False)
    return figure
