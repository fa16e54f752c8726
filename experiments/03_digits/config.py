"""What is searched, how long, and what it is compared with."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Config:
    """The defaults are what the results were made with."""

    size: str = "channels:16,cells:1"
    objective: str = "val_loss"
    """What the search minimises; 359 images make many accuracies equal."""
    search_epochs: int = 10
    budget: int = 40
    """Networks that each method may train."""
    methods: tuple[str, ...] = ("random", "evolution", "reinforce")
    batch: int = 4
    """Of REINFORCE."""
    final_epochs: int = 30
    augment: str = "shift"
    seeds: tuple[int, ...] = (1, 2, 3, 4, 5)
    """Of the final trainings; the search uses seed 0."""
    penalties: tuple[float, ...] = (0.01, 0.1, 1.0, 10.0)
    """Inverse penalties C of the logistic regression; validation chooses."""
