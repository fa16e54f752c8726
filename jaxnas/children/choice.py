"""One network for all architectures of a space, with the architecture as an input.

Where the specs of a space differ only in which operation stands at a node (cells such as
``nb201``), a network can hold every alternative and choose at run time: one compilation
serves every architecture. The choice is a ``switch``, so on CPU only the chosen operation
is computed.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxnas.children.build import canonical_text
from jaxnas.children.check import check
from jaxnas.children.count import layers
from jaxnas.children.ops import lookup
from jaxnas.children.rules import Shape
from jaxnas.children.walk import walk
from jaxnas.core.errors import UserError
from jaxnas.core.space import SearchSpace
from jaxnas.core.types import Spec

Use = tuple[str, str]  # operation and its attributes as JSON


class ChoiceChild(nn.Module):
    """Every architecture of a space in one module; make it with :func:`build_choice`.

    The architecture is a variable, ``choice/tokens``, ``int32[L]``: see :func:`choose`.
    Layers are named as in :class:`jaxnas.children.build.Child`, with ``@TOKEN`` behind the
    path of a node that is chosen: ``stage0_cell0.edge12@2.conv``.

    Args:
        text: canonical JSON of the spec of one architecture.
        choices: path of a node -> position of the token that chooses it, and what stands
            there for each token value.
    """

    text: str
    choices: tuple[tuple[str, int, tuple[Use, ...]], ...]

    @nn.compact
    def __call__(
        self, x: Float[Array, "B *input"], train: bool = False
    ) -> Float[Array, "B classes"]:
        """Returns the logits of the chosen architecture."""
        spec = json.loads(self.text)
        length = 1 + max(place for _, place, _ in self.choices)
        tokens = self.variable("choice", "tokens", jnp.zeros, length, jnp.int32).value
        chosen = {path: (place, uses) for path, place, uses in self.choices}

        def visit(
            op: str, attributes: Mapping[str, Any], inputs: Sequence[Array], path: str
        ) -> Array:
            if path not in chosen:
                return lookup(op, path).flax(inputs, attributes, path, train)
            place, uses = chosen[path]
            branches = [_branch(use, f"{path}@{t}", train) for t, use in enumerate(uses)]
            if self.is_initializing():
                for branch in branches:
                    branch(self, *inputs)
            return nn.switch(tokens[place], branches, self, *inputs)

        ((source, _),) = spec["inputs"].items()
        (output,) = spec["outputs"]
        return walk(spec, {source: x}, visit)[output]


def _branch(use: Use, path: str, train: bool) -> Any:
    """Returns one alternative as a function of (module, inputs)."""
    op, attributes = use[0], json.loads(use[1])

    def branch(module: nn.Module, *inputs: Array) -> Array:
        return lookup(op, path).flax(inputs, attributes, path, train)

    return branch


def build_choice(space: SearchSpace) -> ChoiceChild:
    """Returns the network of all architectures of a space.

    Raises:
        UserError: the specs of the space differ in more than the operation at a node, or
            one decision depends on another; such a space is trained one by one.
    """
    refusal = UserError(
        f"The networks of {space.id!r} differ in more than the operation at a node, so "
        "they cannot share one program; train them one by one (route='exact')."
    )
    base = np.zeros(space.length, np.int32)
    free = [jnp.all(space.mask(jnp.asarray(base), jnp.int32(t))) for t in range(len(base))]
    if not all(map(bool, free)):
        raise refusal
    spec = space.to_spec(base)
    check(spec, lack="which the flax backend lacks")
    standing, shapes = _uses(spec), _shapes(spec)
    choices: dict[str, tuple[int, list[Use]]] = {}
    for place in range(space.length):
        for token in range(space.vocab):
            row = np.where(np.arange(space.length) == place, token, base).astype(np.int32)
            changed = space.to_spec(row)
            other = _uses(changed)
            if list(other) != list(standing) or _shapes(changed) != shapes:
                raise refusal
            for path in (p for p in other if other[p] != standing[p]):
                at = choices.setdefault(path, (place, [standing[path]] * space.vocab))
                if at[0] != place:
                    raise refusal
                at[1][token] = other[path]
                if "dropout" in (other[path][0], standing[path][0]):
                    raise refusal  # its key is not lifted into a branch
    module = ChoiceChild(
        canonical_text(spec),
        tuple((path, place, tuple(uses)) for path, (place, uses) in choices.items()),
    )
    _verify(space, standing, shapes, choices, refusal)
    return module


def _verify(
    space: SearchSpace,
    standing: Mapping[str, Use],
    shapes: Mapping[str, Shape],
    choices: Mapping[str, tuple[int, list[Use]]],
    refusal: UserError,
) -> None:
    """Raises where changing several tokens at once is more than changing each."""
    rows = np.random.default_rng(0).integers(0, space.vocab, (16, space.length))
    for row in rows.astype(np.int32):
        spec = space.to_spec(row)
        found = _uses(spec)
        if _shapes(spec) != shapes:
            raise refusal
        for path, use in standing.items():
            place, uses = choices.get(path, (0, [use] * space.vocab))
            if found.get(path) != uses[int(row[place])]:
                raise refusal


def _uses(spec: Spec) -> dict[str, Use]:
    found: dict[str, Use] = {}

    def visit(op: str, attributes: Mapping[str, Any], inputs: tuple, path: str) -> None:
        found[path] = (op, json.dumps(attributes, sort_keys=True))

    walk(spec, dict.fromkeys(spec["inputs"]), visit)
    return found


def _shapes(spec: Spec) -> dict[str, Shape]:
    return {path: made.shape for path, made in layers(spec)}


def choose(
    variables: Mapping[str, Any], tokens: Int[Array | np.ndarray, "L"]
) -> dict[str, Any]:
    """Returns the variables with another architecture chosen."""
    return {**variables, "choice": {"tokens": jnp.asarray(tokens, jnp.int32)}}


def select(
    module: ChoiceChild, variables: Mapping[str, Any], tokens: np.ndarray
) -> dict[str, Any]:
    """Returns one architecture's variables, for :class:`jaxnas.children.build.Child`."""
    wanted = {f"{path}@{int(tokens[place])}": path for path, place, _ in module.choices}
    found: dict[str, Any] = {}
    for collection in ("params", "batch_stats"):
        layers = variables.get(collection, {})
        group = found.setdefault(collection, {})
        for name, layer in layers.items():
            stem, at, tail = name.partition("@")
            if not at:
                group[name] = layer
                continue
            token, dot, part = tail.partition(".")
            if f"{stem}@{token}" in wanted:
                group[f"{stem}{dot}{part}"] = layer
    return found
