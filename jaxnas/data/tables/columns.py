"""What a tabular benchmark looks like once it has been read, whatever its source."""

from typing import NamedTuple

import numpy as np

from jaxnas.core.types import Objective


class Metric(NamedTuple):
    """One column of a table."""

    name: str
    unit: str
    meaning: str
    maximise: bool = True
    aliases: tuple[str, ...] = ()
    run: str = ""
    """Training run that yields it, a key of :attr:`Table.seconds`; empty where unknown."""

    def as_objective(self) -> Objective:
        """Returns what a search sees of it."""
        return Objective(self.name, self.unit, self.maximise, self.meaning)


class Table(NamedTuple):
    """Every architecture of a space in lexicographic order, with its scores."""

    id: str
    """Versioned; bumped when a number changes."""
    space: str
    """Id of the space that the rows enumerate."""
    metrics: tuple[Metric, ...]
    scores: np.ndarray
    """``float64[n, K]``, one column a metric, natural units."""
    spread: np.ndarray
    """``float64[n, K]``: standard deviation of one measurement, 0 where not recorded."""
    seconds: dict[str, np.ndarray]
    """``float64[n]`` for each training run: how long it took."""
    per_seed: dict[str, np.ndarray]
    """``float64[n, S]`` for metrics with several seeds, NaN where there are fewer."""
    facts: dict[str, str]
    """Source, version, licence, checksum, citation."""
