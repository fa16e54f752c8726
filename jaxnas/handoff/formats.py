"""The formats that a network is exported to: how each is written, and how it is read back.

What needs torch, onnx or aihwkit happens in processes of their own, started here; what they
read goes through the loader that lies beside the exported file.
"""

import functools
import importlib.util
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import export as jax_export
from jaxtyping import Float

from jaxnas.analog.bridge import jobs
from jaxnas.children import weights as cw
from jaxnas.children.build import Child, build, canonical_text
from jaxnas.core.convolution import native_convolutions
from jaxnas.core.errors import JaxnasError, UserError

BRIDGE = jobs.RUNNER.parent
EXPORTER = BRIDGE / "exporter.py"
CHECK = "check.npz"
PLATFORMS = ("cpu", "cuda", "rocm", "tpu")
TOLERANCE = 1e-4  # of a logit, times the largest logit where that is above 1
TIMEOUT_S = 900.0
INSTALL = {
    "torch": jobs.INSTALL.partition(" numpy")[0],
    "aihwkit": jobs.INSTALL,
    "onnx": 'pip install "jaxnas[export]"',
    "safetensors": 'pip install "jaxnas[export]"',
}


class Work(NamedTuple):
    """One export under way."""

    child: Child
    arrays: dict[str, np.ndarray]  # weights under the interchange's names
    ranges: dict[str, np.ndarray]
    """Input range of each tile by ``PATH.input_range``; may be empty."""
    job: dict[str, Any]  # how the chip is, for aihwkit
    folder: Path  # where the files go; temporary until they are verified
    images: Float[np.ndarray, "n ..."]
    logits: Float[np.ndarray, "n classes"]  # what the flax network says of the images
    python: str


Answer = dict[str, Any]


@dataclass(frozen=True)
class Format:
    """How a format is written and read."""

    content: str  # what a person finds in the folder
    write: Callable[[Work], Answer]  # what it returns goes into the manifest
    read: Callable[[Work, Answer], Answer]
    """Returns at least ``logits``, in a fresh process unless the format is jaxnas's own."""
    copied: Mapping[str, str]  # files of the bridge that go beside it, and their names
    layout: str = "NHWC"  # of the images that the exported network takes


def reference(child: Child, variables: Any, images: np.ndarray) -> np.ndarray:
    """Returns the logits of the flax network, in full float32.

    Raises:
        UserError: they are not finite.
    """
    with jax.default_matmul_precision("highest"):
        logits = np.asarray(_program(child.text)(variables, images))
    if not np.isfinite(logits).all():
        raise UserError(
            "The network's own logits are not finite, so no export of it can be checked; "
            "train it again with a smaller step size."
        )
    return logits


@functools.lru_cache(maxsize=4)
def _program(text: str) -> Callable[[Any, Any], jax.Array]:
    """Returns the compiled network of (variables, images) of a spec's canonical text."""
    child = Child(text)
    return jax.jit(lambda variables, images: child.apply(variables, images))


def difference(kind: str, found: Any, expected: np.ndarray) -> float:
    """Returns the largest difference of two sets of logits, over the largest logit or 1.

    Raises:
        JaxnasError: it is above :data:`TOLERANCE`, or the shapes differ.
    """
    got = np.asarray(found, np.float64)
    if got.shape != expected.shape:
        raise JaxnasError(
            f"The {kind} export gives logits of shape {got.shape} instead of "
            f"{expected.shape} when it is read back, so it was not stored."
        )
    largest = max(1.0, float(np.abs(expected).max(initial=0.0)))
    gap = float(np.abs(got - expected).max(initial=0.0)) / largest
    if not gap <= TOLERANCE:
        raise JaxnasError(
            f"The {kind} export differs from the network by {gap:.2g} of the largest logit "
            f"when it is read back, above {TOLERANCE:g}, so it was not stored."
        )
    return gap


def _ask(kind: str, action: str, work: Work, job: Mapping[str, Any]) -> Answer:
    """Returns the answer of the exporter, a process of its own.

    Raises:
        UserError: a package is missing there, or it refuses the network.
        JaxnasError: it crashed, or cannot read what was written.
    """
    python = sys.executable if kind == "stablehlo" else work.python
    command = [python, str(EXPORTER), action, kind, str(work.folder), json.dumps(job)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S)
    except OSError as error:
        raise UserError(f"{python} cannot be started: {error.strerror}.") from error
    except subprocess.TimeoutExpired as error:
        raise JaxnasError(
            f"The {kind} export took more than {TIMEOUT_S:g} s and was ended; free the "
            "machine and try again."
        ) from error
    said = done.stderr.strip().splitlines()
    last = said[-1].strip().rstrip(".") if said else f"exit code {done.returncode}"
    if done.returncode == 2 and last.startswith("missing:"):
        name = last.partition("No module named ")[2].strip("'\"").partition(".")[0]
        mend = INSTALL.get(name, INSTALL["aihwkit" if kind == "aihwkit" else "onnx"])
        raise UserError(
            f"The {kind} export lacks a package in {python} "
            f"({last.removeprefix('missing:')}); run: {mend}"
        )
    if done.returncode == 2:
        raise UserError(f"The {kind} export is refused: {last}.")
    if done.returncode:
        verb = "written" if action == "write" else "read back"
        raise JaxnasError(
            f"The {kind} export could not be {verb}, so it was not stored: {last}."
        )
    return json.loads(done.stdout.splitlines()[-1])


def _save(work: Work) -> Answer:
    cw.save_network(work.folder, work.child.spec, work.arrays)
    return {}


def _load(work: Work, written: Answer) -> Answer:
    child, variables = cw.load_network(work.folder)
    return {"logits": reference(child, variables, work.images)}


def _by_process(
    kind: str, keep: bool
) -> tuple[Callable[[Work], Answer], Callable[..., Answer]]:

    def write(work: Work) -> Answer:
        _save(work)
        answer = _ask(kind, "write", work, work.job)
        for name in () if keep else (cw.SPEC_FILE, cw.WEIGHTS_FILE):
            (work.folder / name).unlink()
        return answer

    return write, lambda work, written: _ask(kind, "read", work, {})


def _write_stablehlo(work: Work) -> Answer:
    """Writes the compiled program's portable form, weights inside, batch size free."""
    variables = cw.from_arrays(work.child, work.arrays)
    (batch,) = jax_export.symbolic_shape("batch")
    shape = jax.ShapeDtypeStruct((batch, *work.images.shape[1:]), jnp.float32)
    with jax.default_matmul_precision("highest"), native_convolutions():
        program = jax.jit(lambda images: work.child.apply(variables, images))
        made = jax_export.export(program, platforms=PLATFORMS)(shape)
    (work.folder / "model.jax_export").write_bytes(made.serialize())
    return {
        "platforms": list(PLATFORMS),
        "calling_convention": made.calling_convention_version,
    }


def _safetensors() -> Any:
    if importlib.util.find_spec("safetensors") is None:
        raise UserError(
            "The safetensors export lacks a package (No module named 'safetensors'); run: "
            f"{INSTALL['safetensors']}"
        )
    import safetensors
    import safetensors.numpy

    return safetensors


def _write_safetensors(work: Work) -> Answer:
    """Writes the weights under the interchange's names, the spec in the metadata."""
    package = _safetensors()
    plain = {k: np.ascontiguousarray(v, np.float32) for k, v in work.arrays.items()}
    facts = {"format": "jaxnas-safetensors-1", "spec": canonical_text(work.child.spec)}
    content = package.numpy.save(plain, metadata=facts)
    (work.folder / "model.safetensors").write_bytes(content)  # its save_file hides modes
    return {}


def _read_safetensors(work: Work, written: Answer) -> Answer:
    """Builds the network from nothing but the file."""
    package = _safetensors()
    path = work.folder / "model.safetensors"
    try:
        with package.safe_open(path, framework="numpy") as file:
            spec = json.loads(file.metadata()["spec"])
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        child = build(spec)
        logits = reference(child, cw.from_arrays(child, arrays), work.images)
    except (package.SafetensorError, ValueError, KeyError, TypeError) as error:
        raise JaxnasError(
            "The safetensors export could not be read back the same, so it was not stored; "
            "check the disk, or leave safetensors out of --to."
        ) from error
    return {"logits": logits}


def _write_aihwkit(work: Work) -> Answer:
    """Writes the tiles before any programming, with their settings."""
    _save(work)
    ranges = work.folder / "ranges.npz"
    if work.ranges:
        plain: dict[str, Any] = dict(work.ranges)
        np.savez(ranges, **plain)
    answer = _ask("aihwkit", "write", work, work.job)
    ranges.unlink(missing_ok=True)
    return answer


def _read_aihwkit(work: Work, written: Answer) -> Answer:
    """Reads the tiles; converters and settings must be those that were written."""
    found = _ask("aihwkit", "read", work, {})
    gap = difference("aihwkit", found["quiet"], np.asarray(written.pop("quiet")))
    if found["rpu_config"] != written["rpu_config"]:
        raise JaxnasError(
            "The aihwkit export has another rpu_config when it is read back, so it was not "
            "stored."
        )
    return {"logits": found["logits"], "quiet_difference": gap}


FORMATS: dict[str, Format] = {
    "spec": Format(
        "spec.json and weights.npz, read by jaxnas and torch_net", _save, _load, {}
    ),
    "torch": Format(
        "model.pt with torch_net.py and load.py; needs torch alone",
        *_by_process("torch", keep=True),
        {"torch_net.py": "torch_net.py", "load_torch.py": "load.py"},
        "NCHW",
    ),
    "onnx": Format(
        "model.onnx of any batch size",
        *_by_process("onnx", keep=False),
        {"load_onnx.py": "load.py"},
        "NCHW",
    ),
    "stablehlo": Format(
        "model.jax_export: StableHLO by jax.export, weights inside, any batch size",
        _write_stablehlo,
        lambda work, written: _ask("stablehlo", "read", work, {}),
        {"load_stablehlo.py": "load.py"},
    ),
    "safetensors": Format(
        "model.safetensors, torch's names and layout, spec in the metadata",
        _write_safetensors,
        _read_safetensors,
        {},
    ),
    "aihwkit": Format(
        "analog.pt: tiles before programming, with rpu_config; load_analog.py measures it",
        _write_aihwkit,
        _read_aihwkit,
        {
            name: name
            for name in ("torch_net.py", "torch_tiles.py", "runner.py", "load_analog.py")
        },
        "NCHW",
    ),
}


def copy_loaders(kind: str, folder: Path) -> None:
    """Copies what loads a format into its folder."""
    for source, target in FORMATS[kind].copied.items():
        shutil.copyfile(BRIDGE / source, folder / target)
