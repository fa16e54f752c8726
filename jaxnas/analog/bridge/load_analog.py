"""Loads this network into aihwkit and measures it on chips that are programmed anew.

    python load_analog.py --data images.npz --times 60 86400 --repetitions 10

``analog.pt`` holds, as saved before any programming, what each tile holds, its scales and
its input range, the batch norm statistics, the spec, and the ``rpu_config`` as JSON; it is
read with ``weights_only=True``, so that nothing in it is run. Needs torch, aihwkit and the
files beside it. The images are ``x_test [n, H, W, C]`` and ``y_test [n]`` of an npz file.
"""

import argparse
import enum
import importlib
import json
import statistics
import sys
import warnings
from pathlib import Path
from typing import Any

import torch
from runner import PAIR, RunnerError, accuracy, measure
from torch import Tensor
from torch_net import NetError, TorchNet, read_npz
from torch_tiles import on_tiles

HERE = Path(__file__).resolve().parent
FILE, FORMAT = "analog.pt", "jaxnas-analog-1"
MODES = ("chip", "quiet", "exact")
LEFT_OUT = ("analog_tile_state", "analog_ctx", "input_range_update_idx")
"""Parts of aihwkit's state that are objects or counters of training."""


def describe(value: Any) -> Any:
    """Returns a setting of aihwkit as JSON: objects by class and fields, enums by name.

    Raises:
        NetError: something that aihwkit's settings do not consist of.
    """
    plain = value is None or isinstance(value, bool | int | float | str)
    if plain and not isinstance(value, enum.Enum):
        return value
    kind = value if isinstance(value, type) else type(value)
    name = f"{kind.__module__}:{kind.__qualname__}"
    if isinstance(value, list):
        return [describe(item) for item in value]
    if not name.startswith("aihwkit."):
        raise NetError(f"A setting of aihwkit of type {name!r} cannot be written as JSON.")
    if isinstance(value, type):
        return {"class": name}
    if isinstance(value, enum.Enum):
        return {"enum": name, "name": value.name}
    return {"object": name, "fields": {k: describe(v) for k, v in vars(value).items()}}


def rebuild(value: Any) -> Any:
    """Returns the setting that :func:`describe` wrote; only classes of aihwkit are used.

    Raises:
        NetError: another class, or one that this aihwkit does not have.
    """
    if isinstance(value, list):
        return [rebuild(item) for item in value]
    if not isinstance(value, dict):
        return value
    if "class" in value:
        return _class_of(value["class"])
    if "enum" in value:
        return _class_of(value["enum"])[value["name"]]
    kind = _class_of(value["object"])
    made = kind.__new__(kind)
    vars(made).update({k: rebuild(v) for k, v in value["fields"].items()})
    return made


def _class_of(name: str) -> Any:
    module, _, path = name.partition(":")
    found: Any = None
    if module.startswith("aihwkit."):
        try:
            found = importlib.import_module(module)
            for part in path.split("."):
                found = getattr(found, part)
        except (ImportError, AttributeError):
            found = None
    if not isinstance(found, type) or found.__module__ != module:
        raise NetError(f"The rpu_config names {name!r}, which this aihwkit does not have.")
    return found


def tensors(net: Any) -> dict[str, Tensor]:
    """Returns the live tensors of an analog network that make it what it is, by name."""
    both = {**dict(net.named_parameters()), **dict(net.named_buffers())}
    return {k: v for k, v in both.items() if k.rpartition(".")[2] not in LEFT_OUT}


def save(net: Any, spec: Any, config: Any, folder: Path) -> None:
    """Writes ``analog.pt`` of a network that was not programmed yet."""
    stored = {name: value.detach().clone() for name, value in tensors(net).items()}
    settings = json.dumps(describe(config))
    everything = {"format": FORMAT, "spec": json.dumps(spec), "rpu_config": settings}
    torch.save({**everything, "tensors": stored}, folder / FILE)


def load(folder: Path = HERE, mode: str = "chip") -> Any:
    """Returns the network on tiles, in evaluation mode, not programmed.

    Args:
        folder: of ``analog.pt``.
        mode: ``"chip"`` as described; ``"quiet"`` without output noise; ``"exact"`` with
            exact products, no converters and no bounds: the digital network.

    Raises:
        NetError: another file, or one of another network or version.
    """
    if mode not in MODES:
        raise NetError(f"The mode {mode!r} is unknown; choose one of {', '.join(MODES)}.")
    stored = torch.load(folder / FILE, weights_only=True)
    if not isinstance(stored, dict) or stored.get("format") != FORMAT:
        raise NetError(f"{folder / FILE} is no file of format {FORMAT!r}.")
    config = rebuild(json.loads(stored["rpu_config"]))
    if mode == "quiet":
        config.forward.out_noise = 0.0
    config.forward.is_perfect |= mode == "exact"
    net: Any = on_tiles(TorchNet(json.loads(stored["spec"])), config)
    live = tensors(net)
    if live.keys() != stored["tensors"].keys():
        odd = min(live.keys() ^ stored["tensors"].keys())
        raise NetError(f"{folder / FILE} and the network differ in the tensor {odd!r}.")
    with torch.no_grad():
        for name, value in live.items():
            if value.shape != stored["tensors"][name].shape:
                raise NetError(f"The tensor {name!r} of {FILE} has another shape.")
            value.copy_(stored["tensors"][name])
    if mode == "exact":
        for tile in net.analog_tiles():
            tile.input_range = None  # the bound, which exact products would still keep
    return net.eval()


def remeasure(args: argparse.Namespace) -> dict[str, Any]:
    """Returns digital accuracy, and mean and spread over chips at each time, fractions.

    Raises:
        NetError: unreadable files.
        RunnerError: programming or drift changed nothing.
    """
    arrays = read_npz(args.data)
    if not {"x_test", "y_test"} <= arrays.keys():
        raise NetError(f"{args.data} lacks x_test or y_test.")
    data = {
        "x_test": arrays["x_test"].movedim(-1, 1).contiguous(),
        "y_test": arrays["y_test"].long(),
    }
    torch.set_num_threads(1)
    torch.manual_seed(args.seed)
    digital = accuracy(load(mode="exact"), data["x_test"], data["y_test"])
    chips = list(zip(*measure(load(), data, vars(args)), strict=True))
    several = args.repetitions > 1
    return {
        "digital": digital,
        "times": args.times,
        "mean": [statistics.fmean(chip) for chip in chips],
        "sd": [statistics.stdev(chip) if several else None for chip in chips],
    }


def main() -> int:
    """Measures as asked; exit code 2 and one sentence where that cannot be done."""
    warnings.simplefilter("ignore")
    parser = argparse.ArgumentParser(description="Measures a network on analog chips.")
    add = parser.add_argument
    add("--data", type=Path, default=HERE / "test.npz", help="npz with x_test, y_test")
    add("--times", type=float, nargs="+", default=[60.0, 3600.0, 86400.0, 2592000.0])
    add("--repetitions", type=int, default=10, help="chips, each programmed anew")
    add("--seed", type=int, default=0)
    try:
        args = parser.parse_args()
        if args.repetitions < 1:
            raise NetError(f"At least one repetition is needed, got {args.repetitions}.")
        print(json.dumps(remeasure(args)))
    except ImportError as error:
        print(f"{error}; install {PAIR}", file=sys.stderr)
        return 2
    except (NetError, RunnerError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
