"""The JAX side of the bridge: writes a job's files, starts the runner, reads its numbers.

Files are the whole contract, so the runner may live in another interpreter. torch and
aihwkit are never imported here: a pair of versions that crashes does so in a process of
its own.
"""

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from jaxnas.analog.bridge.pairs import install_for, mismatch
from jaxnas.analog.config import Preset
from jaxnas.analog.plan import Plan
from jaxnas.analog.variables import convert
from jaxnas.core.errors import UserError

RUNNER = Path(__file__).with_name("runner.py")
INSTALL = install_for()
"""Installs the pair that fits this interpreter."""
RANGE = ".input_range"
"""Ending of the name of a layer's input ranges, one a tile, behind the layer's path."""
METRICS_FORMAT = "jaxnas-metrics-1"
Progress = Callable[[dict[str, Any]], None]


class Probe(NamedTuple):
    """Whether torch and aihwkit of an interpreter work together."""

    ok: bool
    message: str  # versions, or one sentence that says what is wrong and what to install
    doubt: str = ""
    """Where they work and are no known pair: what does not fit, or nothing."""


class Metrics(NamedTuple):
    """What the runner measured."""

    digital: float  # test accuracy of the digital network in torch, fraction
    losses: list[float]  # mean loss of each epoch of hardware-aware training, nats
    times: list[float]  # seconds since programming
    accuracy: np.ndarray
    """Test accuracy ``float64[repetitions, times]``, fraction; each row is a chip."""
    facts: dict[str, Any]  # versions, seconds, tiles and the job itself


def probe(python: str = sys.executable, timeout: float = 300.0) -> Probe:
    """Returns whether the runner works in an interpreter, tried in its own process."""
    try:
        command = [python, str(RUNNER), "--probe"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
    except OSError as error:
        return Probe(False, f"{python} cannot be started: {error.strerror}.")
    except subprocess.TimeoutExpired:
        return Probe(
            False,
            f"torch and aihwkit hang in {python}, or the machine is too busy: no answer "
            f"in {timeout:.0f} s. Try again, or run: {INSTALL}",
        )
    if done.returncode == 0:
        found = json.loads(done.stdout.splitlines()[-1])
        torch, aihwkit = found["torch"], found["aihwkit"]
        major, minor, *_ = found["python"].split(".")
        doubt = mismatch((int(major), int(minor)), torch, aihwkit)
        return Probe(True, f"torch {torch}, aihwkit {aihwkit}", doubt or "")
    if done.returncode < 0:
        said = f"they crash with signal {-done.returncode}"
    else:
        lines = done.stderr.strip().splitlines()
        said = lines[-1].rstrip(".") if lines else "no message"
    return Probe(
        False, f"torch and aihwkit do not work together here ({said}); run: {INSTALL}"
    )


def job_of(preset: Preset, **settings: Any) -> dict[str, Any]:
    """Returns the job whose tiles are those of a preset of the simulator.

    Args:
        preset: only what the torch tile can do: no read noise in each product, no voltage
            drop, one scale a tile, no management of noise or bounds.
        **settings: of ``runner.JOB``, such as ``repetitions``.

    Raises:
        UserError: the preset needs what the torch tile lacks.
    """
    structure, hyper = preset.structure, preset.hyper
    asked = (structure.scaling, structure.input_range, structure.compensation)
    lacking = structure.unfolded or structure.out_scale or structure.digital_depthwise
    if lacking or asked != ("layerwise", True, "global"):
        raise UserError(
            "The aihwkit torch tile lacks what this analog preset needs; validate with "
            "ibm-benchmark."
        )
    periphery = hyper.periphery
    names = ("inp_res", "out_res", "out_bound", "out_noise")
    return {
        **{name: float(getattr(periphery, name)) for name in names},
        "tile": [structure.tile_inputs, structure.tile_outputs],
        **settings,
    }


def write_job(
    folder: str | Path, images: Mapping[str, np.ndarray], job: Mapping[str, Any]
) -> None:
    """Writes ``data.npz`` and ``job.json`` beside a saved network."""
    folder = Path(folder)
    arrays: dict[str, Any] = {k: np.asarray(v, np.float32) for k, v in images.items()}
    np.savez(folder / "data.npz", **arrays)
    (folder / "job.json").write_text(json.dumps(dict(job), indent=1))


def run_job(
    folder: str | Path, python: str = sys.executable, progress: Progress | None = None
) -> Metrics:
    """Runs the runner on a folder in a process of its own and returns what it measured.

    Raises:
        UserError: the runner refused the job, crashed, or left no metrics.
    """
    command = [python, str(RUNNER), str(folder)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        said: list[str] = []
        assert process.stdout is not None
        assert process.stderr is not None
        errors = threading.Thread(target=said.extend, args=(process.stderr,))
        errors.start()
        try:
            for line in process.stdout:
                if progress is not None:
                    progress(json.loads(line))
            process.wait()
        except BaseException:
            process.kill()
            raise
        finally:
            errors.join()
    if process.returncode == 2:
        raise UserError(f"aihwkit refused the network in {folder}: {said[-1].strip()}")
    if process.returncode:
        last = said[-1].strip() if said else f"signal {-process.returncode}"
        raise UserError(
            f"The aihwkit process ended with {last!r}; run 'jaxnas doctor' to see whether "
            "torch and aihwkit fit together."
        )
    return read_metrics(folder)


def read_metrics(folder: str | Path) -> Metrics:
    """Returns the metrics that a runner left in a folder.

    Raises:
        UserError: none there, damaged, of another version, or not numbers in [0, 1].
    """
    path = Path(folder) / "metrics.json"
    mend = "delete its folder and run the same command again."
    try:
        found = json.loads(path.read_text())
        if found["format"] != METRICS_FORMAT:
            wrong = f"has the format {found['format']!r} instead of {METRICS_FORMAT!r}"
            raise UserError(f"{path} {wrong}; {mend}")
        accuracy = np.asarray(found["accuracy"], np.float64)
        if accuracy.ndim != 2 or accuracy.shape[1] != len(found["times"]):
            raise UserError(f"In {path} the accuracies are not one for each time; {mend}")
        if not ((accuracy >= 0) & (accuracy <= 1)).all():
            raise UserError(f"In {path} an accuracy is not between 0 and 1; {mend}")
        made = Metrics(found["digital"], found["losses"], found["times"], accuracy, found)
    except UserError:
        raise
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is damaged or cannot be read; {mend}") from error
    return made


def split_ranges(
    arrays: Mapping[str, np.ndarray],
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Returns the weights of ``weights_hwa.npz``, and its input ranges by their names."""
    ranges = {name: a for name, a in arrays.items() if name.endswith(RANGE)}
    return {name: a for name, a in arrays.items() if name not in ranges}, ranges


def simulated(
    plan: Plan, variables: PyTree, ranges: Mapping[str, np.ndarray], preset: Preset
) -> PyTree:
    """Returns a network for the simulator with the input ranges that aihwkit learned.

    The plan's tiles are numbered as aihwkit does, the variables those after hardware-aware
    training, and the ranges ``PATH.input_range`` of each layer, one number a tile.

    Raises:
        UserError: ranges for other tiles than the plan's.
    """
    values = []
    for layer in plan.layers:
        path = ".".join(layer.path)
        given = np.atleast_1d(ranges.get(f"{path}{RANGE}", np.zeros(0)))
        if len(given) != len(layer.tiles):
            raise UserError(
                f"The layer {path!r} has {len(layer.tiles)} tiles and {len(given)} input "
                "ranges; simulate with the tile size of the job."
            )
        values.append(given)
    made = convert(plan, jax.tree.map(jnp.asarray, variables), preset.hyper.omega)
    learned = jnp.asarray(np.concatenate(values), jnp.float32)
    return {**made, "analog": made["analog"]._replace(input_range=learned)}
