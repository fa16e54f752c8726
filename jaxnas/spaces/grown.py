"""Sequences of morphs of one growing network."""

import functools
import math
from dataclasses import dataclass
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jaxnas.core.errors import UserError
from jaxnas.core.space import Value
from jaxnas.core.types import Graph, Spec
from jaxnas.spaces import spec as sp
from jaxnas.spaces.growth import KEEP, KINDS, LONGEST, Limits


@dataclass(frozen=True)
class Grown:
    """Growth of a network: at each step widen, deepen or skip in a stage, or keep it.

    A token is an action of :class:`jaxnas.spaces.growth.Limits`: 0 keeps the network, then
    widen, deepen and skip by stage. An action beyond the limits is illegal. An architecture
    is the whole sequence, since when a network grew decides what it learned; its spec is
    that of the last network and names the actions in ``growth``.

    Args:
        stages: at full, half, a quarter of the image's sides, ...
        steps: actions, ``L``.
        levels: widths of a stage, doubled each time.
        depth: most convolutions of a stage.
        channels: width of every stage at first.
        num_classes: of the data set.
        image: height, width and channels of an input.

    Raises:
        UserError: a size that no network has.
    """

    stages: int = 3
    steps: int = 8
    levels: int = 3
    depth: int = 3
    channels: int = 4
    num_classes: int = 10
    image: tuple[int, int, int] = (32, 32, 3)

    def __post_init__(self) -> None:
        if not 1 <= self.steps <= LONGEST:
            raise UserError(f"A growth needs 1 to {LONGEST} steps, not {self.steps}.")
        _ = self.limits

    @property
    def id(self) -> str:
        """Versioned name."""
        sizes = (self.stages, self.steps, self.levels, self.depth)
        plain = sizes == (3, 8, 3, 3)
        return "grown-v1" if plain else "grown-v1-" + "-".join(map(str, sizes))

    @property
    def limits(self) -> Limits:
        """How the network begins and how far it can grow."""
        return Limits(
            self.stages, self.channels, self.levels, self.depth, self.image,
            self.num_classes,
        )  # fmt: skip

    @property
    def length(self) -> int:
        """Number of steps."""
        return self.steps

    @property
    def vocab(self) -> int:
        """Number of actions."""
        return 1 + len(KINDS) * self.stages

    @property
    def decision_names(self) -> tuple[str, ...]:
        """Steps in order, ``step1`` on."""
        return tuple(f"step{t + 1}" for t in range(self.steps))

    @property
    def decision_values(self) -> tuple[tuple[Value, ...], ...]:
        """Names of the actions, for each step."""
        return (self.limits.actions,) * self.steps

    def for_images(
        self, image: tuple[int, int, int], num_classes: int, **size: int
    ) -> "Grown":
        """Returns the same growth of networks for other images; a size is ``channels``."""
        return sp.resized(self, ("channels",), image, num_classes, size)

    def mask(self, tokens: Int[Array, "L"], t: Int[Array, ""]) -> Bool[Array, "V"]:
        """Returns the actions within the limits after ``tokens[:t]``."""
        before = jnp.arange(self.steps, dtype=jnp.int32) < t
        return self.limits.legal(self._taken(jnp.where(before, tokens, KEEP)))

    def count(self) -> int:
        """Returns the exact number of sequences: ``L! [x^L]`` of a product of series.

        An action that can be taken ``m`` times contributes ``sum x^k / k!`` up to ``m``.
        """
        return _sequences(self.steps, tuple(self.limits.most.tolist()))

    def completions(self, tokens: Int[Array, "L"], t: Int[Array, ""]) -> Float[Array, "V"]:
        """Returns the share of the sequences after ``tokens[:t]`` behind each action.

        The series of :meth:`count` of what is left of each action, in float32: all terms
        are positive, so nothing cancels. Their variable is scaled to keep them near one.
        """
        before = jnp.arange(self.steps, dtype=jnp.int32) < t
        taken = self._taken(jnp.where(before, tokens, KEEP))
        left = jnp.append(jnp.int32(self.steps), jnp.asarray(self.limits.most) - taken)
        behind = left - jnp.eye(self.vocab, dtype=jnp.int32)  # [V of next, V left]
        terms = jnp.asarray(_terms(self.steps))
        place = jnp.arange(self.steps, dtype=jnp.int32)
        series = jnp.where(place <= behind[..., None], terms, 0.0)
        earlier = place[:, None] - place

        def times(product: Array, factor: Array) -> tuple[Array, None]:
            shifted = jnp.where(earlier >= 0, factor[:, earlier], 0.0)  # [V, to, from]
            return jnp.einsum("vij,vj->vi", shifted, product), None

        one = jnp.zeros((self.vocab, self.steps), jnp.float32).at[:, 0].set(1.0)
        product, _ = jax.lax.scan(times, one, series.swapaxes(0, 1))
        sequences = product[:, self.steps - 1 - t]
        return sequences / jnp.sum(sequences)

    def canonical(self, tokens: Int[Array, "L"]) -> Int[Array, "L"]:
        """Returns the actions in the order of their numbers: the same last network."""
        return jnp.sort(tokens)

    def to_graph(self, tokens: Int[Array, "L"]) -> Graph:
        """Returns the last network, ``N = 2 + stages (depth + 1)``.

        Input (op 1), the convolutions of each stage (op 3 + level of its width) and its
        skip (the op after these), output (op 2). What is not there is padding.
        """
        limits, S, D = self.limits, self.stages, self.depth
        taken = self._taken(tokens)
        layer = jnp.arange(D, dtype=jnp.int32) < limits.depths(taken)[:, None]
        present = jnp.concatenate([layer, limits.skips(taken)[:, None]], axis=1)
        level = jnp.broadcast_to(3 + taken[:S, None], (S, D))
        skip_op = jnp.full((S, 1), 3 + self.levels, jnp.int32)
        ops = jnp.concatenate([level, skip_op], axis=1).reshape(-1)
        ends = jnp.ones(1, bool)
        there = jnp.concatenate([ends, present.reshape(-1), ends])
        ops = jnp.concatenate([jnp.array([1]), ops, jnp.array([2])])
        wired = self._wired(limits.depths(taken)) & there[:, None] & there[None, :]
        return Graph(jnp.where(there, ops, 0).astype(jnp.int32), wired, there)

    def to_spec(self, tokens: np.ndarray) -> Spec:
        """Returns the last network and, as ``growth``, the actions that led to it."""
        row = np.asarray(tokens)
        taken = np.bincount(row, minlength=self.vocab)[1:].astype(np.int32)
        spec = sp.image_spec(self, {}, self.limits.nodes(taken))
        names = self.limits.actions
        return {**spec, "growth": [names[int(token)] for token in row]}

    def from_spec(self, spec: Spec) -> np.ndarray:
        """Returns the tokens that ``to_spec`` was given.

        Raises:
            UserError: not a spec of this space, or a network that its ``growth`` does not
                lead to.
        """
        names, growth = self.limits.actions, spec.get("growth")
        listed = growth if isinstance(growth, list) else []
        known = len(listed) == self.steps and all(name in names for name in listed)
        if not known or spec.get("space") != self.id:
            raise UserError(
                f"This spec of {spec.get('space')!r} has no growth of {self.steps} actions "
                f"of {self.id!r}."
            )
        tokens = np.array([names.index(name) for name in listed], np.int32)
        taken = np.bincount(tokens, minlength=self.vocab)[1:]
        if (taken > self.limits.most).any() or self.to_spec(tokens) != spec:
            raise UserError(
                f"The growth of this spec does not lead to its network within the limits "
                f"of {self.id!r}."
            )
        return tokens

    def _taken(self, tokens: Int[Array, "L"]) -> Int[Array, "K"]:
        """Returns how often each action but ``keep`` stands there."""
        kinds = jnp.arange(1, self.vocab, dtype=jnp.int32)
        return jnp.sum(tokens[:, None] == kinds, axis=0, dtype=jnp.int32)

    def _wired(self, depths: Int[Array, "S"]) -> Bool[Array, "N N"]:
        """Returns which nodes would feed which, were all there."""
        S, D = self.stages, self.depth
        nodes = 2 + S * (D + 1)
        first = [1 + s * (D + 1) for s in range(S)] + [nodes - 1]
        wired = jnp.zeros((nodes, nodes), bool)
        ends = [jnp.zeros(1, jnp.int32)]  # what leaves the stage before: here the input
        for s in range(S):
            for layer in range(D - 1):
                wired = wired.at[first[s] + layer, first[s] + layer + 1].set(True)
            for node in ends:
                wired = wired.at[node, first[s]].set(True)
                wired = wired.at[node, first[s] + D].set(True)
            ends = [first[s] + depths[s] - 1, jnp.int32(first[s] + D)]
        for node in ends:
            wired = wired.at[node, nodes - 1].set(True)
        return wired


@functools.cache
def _terms(steps: int) -> Float[np.ndarray, "L"]:
    """Returns ``c^k / k!`` for ``k`` below ``steps``, with ``c = steps / 3``."""
    scale = Fraction(steps, 3)
    terms = [scale**k / math.factorial(k) for k in range(steps)]
    return np.array([float(term) for term in terms], np.float32)


@functools.cache
def _sequences(steps: int, most: tuple[int, ...]) -> int:
    """Returns the sequences of a length where each action has a limit and one has none."""
    series = [Fraction(1, math.factorial(k)) for k in range(steps + 1)]
    for limit in most:
        term = [Fraction(1, math.factorial(k)) for k in range(min(limit, steps) + 1)]
        series = [
            sum((series[n - k] * c for k, c in enumerate(term) if k <= n), Fraction(0))
            for n in range(steps + 1)
        ]
    return int(series[steps] * math.factorial(steps))
