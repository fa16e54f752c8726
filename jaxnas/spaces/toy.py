"""A tiny space with a prefix-dependent mask, for tests and tutorials."""

import functools
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jaxnas.core.errors import UserError
from jaxnas.core.space import Value
from jaxnas.core.types import Graph, Spec
from jaxnas.spaces import spec as sp

WIDTH = 4  # features of a layer for each step of its token


@dataclass(frozen=True)
class Toy:
    """Chains of layers: 0 does nothing, ``k`` is a dense layer of ``4 k`` features.

    A layer may not follow a layer of its own kind directly, so the legal tokens depend on
    the prefix and drawing each token uniformly is *not* uniform over architectures.

    Args:
        length: number of places, ``L >= 1``.
        vocab: token values, ``V >= 2``.

    Raises:
        UserError: a length or a vocabulary out of range.
    """

    length: int = 4
    vocab: int = 3

    def __post_init__(self) -> None:
        if self.length < 1 or self.vocab < 2:
            raise UserError(
                "The toy space needs length >= 1 and vocab >= 2, got "
                f"length={self.length} and vocab={self.vocab}."
            )

    @property
    def id(self) -> str:
        """Versioned name."""
        return "toy-v1"

    @property
    def decision_names(self) -> tuple[str, ...]:
        """Places from the left, ``layer1`` on."""
        return tuple(f"layer{t + 1}" for t in range(self.length))

    @property
    def decision_values(self) -> tuple[tuple[Value, ...], ...]:
        """Features of the layer; 0 for none."""
        return (tuple(4 * k for k in range(self.vocab)),) * self.length

    def mask(self, tokens: Int[Array, "L"], t: Int[Array, ""]) -> Bool[Array, "V"]:
        """Returns the legal tokens: 0, and any layer other than the one just before."""
        choice = jnp.arange(self.vocab, dtype=jnp.int32)
        return (choice == 0) | (choice != self._previous(tokens, t))

    def count(self) -> int:
        """Returns the exact number of architectures."""
        return _followers(self.length, self.vocab)[0]

    def completions(self, tokens: Int[Array, "L"], t: Int[Array, ""]) -> Float[Array, "V"]:
        """Returns the share of the architectures after ``tokens[:t]`` behind each token."""
        shares = jnp.asarray(_shares(self.length, self.vocab))
        behind = shares[t, jnp.minimum(self._previous(tokens, t), 1)]
        weight = jnp.where(
            jnp.arange(self.vocab, dtype=jnp.int32) == 0, behind[0], behind[1]
        )
        return jnp.where(self.mask(tokens, t), weight, 0.0)

    def canonical(self, tokens: Int[Array, "L"]) -> Int[Array, "L"]:
        """Returns the layers moved as far left as the mask allows: the same chain."""

        def place(
            carry: tuple[Int[Array, "L"], Int[Array, ""], Int[Array, ""]],
            token: Int[Array, ""],
        ) -> tuple[tuple[Int[Array, "L"], Int[Array, ""], Int[Array, ""]], None]:
            written, at, last = carry
            at = at + (token == last)
            written = jnp.where(
                (jnp.arange(self.length, dtype=jnp.int32) == at) & (token > 0),
                token,
                written,
            )
            layer = token > 0
            return (written, at + layer, jnp.where(layer, token, last)), None

        start = (jnp.zeros_like(tokens), jnp.int32(0), jnp.int32(-1))
        (written, _, _), _ = jax.lax.scan(place, start, tokens)
        return written

    def to_graph(self, tokens: Int[Array, "L"]) -> Graph:
        """Returns the chain, ``N = L + 2``: input (1), layers (2 + token), output (2)."""
        ends = jnp.ones(1, bool)
        present = jnp.concatenate([ends, tokens > 0, ends])
        ops = jnp.concatenate([jnp.array([1]), 2 + tokens, jnp.array([2])])
        rank = jnp.cumsum(present)
        follows = rank[None, :] == rank[:, None] + 1
        adjacency = follows & present[:, None] & present[None, :]
        return Graph(jnp.where(present, ops, 0).astype(jnp.int32), adjacency, present)

    def to_spec(self, tokens: np.ndarray) -> Spec:
        """Returns the chain as a spec: block ``chain``, then a linear head of 2 classes."""
        nodes, last = [], "in"
        for place, token in enumerate(int(token) for token in tokens):
            name = f"layer{place}"
            if token == 0:
                nodes.append(sp.node(name, "identity", [last]))
            else:
                nodes.append(sp.node(name, "linear", [last], features=WIDTH * token))
                nodes.append(sp.node(f"act{place}", "relu", [name]))
            last = nodes[-1]["name"]
        return {
            "format": sp.FORMAT,
            "space": self.id,
            "inputs": {"features": sp.vector(8)},
            "outputs": {"logits": sp.vector(2)},
            "blocks": {"chain": sp.block(["in"], nodes, [last])},
            "nodes": [
                sp.node("body", "call", ["features"], block="chain"),
                sp.node("logits", "linear", ["body"], features=2),
            ],
        }

    def from_spec(self, spec: Spec) -> np.ndarray:
        """Returns the tokens that ``to_spec`` was given.

        Raises:
            UserError: not a spec of this space.
        """
        nodes = sp.body(spec, self.id, "chain")
        layers = [nodes.get(f"layer{place}") for place in range(self.length)]
        if None in layers or f"layer{self.length}" in nodes:
            raise UserError(f"This toy spec does not have {self.length} places.")
        features = [item["attributes"].get("features", 0) for item in layers if item]
        return np.array([width // WIDTH for width in features], np.int32)

    def _previous(self, tokens: Int[Array, "L"], t: Int[Array, ""]) -> Int[Array, ""]:
        """Returns the token before ``t``, 0 at the start."""
        return jnp.where(t > 0, tokens[jnp.maximum(t - 1, 0)], 0)


@functools.cache
def _followers(remaining: int, vocab: int) -> tuple[int, int]:
    """Returns how many ways ``remaining`` places can be filled after a 0, after a layer."""
    after_zero, after_layer = 1, 1
    for _ in range(remaining):
        after_zero, after_layer = (
            after_zero + (vocab - 1) * after_layer,
            after_zero + (vocab - 2) * after_layer,
        )
    return after_zero, after_layer


@functools.cache
def _shares(length: int, vocab: int) -> np.ndarray:
    """Returns ``[L, 2, 2]``: share behind (a 0, one legal layer), by what came before."""
    shares = np.empty((length, 2, 2), np.float32)
    for t in range(length):
        total = _followers(length - t, vocab)
        behind = _followers(length - t - 1, vocab)
        for previous in range(2):
            for choice in range(2):  # exact integers, rounded once by the division
                shares[t, previous, choice] = behind[choice] / total[previous]
    return shares
