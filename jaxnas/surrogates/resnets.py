"""The surrogate of the analog-resnet space, fitted to networks that we trained ourselves.

The public table of that space holds no measurement (see
:mod:`jaxnas.data.tables.analognas_csv`), and IBM's predictors were fitted on it. These
labels are real trainings on digits, measured on simulated chips
(``data/tables/measured/README.md``).
"""

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
METRICS = {metric.name: metric for metric in files.metrics(TITLE)}


def measured_space() -> SearchSpace:
    """Returns the ranges and the images that the networks were drawn and built for."""
    return registry.make_space(
        "analog-resnet", groups=4, blocks=2, branches=2, image=(8, 8, 1), pool=4
    )


def measurements(objective: str | Sequence[str] = PREDICTED) -> Rows:
    """Returns what was measured of each network.

    Args:
        objective: names of metrics, several joined by commas or a sequence of them.

    Raises:
        UserError: an unknown metric, or a missing or altered file.
    """
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
    for real. Networks outside the measured ranges (four groups, two blocks, two branches)
    may be asked for and are flagged as extrapolation.

    Args:
        space: an analog-resnet space, variant ``ibm``; the measured ranges when None.
        objective: a metric or an alias, several joined by commas, or a sequence of them.

    Raises:
        UserError: an unknown metric, another space, or a missing or altered file.
    """
    names = _chosen(objective, PREDICTED)
    files.read(MODEL)
    return surrogate(files.path_of(MODEL), space, names)


def _chosen(objective: str | Sequence[str], known: tuple[str, ...]) -> tuple[str, ...]:
    """Returns names of metrics with aliases resolved."""
    aliases = {a: m.name for m in METRICS.values() for a in m.aliases}
    return choose(NAME, objective, known, aliases)
