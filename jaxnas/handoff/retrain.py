"""Full trainings of the best architectures, beside networks that people draw.

Each network is trained several times, from other initial weights and in another order of
the images, and measured on the test images once, when it is done. The references are
trained by the same program with the same settings on the same images.
"""

import csv
import functools
import hashlib
import io
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.children import train as tr
from jaxnas.children.build import Child, build, canonical_text
from jaxnas.children.count import count_costs
from jaxnas.children.references import REFERENCES, reference
from jaxnas.core.errors import UserError, unknown_name
from jaxnas.core.ranges import COUNT, SEED, check
from jaxnas.core.rng import root_key
from jaxnas.core.types import Spec
from jaxnas.data.tasks import noun
from jaxnas.handoff.record import read_record, write_text
from jaxnas.oracles.child import ChildOracle

FORMAT = "jaxnas-retrain-1"
FILE, TABLE = "retrain.json", "retrain.csv"
Callback = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Retraining:
    """How often and on what; how a network is trained is the oracle's."""

    runs: int = 5  # trainings of each network
    train_on: str = "train+validation"
    seed: int = 0  # of the first training; the next has the next
    references: bool = (
        True  # whether the networks of children/references.py are trained too
    )
    width: int = 16  # channels of their first layer

    def __post_init__(self) -> None:
        if self.train_on not in ("train", "train+validation"):
            raise unknown_name("splits:", self.train_on, ("train", "train+validation"))
        check("runs", self.runs, COUNT)
        check("width", self.width, COUNT)
        check("The last seed", self.seed + self.runs - 1, SEED)


class Network(NamedTuple):
    """One network to be trained, and what is known of it."""

    name: str
    spec: Spec
    tokens: list[int] | None = None
    searched: Mapping[str, float] = {}
    """What the search knew of it, by metric."""


class Trained(NamedTuple):
    """What is left of the trainings of one network that came to their end."""

    accuracy: np.ndarray  # on the test images, %
    diverged: int  # trainings that did not

    @property
    def mean(self) -> float:
        """Mean test accuracy, %; NaN of none."""
        return float(np.mean(self.accuracy)) if len(self.accuracy) else math.nan

    @property
    def sd(self) -> float:
        """Standard deviation over trainings, points; NaN of fewer than two."""
        return float(np.std(self.accuracy, ddof=1)) if len(self.accuracy) > 1 else math.nan


def retrain(
    oracle: ChildOracle,
    candidates: Sequence[Network],
    out: str | Path,
    settings: Retraining,
    callback: Callback = lambda event: None,
) -> dict[str, Any]:
    """Returns what became of some networks and the references, and writes it to ``out``.

    ``retrain.json`` is written after each training and ``retrain.csv`` at the end. The same
    call again trains nothing twice: a training is known by its network, its data, its
    settings and its seed.

    Args:
        oracle: says how networks are trained, and on what.
        candidates: what was found; see :func:`found`.
        out: folder of the files; made when absent.
        settings: how often, on which splits.
        callback: called with an event before and after each training.

    Raises:
        UserError: a network that cannot be built, or a damaged ``retrain.json``.
        DiskFullError: a write failed; the file is as it was.
    """
    out = Path(out)
    networks = [*candidates, *_references(oracle, settings)]
    children = [build(network.spec) for network in networks]
    images, test = _images(oracle, settings.train_on)
    before = read_retraining(out) or {"trainings": {}}
    record: dict[str, Any] = {
        **_header(oracle, settings, len(images.x_train)),
        "networks": [_described(network) for network in networks],
        "trainings": dict(before["trainings"]),
    }
    for row, network in zip(record["networks"], networks, strict=True):
        seeds = range(settings.seed, settings.seed + settings.runs)
        row["keys"] = [_key(oracle, network.spec, record, seed) for seed in seeds]
    total, done = len(networks) * settings.runs, 0
    for row, child in zip(record["networks"], children, strict=True):
        for i, key in enumerate(row["keys"]):
            done += 1
            where = {"network": row["name"], "training": done, "of": total}
            known = record["trainings"].get(key)
            if known is None:
                callback({"event": "train", **where})
                known = _train(child, oracle, images, test, settings, settings.seed + i)
                record["trainings"][key] = known
                write_text(out / FILE, json.dumps(record, indent=1))
            callback({"event": "trained", **where, **known})
    write_text(out / FILE, json.dumps(record, indent=1))
    write_text(out / TABLE, as_csv(record))
    return record


def found(
    oracle: ChildOracle,
    tokens: Sequence[np.ndarray],
    searched: Sequence[Mapping[str, float]],
) -> list[Network]:
    """Returns the networks of architectures, ``int[L]`` each, best first.

    Raises:
        UserError: networks of this space cannot be built for the images.
    """
    rows = [np.asarray(row, np.int32) for row in tokens]
    return [
        Network(f"found {i + 1}", oracle.spec(row), row.tolist(), known)
        for i, (row, known) in enumerate(zip(rows, searched, strict=True))
    ]


def results(record: Mapping[str, Any], network: Mapping[str, Any]) -> Trained:
    """Returns the test accuracies of one network of a record."""
    made = [record["trainings"][key] for key in network["keys"]]
    good = [100 * one["test_accuracy"] for one in made if one["test_accuracy"] is not None]
    return Trained(np.asarray(good, np.float64), len(made) - len(good))


def read_retraining(folder: str | Path) -> dict[str, Any] | None:
    """Returns the record of a folder, or None where there is none.

    Raises:
        UserError: it is damaged or of another version.
    """
    mend = "move it away and run 'jaxnas retrain' again."
    return read_record(Path(folder) / FILE, FORMAT, mend, check=_check_keys)


def _check_keys(record: Mapping[str, Any]) -> None:
    for network in record["networks"]:
        [record["trainings"].get(key) for key in network["keys"]]


def as_csv(record: Mapping[str, Any]) -> str:
    """Returns a row for each training."""
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, lineterminator="\n")
    numbers = ("test_accuracy", "test_loss", "val_accuracy", "train_loss", "cpu_s")
    writer.writerow(["network", "tokens", "params", "flops", "seed", *numbers])
    for network in record["networks"]:
        tokens = " ".join(map(str, network["tokens"] or ()))
        for key in network["keys"]:
            made = record["trainings"].get(key)
            if made is not None:
                found = [
                    "" if made[name] is None else f"{made[name]:.9g}" for name in numbers
                ]
                facts = [network["name"], tokens, network["params"], network["flops"]]
                writer.writerow([*facts, made["seed"], *found])
    return stream.getvalue()


def _references(oracle: ChildOracle, settings: Retraining) -> list[Network]:
    data = oracle.images
    if not settings.references:
        return []
    if noun(data) == "text":
        raise UserError(
            f"The references are networks for images, and {data.name!r} holds texts; leave "
            "them out with --no-references."
        )
    height, width, channels = data.x_train.shape[1:]
    return [
        Network(
            name,
            reference(name, (height, width, channels), data.num_classes, settings.width),
        )
        for name in REFERENCES
    ]


def _header(oracle: ChildOracle, settings: Retraining, used: int) -> dict[str, Any]:
    """Returns what all trainings of a record share."""
    return {
        "format": FORMAT,
        "data": oracle.images.name,
        "data_checksum": oracle.data_checksum,
        "train_on": settings.train_on,
        "train_images": used,
        "test_images": len(oracle.images.x_test),
        "training": asdict(oracle.training(0)),
        "hparams": {n: float(v) for n, v in oracle.hparams._asdict().items()},
        "runs": settings.runs,
        "seed": settings.seed,
    }


def _described(network: Network) -> dict[str, Any]:
    costs = count_costs(network.spec)
    return {
        "name": network.name,
        "tokens": network.tokens,
        "searched": dict(network.searched),
        **costs._asdict(),
    }


def _key(oracle: ChildOracle, spec: Spec, header: Mapping[str, Any], seed: int) -> str:
    """Returns the identity of a training: everything that its numbers depend on."""
    shared = ("data_checksum", "train_on", "training", "hparams")
    # Two spaces may give the same network: its nodes decide and not whose it is.
    facts = [canonical_text({**spec, "space": ""}), [header[n] for n in shared], seed]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]


def _images(oracle: ChildOracle, train_on: str) -> tuple[tr.Images, tuple[Any, Any]]:
    """Returns what is trained on, and the test images with their labels."""
    data = oracle.images
    x, y = data.x_train, data.y_train
    if train_on == "train+validation":
        x, y = np.concatenate([x, data.x_val]), np.concatenate([y, data.y_val])
    images = tr.Images(*map(jnp.asarray, (x, y, data.x_val, data.y_val)))
    return images, (jnp.asarray(data.x_test), jnp.asarray(data.y_test))


def _train(
    child: Child,
    oracle: ChildOracle,
    images: tr.Images,
    test: Any,
    settings: Retraining,
    seed: int,
) -> dict[str, Any]:
    """Returns the outcome of one training; None for numbers of one that diverged."""
    begun = time.process_time()
    training = oracle.training(0)
    key = jax.random.key(seed, impl="rbg"), jax.random.fold_in(root_key(seed), 1)
    curves, loss, accuracy = _program(
        *key, images, test, oracle.hparams, module=child, training=training
    )
    finite = np.isfinite(np.asarray([*curves.train_loss, loss])).all()
    unseen = finite and settings.train_on == "train"  # else it was trained on them
    return {
        "seed": seed,
        "test_accuracy": float(accuracy) if finite else None,
        "test_loss": float(loss) if finite else None,
        "val_accuracy": float(curves.val_accuracy[-1]) if unseen else None,
        "train_loss": float(curves.train_loss[-1]) if finite else None,
        "cpu_s": time.process_time() - begun,
    }


@functools.partial(jax.jit, static_argnames=("module", "training"))
def _program(
    start: Any,
    key: Any,
    images: tr.Images,
    test: Any,
    hparams: tr.Hparams,
    *,
    module: Child,
    training: tr.Training,
) -> tuple[tr.Curves, Any, Any]:
    """Returns learning curves, and loss and accuracy on the test images at the end."""
    variables = module.init(start, images.x_train[:1])
    forward = tr.forward_of(module)
    variables, curves = tr.fit(forward, variables, images, key, training, hparams)
    loss, accuracy = tr.evaluate(forward, variables, *test)
    return curves, loss, accuracy
