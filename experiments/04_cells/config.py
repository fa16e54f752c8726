"""What is trained on which images, and how long."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Config:
    """The defaults are what the shipped tables were made with."""

    data: str
    limit: int | None
    """Most training and validation images; all when None."""
    size: str = "channels:8,cells:1"
    epochs: int = 10
    hwa_epochs: int = 3
    draws: int = 10
    chip_images: int = 400
    seed: int = 0
    repeats: int = 40
    """Cells trained again with two other seeds, for the spread of one training."""


TASKS = {
    "digits-cells": Config("digits", None),
    "fashion-cells": Config("fashion-8x8", 1_500),
}
