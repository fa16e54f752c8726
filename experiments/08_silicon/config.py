"""Which networks are put on chips in both ways, and how much of each is measured."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Config:
    """A set of networks; the defaults are common to all sets."""

    space: str
    options: Mapping[str, int] = field(default_factory=dict)
    """Of ``jaxnas.make_space``."""
    networks: int = 40
    drawn: int = 1500
    """Token vectors that the networks are the first fitting ones of."""
    matrices: int = 12
    """Networks with more matrices are left out: each costs seconds of compilation."""
    tiles: int = 40
    """As are those with more tiles, each of which aihwkit programs by itself."""
    flops: float = 3e5
    """As are those with more multiply-accumulates for one image or text."""
    data: str = "digits"
    limit: int | None = None
    """Most images or texts of each split."""
    images: int = 100
    """The first test images or texts, which every chip is read with."""
    chips: int = 100
    epochs: int = 10
    hwa_epochs: int = 3
    seed: int = 0
    lot: int = 5
    """Networks that are measured before the results are written."""


SETS = {
    "analog-resnet": Config("analog-resnet", {"groups": 4, "blocks": 2, "branches": 2}),
    "texts": Config(
        "text-chain",
        networks=20,
        drawn=300,
        data="vader-sign,vocabulary=500,length=16",
        limit=3000,
        images=200,
        chips=40,
        lot=2,
    ),
    "mixed": Config(
        str(Path(__file__).with_name("mixed.toml")), networks=10, chips=40, tiles=18, lot=1
    ),
}
