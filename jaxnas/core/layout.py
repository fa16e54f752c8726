"""How the training steps of many controllers are laid out: the one place that decides it.

On a CPU a dense training step is fastest on one controller at a time, because its weights
stay in the innermost cache; an accelerator wants every product to be as wide as possible.
An algorithm marks its step with :func:`per_controller` and its costly branches with
:func:`branch`, and need not know more:

* ``"blocked"``: under ``vmap`` the step runs in a loop over controllers;
* ``"wide"``: ``vmap`` widens it like any other function;
* ``"auto"``: blocked where the program is lowered for a CPU, wide elsewhere.

A search decides for its devices and writes it down; ``with using("wide"):`` forces it.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, PyTree

from jaxnas.core.errors import unknown_name
from jaxnas.core.trees import select

LAYOUTS = ("auto", "wide", "blocked")
_LAYOUT = jax.make_user_context("auto")


def check(layout: str) -> None:
    """Raises a UserError for a layout that does not exist."""
    if layout not in LAYOUTS:
        raise unknown_name("layout", layout, LAYOUTS)


def using(layout: str) -> AbstractContextManager[Any]:
    """Returns a context in which programs are traced with a layout.

    It is a part of every ``jit`` cache's key, so a program is never taken from the wrong
    one.

    Raises:
        UserError: an unknown layout.
    """
    check(layout)
    return _LAYOUT(layout)


def resolve(layout: str, platform: str) -> str:
    """Returns ``"wide"`` or ``"blocked"``: what a layout means on a platform.

    Raises:
        UserError: an unknown layout.
    """
    check(layout)
    if layout == "auto":
        return "blocked" if platform == "cpu" else "wide"
    return layout


def per_controller(function: Callable[..., Any]) -> Callable[..., Any]:
    """Returns a training step that ``vmap`` widens or loops over, by the layout.

    All arguments must be positional pytrees of arrays; values that are closed over must not
    be mapped.
    """

    @jax.custom_batching.custom_vmap
    def step(*args: PyTree) -> PyTree:
        return function(*args)

    @step.def_vmap
    def rule(axis_size: int, mapped: Any, *args: PyTree) -> tuple[PyTree, PyTree]:
        """Widens, loops, or leaves the choice to the platform that lowers the program."""
        out = _choose(function, axis_size, mapped, args)
        return out, jax.tree.map(lambda _: True, out)

    return step


def _choose(
    function: Callable[..., Any], axis_size: int, mapped: Any, args: tuple[PyTree, ...]
) -> PyTree:
    leaves, structure = jax.tree.flatten(args)
    flags = jax.tree.leaves(mapped)
    axes = [0 if flag else None for flag in flags]

    def flat(*leaves: Array) -> PyTree:
        return function(*jax.tree.unflatten(structure, leaves))

    def wide(*leaves: Array) -> PyTree:
        return jax.vmap(flat, axes, axis_size=axis_size)(*leaves)

    def blocked(*leaves: Array) -> PyTree:
        moving = [leaf for leaf, flag in zip(leaves, flags, strict=True) if flag]

        def one(part: list[Array]) -> PyTree:
            rest = iter(part)
            return flat(*(next(rest) if f else x for x, f in zip(leaves, flags)))

        return jax.lax.map(one, moving)

    layout = _LAYOUT.value
    if layout == "auto":
        return jax.lax.platform_dependent(*leaves, cpu=blocked, default=wide)
    return wide(*leaves) if layout == "wide" else blocked(*leaves)


def branch(
    pred: Bool[Array, ""],
    true_fun: Callable[..., Any],
    false_fun: Callable[..., Any],
    *operands: PyTree,
) -> PyTree:
    """Returns ``lax.cond(pred, true_fun, false_fun, *operands)``; branches under ``vmap``.

    Widened, ``lax.cond`` becomes a select that computes both sides at every step. Here the
    costly ``true_fun`` is computed where the predicate of *any* controller holds, and the
    cheap ``false_fun`` for the others; where none holds it costs nothing.

    Values that the two functions close over must not be mapped.
    """

    @jax.custom_batching.custom_vmap
    def cond(pred: Array, operands: PyTree) -> PyTree:
        return jax.lax.cond(pred, true_fun, false_fun, *operands)

    @cond.def_vmap
    def rule(
        axis_size: int, mapped: Any, preds: Array, operands: PyTree
    ) -> tuple[PyTree, PyTree]:
        """Branches on whether any predicate holds; recursive, for nested ``vmap``."""
        axes = jax.tree.map(lambda flag: 0 if flag else None, mapped[1])
        every = lambda f: jax.vmap(lambda xs: f(*xs), (axes,), axis_size=axis_size)

        def some(preds: Array, operands: PyTree) -> PyTree:
            yes, no = every(true_fun)(operands), every(false_fun)(operands)
            return jax.vmap(select)(jnp.broadcast_to(preds, (axis_size,)), yes, no)

        def none(preds: Array, operands: PyTree) -> PyTree:
            return every(false_fun)(operands)

        out = branch(jnp.any(preds), some, none, preds, operands)
        return out, jax.tree.map(lambda _: True, out)

    return cond(pred, operands)
