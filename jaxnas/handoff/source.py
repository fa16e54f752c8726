"""Where the network of an export comes from: a training, a folder, or initial weights."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.analog.bridge import jobs
from jaxnas.children.build import build
from jaxnas.children.weights import SPEC_FILE, WEIGHTS_FILE, load_network, to_arrays
from jaxnas.core.errors import UserError
from jaxnas.core.space import Imaged, SearchSpace, Textual
from jaxnas.core.types import Spec
from jaxnas.data.formats.npz import read_npz
from jaxnas.data.tasks import Task, built_for
from jaxnas.handoff.validate import read_validation
from jaxnas.oracles.child import ChildOracle

FORMAT = "jaxnas-export-1"
MANIFEST = "manifest.json"
INITIAL, TRAINED, UNKNOWN = "initial", "trained", "unknown"


class Candidate(NamedTuple):
    """A network with its weights and what is known of it."""

    spec: Spec
    arrays: dict[str, np.ndarray]  # digital weights under the interchange's names
    state: str
    """``"trained"``, ``"initial"``, or ``"unknown"`` for a folder that does not say."""
    facts: dict[str, Any]  # tokens and measurements, for the manifest
    tuned: dict[str, np.ndarray] | None = None
    """Weights after hardware-aware training, with ``PATH.input_range`` of each tile."""
    job: dict[str, Any] | None = None  # settings of the chip that they were tuned for
    test: dict[str, np.ndarray] | None = None  # ``x_test`` and ``y_test``


def initial(
    space: SearchSpace,
    tokens: np.ndarray,
    seed: int = 0,
    size: Mapping[str, int] | None = None,
    data: Task | None = None,
) -> Candidate:
    """Returns an architecture, ``int[L]``, with initial weights: nothing was learned.

    ``size`` holds sizes that are not searched and ``data`` is the task that inputs and
    classes are of; left out, they are those of the space. The seed is that of the weights.

    Raises:
        UserError: tokens, a size or a task that the space refuses.
    """
    if data is not None:
        space = built_for(space, data, **(size or {}))
    elif size:
        space = _resized(space, space.to_spec(np.asarray(tokens)), size)
    spec = space.to_spec(np.asarray(tokens))
    child = build(spec)
    (kind,) = spec["inputs"].values()
    key = jax.random.key(seed, impl="rbg")  # compiles in a tenth of the time
    x = jnp.zeros((1, *kind["shape"]), jnp.float32)
    arrays = to_arrays(jax.tree.map(np.asarray, jax.jit(child.init)(key, x)))
    facts = {"tokens": [int(t) for t in tokens], "seed": seed}
    return Candidate(spec, arrays, INITIAL, facts)


def _resized(space: SearchSpace, spec: Spec, size: Mapping[str, int]) -> SearchSpace:
    """Returns a space for the inputs and classes that a spec of it has."""
    (own,), (out,) = spec["inputs"].values(), spec["outputs"].values()
    if own["kind"] == "text" and isinstance(space, Textual):
        words = own["shape"][0], own["vocabulary"]
        return space.for_texts(*words, out["shape"][0], **size)
    if own["kind"] == "image" and isinstance(space, Imaged):
        return space.for_images(tuple(own["shape"]), out["shape"][0], **size)
    raise UserError(f"The networks of {space.id!r} have one size; leave out --size.")


def trained(oracle: ChildOracle, tokens: np.ndarray) -> Candidate:
    """Returns an architecture trained as the oracle trains, with its test inputs.

    Raises:
        UserError: the training diverged, or the network cannot be built.
    """
    child, variables, curves = oracle.train(np.asarray(tokens))
    if not np.isfinite(curves.train_loss).all():
        raise UserError(
            f"The training of {tuple(int(t) for t in tokens)} diverged; use a smaller step "
            "size."
        )
    data = oracle.images
    facts = {
        "tokens": [int(t) for t in tokens],
        "oracle": oracle.id,
        "seed": oracle.seed,
        "data": data.name,
        "data_checksum": data.checksum,
        "val_accuracy": float(curves.val_accuracy[-1]),
    }
    test = {"x_test": data.x_test, "y_test": data.y_test}
    return Candidate(child.spec, to_arrays(variables), TRAINED, facts, test=test)


def from_folder(folder: str | Path) -> Candidate:
    """Returns the network of a folder: a validated candidate, or an exported ``spec``.

    Raises:
        UserError: it holds no network, or a damaged one.
    """
    folder = Path(folder)
    child, variables = load_network(folder)
    arrays, facts, state = to_arrays(variables), {}, UNKNOWN
    training, manifest = _json(folder / "training.json"), _json(folder / MANIFEST)
    if training is not None:
        facts, state = {"training": training, **_of_validation(folder)}, TRAINED
    elif manifest is not None and manifest.get("format") == FORMAT:
        facts, state = dict(manifest["facts"]), str(manifest["weights"])
    tuned = job = test = None
    try:
        if (folder / "weights_hwa.npz").exists() and (folder / "metrics.json").exists():
            metrics = jobs.read_metrics(folder)
            tuned, job = read_npz(folder / "weights_hwa.npz"), _json(folder / "job.json")
            facts["aihwkit"] = {
                "times": metrics.times,
                "accuracy": metrics.accuracy.tolist(),
                **{k: metrics.facts[k] for k in ("torch", "aihwkit")},
            }
        if (folder / "data.npz").exists():
            data = read_npz(folder / "data.npz")
            test = {name: data[name] for name in ("x_test", "y_test")}
    except (OSError, ValueError, KeyError) as error:
        raise UserError(
            f"{folder} is a damaged validation; run 'jaxnas validate' again."
        ) from error
    return Candidate(child.spec, arrays, state, facts, tuned, job, test)


def is_network(folder: Path) -> bool:
    """Returns whether a folder holds a saved network."""
    return (folder / SPEC_FILE).is_file() and (folder / WEIGHTS_FILE).is_file()


def _of_validation(folder: Path) -> dict[str, Any]:
    """Returns what the validation around a candidate's folder knows of it."""
    record = read_validation(folder.parent) or {"candidates": []}
    for row in record["candidates"]:
        if row["folder"] == folder.name:
            shared = {name: record[name] for name in ("data", "data_checksum", "oracle")}
            return {"tokens": row["tokens"], **shared, "searched": row.get("searched", {})}
    return {}


def _json(path: Path) -> dict[str, Any] | None:
    """Returns a JSON object of a file, or None where there is none.

    Raises:
        UserError: it is damaged.
    """
    if not path.exists():
        return None
    try:
        found = json.loads(path.read_text())
        if not isinstance(found, dict):
            raise ValueError("it holds no JSON object")
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path} is damaged or cannot be read; run 'jaxnas validate' again."
        ) from error
    return found
