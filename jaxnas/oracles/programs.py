"""Data and compiled programs of trainings, shared by all oracles of a process."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from jaxnas.children import train as tr
from jaxnas.children.choice import ChoiceChild, build_choice
from jaxnas.children.metrics import assess
from jaxnas.core.errors import UserError
from jaxnas.core.space import SearchSpace
from jaxnas.data.recipes import cache_dir
from jaxnas.data.tasks import Task, load_task


@functools.cache
def keep_compilations() -> None:
    """Turns on JAX's persistent cache, unless set: a training compiles for 10 to 100 s."""
    if jax.config.jax_compilation_cache_dir is None:  # pyright: ignore[reportAttributeAccessIssue]
        folder = str(cache_dir() / "compiled")
        jax.config.update("jax_compilation_cache_dir", folder)


@functools.lru_cache(maxsize=8)
def task_of(name: str, limit: int | None) -> Task:
    """Returns a task by name, loaded once."""
    return load_task(name, limit=limit)


@functools.lru_cache(maxsize=8)
def on_device(name: str, limit: int | None, used: int | None) -> tr.Images:
    """Returns training images, the first ``used`` (of all classes), and validation ones."""
    data = task_of(name, limit)
    arrays = (data.x_train[:used], data.y_train[:used], data.x_val, data.y_val)
    return tr.Images(*map(jnp.asarray, arrays))


@functools.lru_cache(maxsize=32)
def best_route(space: SearchSpace) -> str:
    """Returns ``"choice"`` where one program can hold the whole space."""
    try:
        choice_of(space)
    except UserError:
        return "exact"
    return "choice"


@functools.lru_cache(maxsize=32)
def choice_of(space: SearchSpace) -> ChoiceChild:
    """Returns the network that holds all of a space; UserError where none can."""
    return build_choice(space)


@functools.lru_cache(maxsize=4)
def initial_of(module: Any) -> Any:
    """Returns the jitted ``(key, x) -> variables`` of a module."""
    return jax.jit(lambda key, x: module.init(key, x))


@functools.lru_cache(maxsize=4)
def program_of(module: Any, training: tr.Training) -> Any:
    """Returns the jitted ``(variables, images, key, hparams) -> variables, curves``."""

    def run(
        variables: PyTree, images: tr.Images, key: Any, hparams: tr.Hparams
    ) -> tuple[PyTree, tr.Curves]:
        return tr.fit(tr.forward_of(module), variables, images, key, training, hparams)

    return jax.jit(run)


@functools.lru_cache(maxsize=4)
def assessment_of(module: Any, names: tuple[str, ...], num_classes: int) -> Any:
    """Returns the jitted :func:`jaxnas.children.metrics.assess` of some metrics."""

    def run(variables: PyTree, x: Any, y: Any, key: Any, *sizes: Any) -> Any:
        how: Any = {"names": names, "num_classes": num_classes}
        return assess(tr.forward_of(module), variables, x, y, key, *sizes, **how)

    return jax.jit(run)
