"""A flax network made from a spec."""

import functools
import json
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
from jaxtyping import Array, Float

from jaxnas.children.check import check
from jaxnas.children.ops import lookup
from jaxnas.children.walk import walk
from jaxnas.core.errors import UserError
from jaxnas.core.types import Spec


def canonical_text(spec: Spec) -> str:
    """Returns the spec as JSON with sorted keys and no spaces: equal for equal networks."""
    return json.dumps(spec, sort_keys=True, separators=(",", ":"), allow_nan=False)


class Child(nn.Module):
    """A searched network; hashable, two of one spec are equal and share a compilation.

    Every layer is a direct submodule whose name is its path: ``PATH`` for ``conv``,
    ``linear`` and ``batch_norm``, ``PATH.conv`` and ``PATH.norm`` for ``relu_conv_bn``.
    Collections: ``params`` and ``batch_stats``.
    """

    text: str

    @property
    def spec(self) -> Spec:
        """The spec, parsed; shared, so it must not be changed."""
        return _parse(self.text)

    @nn.compact
    def __call__(
        self, x: Float[Array, "B *input"], train: bool = False
    ) -> Float[Array, "B classes"]:
        """Returns the logits of float32 images ``[B, H, W, C]`` or vectors ``[B, F]``.

        A text is a vector of word ids, whole numbers as float32.

        Training normalises by the batch and updates ``batch_stats``, which must be mutable;
        else ``batch_stats`` normalise.

        Raises:
            UserError: inputs of another shape than the spec declares.
        """
        spec = self.spec
        ((source, kind),) = spec["inputs"].items()
        if x.shape[1:] != tuple(kind["shape"]):
            raise UserError(
                f"The network takes inputs of shape {tuple(kind['shape'])}, not "
                f"{x.shape[1:]}."
            )

        (output,) = spec["outputs"]
        return walk(spec, {source: x}, functools.partial(_visit, train))[output]


def build(spec: Spec) -> Child:
    """Returns the flax network that a spec describes.

    Example:
        >>> import jax, jaxnas, numpy
        >>> nb201 = jaxnas.make_space("nb201")
        >>> space = nb201.for_images((8, 8, 1), 10, channels=4, cells=1)
        >>> child = build(space.to_spec(numpy.array([2, 0, 4, 1, 3, 2])))
        >>> images = jax.numpy.zeros((5, 8, 8, 1))
        >>> jax.eval_shape(child.init_with_output, jax.random.key(0), images)[0].shape
        (5, 10)

    Raises:
        UserError: a spec that no network can be built from (see
            :func:`jaxnas.children.check.check`), with several inputs or outputs, or whose
            output is an image.
    """
    check(spec, lack="which the flax backend lacks")
    if len(spec["inputs"]) != 1 or len(spec["outputs"]) != 1:
        raise UserError(
            f"The spec has the inputs {list(spec['inputs'])} and the outputs "
            f"{list(spec['outputs'])}; a child network has one of each."
        )
    ((name, kind),) = spec["outputs"].items()
    if kind["kind"] != "vector":
        raise UserError(f"The output {name!r} is an image; logits must be a vector.")
    return Child(canonical_text(spec))


@functools.lru_cache(maxsize=256)
def _parse(text: str) -> Spec:
    return json.loads(text)


def _visit(
    train: bool, op: str, attributes: Mapping[str, Any], inputs: Sequence[Array], path: str
) -> Array:
    return lookup(op, path).flax(inputs, attributes, path, train)
