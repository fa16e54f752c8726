"""Writes the latent setting that all contenders read: its arrays and its surrogate.

With the original's files (``--data``, a folder): its codebook, decoder and surrogate.
Without: a codebook and a decoder of the same sizes with random weights, and 150 trees of
depth 4 fitted to random labels on random configurations of the same 22 columns.
"""

import argparse
import itertools
import json
from pathlib import Path

import numpy as np
import torch
import xgboost

SIZES = (8, 512, 256, 128, 64, 32, 16, 22)
LAYERS = ("fc1", *(f"layers.{i}.0" for i in range(5)), "fc2")
CODES = 14
TREES, DEPTH, ROWS = 150, 4, 960
GREATEST = (128, 5, *(16,) * 5, *(4, 4, 12) * 5)
"""Largest value of each column; the smallest is 0, of the first two 8 and 1."""
NAMES = ("vqvae_decoder_model.pth", "vqvae_codebook.pth", "vqvae_surrogate_model.json")


def given(folder: Path) -> tuple[dict[str, np.ndarray], str]:
    """Returns the original's arrays and its surrogate as JSON."""
    read = lambda name: torch.load(folder / name, weights_only=True, map_location="cpu")
    decoder, codebook = read(NAMES[0]), read(NAMES[1])
    arrays = {"codebook": codebook.numpy()}
    for i, layer in enumerate(LAYERS):
        arrays[f"kernel_{i}"] = decoder[f"{layer}.weight"].numpy().T
        arrays[f"bias_{i}"] = decoder[f"{layer}.bias"].numpy()
    return arrays, (folder / NAMES[2]).read_text()


def made(seed: int) -> tuple[dict[str, np.ndarray], str]:
    """Returns random arrays of the same sizes and a surrogate of the same shape."""
    rng = np.random.default_rng(seed)
    arrays = {"codebook": rng.normal(0.0, 0.04, (CODES, SIZES[0]))}
    for i, (n, m) in enumerate(itertools.pairwise(SIZES)):
        arrays[f"kernel_{i}"] = rng.normal(0.0, np.sqrt(2.0 / n), (n, m))
        arrays[f"bias_{i}"] = rng.normal(0.0, 0.1, m)
    arrays[f"bias_{len(SIZES) - 2}"] += np.asarray(GREATEST) / 2
    least = np.array([8, 1, *(0,) * 20])
    rows = rng.integers(least, np.asarray(GREATEST) + 1, (ROWS, SIZES[-1]))
    settings = {"max_depth": DEPTH, "eta": 0.1, "nthread": 1, "seed": seed}
    labels = xgboost.DMatrix(rows, rng.uniform(0.6, 0.95, ROWS))
    booster = xgboost.train(settings, labels, TREES)
    return arrays, bytes(booster.save_raw("json")).decode()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="folder with the original's files")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    arrays, surrogate = given(args.data) if args.data else made(args.seed)
    args.out.mkdir(parents=True, exist_ok=True)
    small = {name: array.astype(np.float32) for name, array in arrays.items()}
    np.savez(args.out / "latent.npz", **small)
    (args.out / "surrogate.json").write_text(surrogate)
    print(json.dumps({name: list(array.shape) for name, array in small.items()}))


if __name__ == "__main__":
    main()
