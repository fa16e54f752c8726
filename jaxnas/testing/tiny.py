"""A space of nine small networks that train in about a second, for tests."""

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from jaxnas.core.errors import UserError
from jaxnas.core.types import Graph, Spec
from jaxnas.spaces import spec as sp

OPS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("identity", {}),
    ("relu_conv_bn", {"kernel": 3, "stride": 1, "padding": 1, "features": None}),
    ("avg_pool", {"kernel": 3, "stride": 1, "padding": 1}),
)
"""What a token stands for."""


@dataclass(frozen=True)
class TinyNets:
    """Stem of stride 2, a sum of two searched operations, head: nine networks."""

    channels: int = 4
    num_classes: int = 10
    image: tuple[int, int, int] = (8, 8, 1)
    id = "tiny-nets-v1"
    length = 2
    vocab = len(OPS)

    def for_images(
        self, image: tuple[int, int, int], num_classes: int, **size: int
    ) -> "TinyNets":
        """Returns the same networks for other images; the size is ``channels``."""
        return sp.resized(self, ("channels",), image, num_classes, size)

    def mask(self, tokens: Int[Array, "L"], t: Int[Array, ""]) -> Bool[Array, "V"]:
        """Returns all True."""
        return jnp.ones(self.vocab, bool)

    def canonical(self, tokens: Int[Array, "L"]) -> Int[Array, "L"]:
        """Returns the tokens sorted: a sum has no order."""
        return jnp.sort(tokens)

    def to_graph(self, tokens: Int[Array, "L"]) -> Graph:
        """Returns input, both operations and output, ``N = 4``."""
        wired = jnp.zeros((4, 4), bool).at[0, 1:3].set(True).at[1:3, 3].set(True)
        ends = jnp.array([1]), 3 + tokens, jnp.array([2])
        return Graph(jnp.concatenate(ends).astype(jnp.int32), wired, jnp.ones(4, bool))

    def to_spec(self, tokens: np.ndarray) -> Spec:
        """Returns the whole network."""
        stem = {"kernel": 3, "stride": 2, "padding": 1, "features": self.channels}
        parts = [OPS[int(token)] for token in tokens]
        nodes = [
            sp.node("stem", "conv", ["image"], **stem, bias=False),
            sp.node("norm", "batch_norm", ["stem"]),
            *(sp.node(f"op{i}", op, ["norm"], **a) for i, (op, a) in enumerate(parts)),
            sp.node("sum", "sum", ["op0", "op1"]),
            sp.node("relu", "relu", ["sum"]),
            sp.node("pool", "global_avg_pool", ["relu"]),
            sp.node("logits", "linear", ["pool"], features=self.num_classes),
        ]
        return {
            "format": sp.FORMAT,
            "space": self.id,
            "inputs": {"image": sp.image(*self.image)},
            "outputs": {"logits": sp.vector(self.num_classes)},
            "blocks": {},
            "nodes": nodes,
        }

    def from_spec(self, spec: Spec) -> np.ndarray:
        """Returns the tokens that ``to_spec`` was given; UserError on another spec."""
        standing = {item["name"]: item for item in spec.get("nodes", [])}
        try:
            found = [standing[name] for name in ("op0", "op1")]
            tokens = [OPS.index((item["op"], item["attributes"])) for item in found]
        except (KeyError, ValueError) as error:
            raise UserError(f"This spec is no network of {self.id!r}.") from error
        return np.array(tokens, np.int32)
