"""What is known of the question that a run answered: optimum, classes, every metric."""

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree

from jaxnas import registry
from jaxnas.core import tokens as tk
from jaxnas.core.errors import JaxnasError
from jaxnas.core.oracle import (
    Described,
    Enumerated,
    Oracle,
    Spreading,
    Truthful,
    capability,
    required,
)
from jaxnas.core.rng import root_key
from jaxnas.core.scalarise import UNIT_RANGES, recorded
from jaxnas.core.space import SearchSpace
from jaxnas.core.types import Objective
from jaxnas.report.read import stats
from jaxnas.report.read.load import RunData, plain_text
from jaxnas.run.feasibility import impossible
from jaxnas.run.remade import oracle_of

RANGES = UNIT_RANGES
"""What a value can be, by its unit; anything where the unit is not here."""
SECONDS = {"1min": 60.0, "1h": 3600.0, "1day": 86400.0, "1month": 2592000.0}
"""Suffixes of metrics that were read some time after programming."""


@runtime_checkable
class Classified(Protocol):
    """A space that numbers the isomorphism class of every architecture in closed form."""

    def classes(self) -> np.ndarray:
        """Returns a class number for each row of ``enumerate_space``, ``[n]``."""
        ...


def limited(constraints: Sequence[str]) -> dict[str, str]:
    """Returns what each constrained metric has to meet, ``{"params": "<= 1e6"}``."""
    found: dict[str, list[str]] = {}
    for text in constraints:
        name, sign, bound = re.split(r"\s*(<=|>=)\s*", text.strip(), maxsplit=1)
        found.setdefault(name, []).append(f"{sign} {bound}")
    return {name: ", ".join(bounds) for name, bounds in found.items()}


@dataclass(frozen=True)
class Known:
    """The whole table: every architecture and its true values.

    Attributes:
        members: all architectures in the order of ``enumerate_space``, ``[n, L]``.
        columns: every metric, ``[n]``.
        value: what the search maximises or minimises, natural units, ``[n]``; NaN where a
            constraint is broken.
        optimum: the best of ``value``.
        best_row: its row.
        classes: isomorphism classes, by row.
    """

    members: Int[np.ndarray, "n L"]
    columns: dict[str, np.ndarray]
    value: Float[np.ndarray, "n"]
    optimum: float
    best_row: int
    classes: stats.Classes

    def rows(self, tokens: Int[np.ndarray, "*b L"]) -> Int[np.ndarray, "*b"]:
        """Returns the row of each architecture, -1 for padding and strangers."""
        order, codes, weights = self._coded
        code = tokens.astype(np.uint64) @ weights
        at = order[np.minimum(np.searchsorted(codes, code), len(codes) - 1)]
        return np.where((self.members[at] == tokens).all(axis=-1), at, -1)

    @functools.cached_property
    def _coded(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Rows by rising code, the codes, and the weights that make them, all different.

        A code is a sum modulo 2^64 with odd random weights: distinct rows have distinct
        ones, or others are drawn.
        """
        for seed in range(100):
            rng = np.random.default_rng(seed)
            weights = rng.integers(0, 2**63, self.members.shape[1], np.uint64) * 2 + 1
            code = self.members.astype(np.uint64) @ weights.astype(np.uint64)
            order = np.argsort(code, kind="stable")
            if (np.diff(code[order]) > 0).all():
                return order, code[order], weights.astype(np.uint64)
        raise AssertionError("100 sets of random weights cannot all collide")


@dataclass(frozen=True)
class Task:
    """One question: an oracle, a space and the objective that the curves show.

    Attributes:
        oracle: the oracle's registered name, or its id.
        options: its options.
        space_id: versioned name of the space.
        objective: the quantity of every curve.
        objectives: everything that was measured.
        space: the space, where it could be made again.
        known: the whole table, or None.
        why: why the table is not known; empty when it is.
        info: what the oracle says of its own source.
        constraints: what an architecture has to meet, such as ``"params<=1e6"``.
        truthful: whether the values of the curves are free of measurement noise.
    """

    oracle: str
    options: dict[str, Any]
    space_id: str
    objective: Objective
    objectives: tuple[Objective, ...]
    space: SearchSpace | None
    known: Known | None
    why: str
    info: dict[str, Any]
    constraints: tuple[str, ...] = ()
    truthful: bool = True

    @property
    def what(self) -> str:
        """What was searched for: the names of all objectives."""
        return " and ".join(o.name for o in self.objectives)

    @property
    def standing(self) -> str:
        """What the values of the curves are: "true", "measured", or "predicted" only."""
        if self.objective.predicted:
            return "predicted"
        return "true" if self.truthful else "measured"

    @property
    def limited(self) -> dict[str, str]:
        """The constrained metrics and what each has to meet, ``{"params": "<= 1e6"}``."""
        return limited(self.constraints)

    @property
    def limits(self) -> str:
        """The constraints in words, ``params <= 1e6 and flops <= 1e8``."""
        return " and ".join(f"{name} {bound}" for name, bound in self.limited.items())

    @property
    def metrics(self) -> dict[str, dict[str, Any]]:
        """What the oracle, or each oracle of a joined one, says of its metrics, by name."""
        parts = [self.info, *(v for v in self.info.values() if isinstance(v, dict))]
        found = {o.name: {"unit": o.unit, "meaning": o.meaning} for o in self.objectives}
        for part in parts:
            found |= part.get("metrics") or {}
        return found

    @property
    def range(self) -> tuple[float, float]:
        """Least and greatest value that a curve can have."""
        if self.known is not None:
            return float(np.nanmin(self.known.value)), float(np.nanmax(self.known.value))
        return RANGES.get(self.objective.unit, stats.EVERYWHERE)

    @property
    def breadth(self) -> tuple[float, float]:
        """Least and greatest difference of two values of a curve."""
        low, high = self.range
        return low - high, high - low

    def fact(self, name: str) -> str:
        """Returns a fact of the oracle, of a joined one the first part's that has it."""
        parts = [self.info, *(v for v in self.info.values() if isinstance(v, dict))]
        return next((str(part[name]) for part in parts if part.get(name)), "")

    @property
    def direction(self) -> float:
        """+1 where more is better, else -1."""
        return 1.0 if self.objective.maximise else -1.0


def make_task(run: RunData) -> Task:
    """Returns what is known of the question behind a run.

    The oracle is made again from its recorded name and options. Where that is not possible
    (it was never registered, a package is missing, its numbers have another version now)
    the report still works, without optimum and regret, and says why.
    """
    entry = run.config["oracle"]
    name, options = entry.get("name"), dict(entry.get("options") or {})
    space, oracle, why = None, None, ""
    try:
        oracle = oracle_of(run.config)
        space = oracle.space
    except (JaxnasError, ImportError) as error:
        why = f"the oracle could not be made again here: {error}"
    known = None
    if oracle is not None:
        known, why = _know(oracle, run)
    described = None if oracle is None else capability(oracle, Described)
    truth = None if oracle is None else capability(oracle, Truthful)
    return Task(
        oracle=plain_text(name or str(entry.get("id", "oracle")).partition("|")[0]),
        options=options,
        space_id=run.config["space"],
        objective=_curve_objective(run),
        objectives=run.objectives,
        space=space,
        known=known,
        why=why,
        info={} if described is None else described.info(),
        constraints=run.constraints,
        truthful=known is not None or truth is not None,
    )


def _curve_objective(run: RunData) -> Objective:
    """Returns what the curves show: the objective, or the reward made of several."""
    if len(run.objectives) == 1:
        return run.objectives[0]
    rule = recorded(run.objectives, run.config)
    words = rule.describe(tuple(o.name for o in run.objectives))
    predicted = any(o.predicted for o in run.objectives)
    return Objective("reward", "", True, words, predicted)


def _know(oracle: Oracle, run: RunData) -> tuple[Known | None, str]:
    """Returns the whole table behind an oracle, or why there is none."""
    space = oracle.space
    table, size = capability(oracle, Enumerated), tk.count(space)
    small = size is not None and size <= tk.ENUMERABLE
    if table is None or not oracle.traced or not small:
        return None, "the oracle holds no table of the whole space, so no optimum is known"
    members = tk.enumerate_space(space)
    columns = {n: np.asarray(c) for n, c in table.columns().items()}
    if any(c.shape != (len(members),) for c in columns.values()):
        return None, "the oracle's table does not cover the whole space"
    value = _true_values(oracle, members, run)
    if not np.any(np.isfinite(value)):
        why = impossible(oracle)
        if run.constraints and not why:
            wanted = " and ".join(f"{n} {b}" for n, b in limited(run.constraints).items())
            why = f"none of all {len(members):,} architectures meets {wanted}"
        if why:
            return None, why
        return None, "the table holds no value of this objective"
    maximise = _curve_objective(run).maximise
    best = int(np.nanargmax(value) if maximise else np.nanargmin(value))
    filled = np.where(np.isfinite(value), value, np.nan).astype(np.float64)
    known = Known(
        members=members,
        columns=columns,
        value=filled,
        optimum=float(filled[best]),
        best_row=best,
        classes=stats.classify(_class_labels(space, members), filled),
    )
    return known, ""


def _true_values(oracle: Oracle, members: np.ndarray, run: RunData) -> np.ndarray:
    """Returns the true curve quantity of all architectures, NaN where infeasible."""
    scalariser = recorded(run.objectives, run.config)

    def look_up(params: PyTree, tokens: Int[Array, "n L"]) -> tuple[Array, Array]:
        key, n = root_key(0), tokens.shape[0]
        lanes = (tokens, jnp.zeros(n, jnp.int32), jnp.ones(n, bool))
        state = oracle.init(key, params)
        _, measured = oracle.evaluate(key, params, state, *lanes)
        objectives = measured.objectives
        if capability(oracle, Truthful) is not None:
            objectives = required(oracle, Truthful).truth(params, tokens)
        return scalariser(objectives, jnp.zeros(n, jnp.float32)), measured.violation

    reward, violation = jax.jit(look_up)(oracle.params(), jnp.asarray(members))
    value = scalariser.natural(np.asarray(reward))
    return np.where(np.asarray(violation) <= 0, value, np.nan)


def _class_labels(space: SearchSpace, members: np.ndarray) -> np.ndarray:
    if isinstance(space, Classified):
        return np.asarray(cast(Classified, space).classes())
    canonical = np.asarray(jax.vmap(space.canonical)(jnp.asarray(members)))
    _, label = np.unique(canonical, axis=0, return_inverse=True)
    return label.reshape(-1)


def costs_of(task: Task, name: str, tokens: Int[np.ndarray, "n L"]) -> np.ndarray:
    """Returns a metric of the oracle ``cost``; NaN for another one or an unknown space."""
    none, space = np.full(len(tokens), np.nan), task.space
    if space is None or np.any(tokens < 0):
        return none
    try:
        oracle = registry.make_oracle("cost", space=space, objective=name)
        oracle.params()
    except JaxnasError:
        return none
    like: Any = jnp if oracle.traced else np
    key, n, params = jax.random.key(0), len(tokens), oracle.params()
    lanes = like.asarray(tokens, np.int32), like.zeros(n, np.int32), like.ones(n, bool)
    _, found = oracle.evaluate(key, params, oracle.init(key, params), *lanes)
    return np.asarray(found.objectives)[:, 0].astype(float)


def drift_families(columns: dict[str, np.ndarray]) -> dict[str, list[tuple[float, str]]]:
    """Returns metrics by family and time, ``{"analog": [(60.0, "analog_1min"), ...]}``."""
    families: dict[str, list[tuple[float, str]]] = {}
    for name in columns:
        found = re.fullmatch(r"(.+)_(1min|1h|1day|1month)", name)
        if found:
            families.setdefault(found[1], []).append((SECONDS[found[2]], name))
    return {name: sorted(times) for name, times in families.items() if len(times) > 1}


def spreads_of(task: Task) -> dict[str, np.ndarray]:
    """Returns the recorded uncertainty of every metric that has one, ``[n]``."""
    if task.known is None:
        return {}
    skip = ("noise", "constraints")
    options = {k: v for k, v in task.options.items() if k not in skip}
    bare = registry.make_oracle(task.oracle, space=task.space, **options)
    found = capability(bare, Spreading)
    return {} if found is None else found.spreads()
