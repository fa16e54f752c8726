"""Networks that grow while they train: morphs that keep the function, training between."""

import dataclasses
import functools
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from jaxnas.children import grown as gr
from jaxnas.children import train as tr
from jaxnas.children.build import Child, build
from jaxnas.core.errors import UserError
from jaxnas.core.rng import root_key, step_key
from jaxnas.core.space import SearchSpace
from jaxnas.core.trees import num_bytes
from jaxnas.oracles import child, programs
from jaxnas.registry import make_space
from jaxnas.spaces.growth import KEEP, Limits, limits_of

CACHED = 2**28
"""Bytes of networks that are kept for the sequences that go on from them, 256 MiB."""


@dataclass(frozen=True)
class GrownOracle(child.ChildOracle):
    """Accuracy of a network that grew: trained, morphed, trained on, for each token.

    A :class:`jaxnas.oracles.child.ChildOracle` whose network inherits its weights from
    step to step. Every sequence is trained equally long, ``(begin + L) epochs`` passes;
    each training has its own schedule and begins without momentum. One program serves
    every sequence (:mod:`jaxnas.children.grown`). Sequences that begin alike share what
    they have in common: the networks of up to 256 MiB of beginnings are kept.

    Args:
        space: of growths; ``grown`` when not given.
        epochs: passes after each token.
        begin: trainings of the first network, before any token.
        route: ``"auto"``; there is one way.

    The others are those of the oracle ``child``.

    Raises:
        UserError: as there, or a space whose networks do not grow.
    """

    space: SearchSpace = dataclasses.field(default_factory=lambda: make_space("grown"))
    epochs: int = 2
    begin: int = 2

    def __post_init__(self) -> None:
        limits_of(self.space)
        super().__post_init__()
        if self.begin < 1:
            raise UserError("The first network needs at least 1 training: begin=1.")
        if self.route != "auto":
            raise UserError(
                f"Grown networks have one route and not {self.route!r}; leave it out."
            )

    @property
    def id(self) -> str:
        """Versioned name with everything that changes the numbers."""
        return f"grown-v1({super().id},begin={self.begin})"

    @property
    def _route(self) -> str:
        return "masked"

    def train(
        self, tokens: np.ndarray, fidelity: int = 0
    ) -> tuple[Child, dict[str, Any], tr.Curves]:
        """Returns the last network, its trained variables and all curves (NumPy)."""
        space = self.network(fidelity)
        _, variables, curves = self.fit(tokens, fidelity)
        small = gr.extracted(limits_of(space), jax.tree.map(np.asarray, variables))
        return build(space.to_spec(np.asarray(tokens))), small, curves

    def fit(
        self, tokens: np.ndarray, fidelity: int = 0
    ) -> tuple[nn.Module, dict[str, Any], tr.Curves]:
        """Returns the network of all sizes, its variables and the curves of all steps."""
        programs.keep_compilations()
        row = tuple(int(token) for token in np.asarray(tokens))
        plain = dataclasses.replace(self, objective="val_accuracy")
        variables, curves = _led_to(plain, fidelity, (KEEP,) * self.begin + row)
        return gr.GrownChild(limits_of(self.network(fidelity))), variables, curves


def _led_to(oracle: GrownOracle, fidelity: int, actions: tuple[int, ...]) -> Any:
    """Returns variables and curves after some actions, from the longest known beginning."""
    limits, training = limits_of(oracle.network(fidelity)), oracle.training(fidelity)
    images = programs.on_device(oracle.data, oracle.limit, oracle._level(fidelity).images)
    key, name = jax.random.fold_in(root_key(oracle.seed), 1), (oracle, fidelity)
    done = next(
        n for n in range(len(actions), -1, -1) if not n or (name, actions[:n]) in BEGUN
    )
    if done:
        variables, curves = BEGUN.get((name, actions[:done]))
    else:
        start = jax.random.key(oracle.seed, impl="rbg")
        variables = _first(limits)(start, images.x_train[:1])
        curves = tr.Curves(*[np.zeros(0, np.float32)] * 3)
    for t in range(done, len(actions)):
        given = (variables, jnp.int32(actions[t]), step_key(key, t), images, oracle.hparams)
        variables, more = _program(limits, training)(*given)
        pairs = zip(curves, more, strict=True)
        curves = tr.Curves(*(np.append(old, new).astype(np.float32) for old, new in pairs))
        BEGUN.put((name, actions[: t + 1]), (variables, curves))
    return variables, curves


class Recent:
    """Values by key, the least recently used dropped where they take too many bytes."""

    def __init__(self, most: int) -> None:
        """Holds at most ``most`` bytes."""
        self.most, self.used = most, 0
        self._held: OrderedDict[Any, PyTree] = OrderedDict()

    def __contains__(self, key: Any) -> bool:
        """Whether it is still held."""
        return key in self._held

    def get(self, key: Any) -> PyTree:
        """Returns what is held; KeyError where nothing is."""
        self._held.move_to_end(key)
        return self._held[key]

    def put(self, key: Any, value: PyTree) -> None:
        """Holds a value; drops the oldest ones."""
        self._held[key] = value
        self.used += num_bytes(value)
        while self.used > self.most:
            self.used -= num_bytes(self._held.popitem(last=False)[1])

    def clear(self) -> None:
        """Drops everything."""
        self._held.clear()
        self.used = 0


BEGUN = Recent(CACHED)
"""Networks after the beginnings of sequences, by oracle, fidelity and actions."""


@functools.lru_cache(maxsize=4)
def _first(limits: Limits) -> Any:
    return jax.jit(functools.partial(gr.started, limits))


@functools.lru_cache(maxsize=4)
def _program(limits: Limits, training: tr.Training) -> Any:
    def run(variables: Any, action: Any, key: Any, images: Any, hparams: Any) -> Any:
        return gr.advanced(limits, variables, action, key, images, training, hparams)

    return jax.jit(run)
