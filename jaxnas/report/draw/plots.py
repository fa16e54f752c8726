"""Draws figures: the only file that knows matplotlib. Takes plain arrays, returns figures.

No pyplot and no global state: every figure is made inside ``style()``, whose settings end
with the block. Colours are those of Okabe and Ito (safe for colour-blind readers), and no
meaning rests on colour alone: methods also differ in dash and marker.
"""

import contextlib
import io
import re
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes as Axes
from matplotlib.cm import ScalarMappable as ScalarMappable
from matplotlib.collections import PathCollection
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.colors import Normalize as Normalize
from matplotlib.colors import TwoSlopeNorm as TwoSlopeNorm
from matplotlib.figure import Figure as Figure
from matplotlib.patches import Rectangle as Rectangle
from matplotlib.ticker import FixedLocator as FixedLocator
from matplotlib.ticker import FuncFormatter
from matplotlib.ticker import NullLocator as NullLocator

WIDTH = 7.4
"""Inches; at 100 dots per inch the width of the report's column."""
INK, MUTED, FAINT, GRID = "#1d2733", "#5f6b78", "#c6ccd3", "#e6e9ed"
ACCENT = "#0072B2"
MIDDLE: dict[str, Any] = {"ha": "center", "va": "center"}
NOTE: dict[str, Any] = {"textcoords": "offset points", "ha": "right", "fontsize": 7.5}
_RC: dict[Any, Any] = {
    "font.family": ["DejaVu Sans"],
    "font.size": 8.5,
    "axes.titlesize": 9,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 8.5,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.unicode_minus": False,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "text.color": INK,
    "text.parse_math": False,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "lines.linewidth": 1.6,
    "svg.fonttype": "path",
    "figure.facecolor": "white",
    "axes.facecolor": "white",
}


class Look(NamedTuple):
    """How a method is drawn everywhere."""

    color: str
    dash: Any
    marker: str


_LOOKS = {
    "random": Look("#6b7480", (0, (1, 1.2)), "s"),
    "evolution": Look("#D55E00", "solid", "o"),
    "local-search": Look("#E69F00", (0, (5, 1.5)), "D"),
    "nsga2": Look("#117733", (0, (3, 1, 1, 1)), "d"),
    "model-based": Look("#000000", "solid", "*"),
    "analog-ea": Look("#000000", "dashed", "X"),
    "ppo": Look("#0072B2", "solid", "^"),
    "ppo-replay": Look("#4477AA", (0, (3, 1.2)), "<"),
    "dyna-ppo": Look("#AA3377", "solid", "D"),
    "reinforce": Look("#CC79A7", (0, (4, 1.2, 1, 1.2)), "v"),
    "a2c": Look("#009E73", (0, (6, 1.2, 1, 1.2, 1, 1.2)), "P"),
    "latent-ppo": Look("#7b3294", "solid", ">"),
    "latent-reinforce": Look("#8a6d00", (0, (4, 1.2, 1, 1.2)), "<"),
    "latent-a2c": Look("#56B4E9", (0, (6, 1.2, 1, 1.2, 1, 1.2)), "X"),
}
_SPARE = (
    Look("#332288", (0, (2, 1)), "8"),
    Look("#a6611a", (0, (2, 2)), "p"),
    Look("#4d4d4d", "solid", "d"),
    Look("#1b7837", (0, (3, 1)), "h"),
    Look("#c51b7d", (0, (7, 2)), "H"),
)


def looks(algorithms: Sequence[str]) -> list[Look]:
    """Returns one look a method: its algorithm's own, or a spare one where taken."""
    taken: set[str] = set()
    spare = iter(_SPARE * (1 + len(algorithms) // len(_SPARE)))
    found = []
    for name in algorithms:
        own = name in _LOOKS and name not in taken
        found.append(_LOOKS[name] if own else next(spare))
        taken.add(name)
    return found


@contextlib.contextmanager
def style() -> Iterator[None]:
    """Sets the report's look for what is drawn inside, and nothing else."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_RC)
        yield


def render(figure: Figure, salt: str) -> tuple[bytes, bytes]:
    """Returns the figure as SVG and as PNG, byte for byte the same for the same data.

    The layout is solved once and kept: it is most of the work.
    """
    svg, png = io.BytesIO(), io.BytesIO()
    with style(), mpl.rc_context({"svg.hashsalt": salt}), warnings.catch_warnings():
        # a label may be in any script: what the font lacks becomes a box
        warnings.filterwarnings("ignore", r"Glyph \d+ .* missing from")
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
        figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": None}, dpi=180)
        figure.savefig(png, format="png", metadata={"Software": None}, dpi=180)
    # a hundredth of a point is finer than any screen or printer; matplotlib writes 1e-6
    shorten = lambda path: re.sub(rb"(\.\d\d)\d+", rb"\1", path[0])
    return re.sub(rb' d="[^"]*"', shorten, svg.getvalue()), png.getvalue()


def canvas(
    height: float, columns: int = 1, rows: int = 1, **options: Any
) -> tuple[Figure, Any]:
    """Returns a page-wide figure and its axes, ``[rows, columns]``."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.06, h_pad=0.05)  # pyright: ignore
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


def plain_log(axis: Any) -> None:
    """Writes a logarithmic axis as 0.1, 1, 10 and never as powers."""
    axis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
    axis.set_minor_formatter(FuncFormatter(lambda v, _: ""))


def ink_on(rgba: Sequence[float]) -> str:
    """Returns dark or white ink, whichever is easier to read on a colour (luminance)."""
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in rgba[:3]]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return INK if luminance > 0.21 else "white"


def legend_below(figure: Figure, axis: Axes, columns: int) -> None:
    """Puts one legend under all panels, every scattered marker at one size."""
    handles, labels = axis.get_legend_handles_labels()
    rows = -(-len(labels) // columns)
    columns = -(-len(labels) // rows)
    style: dict[str, Any] = {"loc": "outside lower center", "handlelength": 2.8}
    legend = figure.legend(handles, labels, ncols=columns, **style)
    for handle in legend.legend_handles:
        if isinstance(handle, PathCollection):
            handle.set_sizes([28])


def matrix(axis: Axes, grid: Float[np.ndarray, "r c"], norm: Any, cmap: Any) -> Any:
    """Draws cells with white seams and no grid."""
    image = axis.imshow(grid, norm=norm, cmap=cmap, aspect="auto", interpolation="nearest")
    axis.grid(visible=False)
    axis.set_xticks(np.arange(-0.5, grid.shape[1]), minor=True)
    axis.set_yticks(np.arange(-0.5, grid.shape[0]), minor=True)
    axis.grid(visible=True, which="minor", color="white", lw=2)
    axis.tick_params(which="both", length=0)
    for spine in axis.spines.values():
        spine.set_visible(False)
    return image


SEQUENTIAL = LinearSegmentedColormap.from_list(
    "report", ["#08306b", "#2b6ca8", "#6fa8d6", "#bcd7ec", "#eef4fa"]
)
