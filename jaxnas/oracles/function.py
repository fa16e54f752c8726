"""An oracle from a function of one architecture: what most people start with."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key, PyTree

from jaxnas.core.errors import UserError
from jaxnas.core.space import SearchSpace
from jaxnas.core.types import Evaluation, Objective
from jaxnas.oracles.metrics import measured


@dataclass(frozen=True)
class FunctionOracle:
    """Scores architectures by a function; see :func:`oracle_from`."""

    function: Callable[[Any], Any]
    space: SearchSpace
    id: str
    objectives: tuple[Objective, ...]
    traced: bool = True

    def params(self) -> tuple[()]:
        """Returns nothing: the function holds what it needs."""
        return ()

    def init(self, key: Key[Array, ""], params: PyTree) -> tuple[()]:
        """Returns nothing: no state."""
        return ()

    def evaluate(
        self,
        key: Key[Array, ""],
        params: PyTree,
        state: PyTree,
        tokens: Any,
        fidelity: Any,
        active: Any,
    ) -> tuple[PyTree, Evaluation]:
        """Returns the function's values of ``int32[B, L]``; not finite is FAILED."""
        if self.traced:
            values = jax.vmap(lambda row: self._values(jnp, self.function(row)))(tokens)
            return state, measured(values, jnp.ones(len(tokens), jnp.float32), active)
        values = np.full((len(tokens), len(self.objectives)), np.nan, np.float32)
        for i in np.flatnonzero(active):
            values[i] = self._values(np, self.function(np.asarray(tokens[i])))
        found = measured(*map(jnp.asarray, (values, np.ones(len(values), "f4"), active)))
        return state, jax.tree.map(np.asarray, found)

    def _values(self, xp: Any, found: Any) -> Any:
        """Returns the function's ``float32[M]``; UserError on other values."""
        names = [objective.name for objective in self.objectives]
        if isinstance(found, Mapping):
            if absent := [name for name in names if name not in found]:
                raise UserError(
                    f"The function of {self.id!r} gave {sorted(found)} and not {absent}; "
                    "name the objectives as it does."
                )
            found = [found[name] for name in names]
        values = xp.asarray(found, xp.float32)
        if values.shape not in [(len(names),), ()] or values.size != len(names):
            raise UserError(
                f"The function of {self.id!r} gave an array of shape {values.shape}; it "
                f"must give one number for each of {names}, or a dict with these names."
            )
        return values.reshape(len(names))


def oracle_from(
    function: Callable[[Any], Any],
    space: SearchSpace,
    name: str | None = None,
    objectives: str | Objective | Sequence[str | Objective] = "score",
    maximise: bool = True,
    traced: bool = True,
) -> FunctionOracle:
    """Returns an oracle that scores by a function of one architecture.

        oracle = jaxnas.oracle_from(lambda tokens: jnp.sum(tokens), space)

    Args:
        function: takes ``int32[L]`` tokens and gives a number, a sequence of numbers, or a
            dict of numbers by name; what is not finite is a failed evaluation. The same
            tokens must give the same numbers.
        space: of the architectures.
        name: identity of the numbers, which runs record; the function's own if None. Give
            another when the numbers change.
        objectives: what the numbers are called, or whole records with units.
        maximise: whether larger is better, of objectives given by name.
        traced: whether the function may be compiled (pure, of ``jax.numpy``); else it is
            called with numpy arrays outside the compiled program, as any Python.

    Raises:
        UserError: no objectives, or two of one name.
    """
    listed = [objectives] if isinstance(objectives, str | Objective) else objectives
    record = lambda o: o if isinstance(o, Objective) else Objective(o, "", maximise)
    made = tuple(map(record, listed))
    if not made or len({objective.name for objective in made}) < len(made):
        raise UserError("Give at least one objective, each with a name of its own.")
    name = name or str(getattr(function, "__qualname__", type(function).__name__))
    return FunctionOracle(function, space, name, made, traced)
