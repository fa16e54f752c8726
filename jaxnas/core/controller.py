"""Controllers: policies with a value head."""

from typing import Protocol, runtime_checkable

from jaxtyping import Array, Bool, PyTree

from jaxnas.core.types import PolicyOutput


@runtime_checkable
class Controller(Protocol):
    """A recurrent or feed-forward policy with a value head.

    ``init(key) -> params`` and ``apply`` come from flax.linen; these are the calls that an
    algorithm makes through ``module.apply(params, ..., method=...)``.
    """

    def initial_carry(self, batch: int) -> PyTree:
        """Returns the memory before the first step; empty for a feed-forward net."""
        ...

    def __call__(
        self, carry: PyTree, obs: PyTree, reset: Bool[Array, "B"]
    ) -> tuple[PyTree, PolicyOutput]:
        """Returns the new memory and one step's policy; ``reset`` clears memory first."""
        ...
