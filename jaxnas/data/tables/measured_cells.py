"""Tables of cells that we trained ourselves, shipped with the package.

Every residual nb201 cell (:mod:`jaxnas.spaces.nb201_residual`) trained on one small image
task, digitally and then hardware-aware, and measured on simulated analog chips. One
training stands for all cells that are the same network. What was done, and what the
numbers can carry, is in ``measured/README.md`` beside this file.

    cell            int16[3125]    row of each architecture, in lexicographic order

and what every file of measurements holds (:mod:`jaxnas.data.tables.measured_files`), with
``n = 1,218``.
"""

import functools

import numpy as np

from jaxnas.data.tables.columns import Table
from jaxnas.data.tables.measured_files import CHECKSUMS, RUN, metrics, read

SPACE = "nb201-residual-v1"
TITLES = {
    "digits-cells": "scikit-learn digits",
    "fashion-cells": "Fashion-MNIST, 8 x 8 pixels, 1,500 training images",
}
"""Name of a table -> what its images are called."""


@functools.cache
def table(name: str) -> Table:
    """Returns a table with one row for each architecture of the space.

    The spread of an accuracy is that of one training, pooled over the cells that were
    trained with three seeds; costs and spreads have none.

    Raises:
        UserError: the file is missing or not the one that was released.
    """
    arrays = read(name)
    columns, cell = metrics(TITLES[name]), arrays["cell"]
    scores = [arrays[f"metric:{metric.name}"] for metric in columns]
    spread = np.zeros(len(columns))
    per_seed = {}
    for place, metric in enumerate(columns):
        seeds = arrays.get(f"again:{metric.name}")
        if seeds is not None:
            spread[place] = np.sqrt(seeds.astype(np.float64).var(axis=1, ddof=1).mean())
            all_seeds = np.full((len(arrays["tokens"]), seeds.shape[1]), np.nan)
            all_seeds[:, 0] = scores[place]
            all_seeds[arrays["again"]] = seeds
            per_seed[metric.name] = all_seeds[cell]
    by_row = np.stack(scores, axis=1).astype(np.float64)[cell]
    return Table(
        id=f"{name}-v1",
        space=SPACE,
        metrics=columns,
        scores=by_row,
        spread=np.broadcast_to(spread, by_row.shape),
        seconds={RUN: arrays["seconds"].astype(np.float64)[cell]},
        per_seed=per_seed,
        facts={
            "source": "measured by jaxnas (experiments/04_cells), analog by its simulator",
            "licence": "Apache-2.0",
            "trained cells": str(len(arrays["tokens"])),
            "checksum": f"sha256 {CHECKSUMS[name]}",
        },
    )
