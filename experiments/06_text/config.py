"""What is searched, how long, and what it is compared with."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Config:
    """The defaults are what the results were made with."""

    data: str = "vader-sign,vocabulary=3000,length=32"
    objective: str = "val_loss"
    """What the search minimises; smoother than the accuracy."""
    method: str = "random"
    budget: int = 14
    """Networks that the search may train."""
    epochs: int = 3
    """Of the search and of the trainings after it."""
    batch: int = 128
    optimiser: str = "adam"
    lr: float = 0.003
    weight_decay: float = 0.0
    plain: dict[str, Any] = field(
        default_factory=lambda: {
            "embedding": 64, "word_dropout": 0.6, "layer": [], "readout": "mean",
        }
    )  # fmt: skip
    """A network without layers, for comparison."""
    plain_epochs: int = 8
    """Of another training of that network, whose steps are cheap."""
    best_epochs: int = 4
    """Of another training of the best network."""
    long_batch: int = 64
    """Of both: twice as many steps an epoch."""
    seeds: tuple[int, ...] = (1, 2, 3, 4, 5)
    """Of the final trainings; the search uses seed 0."""
