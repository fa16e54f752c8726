"""Exports a network: each format is written, read back and compared before it counts.

A format's folder appears whole, after it was verified, or not at all.
"""

import hashlib
import importlib.metadata
import json
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxnas.analog import config, convertible
from jaxnas.analog.bridge import jobs
from jaxnas.children.build import build
from jaxnas.children.count import count_costs
from jaxnas.children.weights import from_arrays
from jaxnas.core.errors import DiskFullError, JaxnasError, UserError, unknown_name
from jaxnas.handoff import formats as ef
from jaxnas.handoff.source import FORMAT, INITIAL, MANIFEST, TRAINED, Candidate

NUM_IMAGES = 32  # fixed images, uniform in [0, 1], or texts, that logits are compared on
TEST_IMAGES = 1000  # most labelled images that go beside an analog network
Callback = Callable[[dict[str, Any]], None]


class Outcome(NamedTuple):
    """What became of one format."""

    kind: str
    folder: Path
    difference: float | None
    """Largest difference of a logit over the largest logit or 1; None where it failed."""
    error: JaxnasError | None


def check_request(out: str | Path, kinds: Sequence[str], overwrite: bool) -> None:
    """Refuses what cannot be exported, before anything is trained.

    Raises:
        UserError: an unknown format, one named twice, none, or one that is there already.
    """
    if not kinds:
        raise UserError(f"Name at least one format of: {', '.join(ef.FORMATS)}.")
    for kind in kinds:
        if kind not in ef.FORMATS:
            raise unknown_name("format", kind, ef.FORMATS)
        if kinds.count(kind) > 1:
            raise UserError(f"The format {kind!r} is named twice; name it once.")
        if (Path(out) / kind).exists() and not overwrite:
            raise UserError(
                f"{Path(out) / kind} is there already; choose another --out, or replace it "
                "with --overwrite."
            )


def export(
    candidate: Candidate,
    out: str | Path,
    kinds: Sequence[str],
    *,
    python: str = sys.executable,
    overwrite: bool = False,
    preset: str = "ibm-benchmark",
    callback: Callback = lambda event: None,
) -> list[Outcome]:
    """Exports a network to ``OUT/FORMAT`` and returns what became of each format.

    A format that fails leaves nothing; the others stay.

    Args:
        candidate: the network.
        out: folder of one folder a format.
        kinds: formats of :data:`jaxnas.handoff.formats.FORMATS`.
        python: interpreter with torch, onnx and aihwkit.
        overwrite: replace formats that are there, after the new one was verified.
        preset: of the chip, where the weights were not tuned for one.
        callback: called with ``{"event": "written", "format", "folder"}`` before a format
            is read back, and with ``{"event": "done", "outcome"}`` after it.

    Raises:
        UserError: as :func:`check_request`; weights of another network.
    """
    check_request(out, kinds, overwrite)
    made = []
    for kind in kinds:
        target = Path(out) / kind
        part = Path(out) / f".{kind}.part-{os.getpid()}"
        try:
            part.mkdir(parents=True)
            gap = _verified(candidate, kind, part, python, preset, callback)
            _move(part, target)
            made.append(Outcome(kind, target, gap, None))
        except JaxnasError as error:
            made.append(Outcome(kind, target, None, error))
        except (FileExistsError, NotADirectoryError, PermissionError) as error:
            refused = UserError(f"Nothing can be written to {out}: {error.strerror}.")
            made.append(Outcome(kind, target, None, refused))
        except OSError as error:
            full = DiskFullError(
                f"The {kind} export could not be written to {out}: {error.strerror}; free "
                "some space."
            )
            made.append(Outcome(kind, target, None, full))
        finally:
            shutil.rmtree(part, ignore_errors=True)
        callback({"event": "done", "outcome": made[-1]})
    return made


def _verified(
    candidate: Candidate,
    kind: str,
    part: Path,
    python: str,
    preset: str,
    callback: Callback,
) -> float:
    """Writes a format into a folder, reads it back and returns the difference."""
    convertible.check_spec(candidate.spec, kind)
    form, child = ef.FORMATS[kind], build(candidate.spec)
    arrays, ranges, weights = candidate.arrays, {}, candidate.state
    job = jobs.job_of(config.preset(preset))
    if kind == "aihwkit" and candidate.tuned is not None:
        arrays, ranges = jobs.split_ranges(candidate.tuned)
        weights, job = "hardware-aware", candidate.job or job
    variables = from_arrays(child, arrays)
    (inputs,) = candidate.spec["inputs"].values()
    rng = np.random.default_rng(0)
    images = _inputs(rng, inputs)
    logits = ef.reference(child, variables, images)
    np.savez(part / ef.CHECK, images=images, logits=logits)
    if kind == "aihwkit" and candidate.test is not None:
        first = {k: v[:TEST_IMAGES] for k, v in candidate.test.items()}
        test: dict[str, Any] = {k: np.asarray(v, np.float32) for k, v in first.items()}
        np.savez(part / "test.npz", **test)
    ef.copy_loaders(kind, part)
    work = ef.Work(child, arrays, ranges, job, part, images, logits, python)
    written = form.write(work)
    callback({"event": "written", "format": kind, "folder": str(part)})
    found = form.read(work, written)
    gap = ef.difference(kind, found.pop("logits"), logits)
    facts = {
        "format": FORMAT,
        "kind": kind,
        "content": form.content,
        "weights": weights,
        "note": _note(weights, bool(ranges), kind),
        "space": candidate.spec.get("space"),
        "input": _input(form.layout, inputs["shape"]),
        "facts": candidate.facts,
        **count_costs(candidate.spec)._asdict(),
        "verified": {
            "images": NUM_IMAGES,
            "largest_difference": gap,
            "tolerance": ef.TOLERANCE,
            "of": "the largest logit, or 1 where that is below 1",
            **found,
        },
        "details": written,
        "versions": _versions(),
        "files": {
            path.name: {"sha256": _sha256(path), "bytes": path.stat().st_size}
            for path in sorted(part.iterdir())
        },
    }
    (part / MANIFEST).write_text(json.dumps(facts, indent=1))
    return gap


def _inputs(rng: np.random.Generator, kind: dict[str, Any]) -> np.ndarray:
    """Returns ``float32[NUM_IMAGES, *shape]``: pixels, or ids of texts of all lengths."""
    size = (NUM_IMAGES, *kind["shape"])
    if kind["kind"] != "text":
        return rng.uniform(size=size).astype(np.float32)
    ids = rng.integers(1, kind["vocabulary"], size)
    ends = rng.integers(1, size[1] + 1, NUM_IMAGES)
    return np.where(np.arange(size[1]) < ends[:, None], ids, 0).astype(np.float32)


def _input(layout: str, shape: Sequence[int]) -> dict[str, Any]:
    """Returns layout and shape of a batch of inputs, as the exported network takes it."""
    if len(shape) != 3:
        return {"layout": "NF", "shape": ["batch", *shape]}
    sides = dict(zip("HWC", shape, strict=True))
    return {"layout": layout, "shape": ["batch", *(sides[axis] for axis in layout[1:])]}


def _note(weights: str, ranges: bool, kind: str) -> str:
    """Returns what a stranger must know of the weights."""
    notes = {
        INITIAL: "Initial weights: nothing was trained, accuracies are those of chance.",
        TRAINED: "Trained digitally.",
        "hardware-aware": "After hardware-aware training in aihwkit.",
    }
    note = notes.get(weights, "Where these weights come from is not known.")
    if kind == "aihwkit" and not ranges:
        note += " Input ranges were not learned: each is aihwkit's initial one."
    return note


def _move(part: Path, target: Path) -> None:
    """Puts a verified folder in its place; one that is there goes once the new stands."""
    old = target.with_name(f"{part.name}.old")
    if target.exists():
        os.replace(target, old)
    try:
        os.replace(part, target)
    except OSError:
        if old.exists():
            os.replace(old, target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _versions() -> dict[str, str]:
    found = {"python": sys.version.split()[0]}
    for name in ("jaxnas", "jax", "flax", "torch", "aihwkit", "onnx", "safetensors"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
