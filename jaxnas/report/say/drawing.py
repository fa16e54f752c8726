"""A finished figure with what it says in words."""

import re
from typing import NamedTuple

from jaxnas.report.draw import plots


class Drawing(NamedTuple):
    """A finished figure in both forms."""

    name: str
    """File name without its ending."""
    title: str
    caption: str
    """What is drawn, over how many controllers, and what the bands are."""
    alt: str
    """The figure's message in words, for those who cannot see it."""
    svg: bytes
    png: bytes
    owner: str = ""
    """The method that it is about; empty where it is about all."""


def finish(
    name: str, title: str, caption: str, alt: str, figure: plots.Figure, owner: str = ""
) -> Drawing:
    """Returns a drawing in both forms."""
    svg, png = plots.render(figure, salt=name)
    return Drawing(name, title, caption, alt, svg, png, owner)


def slug(text: str) -> str:
    """Returns text as part of a file name."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "run"
