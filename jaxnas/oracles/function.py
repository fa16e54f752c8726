"""An oracle from a function of one architecture: what most people start with."""

import ctypes
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key, PyTree

from jaxnas.core import naming
from jaxnas.core.errors import ContractError, UserError, unknown_name
from jaxnas.core.space import SearchSpace
from jaxnas.core.types import Evaluation, Objective
from jaxnas.oracles.metrics import UNIT, measured

TAKES = ("dict", "tokens", "spec")
EXPECTED = (ArithmeticError, RuntimeError, ValueError, OSError, MemoryError)
"""What a function may raise to say that an architecture failed, as well as NaN."""


@dataclass(frozen=True)
class FunctionOracle:
    """Scores architectures by a function; see :func:`oracle`."""

    function: Callable[..., Any]
    space: SearchSpace
    id: str
    objectives: tuple[Objective, ...]
    traced: bool = False
    takes: str = "dict"
    timeout: float | None = None
    fidelities: tuple[float, ...] = ()

    @property
    def num_fidelities(self) -> int:
        """How many amounts the function may be given."""
        return max(1, len(self.fidelities))

    def effort(self, tokens: np.ndarray, fidelity: int) -> float:
        """Returns a fidelity's amount as a share of the full one."""
        if not self.fidelities:
            return 1.0
        return self.fidelities[fidelity - 1] / self.fidelities[-1]

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
            row = np.asarray(tokens[i], np.int32)
            values[i] = self._values(np, self._call(row, int(fidelity[i])))
        found = measured(*map(jnp.asarray, (values, np.ones(len(values), "f4"), active)))
        return state, jax.tree.map(np.asarray, found)

    def _call(self, tokens: np.ndarray, fidelity: int) -> Any:
        """Returns what the function gives; any error of it as one that names it."""
        function = self.function
        if self.fidelities:  # 0 is the full one, which is the last
            amount = self.fidelities[fidelity - 1]
            function = lambda given: self.function(given, amount)
        given: Any = tokens
        if self.takes == "dict":
            given = naming.to_dict(self.space, tokens)
        elif self.takes == "spec":
            given = self.space.to_spec(tokens)
        try:
            if self.timeout is None:
                return function(given)
            return within(self.timeout, function, given)
        except EXPECTED:
            raise
        except Exception as error:
            raise RuntimeError(
                f"the function of {self.id!r} raised {type(error).__name__}: {error}"
            ) from error

    def _values(self, xp: Any, found: Any) -> Any:
        """Returns the function's ``float32[M]``; ContractError on other values."""
        names = [objective.name for objective in self.objectives]
        if isinstance(found, Mapping):
            if absent := [name for name in names if name not in found]:
                raise ContractError(
                    f"The function of {self.id!r} gave {sorted(map(str, found))} and not "
                    f"{absent}; name the objectives as it does, such as "
                    f"maximise={{{str(next(iter(found), 'score'))!r}: True}}."
                )
            found = [found[name] for name in names]
        elif isinstance(found, tuple | list):
            raise ContractError(
                f"The function of {self.id!r} gave a {type(found).__name__} of "
                f"{len(found)}; give one number, or a dict of numbers by name."
            )
        elif found is None or isinstance(found, str):
            raise ContractError(
                f"The function of {self.id!r} gave {found!r}; give one number, or a dict "
                "of numbers by name, NaN where the architecture failed."
            )
        try:
            values = xp.asarray(found, xp.float32)
        except (TypeError, ValueError) as error:
            raise ContractError(
                f"The function of {self.id!r} gave {type(found).__name__}, which is no "
                "number."
            ) from error
        if values.shape not in [(len(names),), ()] or values.size != len(names):
            raise ContractError(
                f"The function of {self.id!r} gave an array of shape {values.shape}; it "
                f"must give one number for each of {names}, or a dict with these names."
            )
        return values.reshape(len(names))


def oracle(
    function: Callable[..., Any],
    space: SearchSpace,
    maximise: bool | Mapping[str, bool] = True,
    traced: bool = False,
    takes: str | None = None,
    name: str | None = None,
    timeout: float | None = None,
    objectives: Sequence[Objective] = (),
    fidelities: Sequence[int | float] = (),
) -> FunctionOracle:
    """Returns an oracle that scores by a function of one architecture.

        oracle = jaxnas.oracle(lambda a: train(a["depth"], a["width"]), space)

    Args:
        function: gives a number, or a dict of numbers by name; what is not finite, and an
            error, is a failed evaluation. The same architecture must give the same numbers.
        space: of the architectures.
        maximise: whether larger is better; of a function that gives a dict, that for each
            objective by name: ``{"accuracy": True, "latency": False}``.
        traced: whether the function may be compiled (pure, of ``jax.numpy``, of tokens);
            else it is called outside the compiled program, as any Python.
        takes: ``"dict"`` (names and values, the default), ``"tokens"`` (``int32[L]``, the
            default of a traced function) or ``"spec"`` (the network as data).
        name: identity of the numbers, which runs record; the function's own if None. Give
            another when the numbers change.
        timeout: seconds after which a call is a failed evaluation; not of traced ones. A
            call that does not return to Python goes on in its thread; ``--executor
            processes --timeout`` ends its process.
        objectives: whole records with units, in place of ``maximise``.
        fidelities: rising amounts, such as ``(1, 3, 9)`` epochs, the last the full one: the
            function then takes one as its second argument, and ``halving`` gives most
            architectures less than the full one. Not of traced functions.

    Raises:
        UserError: no objectives, two of one name, or options that contradict each other.
    """
    directions = {"score": maximise} if isinstance(maximise, bool) else dict(maximise)
    label = name or str(getattr(function, "__qualname__", type(function).__name__))
    meaning = f"what {label} gives"
    made = tuple(objectives) or tuple(
        Objective(key, UNIT, bool(up), meaning) for key, up in directions.items()
    )
    if not made or len({objective.name for objective in made}) < len(made):
        raise UserError("Give at least one objective, each with a name of its own.")
    takes = takes or ("tokens" if traced else "dict")
    if takes not in TAKES:
        raise unknown_name("form of an architecture:", takes, TAKES)
    if traced and (takes != "tokens" or timeout is not None):
        raise UserError(
            "A traced function takes tokens and has no timeout; leave those options out, "
            "or traced."
        )
    if timeout is not None and not timeout > 0:
        raise UserError(f"The timeout must be above 0 seconds, got {timeout}.")
    amounts = tuple(map(float, fidelities))
    rising = all(a < b for a, b in zip((0.0, *amounts), amounts, strict=False))
    if not rising or not np.isfinite(amounts).all() or (amounts and traced):
        raise UserError(
            "Fidelities must be rising finite amounts above 0, of a function that is not "
            f"traced, got {amounts}."
        )
    versioned = label if "-v" in label else f"{label}-v1"
    if amounts:
        versioned += f"(fidelities={','.join(f'{a:g}' for a in amounts)})"
    return FunctionOracle(function, space, versioned, made, traced, takes, timeout, amounts)


def within(seconds: float, function: Callable[[Any], Any], given: Any) -> Any:
    """Returns ``function(given)``, which gets that long.

    It runs in a thread of its own, into which a ``TimeoutError`` is raised when the time is
    over: a loop of Python ends, a call into C when it returns.

    Raises:
        TimeoutError: no answer in time.
    """
    answers: list[tuple[bool, Any]] = []

    def call() -> None:
        try:
            answers.append((True, function(given)))
        except BaseException as error:
            answers.append((False, error))

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raised = ctypes.py_object(TimeoutError)
        ctypes.pythonapi.PyThreadState_SetAsyncExc(
            ctypes.c_ulong(thread.ident or 0), raised
        )
        raise TimeoutError(f"no answer within {seconds:g} s")
    good, value = answers[0]
    if good:
        return value
    raise value
