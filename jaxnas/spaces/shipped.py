"""Spaces that ship as files: ``NAME`` here makes the space of ``declared/files/NAME.toml``.

A new one is a file there and a line in the registry.
"""

from collections.abc import Callable
from pathlib import Path

from jaxnas.spaces.declare import Declared, declare

FOLDER = Path(__file__).parent / "declared" / "files"


def __getattr__(name: str) -> Callable[..., Declared]:
    """Returns the factory of a file, its name with ``_`` for ``-``."""
    path = FOLDER / f"{name.replace('_', '-')}.toml"
    if name.startswith("__") or not path.exists():
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def make(
        image: tuple[int, int, int] = (32, 32, 3), num_classes: int = 10, **sizes: int
    ) -> Declared:
        return declare(path, image, num_classes, **sizes)

    make.__doc__ = declare(path).document["description"]
    return make
