"""Networks that grow: their limits, the actions that make them larger, and their spec.

A network has stages, each at half the sides of the one before. A stage is a chain of 3x3
convolutions of one width with batch norm and ReLU, and may have a skip: a convolution of
1x1 from what enters it to what leaves it. It begins with one narrow convolution. Actions,
each of one stage: *widen* doubles its width, *deepen* adds a convolution at its end, *skip*
adds the skip. References: Chen et al., Net2Net, ICLR 2016; Cai et al., Efficient
Architecture Search by Network Transformation, AAAI 2018.
"""

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from jaxnas.core.errors import UserError
from jaxnas.spaces import spec as sp

KINDS = ("widen", "deepen", "skip")
KEEP = 0
"""The action that changes nothing: training goes on."""
WIDEST, LONGEST = 2**16, 64
"""Most features, and most stages, levels and layers, that limits may name."""
_WINDOW = {"kernel": 3, "stride": 1, "padding": 1, "bias": False}
_ONE = {"kernel": 1, "stride": 1, "padding": 0, "bias": False}


@dataclass(frozen=True)
class Limits:
    """How a network begins and how far it can grow.

    What was done to a network is ``taken``, ``int[K]``, ``K = 3 S``: how often each action,
    in the order widen, deepen, skip, and by stage within these.

    Args:
        stages: ``S``, each at half the sides of the one before.
        channels: width of every stage at first.
        levels: widths that a stage can have; each is twice the one before.
        depth: most convolutions of a stage.
        image: height, width and channels of an input.
        num_classes: of the data set.

    Raises:
        UserError: a number out of range, or an image too small to be halved.
    """

    stages: int
    channels: int
    levels: int
    depth: int
    image: tuple[int, int, int]
    num_classes: int

    def __post_init__(self) -> None:
        sizes = (self.stages, self.levels, self.depth)
        least = min(*sizes, self.channels, self.num_classes, *self.image)
        if least < 1 or max(sizes) > LONGEST or self.widest > WIDEST:
            raise UserError(
                "A grown network needs stages, levels and depth of 1 to "
                f"{LONGEST}, channels of at least 1 that reach at most {WIDEST}, and an "
                f"image and classes of at least 1; got {self}."
            )
        if min(self.image[:2]) < 2 ** (self.stages - 1):
            raise UserError(
                f"An image of {self.image[0]} x {self.image[1]} cannot be halved for each "
                f"of {self.stages} stages; use fewer stages or larger images."
            )

    @property
    def widest(self) -> int:
        """Largest width of a stage."""
        return self.channels * 2 ** (self.levels - 1)

    @property
    def actions(self) -> tuple[str, ...]:
        """Names: ``keep``, then ``widen1`` and on, ``deepen1`` and on, ``skip1`` and on."""
        stages = range(1, self.stages + 1)
        return ("keep", *(f"{kind}{s}" for kind in KINDS for s in stages))

    @property
    def most(self) -> Int[np.ndarray, "K"]:
        """How often each action but ``keep`` can be taken."""
        return np.repeat(
            np.array([self.levels - 1, self.depth - 1, 1], np.int32), self.stages
        )

    def legal(self, taken: Int[Array, "K"]) -> Bool[Array, "A"]:
        """Returns which actions can be taken; ``keep`` always can."""
        return jnp.concatenate([jnp.ones(1, bool), taken < jnp.asarray(self.most)])

    def added(self, taken: Int[Array, "K"], action: Int[Array, ""]) -> Int[Array, "K"]:
        """Returns ``taken`` after a legal action."""
        return taken + jax.nn.one_hot(action - 1, 3 * self.stages, dtype=jnp.int32)

    def widths(self, taken: Int[Array, "K"]) -> Int[Array, "S"]:
        """Returns the features of each stage."""
        return self.channels * 2 ** taken[: self.stages]

    def depths(self, taken: Int[Array, "K"]) -> Int[Array, "S"]:
        """Returns the convolutions of each stage."""
        return 1 + taken[self.stages : 2 * self.stages]

    def skips(self, taken: Int[Array, "K"]) -> Bool[Array, "S"]:
        """Returns which stages have their skip."""
        return taken[2 * self.stages :] > 0

    def nodes(self, taken: Int[np.ndarray, "K"]) -> list[dict[str, Any]]:
        """Returns the nodes of a network's spec, from ``image`` to ``logits``."""
        S = self.stages
        made: list[dict[str, Any]] = []
        last = "image"
        for s, (wider, deeper, skip) in enumerate(zip(*np.reshape(taken, (3, S)).tolist())):
            stage, features = f"stage{s + 1}", self.channels * 2**wider
            if s:
                window = {"kernel": 2, "stride": 2, "padding": 0}
                made.append(sp.node(f"{stage}_in", "max_pool", [last], **window))
                last = f"{stage}_in"
            start = last
            for layer in range(1, deeper + 2):
                name = f"{stage}_conv{layer}"
                made += [
                    sp.node(name, "conv", [last], **_WINDOW, features=features),
                    sp.node(f"{stage}_norm{layer}", "batch_norm", [name]),
                    sp.node(f"{stage}_relu{layer}", "relu", [f"{stage}_norm{layer}"]),
                ]
                last = f"{stage}_relu{layer}"
            if skip:
                name = f"{stage}_skip"
                made += [
                    sp.node(name, "conv", [start], **_ONE, features=features),
                    sp.node(f"{stage}_out", "sum", [last, name]),
                ]
                last = f"{stage}_out"
        return [
            *made,
            sp.node("pool", "global_avg_pool", [last]),
            sp.node("logits", "linear", ["pool"], features=self.num_classes),
        ]


@runtime_checkable
class Growing(Protocol):
    """A space whose tokens are actions on one growing network, in the order of time."""

    @property
    def limits(self) -> Limits:
        """How the network begins and how far it can grow."""
        ...


def limits_of(space: Any) -> Limits:
    """Returns the limits of a space.

    Raises:
        UserError: its networks do not grow.
    """
    if not isinstance(space, Growing):
        raise UserError(
            f"The networks of {getattr(space, 'id', space)!r} do not grow; use a space "
            "such as grown."
        )
    return space.limits
