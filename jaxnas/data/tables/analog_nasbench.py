"""AnalogNAS-Bench: 15,625 CIFAR-10 cells, digital and on simulated analog hardware.

The package ``analog-nasbench`` holds one pickle of two record classes. It is read without
importing the package, whose import needs modules that current installations lack.

Encoding of the wheel, and of :class:`jaxnas.spaces.nb201.NB201`: six tokens for the edges
1->2, 1->3, 1->4, 2->3, 2->4, 3->4, with 0 skip, 1 none, 2 conv 3x3, 3 conv 1x1, 4 average
pool 3x3. This is not the order of the NAS-Bench-201 architecture string.
"""

import functools
import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxnas.core.errors import UserError
from jaxnas.data.formats.unpickle import loads
from jaxnas.data.recipes import Arrays, Recipe, load
from jaxnas.data.tables.columns import Metric, Table

FILE = "analognasbench/data.anb"
RECORDS = frozenset(
    (("analognasbench.data", "Architecture"), ("analognasbench.data", "DriftMeasurement"))
)
_PLAIN = {
    "digital": ("baseline_accuracy", ("baseline",), "trained and run digitally"),
    "ptq": ("ptq_accuracy", (), "quantised after digital training"),
    "qat": ("qat_accuracy", (), "trained with quantisation in the loop"),
    "noisy": (
        "noisy_accuracy",
        (),
        "digitally trained and run on analog hardware, without retraining",
    ),
    "analog": ("analog_accuracy", (), "retrained for analog hardware and run on it"),
}
_TIMES = {"1min": 60, "1h": 3_600, "1day": 86_400, "1month": 2_592_000}
_LONG = {"1min": "minute", "1h": "hour", "1day": "day", "1month": "month (30 days)"}


def _metrics() -> tuple[tuple[Metric, str], ...]:
    """Returns the 13 metrics, each with the attribute of the wheel that holds it."""
    rows = []
    for name, (attribute, more, text) in _PLAIN.items():
        text, aliases = f"CIFAR-10 accuracy, {text}", (attribute, *more)
        rows.append((Metric(name, "%", text, aliases=aliases), attribute))
    for network, prefix in (("noisy", "baseline_drift"), ("analog", "analog_drift")):
        more = "noisy_drift" if network == "noisy" else "analog_drift"
        for label, seconds in _TIMES.items():
            attribute = f"{prefix}_{seconds}"
            aliases = tuple(dict.fromkeys((attribute, f"{more}_{seconds}")))
            time = f"one {_LONG[label]} of drift"
            text = f"CIFAR-10 accuracy of the {network} network after {time}"
            metric = Metric(f"{network}_{label}", "%", text, aliases=aliases)
            rows.append((metric, attribute))
    return tuple(rows)


METRICS = _metrics()


def convert(contents: Mapping[str, bytes]) -> Arrays:
    """Returns ``scores``, ``spread``, ``float64[15625, 13]``; UserError on bad records."""
    records = loads(contents[FILE], FILE, RECORDS)
    rows = list(itertools.product(range(5), repeat=6))
    try:
        pairs = np.array([_pairs(records[row]) for row in rows])
        complete = len(records) == len(rows) and np.isfinite(pairs).all()
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"The file {FILE} lacks records of some architectures.") from error
    if not complete:
        raise UserError(f"The file {FILE} does not hold exactly the 15,625 records.")
    return {"scores": pairs[..., 0].copy(), "spread": pairs[..., 1].copy()}


def _pairs(record: Any) -> list[tuple[float, float]]:
    values = [getattr(record, attribute) for _, attribute in METRICS]
    return [(v, 0.0) if isinstance(v, float) else (v.value, v.uncertainty) for v in values]


RECIPE = Recipe(
    name="analog-nasbench",
    distribution="analog-nasbench",
    release="0.1.3",
    files=((FILE, "85f3435b877aa2d36268d55ce07f6ff6d73643d17a840f1941745da5eb80db32"),),
    content_sha256="9ea92f01718a722d8db323a3df246faedaf2b4442bfab6155a818006f742e5bf",
    convert=convert,
    install="pip install analog-nasbench==0.1.3",
    licence="Apache-2.0 (upstream repository; the wheel's metadata names none)",
    citation="AnalogNAS-Bench, arXiv:2506.18495",
    homepage="https://arxiv.org/abs/2506.18495",
)

CAVEATS = (
    "All columns whose names begin with analog come from one training run, as do noisy "
    "and its drift, so they must not serve to check one another. The numbers are "
    "simulations of analog hardware, not measurements of a chip."
)


@functools.cache
def table() -> Table:
    """Returns the table; UserError where the package is missing, damaged or altered."""
    arrays = load(RECIPE)
    return Table(
        id="analog-nasbench-v1",
        space="nb201-v1",
        metrics=tuple(metric for metric, _ in METRICS),
        scores=arrays["scores"],
        spread=arrays["spread"],
        seconds={},
        per_seed={},
        facts={**RECIPE.facts(), "trainings": "1", "caveats": CAVEATS},
    )
