"""What is searched, how long, and what it is compared with."""

from dataclasses import dataclass


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
    """Of the search and of the final trainings."""
    batch: int = 128
    optimiser: str = "adam"
    lr: float = 0.003
    weight_decay: float = 0.0
    top: int = 1
    """Architectures, by validation, that are trained again."""
    seeds: tuple[int, ...] = (1, 2, 3, 4, 5)
    """Of the final trainings; the search uses seed 0."""
