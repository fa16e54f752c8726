"""The surrogate of the analog-resnet space, fitted to networks that we trained ourselves.

The public table of that space holds no measurement (see
:mod:`jaxnas.data.tables.analognas_csv`), and IBM's predictors were fitted on it. These
labels are real trainings on digits, measured on simulated chips
(``data/tables/measured/README.md``).
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from jaxnas import registry
from jaxnas.core.space import SearchSpace
from jaxnas.data.tables import measured_files as files
from jaxnas.oracles.metrics import choose
from jaxnas.surrogates.fit import Rows
from jaxnas.surrogates.open import surrogate
from jaxnas.surrogates.oracle import Surrogate

NAME = "digits-resnets"
TITLE = "scikit-learn digits"
MODEL = f"{NAME}-surrogate"
PREDICTED = (
    "digital", *(f"analog_{time}" for time in files.TIMES), "analog_1month_sd", "avm",
)  # fmt: skip
"""What the surrogate predicts; the costs are exact and need none (oracle ``cost``)."""
BEST_TENTH = {
    "digital": "0.062 [-0.171, 0.282]",
    "analog_1min": "-0.196 [-0.493, 0.113]",
    "analog_1h": "-0.064 [-0.290, 0.196]",
    "analog_1day": "0.035 [-0.223, 0.279]",
    "analog_1month": "0.031 [-0.178, 0.293]",
    "analog_1month_sd": "0.034 [-0.234, 0.335]",
    "avm": "0.144 [-0.089, 0.369]",
}
"""Kendall's tau among the best tenth of networks that no fit saw: the order is noise there
(``experiments/05_resnets/results/resnets.md``)."""
METRICS = {metric.name: metric for metric in files.metrics(TITLE)}


def measured_space() -> SearchSpace:
    """Returns the ranges and the images that the networks were drawn and built for."""
    sizes = {"groups": 4, "blocks": 2, "branches": 2, "pool": 4}
    return registry.make_space("analog-resnet", image=(8, 8, 1), **sizes)


def measurements(objective: str | Sequence[str] = PREDICTED) -> Rows:
    """Returns what was measured of each network; UserError on an unknown metric."""
    names = _chosen(objective, tuple(METRICS))
    arrays = files.read(NAME)
    return Rows(
        arrays["tokens"].astype(np.int32),
        np.stack([arrays[f"metric:{n}"] for n in names], axis=1).astype(np.float64),
        tuple(METRICS[n].as_objective() for n in names),
    )


def digits_resnets(
    space: SearchSpace | None = None, objective: str | Sequence[str] = "analog_1month"
) -> Surrogate:
    """Analog-resnet on digits: a surrogate of 354 networks that we trained and measured.

    A prediction, not a look-up, and optimistic about what a search picks by it: train that
    for real. After a month it orders networks that it has not seen with a Kendall tau of
    0.73, but their best tenth with 0.03. Networks outside the measured ranges (four groups,
    two blocks, two branches) may be asked for and are flagged as extrapolation.

    Args:
        space: an analog-resnet space, variant ``ibm``; the measured ranges when None.
        objective: a metric or an alias, several joined by commas, or a sequence of them.

    Raises:
        UserError: an unknown metric, another space, or a missing or altered file.
    """
    names = _chosen(objective, PREDICTED)
    files.read(MODEL)
    made = surrogate(files.path_of(MODEL), space, names)
    tenth = [
        (
            f"held out, best tenth: {name}",
            f"Kendall tau {tau}: it does not say which of the best is the best",
        )
        for name, tau in BEST_TENTH.items()
    ]
    return dataclasses.replace(made, remarks=tuple(tenth))


def _chosen(objective: str | Sequence[str], known: tuple[str, ...]) -> tuple[str, ...]:
    aliases = {a: m.name for m in METRICS.values() for a in m.aliases}
    return choose(NAME, objective, known, aliases)
