"""Making a file of measurements (:mod:`jaxnas.data.tables.measured_files`) from a store."""

from collections.abc import Sequence
from typing import cast

import numpy as np
from jaxtyping import Int

from jaxnas.core import tokens as tk
from jaxnas.core.errors import UserError
from jaxnas.core.oracle import Measuring, Oracle
from jaxnas.data.recipes import Arrays
from jaxnas.data.store.evaluations import Key, Record, Store
from jaxnas.data.tables.measured_files import TIMES, metrics

STORED = {"digital": "val_accuracy"}
"""Name of a metric -> its name in an evaluation store, where they differ."""
CURVES = ("train_loss", "val_loss", "val_accuracy", "hwa_loss")
COSTS = ("params", "flops", "tiles")
"""Metrics that a seed does not change."""


def collect(store: Store, oracle: Oracle, rows: Int[np.ndarray, "n L"]) -> list[Record]:
    """Returns one full measurement a row; UserError where one is missing or failed."""
    records, source = [], cast(Measuring, oracle)
    for row in rows:
        digest = tk.digest_host(oracle.space, row)
        key = Key(oracle.id, digest, 0, source.seed, source.data_checksum)
        record = store.get(key)
        if record is None or record.status:
            raise UserError(
                f"The store holds no good measurement of {row.tolist()} with seed "
                f"{source.seed}; run the script that trains until it is through."
            )
        records.append(record)
    return records


def column(name: str, of: Sequence[Record]) -> list[float]:
    """Returns one metric of records, by its name in the file."""
    return [record.metrics[STORED.get(name, name)] for record in of]


def pack(
    records: Sequence[Record],
    again: Int[np.ndarray, "m"],
    others: Sequence[Sequence[Record]],
) -> Arrays:
    """Returns the arrays of a file of measurements."""
    names = [metric.name for metric in metrics("")]
    by_seed = [[records[row] for row in again], *others]

    def table(rows: Sequence[Sequence[float]]) -> np.ndarray:
        return np.array(rows, np.float32)

    chips = table([record.curves["chips"] for record in records])
    return {
        "tokens": np.array([record.tokens for record in records], np.int8),
        **{f"metric:{n}": table([column(n, records)])[0] for n in names},
        **{f"curve:{n}": table([r.curves[n] for r in records]) for n in CURVES},
        "chips": chips.reshape(len(records), -1, len(TIMES)),
        "seconds": table([[r.seconds for r in records]])[0],
        "again": again.astype(np.int16),
        **{
            f"again:{n}": table([column(n, of) for of in by_seed]).T
            for n in names
            if n not in COSTS and not n.endswith("_sd")
        },
    }
