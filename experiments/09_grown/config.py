"""How a network grows, and what it is compared with."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Config:
    """The defaults are what the results were made with."""

    data: str = "digits"
    growth: tuple[str, ...] = (
        "widen1", "widen2", "widen3", "deepen1", "deepen2", "skip3", "widen2", "widen3",
    )  # fmt: skip
    """Actions of the space ``grown``: 8-16-16 channels and 2-2-1 layers at the end."""
    epochs: int = 2
    """Passes after each action."""
    begin: int = 2
    """Trainings of the first network."""
    seeds: tuple[int, ...] = (1, 2, 3, 4, 5, 6, 7, 8)
