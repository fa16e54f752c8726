"""The store as a running search sees it: whatever it does, no result is lost."""

from collections.abc import Callable
from typing import Any

import numpy as np

from jaxnas.core.errors import JaxnasError
from jaxnas.core.types import Measurement
from jaxnas.core.version import VERSION
from jaxnas.data.store.evaluations import Key, Record, Store


class StoreAccess:
    """Reads and writes measurements; what cannot be written is said once and tried again.

    ``store`` is an open one, or None to store nothing.
    """

    def __init__(self, store: Store | None, warn: Callable[[str], None]) -> None:
        self.store, self.warn = store, warn
        self.problems: list[str] = []
        self.conflicts = 0
        self._waiting: list[Record] = []

    def get(self, key: Key) -> Measurement | None:
        """Returns the measurement that is stored for a key, or None."""
        if self.store is None:
            return None
        try:
            record = self.store.get(key)
        except JaxnasError as error:
            self._say(f"{error} The search goes on without what is stored there.")
            return None
        if record is None:
            return None
        return Measurement(
            record.metrics, record.curves, record.seconds, record.status, record.message
        )

    def put(self, key: Key, tokens: np.ndarray, found: Measurement) -> None:
        """Stores a measurement, and what could not be stored before it."""
        if self.store is None:
            return
        row = tuple(int(token) for token in tokens)
        self._waiting.append(Record(key, row, *found, version=VERSION))
        self.flush()

    def flush(self) -> None:
        """Writes what is waiting, until the store refuses."""
        while self.store is not None and self._waiting:
            try:
                outcome = self.store.put(self._waiting[0])
            except JaxnasError as error:
                self._say(
                    f"{error} The search goes on and uses the result; it is written as "
                    "soon as the store can be."
                )
                return
            self._waiting.pop(0)
            if outcome == "conflict":
                self.conflicts += 1
                self._say(
                    f"{self.store.path} holds another result for the same evaluation than "
                    "this run made; the first stays, see how many in provenance.json."
                )

    def _say(self, text: str) -> None:
        if text not in self.problems:
            self.problems.append(text)
            self.warn(text)

    def summary(self) -> dict[str, Any]:
        """Returns which store it is and what went wrong with it."""
        return {
            "store": None if self.store is None else str(self.store.path),
            "not_stored": len(self._waiting),
            "conflicts": self.conflicts,
            "problems": list(self.problems),
        }
