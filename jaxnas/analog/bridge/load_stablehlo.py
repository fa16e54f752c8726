"""Runs this network with jax alone, and compares it with the logits in ``check.npz``."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax import export

HERE = Path(__file__).resolve().parent


def load(folder: Path = HERE) -> Callable[[Any], jax.Array]:
    """Returns a function of float32 ``[B, H, W, C]``; it may stand inside ``jax.jit``."""
    return export.deserialize(bytearray((folder / "model.jax_export").read_bytes())).call


if __name__ == "__main__":
    with np.load(HERE / "check.npz", allow_pickle=False) as check:
        images, expected = check["images"], check["logits"]
    print("largest difference:", float(np.abs(load()(images) - expected).max()))
