"""aihwkit on its torch tile: accuracy of the same network over chips and times."""

import argparse
import json
import sys
from pathlib import Path

import torch
from worker import Region, serve

BRIDGE = Path(__file__).resolve().parents[2] / "jaxnas" / "analog" / "bridge"
sys.path.insert(0, str(BRIDGE))
import runner  # noqa: E402
from torch_net import TorchNet, load_weights, read_npz, read_spec  # noqa: E402


def prepare(args: argparse.Namespace) -> Region:
    """Returns the region: every chip at every time on every test image."""
    torch.set_num_threads(1)
    folder = Path(args.folder)
    job = {**runner.JOB, "repetitions": args.draws}
    data = runner.read_data(folder / "data.npz")
    arrays = read_npz(folder / "weights_hwa.npz")
    weights = {k: v for k, v in arrays.items() if not k.endswith(".input_range")}
    runner.write_npz(folder / "weights_plain.npz", weights)
    net = TorchNet(read_spec(folder / "spec.json"))
    load_weights(net, folder / "weights_plain.npz")
    analog = runner.convert(net, job)
    for path, layer in analog.named_analog_layers():
        tiles = list(layer.analog_tiles())
        for tile, b in zip(tiles, arrays[f"{path}.input_range"], strict=True):
            tile.set_input_range(float(b))
    runner.say = lambda event: None
    found = []

    def run(number: int) -> float:
        torch.manual_seed(number)
        accuracy = runner.measure(analog, data, job)
        found.append(accuracy)
        (folder / "aihwkit.json").write_text(json.dumps(found))
        return float(torch.tensor(accuracy).mean())

    return Region(run, lambda: 1 + len(found))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", required=True)
    parser.add_argument("--draws", type=int, default=25)
    args = parser.parse_args()
    serve(
        lambda: prepare(args),
        name="aihwkit-chips",
        unit="chip and time",
        units=args.draws * len(runner.JOB["times"]),
        torch=torch.__version__,
    )
