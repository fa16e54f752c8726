"""Runs this network with onnxruntime, and compares it with the logits in ``check.npz``."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent


def load(folder: Path = HERE) -> Callable[[np.ndarray], np.ndarray]:
    """Returns a function of float32 ``[B, C, H, W]``; of onnx's own where no runtime is."""
    path = str(folder / "model.onnx")
    try:
        import onnxruntime
    except ImportError:
        from onnx.reference import ReferenceEvaluator

        plain: Any = ReferenceEvaluator(path)
        return lambda x: plain.run(None, {plain.input_names[0]: x})[0]
    session: Any = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda x: session.run(None, {name: x})[0]


if __name__ == "__main__":
    with np.load(HERE / "check.npz", allow_pickle=False) as check:
        images, expected = check["images"], check["logits"]
    logits = load()(np.ascontiguousarray(np.moveaxis(images, -1, 1)))
    print("largest difference:", float(np.abs(logits - expected).max()))
