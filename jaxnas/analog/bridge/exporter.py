"""Writes exported networks with torch, and reads them as a stranger does: without jaxnas.

Runs in a process of its own, standard library at the top. Both print one line of JSON::

    python exporter.py write KIND FOLDER JOB   # torch, onnx, aihwkit
    python exporter.py read KIND FOLDER        # these and stablehlo

``FOLDER`` has ``spec.json``, ``weights.npz`` and ``check.npz`` with ``images``
``[n, H, W, C]``, and for aihwkit perhaps ``ranges.npz`` with ``PATH.input_range`` of each
tile; ``JOB`` is JSON with settings of ``runner.JOB``. Reading goes through the loader that
lies in the folder, with jaxnas and all that the loader must not need made unimportable,
in batches of 1 and the rest.
"""

import importlib
import json
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

PACKAGES = {"torch": ("torch",), "onnx": ("torch", "onnx"), "aihwkit": ("torch", "aihwkit")}
"""What writing needs."""
HIDDEN = {  # what reading must do without, besides jaxnas
    "torch": ("jax", "jaxlib", "flax"),
    "onnx": ("jax", "jaxlib", "flax", "torch"),
    "stablehlo": ("flax", "torch"),
    "aihwkit": ("jax", "jaxlib", "flax"),
}
OPSET = 17  # of ONNX; every operation of a spec is older


def write_torch(folder: Path, job: dict[str, Any]) -> dict[str, Any]:
    """Writes ``model.pt``: the ``state_dict``."""
    import torch

    torch.save(_digital(folder).state_dict(), folder / "model.pt")
    return {}


def write_onnx(folder: Path, job: dict[str, Any]) -> dict[str, Any]:
    """Writes ``model.onnx``; the first axis may have any size."""
    import torch

    net, spec = _digital(folder), json.loads((folder / "spec.json").read_text())
    ((source, _),) = spec["inputs"].items()
    ((target, _),) = spec["outputs"].items()
    torch.onnx.export(
        net,
        (_images(folder)[:2],),
        str(folder / "model.onnx"),
        input_names=[source],
        output_names=[target],
        dynamic_axes={source: {0: "batch"}, target: {0: "batch"}},
        opset_version=OPSET,
        dynamo=False,  # the other exporter needs onnxscript and gives the same operations
    )
    return {"opset": OPSET}


def write_aihwkit(folder: Path, job: dict[str, Any]) -> dict[str, Any]:
    """Writes ``analog.pt``; returns logits without noise and the settings as JSON."""
    import torch

    load_analog = importlib.import_module("load_analog")
    runner = importlib.import_module("runner")
    job = {**runner.JOB, **job}
    net, quiet = (
        _with_ranges(runner.convert(_digital(folder), one).eval(), folder)
        for one in (job, {**job, "out_noise": 0.0})
    )
    config = runner.rpu_config(job)
    spec = json.loads((folder / "spec.json").read_text())
    load_analog.save(net, spec, config, folder)
    with torch.no_grad():
        logits = _rows(quiet(_images(folder)))
    settings = load_analog.describe(config)
    return {"quiet": logits, "rpu_config": settings, "tiles": net.analog_tile_count()}


def read_torch(folder: Path) -> dict[str, Any]:
    """Returns the logits of ``model.pt``, with which ``weights.npz`` must agree."""
    import torch

    net = importlib.import_module("load").load(folder)
    other = importlib.import_module("torch_net")
    again = other.TorchNet(other.read_spec(folder / "spec.json"))
    other.load_weights(again, folder / "weights.npz")
    for name, value in again.state_dict().items():
        if not torch.equal(value, net.state_dict()[name]):
            raise ValueError(f"model.pt and weights.npz differ in {name!r}")
    with torch.no_grad():
        return {"logits": _in_parts(_images(folder), net)}


def read_onnx(folder: Path) -> dict[str, Any]:
    """Returns the logits of a checked model."""
    import onnx

    onnx.checker.check_model(str(folder / "model.onnx"), full_check=True)
    import numpy as np

    run = importlib.import_module("load").load(folder)
    with np.load(folder / "check.npz", allow_pickle=False) as check:
        images = np.ascontiguousarray(np.moveaxis(check["images"], -1, 1))
    return {"logits": _in_parts(images, run)}


def read_stablehlo(folder: Path) -> dict[str, Any]:
    """Returns the logits of the program."""
    import numpy as np

    run = importlib.import_module("load").load(folder)
    with np.load(folder / "check.npz", allow_pickle=False) as check:
        return {"logits": _in_parts(check["images"], run)}


def read_aihwkit(folder: Path) -> dict[str, Any]:
    """Returns logits with exact products and without noise, and the settings as JSON.

    Programs and drifts a chip as well, which must change what the tiles hold.
    """
    import torch

    load_analog = importlib.import_module("load_analog")
    runner: Any = importlib.import_module("runner")
    images = _images(folder)
    with torch.no_grad():
        exact = _in_parts(images, load_analog.load(folder, "exact"))
        quiet = _rows(load_analog.load(folder, "quiet")(images))
    chip = load_analog.load(folder)
    settings = load_analog.describe(next(chip.analog_tiles()).rpu_config)
    data = {"x_test": images, "y_test": torch.zeros(len(images), dtype=torch.long)}
    runner.say = lambda event: None
    runner.measure(chip, data, {"repetitions": 1, "times": [3600.0]})
    return {"logits": exact, "quiet": quiet, "rpu_config": settings}


WRITE: dict[str, Callable[..., dict[str, Any]]] = {
    "torch": write_torch,
    "onnx": write_onnx,
    "aihwkit": write_aihwkit,
}
READ: dict[str, Callable[..., dict[str, Any]]] = {
    "torch": read_torch,
    "onnx": read_onnx,
    "stablehlo": read_stablehlo,
    "aihwkit": read_aihwkit,
}


def _digital(folder: Path) -> Any:
    torch_net = importlib.import_module("torch_net")
    net = torch_net.TorchNet(torch_net.read_spec(folder / "spec.json"))
    torch_net.load_weights(net, folder / "weights.npz")
    return net.eval()


def _images(folder: Path) -> Any:
    """Returns the images as a tensor ``[n, C, H, W]``."""
    torch_net = importlib.import_module("torch_net")
    return torch_net.read_npz(folder / "check.npz")["images"].movedim(-1, 1).contiguous()


def _with_ranges(net: Any, folder: Path) -> Any:
    """Returns an analog network with the input ranges of ``ranges.npz``, where it is."""
    if not (folder / "ranges.npz").exists():
        return net
    torch_net = importlib.import_module("torch_net")
    ranges = torch_net.read_npz(folder / "ranges.npz")
    for path, layers in importlib.import_module("torch_tiles").analog_layers(net).items():
        given = ranges.get(f"{path}.input_range")
        tiles = [tile for layer in layers for tile in layer.analog_tiles()]
        if given is None or given.numel() != len(tiles):
            raise torch_net.NetError(
                f"The layer {path!r} has {len(tiles)} tiles and not as many input ranges; "
                "export with the tile size that the network was trained for."
            )
        for tile, value in zip(tiles, given.reshape(-1).tolist(), strict=True):
            tile.set_input_range(value)
    return net


def _in_parts(images: Any, run: Callable[[Any], Any]) -> list[list[float]]:
    """Returns the logits of batches of 1 and the rest: any size must do."""
    parts = images[:1], images[1:]
    return [row for part in parts if len(part) for row in _rows(run(part))]


def _rows(values: Any) -> list[list[float]]:
    return [[float(x) for x in row] for row in values]


def main(arguments: list[str]) -> int:
    """Writes or reads; exit code 2 for what the user can mend, 1 for the rest."""
    warnings.simplefilter("ignore")
    action, kind, folder = arguments[0], arguments[1], Path(arguments[2]).resolve()
    try:
        if action == "write":
            for package in PACKAGES[kind]:
                importlib.import_module(package)
            importlib.import_module("torch").set_num_threads(1)  # one order of sums
            made = WRITE[kind](folder, json.loads(arguments[3]))
        else:
            for name in ("jaxnas", *HIDDEN[kind]):
                sys.modules[name] = None  # pyright: ignore[reportArgumentType]
            sys.path[0] = str(folder)
            made = READ[kind](folder)
    except ImportError as error:
        print(f"missing:{error}", file=sys.stderr)
        return 2
    except Exception as error:  # the other process says it to the user
        text = " ".join(str(error).split()) or type(error).__name__
        print(f"\n{text}", file=sys.stderr)
        return 2 if type(error).__name__ in ("NetError", "RunnerError") else 1
    print(f"\n{json.dumps(made)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
