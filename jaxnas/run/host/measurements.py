"""Oracles that measure, alone or inside others, and their measurements as answers."""

import dataclasses
from typing import Any, NamedTuple, cast

import numpy as np
from jaxtyping import PyTree

from jaxnas.core.errors import UserError
from jaxnas.core.oracle import Measuring, Oracle, OracleWrapper
from jaxnas.core.types import FAILED, OK, SKIPPED, Evaluation, Measurement
from jaxnas.run.host.executor import Answer, Failure, Outcome

Readings = dict[tuple[Any, ...], Measurement | Failure]
"""Measurements of a batch by (part, tokens, fidelity)."""


class Part(NamedTuple):
    """A measuring oracle as far as its numbers depend on it."""

    oracle: str
    seed: int
    checksum: str


def measuring_parts(oracle: Oracle) -> dict[Part, Measuring]:
    """Returns the measuring oracles that an oracle is, or is put together from.

    Two that differ in nothing but their objectives are one: a measurement holds every
    metric.
    """
    if isinstance(oracle, Measuring):
        return {_part(oracle): oracle}
    return {
        part: leaf
        for several in _inner(oracle).values()
        for one in several
        for part, leaf in measuring_parts(one).items()
    }


def _part(oracle: Measuring) -> Part:
    return Part(cast(Oracle, oracle).id, int(oracle.seed), oracle.data_checksum)


def _inner(oracle: Oracle) -> dict[str, tuple[Oracle, ...]]:
    if not dataclasses.is_dataclass(oracle):
        return {}
    found = {}
    for field in dataclasses.fields(oracle):
        value = getattr(oracle, field.name)
        several = value if isinstance(value, tuple) else (value,)
        if several and all(isinstance(one, Oracle) for one in several):
            found[field.name] = several
    return found


@dataclasses.dataclass(frozen=True, eq=False)
class Recalled(OracleWrapper):
    """A measuring oracle whose answers are read from a batch of finished measurements."""

    readings: Readings

    @property
    def traced(self) -> bool:
        """Measurements live on the host."""
        return False

    def params(self) -> PyTree:
        """Returns nothing: nothing is computed."""
        return ()

    def init(self, key: Any, params: PyTree) -> PyTree:
        """Returns no state."""
        return ()

    def evaluate(
        self,
        key: Any,
        params: PyTree,
        state: PyTree,
        tokens: Any,
        fidelity: Any,
        active: Any,
    ) -> tuple[PyTree, Evaluation]:
        """Returns what was measured; inactive lanes are SKIPPED."""
        part = _part(cast(Measuring, self.oracle))
        answers = [
            pick(self.oracle, self.readings[place(part, row, int(level))])
            if on
            else Answer(missing(self.oracle), 0.0, 0.0, SKIPPED)
            for row, level, on in zip(tokens, fidelity, active, strict=True)
        ]
        return state, stacked(answers)


def place(part: Part, tokens: Any, fidelity: int) -> tuple[Any, ...]:
    """Returns where a measurement stands among the readings."""
    return part, tuple(int(token) for token in tokens), fidelity


def recalling(oracle: Oracle, readings: Readings) -> Oracle:
    """Returns an oracle whose measuring parts read instead of measuring."""
    if isinstance(oracle, Measuring):
        return Recalled(oracle, readings)
    changes: dict[str, Any] = {}
    for name, several in _inner(oracle).items():
        swapped = tuple(recalling(one, readings) for one in several)
        single = not isinstance(getattr(oracle, name), tuple)
        changes[name] = swapped[0] if single else swapped
    return dataclasses.replace(cast(Any, oracle), **changes) if changes else oracle


def missing(oracle: Oracle) -> np.ndarray:
    """Returns one NaN for each objective."""
    return np.full(len(oracle.objectives), np.nan, np.float32)


def pick(oracle: Oracle, found: Outcome) -> Answer:
    """Returns an outcome as an answer: the objectives out of all metrics, by name.

    Raises:
        UserError: a measurement that succeeded lacks an objective.
    """
    if isinstance(found, Answer):
        return found
    if isinstance(found, Failure):
        return Answer(missing(oracle), 0.0, 0.0, FAILED)
    if found.status != OK:
        return Answer(missing(oracle), 0.0, found.seconds, found.status)
    names = [objective.name for objective in oracle.objectives]
    lacking = [name for name in names if name not in found.metrics]
    if lacking:
        raise UserError(
            f"The oracle {oracle.id!r} measured {', '.join(sorted(found.metrics))} and not "
            f"{lacking[0]!r}; choose another objective, or another --store if an older "
            "version of the oracle filled it."
        )
    values = np.asarray([found.metrics[name] for name in names], np.float32)
    return Answer(values, 0.0, found.seconds, OK)


def stacked(answers: list[Answer], limits: int = 0) -> Evaluation:
    """Returns answers as one evaluation of numpy arrays, under so many limits."""
    found: Any = Evaluation(
        objectives=cast(Any, np.stack([a.objectives for a in answers])),
        violation=cast(Any, np.asarray([a.violation for a in answers], np.float32)),
        cost=cast(Any, np.asarray([a.cost for a in answers], np.float32)),
        status=cast(Any, np.asarray([a.status for a in answers], np.int32)),
        reward=cast(Any, np.full(len(answers), np.nan, np.float32)),
        limited=cast(Any, limited_of(answers, limits) if limits else None),
    )
    return found


def limited_of(answers: list[Answer], limits: int) -> np.ndarray:
    """Returns the values of the limited metrics, ``float32[n, K]``; NaN where none is."""
    none = np.full(limits, np.nan, np.float32)
    rows = [none if a.limited is None else a.limited for a in answers]
    return np.asarray(rows, np.float32).reshape(-1, limits)
