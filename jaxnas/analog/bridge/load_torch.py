"""Loads this network in plain torch, and compares it with the logits in ``check.npz``."""

from pathlib import Path

import torch
from torch_net import TorchNet, read_npz, read_spec

HERE = Path(__file__).resolve().parent


def load(folder: Path = HERE) -> TorchNet:
    """Returns the network in evaluation mode; it takes float32 ``[B, C, H, W]``."""
    net = TorchNet(read_spec(folder / "spec.json"))
    net.load_state_dict(torch.load(folder / "model.pt", weights_only=True))
    return net.eval()


if __name__ == "__main__":
    check = read_npz(HERE / "check.npz")
    with torch.no_grad():
        logits = load()(check["images"].movedim(-1, 1))
    print("largest difference:", float((logits - check["logits"]).abs().max()))
