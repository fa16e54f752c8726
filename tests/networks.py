"""Weights for networks that tests build without training, and specs that are damaged."""

import copy
import math
import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from jaxnas.children.count import arrays
from jaxnas.children.weights import to_arrays
from jaxnas.core.types import Spec


def random_arrays(spec: Spec, seed: int) -> dict[str, np.ndarray]:
    """Returns weights as if trained: running statistics, scales and biases all differ.

    Kernels are normal with variance 1 / fan-in, so that logits stay of order one.
    """
    rng = np.random.default_rng(seed)
    made = {}
    for name, shape in arrays(spec).items():
        if name.endswith("running_var"):
            value = rng.uniform(0.5, 2.0, shape)
        elif name.endswith("weight") and len(shape) == 1:
            value = rng.uniform(0.5, 1.5, shape)
        elif name.endswith("weight"):
            value = rng.normal(0.0, 1 / math.sqrt(math.prod(shape[1:])), shape)
        else:
            value = rng.normal(0.0, 0.3, shape)
        made[name] = value.astype(np.float32)
    return made


def torch_logits(spec: Spec, variables: Mapping[str, Any], x: np.ndarray) -> np.ndarray:
    """Returns the logits of the torch form of a network of flax weights.

    Skips the test where torch is missing. ``x`` has channels last.
    """
    torch = pytest.importorskip("torch")
    from jaxnas.analog.bridge.torch_net import TorchNet

    net = TorchNet(spec).eval()
    arrays = to_arrays(variables).items()
    state = {name: torch.from_numpy(np.array(value)) for name, value in arrays}
    assert not net.load_state_dict(state, strict=False).unexpected_keys
    with torch.no_grad():
        return net(torch.from_numpy(np.array(np.moveaxis(x, -1, 1)))).numpy()


def damaged(spec: Spec, rng: random.Random) -> Spec:
    """Returns a copy of a spec with one random part replaced by junk, removed or moved."""
    spec = copy.deepcopy(spec)
    part: Any = spec
    key: Any = rng.choice(list(spec))
    while isinstance(part[key], dict | list) and part[key] and rng.random() < 0.85:
        part = part[key]
        key = rng.choice(list(part)) if isinstance(part, dict) else rng.randrange(len(part))
    junk: list[Any] = [
        None,
        -1,
        0,
        3,
        2.5,
        "x",
        "",
        [],
        {},
        ["in"],
        {"a": 1},
        True,
        10**30,
        "cell",
    ]
    what = rng.choice(["replace", "remove", "move"])
    if what == "replace" or isinstance(part, dict):
        part[key] = rng.choice(junk)
    elif what == "remove":
        del part[key]
    else:
        part.append(part.pop(key))
    return spec
