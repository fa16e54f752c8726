"""Which networks of the analog-resnet space are trained, on what, and how long."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Config:
    """The defaults are what the results were made with."""

    data: str = "digits"
    groups: int = 3
    blocks: int = 2
    branches: int = 2
    """Upper ends of the ranges: deeper networks compile for minutes each."""
    count: int = 320
    params: float = 1e6
    """Networks with more are left out."""
    epochs: int = 10
    hwa_epochs: int = 3
    draws: int = 10
    chip_images: int = 400
    seed: int = 0
