"""Trains, programs and measures a network with IBM's aihwkit: files in, files out.

Runs by itself, with torch, aihwkit and the standard library; ``torch_net.py`` lies beside
it. ``python runner.py FOLDER`` reads from the folder

* ``spec.json`` and ``weights.npz``, the trained digital network;
* ``data.npz``: ``x_train``, ``y_train``, ``x_test``, ``y_test``, images ``[n, H, W, C]``;
* ``job.json``: see :data:`JOB`;

and writes ``weights_hwa.npz`` (weights after hardware-aware training, and the input range
of each tile under ``PATH.input_range``), then ``metrics.json``. ``runner.py --probe`` tells
whether torch and aihwkit work together, as one line of JSON.

The device model, the times and the training recipe are those of IBM's analognasbench, but
each repetition programs the chip anew, so that spread means chip to chip.
"""

import json
import math
import os
import struct
import sys
import time
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch_net import NetError, TorchNet, load_weights, read_npz, read_spec
from torch_tiles import hardware_aware_arrays, on_tiles

JOB: dict[str, Any] = {  # every setting of a job and its default
    "seed": 0,
    "epochs": 10,  # of hardware-aware training; 0 converts the digital network as it is
    "lr": 0.02,  # largest step size: linear warm-up over a tenth, then cosine to zero
    "momentum": 0.9,
    "batch": 64,
    "modifier": 0.06,  # weight noise in training, of the tile's largest weight
    "clip_sigma": 2.0,
    "times": [60.0, 3600.0, 86400.0, 2592000.0],
    "repetitions": 10,
    "threads": 1,
    "out_noise": 0.04,
    "inp_res": 1 / 254,
    "out_res": 1 / 254,
    "out_bound": 10.0,
    "tile": [512, 512],  # inputs, outputs
}
FORMAT = "jaxnas-metrics-1"
PAIR = (
    "torch==2.13.0 aihwkit==1.1.0 on Python 3.11, or torch==2.14.1 aihwkit==1.2.0 on "
    "Python 3.12 and 3.13"
)
"""The versions that are known to work together, through the torch tile."""


class RunnerError(RuntimeError):
    """A job that cannot be done, or a result that must not be trusted; one sentence."""


def rpu_config(job: Mapping[str, Any]) -> Any:
    """Returns the settings of IBM's benchmark recipe on the torch tile."""
    from aihwkit.simulator.configs import TorchInferenceRPUConfig
    from aihwkit.simulator.parameters import enums

    config = TorchInferenceRPUConfig()
    config.forward.inp_res, config.forward.out_res = job["inp_res"], job["out_res"]
    config.forward.out_bound = job["out_bound"]
    config.forward.out_noise = job["out_noise"]
    config.forward.noise_management = enums.NoiseManagementType.NONE
    config.forward.bound_management = enums.BoundManagementType.NONE
    config.pre_post.input_range.enable = True
    config.pre_post.input_range.decay = 0.01
    config.pre_post.input_range.input_min_percentage = 0.995
    config.mapping.weight_scaling_omega = 1.0
    config.mapping.weight_scaling_columnwise = False
    config.mapping.max_input_size, config.mapping.max_output_size = job["tile"]
    config.remap.type = enums.WeightRemapType.LAYERWISE_SYMMETRIC
    config.clip.type = enums.WeightClipType.LAYER_GAUSSIAN
    config.clip.sigma = job["clip_sigma"]
    config.modifier.type = enums.WeightModifierType.ADD_NORMAL
    config.modifier.std_dev = job["modifier"]
    return config


def convert(net: nn.Module, job: Mapping[str, Any]) -> Any:
    """Returns the network on the tiles of a job."""
    return on_tiles(net, rpu_config(job))


def batches(
    x: Tensor, y: Tensor, size: int, generator: torch.Generator | None = None
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields ``[b, C, H, W]`` images and labels; in random order with a generator."""
    order = torch.arange(len(x))
    if generator is not None:
        order = torch.randperm(len(x), generator=generator)
    for rows in order.split(size):
        yield x[rows], y[rows]


def accuracy(net: nn.Module, x: Tensor, y: Tensor) -> float:
    """Returns the fraction of the images that a network in evaluation mode gets right."""
    net.eval()
    right = 0
    with torch.no_grad():
        for images, labels in batches(x, y, 200):
            right += int((net(images).argmax(1) == labels).sum())
    return right / len(x)


def fine_tune(net: nn.Module, data: Mapping[str, Tensor], job: Mapping[str, Any]) -> list:
    """Trains on noisy weights; returns the mean loss of each epoch, nats.

    Raises:
        RunnerError: the training diverged.
    """
    from aihwkit.optim import AnalogSGD

    optimiser = AnalogSGD(net.parameters(), lr=job["lr"], momentum=job["momentum"])
    optimiser.regroup_param_groups(net)
    generator = torch.Generator().manual_seed(job["seed"])
    x, y = data["x_train"], data["y_train"]
    steps, done, losses = job["epochs"] * math.ceil(len(x) / job["batch"]), 0, []
    for epoch in range(job["epochs"]):
        net.train()
        total = 0.0
        for images, labels in batches(x, y, job["batch"], generator):
            done += 1
            share = done / steps
            fall = 0.5 * (1 + math.cos(math.pi * max(0.0, (share - 0.1) / 0.9)))
            for group in optimiser.param_groups:
                group["lr"] = job["lr"] * min(1.0, share / 0.1) * fall
            optimiser.zero_grad()
            loss = nn.functional.cross_entropy(net(images), labels)
            loss.backward()
            optimiser.step()
            total += float(loss.detach()) * len(images)
        losses.append(total / len(x))
        if not math.isfinite(losses[-1]):
            raise RunnerError(
                f"The hardware-aware training diverged in epoch {epoch + 1}; use a smaller "
                "step size."
            )
        say({"event": "epoch", "epoch": epoch + 1, "loss": losses[-1]})
    return losses


def measure(net: Any, data: Mapping[str, Tensor], job: Mapping[str, Any]) -> list:
    """Returns accuracies ``[repetitions][times]``; each repetition programs the chip anew.

    Raises:
        RunnerError: programming or drift left the weights as they were.
    """
    found, before = [], tile_weights(net)
    for repetition in range(job["repetitions"]):
        net.eval()
        net.program_analog_weights()
        programmed, row = tile_weights(net), []
        _must_differ(before, programmed, "Programming")
        for seconds in job["times"]:
            net.drift_analog_weights(seconds)
            _must_differ(programmed, tile_weights(net), f"{seconds:g} s of drift")
            row.append(accuracy(net, data["x_test"], data["y_test"]))
        found.append(row)
        say({"event": "repetition", "repetition": repetition + 1, "accuracy": row})
    return found


def tile_weights(net: Any) -> list[Tensor]:
    """Returns a copy of what each tile holds."""
    return [tile.tile.get_weights().clone() for tile in net.analog_tiles()]


def _must_differ(old: list[Tensor], new: list[Tensor], what: str) -> None:
    """Raises where any tile holds exactly what it held."""
    same = sum(torch.equal(a, b) for a, b in zip(old, new, strict=True))
    if same or not new:
        raise RunnerError(
            f"{what} changed nothing on {same} of {len(new)} tiles, so the accuracies "
            "would not be those of an analog chip; check the versions with --probe."
        )


def write_npz(path: Path, arrays: Mapping[str, Tensor]) -> None:
    """Writes float32 arrays as an uncompressed npz file, whole or not at all."""
    part = path.with_suffix(".part")
    with zipfile.ZipFile(part, "w", zipfile.ZIP_STORED) as archive:
        for name, value in arrays.items():
            flat = value.detach().float().contiguous().flatten().tolist()
            sizes = ", ".join(str(n) for n in value.shape) + ("," * (value.ndim == 1))
            header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({sizes})}}"
            header += " " * (-(len(header) + 11) % 64) + "\n"
            start = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode()
            body = struct.pack(f"<{len(flat)}f", *flat)
            archive.writestr(f"{name}.npy", start + body)
    os.replace(part, path)


def run(folder: Path) -> dict[str, Any]:
    """Does the job of a folder and returns what it wrote into ``metrics.json``."""
    job = read_job(folder / "job.json")
    torch.manual_seed(job["seed"])
    torch.set_num_threads(job["threads"])
    data = read_data(folder / "data.npz")
    net = TorchNet(read_spec(folder / "spec.json"))
    load_weights(net, folder / "weights.npz")
    begun = time.perf_counter(), time.process_time()
    digital = accuracy(net, data["x_test"], data["y_test"])
    say({"event": "digital", "accuracy": digital})
    analog = convert(net, job)
    losses = fine_tune(analog, data, job) if job["epochs"] else []
    write_npz(folder / "weights_hwa.npz", hardware_aware_arrays(analog))
    found = {
        "format": FORMAT,
        "digital": digital,
        "losses": losses,
        "times": job["times"],
        "accuracy": measure(analog, data, job),
        "tiles": analog.analog_tile_count(),
        "wall_s": time.perf_counter() - begun[0],
        "cpu_s": time.process_time() - begun[1],
        "job": job,
        **versions(),
    }
    part = folder / "metrics.part"
    part.write_text(json.dumps(found, indent=1))
    os.replace(part, folder / "metrics.json")
    return found


def read_job(path: Path) -> dict[str, Any]:
    """Returns the job of a file over the defaults.

    Raises:
        RunnerError: unreadable, or a setting that there is not.
    """
    try:
        given = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise RunnerError(f"{path} cannot be read as a job; it must be JSON.") from error
    unknown = set(given) - set(JOB)
    if unknown:
        raise RunnerError(
            f"{path} has the setting {min(unknown)!r}; known are {', '.join(JOB)}."
        )
    return {**JOB, **given}


def read_data(path: Path) -> dict[str, Tensor]:
    """Returns images ``[n, C, H, W]`` or ids ``[n, T]``, and labels as whole numbers.

    Raises:
        NetError: an unreadable file.
        RunnerError: an array that is missing.
    """
    arrays = read_npz(path)
    for name in ("x_train", "y_train", "x_test", "y_test"):
        if name not in arrays:
            raise RunnerError(f"{path} lacks the array {name!r}.")
    return {
        name: value.movedim(-1, 1).contiguous() if name[0] == "x" else value.long()
        for name, value in arrays.items()
    }


def versions() -> dict[str, str]:
    """Returns the versions that the numbers belong to."""
    import aihwkit

    return {
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        "aihwkit": aihwkit.__version__,
    }


def probe() -> dict[str, Any]:
    """Converts, trains, programs and drifts one small layer; returns the versions.

    Raises:
        RunnerError: the weights did not change, or the input range does not learn.
    """
    from aihwkit.optim import AnalogSGD

    torch.manual_seed(0)
    net = convert(nn.Sequential(nn.Linear(8, 4)), JOB)
    optimiser = AnalogSGD(net.parameters(), lr=0.1)
    optimiser.regroup_param_groups(net)
    tile = next(net.analog_tiles())
    tile.set_input_range(1.0)
    x = torch.full((4, 8), 1.0)  # exactly at the bound, where torch 2.14 has no gradient
    net.train()
    net(x).square().sum().backward()
    gradient = tile.input_range.grad
    if gradient is None or not torch.isfinite(gradient).all():
        raise RunnerError("The input range of a tile received no gradient.")
    optimiser.step()
    net.eval()
    before = tile_weights(net)
    net.program_analog_weights()
    programmed = tile_weights(net)
    _must_differ(before, programmed, "Programming")
    net.drift_analog_weights(3600.0)
    _must_differ(programmed, tile_weights(net), "Drift")
    return {"ok": True, **versions()}


def say(event: Mapping[str, Any]) -> None:
    """Prints one line of progress."""
    print(json.dumps(event), flush=True)


def main() -> int:
    """Runs a probe or a job; exit code 2 and one sentence where it cannot be done."""
    warnings.simplefilter("ignore")
    try:
        if sys.argv[1:] == ["--probe"]:
            say(probe())
        elif len(sys.argv) == 2:
            run(Path(sys.argv[1]))
        else:
            raise RunnerError("Usage: python runner.py FOLDER, or python runner.py --probe")
    except ImportError as error:
        print(f"{error}; install {PAIR}", file=sys.stderr)
        return 2
    except (NetError, RunnerError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
