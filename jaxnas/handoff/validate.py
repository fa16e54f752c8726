"""From architectures to silicon: train, fine-tune, program and measure, side by side.

Each candidate is trained in JAX, handed to torch and aihwkit for hardware-aware training,
programmed and read over a month of drift there, and the same fine-tuned weights are
simulated in JAX. Test images are seen here and nowhere earlier.
"""

import hashlib
import json
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.analog import config, convertible, evaluate
from jaxnas.analog.bridge import jobs
from jaxnas.analog.plan import Plan, make_plan
from jaxnas.children import train as tr
from jaxnas.children.build import Child, build
from jaxnas.children.count import count_costs
from jaxnas.children.weights import SPEC_FILE, from_arrays, save_network, to_arrays
from jaxnas.core import tokens as tk
from jaxnas.core.errors import UserError
from jaxnas.core.rng import root_key
from jaxnas.core.statistics import welch_p
from jaxnas.data.formats.npz import read_npz
from jaxnas.data.tasks import Task
from jaxnas.handoff.record import read_record, write_text
from jaxnas.oracles.child import ChildOracle

FORMAT = "jaxnas-validation-1"
FILE = "validation.json"
Callback = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Settings:
    """How candidates are validated."""

    epochs: int = 10  # of hardware-aware training; 0 converts the digital network
    lr: float = 0.02  # its largest step size
    repetitions: int = 10  # chips that aihwkit programs
    draws: int = 25  # chips that the simulator programs
    times: tuple[float, ...] = evaluate.TIMES  # seconds since programming
    preset: str = "ibm-benchmark"  # of the analog model; see jaxnas.analog.config
    seed: int = 0  # of training, programming and noise
    python: str = sys.executable  # interpreter with torch and aihwkit
    workers: int = 1  # aihwkit processes at a time

    def __post_init__(self) -> None:
        if min(self.repetitions, self.draws, self.workers) < 1 or self.epochs < 0:
            raise UserError(
                "Repetitions, draws and workers must be at least 1, and epochs at least 0."
            )
        if not self.times or min(self.times) < 0:
            raise UserError("Name at least one time, in seconds since programming.")

    def job(self) -> dict[str, Any]:
        """Returns the settings of the runner's job."""
        names = ("epochs", "lr", "repetitions", "times", "seed")
        own = {name: getattr(self, name) for name in names} | {"times": list(self.times)}
        return jobs.job_of(config.preset(self.preset), **own)


def validate(
    oracle: ChildOracle,
    candidates: Sequence[np.ndarray],
    out: str | Path,
    settings: Settings,
    callback: Callback = lambda event: None,
    searched: Sequence[dict[str, float]] = (),
) -> dict[str, Any]:
    """Returns what became of some architectures, and writes it to ``validation.json``.

    The same call again reads what is there: a candidate with the same network, data and
    settings is not measured twice.

    Args:
        oracle: says how a candidate is built and trained, and on what.
        candidates: ``int[L]`` tokens of each.
        out: folder of ``validation.json`` and of one folder a candidate.
        settings: of the analog part.
        callback: called with progress events.
        searched: what the search knew of each candidate, by metric; for the report.

    Raises:
        UserError: torch and aihwkit do not work together, or a network cannot be built,
            trained or put on tiles; what was measured before it stays.
    """
    for tokens in candidates:
        for target in convertible.ON_TILES:
            convertible.check_spec(oracle.spec(np.asarray(tokens)), target)
    ready = jobs.probe(settings.python)
    if not ready.ok:
        raise UserError(ready.message)
    callback({"event": "probe", "message": ready.message})
    out = Path(out)
    folders = [_folder(out, oracle, tokens) for tokens in candidates]
    for i, (tokens, folder) in enumerate(zip(candidates, folders, strict=True)):
        callback({"event": "train", "candidate": i + 1, "of": len(folders)})
        _prepare(oracle, np.asarray(tokens), folder, settings)

    def measure(item: tuple[int, Path]) -> jobs.Metrics:
        i, folder = item
        if (folder / "metrics.json").exists():
            return jobs.read_metrics(folder)
        tell = lambda event: callback({**event, "candidate": i + 1, "of": len(folders)})
        return jobs.run_job(folder, settings.python, tell)

    with ThreadPoolExecutor(settings.workers) as pool:
        measured = list(pool.map(measure, enumerate(folders)))
    rows = []
    for i, (folder, metrics) in enumerate(zip(folders, measured, strict=True)):
        callback({"event": "simulate", "candidate": i + 1, "of": len(folders)})
        known = dict(searched[i]) if i < len(searched) else {}
        row = _row(oracle, np.asarray(candidates[i]), folder, metrics, settings)
        rows.append({**row, "searched": known})
    record = {
        "format": FORMAT,
        "oracle": oracle.id,
        "data": oracle.images.name,
        "data_checksum": oracle.data_checksum,
        "test_images": len(oracle.images.x_test),
        "times": list(settings.times),
        "preset": settings.preset,
        "epochs": settings.epochs,
        "versions": {k: measured[0].facts[k] for k in ("python", "torch", "aihwkit")},
        "candidates": rows,
    }
    write_text(out / FILE, json.dumps(record, indent=1))
    return record


def read_validation(folder: str | Path) -> dict[str, Any] | None:
    """Returns the record of a folder, or None where there is none.

    Raises:
        UserError: it is damaged or of another version.
    """
    return read_record(Path(folder) / FILE, FORMAT, "run 'jaxnas validate' again.")


def _folder(out: Path, oracle: ChildOracle, tokens: np.ndarray) -> Path:
    digest = tk.digest_host(oracle.space, np.asarray(tokens, np.int32))
    folder = out / str(digest)[:16]
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _prepare(
    oracle: ChildOracle, tokens: np.ndarray, folder: Path, settings: Settings
) -> None:
    """Trains a candidate and writes its job, unless the same one is there."""
    job = settings.job()
    facts = json.dumps(
        [oracle.id, oracle.seed, oracle.data_checksum, tokens.tolist(), job], sort_keys=True
    )
    key = hashlib.sha256(facts.encode()).hexdigest()
    mark = folder / "key.txt"
    if mark.exists() and mark.read_text() == key and (folder / "training.json").exists():
        return
    for name in ("key.txt", "metrics.json", "weights_hwa.npz", "training.json"):
        (folder / name).unlink(missing_ok=True)
    begun = time.perf_counter()
    child, variables, curves = oracle.train(tokens)
    if not np.isfinite(curves.train_loss).all():
        raise UserError(
            f"The training of {tuple(tokens.tolist())} diverged; use a smaller step size."
        )
    save_network(folder, child.spec, to_arrays(variables))
    data = oracle.images
    images = {n: getattr(data, n) for n in ("x_train", "y_train", "x_test", "y_test")}
    jobs.write_job(folder, images, job)
    costs = count_costs(child.spec)
    training = {
        "val_accuracy": float(curves.val_accuracy[-1]),
        "train_loss": float(curves.train_loss[-1]),
        "test_accuracy": _digital(child, variables, data),
        "seconds": time.perf_counter() - begun,
        **costs._asdict(),
    }
    (folder / "training.json").write_text(json.dumps(training, indent=1))
    mark.write_text(key)


def _digital(child: Child, variables: Any, data: Task) -> float:
    """Returns the exact test accuracy, fraction."""
    x, y = jnp.asarray(data.x_test), jnp.asarray(data.y_test)
    accuracy_of = jax.jit(lambda v: tr.evaluate(tr.forward_of(child), v, x, y)[1])
    return float(accuracy_of(variables))


def _row(
    oracle: ChildOracle,
    tokens: np.ndarray,
    folder: Path,
    metrics: jobs.Metrics,
    settings: Settings,
) -> dict[str, Any]:
    """Returns what is known of a candidate, the simulator's prediction included."""
    begun = time.process_time()
    simulated, plan = simulate(oracle, folder, settings)
    spent = time.process_time() - begun
    training = json.loads((folder / "training.json").read_text())
    aihwkit = metrics.accuracy
    pairs = zip(aihwkit.T, simulated.T, strict=True)
    return {
        "tokens": tokens.tolist(),
        "folder": folder.name,
        "training": training,
        "digital": metrics.digital,
        "losses": metrics.losses,
        "aihwkit": aihwkit.tolist(),
        "simulated": simulated.tolist(),
        "p_values": [welch_p(a, b) for a, b in pairs],
        "tiles": plan.num_tiles,
        "aihwkit_cpu_s": metrics.facts["cpu_s"],
        "simulator_cpu_s": spent,
    }


def simulate(
    oracle: ChildOracle, folder: Path, settings: Settings
) -> tuple[np.ndarray, Plan]:
    """Returns accuracies ``[draws, times]`` of the fine-tuned network in the simulator."""
    preset, data = config.preset(settings.preset), oracle.images
    child, plan, variables = tuned_network(folder, preset)
    test, times = map(jnp.asarray, (data.x_test, data.y_test)), jnp.float32(settings.times)
    key, hyper = root_key(settings.seed), config.as_arrays(preset.hyper)
    draws = evaluate.Evaluation(draws=settings.draws)
    found = evaluate.evaluate_compiled(
        key, variables, *test, times, hyper, module=child, plan=plan, settings=draws
    )
    return np.asarray(found.accuracy, np.float64), plan


def tuned_network(
    folder: Path, preset: config.Preset
) -> tuple[Child, Plan, dict[str, Any]]:
    """Returns the network that the runner fine-tuned, its tiles and their variables."""
    child = build(json.loads((folder / SPEC_FILE).read_text()))
    weights, ranges = jobs.split_ranges(read_npz(folder / "weights_hwa.npz"))
    variables = from_arrays(child, weights)
    (kind,) = child.spec["inputs"].values()
    plan = make_plan(child, variables, tuple(kind["shape"]), preset.structure)
    return child, plan, jobs.simulated(plan, variables, ranges, preset)
