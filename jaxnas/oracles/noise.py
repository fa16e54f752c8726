"""Measurement noise on top of an oracle that knows the spread of its own readings."""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from jaxnas.core import tokens as tk
from jaxnas.core import visited as vs
from jaxnas.core.errors import UserError
from jaxnas.core.oracle import OracleWrapper, Repeating, Uncertain, capability, required
from jaxnas.core.rng import wrap
from jaxnas.core.types import Evaluation


class NoiseState(NamedTuple):
    """One controller's noise: its key, and how often each architecture was read."""

    inner: PyTree
    key: Array
    """Raw key data, so that the state can be saved like any array."""
    draws: Int[Array, "C"]
    """Size 0 unless ``repeats`` is ``"resample"``."""


@dataclass(frozen=True)
class Noisy(OracleWrapper):
    """Returns ``truth + spread * z`` with ``z`` standard normal; the truth stays known.

    With ``repeats="stored"`` the draw is keyed by (controller, architecture): asking again
    gives the same number and is free. With ``repeats="resample"`` draw ``k`` of an
    architecture is keyed by (controller, architecture, ``k``): every evaluation is a new
    reading and costs a query. Columns, truth and spread stay those of the inner oracle.

    Args:
        oracle: an oracle that offers ``spread`` (``Uncertain``) and can be traced.
        repeats: what a repeated question does, ``"stored"`` or ``"resample"``.

    Raises:
        UserError: the oracle does not know its spread, or draws cannot be counted because
            the space has more than ``2**20`` members.
    """

    repeats: str = "stored"

    adds: ClassVar[tuple[type, ...]] = (Repeating,)

    def __post_init__(self) -> None:
        if self.repeats not in ("stored", "resample"):
            raise UserError(
                f"Unknown noise {self.repeats!r}; choose 'none', 'stored' or 'resample'."
            )
        if capability(self.oracle, Uncertain) is None or not self.oracle.traced:
            raise UserError(
                f"The oracle {self.oracle.id!r} records no uncertainty, so no measurement "
                "can be resampled; use --noise none."
            )
        if self.repeats == "resample" and not vs.uses_bitmap(self.oracle.space):
            raise UserError(
                f"The space {self.oracle.space.id!r} is too large to count the readings of "
                "each architecture; use --noise stored."
            )

    @property
    def id(self) -> str:
        """The inner oracle's id and the kind of noise."""
        return f"{self.oracle.id}+noise-{self.repeats}"

    def init(self, key: Key[Array, ""], params: PyTree) -> NoiseState:
        """Returns one controller's state; ``key`` decides all its readings."""
        inner_key, own = jax.random.split(key)
        resample = self.repeats == "resample"
        slots = self.space.vocab**self.space.length if resample else 0
        inner = self.oracle.init(inner_key, params)
        return NoiseState(inner, jax.random.key_data(own), jnp.zeros(slots, jnp.int32))

    def evaluate(
        self,
        key: Key[Array, ""],
        params: PyTree,
        state: NoiseState,
        tokens: Int[Array, "B L"],
        fidelity: Int[Array, "B"],
        active: Bool[Array, "B"],
    ) -> tuple[NoiseState, Evaluation]:
        """Returns one reading a lane; ``key`` is unused, see ``repeats``."""
        inner, exact = self.oracle.evaluate(
            key, params, state.inner, tokens, fidelity, active
        )
        number = jnp.zeros(tokens.shape[0], jnp.int32)
        draws = state.draws
        if self.repeats == "resample":
            slot = tk.index(self.space, tokens)
            lanes = jnp.arange(slot.shape[0], dtype=jnp.int32)
            before = (slot[:, None] == slot[None, :]) & (lanes[None] < lanes[:, None])
            number = draws[slot] + jnp.sum(before & active[None], axis=1, dtype=jnp.int32)
            draws = draws.at[slot].add(active.astype(jnp.int32))
        words = jax.vmap(lambda row: tk.digest(self.space, row))(tokens)
        own = wrap(state.key)

        def draw(word: Array, k: Int[Array, ""]) -> Float[Array, "M"]:
            here = jax.random.fold_in(jax.random.fold_in(own, word[0]), word[1])
            here, shape = jax.random.fold_in(here, k), (len(self.objectives),)
            return jax.random.normal(here, shape, dtype=jnp.float32)

        noise = jax.vmap(draw)(words, number)
        spread = required(self.oracle, Uncertain).spread(params, tokens)
        read = exact.objectives + spread * noise
        return NoiseState(inner, state.key, draws), exact._replace(objectives=read)
