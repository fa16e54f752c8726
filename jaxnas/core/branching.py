"""Branches that stay branches when they are mapped over controllers on a CPU."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def branching(function: Callable[..., Any]) -> Callable[..., Any]:
    """Returns a function whose branches stay branches when it is mapped, on a CPU.

    ``vmap`` computes all branches, which an accelerator does side by side. A CPU visits
    the controllers one after another instead. Two mapped factorisations at once also
    block each other for good there: jaxlib 0.10 waits for its pool of threads from within
    it (``ParallelBatchMap``), and on two cores both threads wait.
    """
    one = jax.custom_batching.custom_vmap(function)

    @one.def_vmap
    def _(size: int, batched: Any, *args: Any) -> tuple[Any, Any]:
        spread = lambda x, b: x if b else jnp.broadcast_to(x, (size, *jnp.shape(x)))
        args = jax.tree.map(spread, args, tuple(batched))
        found = jax.lax.platform_dependent(
            args,
            cpu=lambda rows: jax.lax.map(lambda row: function(*row), rows),
            default=lambda rows: jax.vmap(function)(*rows),
        )
        return found, jax.tree.map(lambda _: True, found)

    return one
