"""Environments: dynamics without a score."""

from typing import Protocol, runtime_checkable

from jaxtyping import Array, Key, PyTree

from jaxnas.core.types import Timestep


@runtime_checkable
class Environment(Protocol):
    """Dynamics only: key and parameters are arguments, never hidden in the state.

    Whoever steps one passes ``params`` last; let it be optional for people's sake.
    """

    @property
    def num_actions(self) -> int:
        """Number of discrete actions ``A``, or components of a continuous one."""
        ...

    def reset(self, key: Key[Array, ""], params: PyTree) -> tuple[PyTree, Timestep]:
        """Returns the first state and time step of an episode."""
        ...

    def step(
        self, key: Key[Array, ""], state: PyTree, action: Array, params: PyTree
    ) -> tuple[PyTree, Timestep]:
        """Returns the state and time step after ``action``."""
        ...
