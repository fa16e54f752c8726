"""The files of our own measurements, which come with the package.

What was done, and what the numbers can carry, is in ``measured/README.md`` beside this
file; ``experiments/04_cells`` and ``experiments/05_resnets`` make the files again. Of
``n`` trained architectures:

    tokens          int8[n, L]     the architecture
    metric:NAME     float32[n]     see :func:`metrics`
    curve:NAME      float32[n, E]  learning curves, an epoch each
    chips           float32[n, draws, 4]   accuracy (%) of each chip at each time
    seconds         float32[n]     wall time of an evaluation, another one beside it
    again           int16[m]       rows that were trained with two other seeds
    again:NAME      float32[m, 3]  their metrics, by seed
    round           int8[n]        digits-resnets only: 0 for networks drawn at random, else
                                   the round of searches on the surrogate that found it
"""

import functools
from importlib import resources
from pathlib import Path

from jaxnas.core.errors import UserError
from jaxnas.data.formats.npz import content_checksum, read_npz
from jaxnas.data.recipes import Arrays
from jaxnas.data.tables.columns import Metric

CHECKSUMS = {
    "digits-cells": "a0d7b9817b1ba530bd9fe89b6b23601a0ffc29f567976d0f070d268106617275",
    "fashion-cells": "faa9464c61814ce9c6b28c22210d623514055ad1b523c1acc2e753cf8336f972",
    "digits-resnets": "e7ed5b07b77efc5fbc29fe6936f6465b10b1d96d5f631c0092c18012d4d6b02c",
    "digits-resnets-surrogate": (
        "e33eae595adf260896fedd49d4111c290aac14d94bc31d70aa300660e75d6959"
    ),
}
"""Name of a file -> ``content_checksum`` of its arrays."""
TIMES = {
    "1min": "a minute", "1h": "an hour", "1day": "a day", "1month": "a month (30 days)"
}  # fmt: skip
RUN = "training"


def metrics(title: str) -> tuple[Metric, ...]:
    """Returns what was measured on the images that are called ``title``."""
    chips, after = "analog validation accuracy", "after digital training"
    lower = functools.partial(Metric, maximise=False, run=RUN)
    names = ("val_accuracy", "baseline")
    spread = f"{title}: standard deviation over chips of the {chips} after"
    return (
        Metric("digital", "%", f"{title}: validation accuracy {after}", True, names, RUN),
        lower("val_loss", "nats", f"{title}: validation cross-entropy {after}"),
        *(
            Metric(f"analog_{name}", "%", f"{title}: mean {chips} after {time}", run=RUN)
            for name, time in TIMES.items()
        ),
        lower("avm", "% points", f"{title}: accuracy lost between a minute and a month"),
        *(lower(f"analog_{n}_sd", "% points", f"{spread} {t}") for n, t in TIMES.items()),
        Metric("params", "parameters", "trainable parameters, exact", maximise=False),
        Metric("flops", "FLOPs", "multiply-accumulates for one image", maximise=False),
        Metric("tiles", "tiles", "analog tiles of 512 x 512 that it fills", maximise=False),
    )


def path_of(name: str) -> str:
    """Returns where a file is."""
    return str(resources.files("jaxnas.data.tables").joinpath("measured", f"{name}.npz"))


def read(name: str) -> Arrays:
    """Returns verified, read-only arrays; UserError on a missing or altered file."""
    try:
        arrays = read_npz(Path(path_of(name)))
    except (OSError, ValueError) as error:
        raise damaged(name) from error
    if content_checksum(arrays) != CHECKSUMS[name]:
        raise damaged(name)
    for array in arrays.values():
        array.setflags(write=False)
    return arrays


def damaged(name: str) -> UserError:
    """Returns the error for a file that is not the released one."""
    return UserError(
        f"The table {name!r} that comes with jaxnas is missing or damaged; run: pip "
        "install --force-reinstall --no-deps jaxnas"
    )
