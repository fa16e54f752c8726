"""Tables of cells that we trained ourselves, shipped with the package.

Every residual nb201 cell (:mod:`jaxnas.spaces.nb201_residual`) trained on one small image
task, digitally and then hardware-aware, and measured on simulated analog chips. One
training stands for all cells that are the same network. What was done, and what the
numbers can carry, is in ``measured/README.md`` beside this file; ``experiments/04_cells``
makes the files again.

    cell            int16[3125]    row of each architecture, in lexicographic order
    tokens          int8[n, 5]     the cell that was trained, n = 1,218
    metric:NAME     float32[n]     see METRICS
    curve:NAME      float32[n, E]  learning curves, an epoch each
    chips           float32[n, draws, 4]   accuracy (%) of each chip at each time
    seconds         float32[n]     wall time of an evaluation, another one beside it
    again           int16[m]       rows that were trained with two other seeds
    again:NAME      float32[m, 3]  their metrics, by seed
"""

import functools
from importlib import resources

import numpy as np

from jaxnas.core.errors import UserError
from jaxnas.data.npz import read_npz
from jaxnas.data.recipes import Arrays, content_checksum
from jaxnas.data.tables import Metric, Table

SPACE = "nb201-residual-v1"
CHECKSUMS = {
    "digits-cells": "a0d7b9817b1ba530bd9fe89b6b23601a0ffc29f567976d0f070d268106617275",
    "fashion-cells": "faa9464c61814ce9c6b28c22210d623514055ad1b523c1acc2e753cf8336f972",
}
"""Name of a table -> ``content_checksum`` of its arrays."""
TITLES = {
    "digits-cells": "scikit-learn digits",
    "fashion-cells": "Fashion-MNIST, 8 x 8 pixels, 1,500 training images",
}
TIMES = {
    "1min": "a minute",
    "1h": "an hour",
    "1day": "a day",
    "1month": "a month (30 days)",
}
RUN = "training"


def metrics(title: str) -> tuple[Metric, ...]:
    """Returns the columns of a table whose images are called ``title``."""
    chips = "analog validation accuracy"
    analog = [
        Metric(f"analog_{name}", "%", f"{title}: mean {chips} after {time}", run=RUN)
        for name, time in TIMES.items()
    ]
    spreads = [
        Metric(
            f"analog_{name}_sd",
            "% points",
            f"{title}: standard deviation over chips of the {chips} after {time}",
            maximise=False,
            run=RUN,
        )
        for name, time in TIMES.items()
    ]
    digital = (
        Metric(
            "digital",
            "%",
            f"{title}: validation accuracy after digital training",
            aliases=("val_accuracy", "baseline"),
            run=RUN,
        ),
        Metric(
            "val_loss",
            "nats",
            f"{title}: validation cross-entropy after digital training",
            maximise=False,
            run=RUN,
        ),
    )
    lost = Metric(
        "avm",
        "% points",
        f"{title}: accuracy lost between a minute and a month",
        maximise=False,
        run=RUN,
    )
    costs = (
        Metric("params", "parameters", "trainable parameters, exact", maximise=False),
        Metric("flops", "FLOPs", "multiply-accumulates for one image", maximise=False),
        Metric("tiles", "tiles", "analog tiles of 512 x 512 that it fills", maximise=False),
    )
    return (*digital, *analog, lost, *spreads, *costs)


def read(name: str) -> Arrays:
    """Returns the arrays of a table, verified; see the head of this file.

    Args:
        name: a key of :data:`CHECKSUMS`.

    Raises:
        UserError: the file is missing or not the one that was released.
    """
    file = resources.files("jaxnas.data").joinpath("measured", f"{name}.npz")
    try:
        arrays = read_npz(file.read_bytes())
    except (OSError, ValueError) as error:
        raise _damaged(name) from error
    if content_checksum(arrays) != CHECKSUMS[name]:
        raise _damaged(name)
    for array in arrays.values():
        array.setflags(write=False)
    return arrays


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


def _damaged(name: str) -> UserError:
    return UserError(
        f"The table {name!r} that comes with jaxnas is missing or damaged; run: pip "
        "install --force-reinstall --no-deps jaxnas"
    )
