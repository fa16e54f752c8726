"""Networks and formats for the tests of export."""

import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas.children.build import build
from jaxnas.children.weights import to_arrays
from jaxnas.handoff import formats as ef
from jaxnas.handoff import source as es
from jaxnas.testing.tiny import TinyNets

NEEDS = {"torch": ("torch",), "onnx": ("torch", "onnx"), "aihwkit": ("torch", "aihwkit"),
         "safetensors": ("safetensors",)}  # fmt: skip
TOKENS = np.array([1, 2], np.int32)
FILES = {
    "spec": "weights.npz",
    "torch": "model.pt",
    "onnx": "model.onnx",
    "stablehlo": "model.jax_export",
    "safetensors": "model.safetensors",
    "aihwkit": "analog.pt",
}


def kinds(slow=(), without=()):
    """Formats as parameters; those whose packages are not here say so."""
    for kind in sorted(ef.FORMATS.keys() - set(without)):
        lacking = [n for n in NEEDS.get(kind, ()) if importlib.util.find_spec(n) is None]
        reason = f"not installed: {lacking}"
        marks = [pytest.mark.skipif(bool(lacking), reason=reason)]
        yield pytest.param(kind, marks=[*marks, *[pytest.mark.slow] * (kind in slow)])


def here(*names):
    return pytest.mark.skipif(
        any(importlib.util.find_spec(n) is None for n in names), reason=f"needs {names}"
    )


def make(spec=None, seed=0):
    """A network whose batch norm is not the identity, and labelled images."""
    spec = TinyNets(num_classes=3).to_spec(TOKENS) if spec is None else spec
    child = build(spec)
    rng = np.random.default_rng(seed)
    x = rng.uniform(size=(40, 8, 8, 1)).astype(np.float32)
    variables = child.init(jax.random.key(seed), jnp.asarray(x[:1]))
    _, stats = child.apply(variables, jnp.asarray(x), True, mutable=["batch_stats"])
    test = {"x_test": x, "y_test": rng.integers(0, 3, 40).astype(np.float32)}
    arrays = to_arrays({**variables, **stats})
    return es.Candidate(spec, arrays, es.TRAINED, {"tokens": [1, 2]}, test=test)
