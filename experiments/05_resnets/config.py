"""Which networks of the analog-resnet space are trained, on what, and how long."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Config:
    """The defaults are what the shipped table was made with."""

    data: str = "digits"
    groups: int = 4
    blocks: int = 2
    branches: int = 2
    """Upper ends of the ranges."""
    lots: tuple[tuple[int, int], ...] = ((51, 50), (88, 28), (300, 20))
    """Up to so many networks, those with at most so many matrices.

    Each matrix costs two to three seconds of compilation, so the limit fell twice to fit
    two hours; nothing that had been measured was left out.
    """
    params: float = 1e6
    """Networks with more are left out."""
    epochs: int = 10
    hwa_epochs: int = 3
    draws: int = 10
    chip_images: int = 400
    seed: int = 0
    repeats: int = 20
    """Networks trained again with two other seeds, for the spread of one training."""

    rounds: int = 3
    """Of fitting, searching and training what the searches like (rounds.py)."""
    limits: tuple[float, ...] = (2e4, 1e5, 1e6)
    """Most parameters of what is searched for."""
    searches: int = 8
    """Evolutions a limit and round."""
    queries: int = 300
    """Of each of them."""
    picked: int = 6
    """Networks trained of each limit and round."""
    apart: int = 3
    """Decisions in which they differ from each other, at least."""
    most_matrices: int = 28
    """Of what is trained, because each costs seconds of compilation."""
