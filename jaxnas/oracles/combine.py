"""Several oracles as one, and limits on what they measure."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from jaxnas.core import oracle as kinds
from jaxnas.core import tokens as tk
from jaxnas.core.constraints import Limit, Limiting, excess
from jaxnas.core.errors import UserError, unknown_name
from jaxnas.core.oracle import Oracle, OracleWrapper, capability, required
from jaxnas.core.space import SearchSpace
from jaxnas.core.types import FAILED, OK, SKIPPED, Evaluation, Objective
from jaxnas.oracles.cost import METRICS as COSTS
from jaxnas.oracles.cost import CostOracle
from jaxnas.oracles.metrics import Tokens


@dataclass(frozen=True)
class Joined:
    """Asks several oracles about the same architecture and concatenates their objectives.

    Violations and costs add up; a lane fails where one of them fails. It knows truth,
    spread and columns where all parts do, has facts where any has them, and its readings
    are new each time where those of any part are.

    Args:
        oracles: at least one, all on one space, with distinct objectives.

    Raises:
        UserError: none, different spaces, or the same objective twice.
    """

    oracles: tuple[Oracle, ...]

    def __post_init__(self) -> None:
        if not self.oracles:
            raise UserError("At least one oracle is needed to join.")
        spaces = {oracle.space for oracle in self.oracles}
        if len(spaces) > 1:
            named = ", ".join(sorted(space.id for space in spaces))
            raise UserError(f"Joined oracles must score one space, got: {named}.")
        names = [objective.name for objective in self.objectives]
        if len(set(names)) != len(names):
            raise UserError(f"Joined oracles measure the same thing twice: {names}.")

    @property
    def id(self) -> str:
        """The parts' ids."""
        return "+".join(oracle.id for oracle in self.oracles)

    @property
    def space(self) -> SearchSpace:
        """The space of all parts."""
        return self.oracles[0].space

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """The objectives of all parts, in order."""
        return tuple(item for oracle in self.oracles for item in oracle.objectives)

    @property
    def traced(self) -> bool:
        """Whether every part may live inside jit."""
        return all(oracle.traced for oracle in self.oracles)

    def params(self) -> tuple[PyTree, ...]:
        """Returns what each part shares."""
        return tuple(oracle.params() for oracle in self.oracles)

    def init(self, key: Key[Array, ""], params: tuple[PyTree, ...]) -> tuple[PyTree, ...]:
        """Returns the state of each part."""
        keys = jax.random.split(key, len(self.oracles))
        parts = zip(self.oracles, keys, params, strict=True)
        return tuple(oracle.init(one, shared) for oracle, one, shared in parts)

    def evaluate(
        self,
        key: Key[Array, ""],
        params: tuple[PyTree, ...],
        state: tuple[PyTree, ...],
        tokens: Tokens,
        fidelity: Int[Array | np.ndarray, "B"],
        active: Bool[Array | np.ndarray, "B"],
    ) -> tuple[tuple[PyTree, ...], Evaluation]:
        """Returns all measurements side by side; NaN in a lane that any part failed."""
        keys = jax.random.split(key, len(self.oracles))
        lanes = (tokens, fidelity, active)
        states, parts = [], []
        for oracle, one, shared, own in zip(self.oracles, keys, params, state, strict=True):
            own, part = oracle.evaluate(one, shared, own, *_lanes_for(oracle, lanes))
            states.append(own)
            parts.append(part)
        statuses = jnp.stack([jnp.asarray(part.status) for part in parts])
        failed = jnp.any(statuses == FAILED, axis=0)
        skipped = jnp.any(statuses == SKIPPED, axis=0)
        status = jnp.where(skipped, SKIPPED, jnp.where(failed, FAILED, OK))
        values = jnp.concatenate([jnp.asarray(part.objectives) for part in parts], axis=1)
        limited = [jnp.asarray(p.limited) for p in parts if p.limited is not None]
        return tuple(states), Evaluation(
            objectives=jnp.where((status == OK)[:, None], values, jnp.nan),
            violation=jnp.sum(jnp.stack([jnp.asarray(p.violation) for p in parts]), axis=0),
            cost=jnp.sum(jnp.stack([jnp.asarray(p.cost) for p in parts]), axis=0),
            status=status.astype(jnp.int32),
            reward=jnp.full(status.shape, jnp.nan, jnp.float32),
            limited=jnp.concatenate(limited, axis=1) if limited else None,
        )

    def capability(self, kind: type) -> Any:
        """Returns itself where the parts have what it takes, or None.

        Fidelities and what measures at them are those of the one part that has some.
        """
        if kind in (kinds.MultiFidelity, kinds.Scalable):
            found = [capability(oracle, kind) for oracle in self.oracles]
            there = [one for one in found if one is not None]
            return there[0] if len(there) == 1 else None
        some = (kinds.Described, kinds.Repeating, Limiting)
        enough = any if kind in some else all
        has = enough(capability(oracle, kind) is not None for oracle in self.oracles)
        return self if has and isinstance(self, kind) else None

    @property
    def metric_names(self) -> tuple[str, ...]:
        """Everything that any part can measure."""
        parts = [required(oracle, kinds.Selectable).metric_names for oracle in self.oracles]
        return tuple(dict.fromkeys(name for part in parts for name in part))

    def select(self, objective: str | Sequence[str]) -> "Joined":
        """Returns the parts that measure some metrics, each metric by the first that can.

        Raises:
            UserError: a metric that none of them measures.
        """
        names = objective.split(",") if isinstance(objective, str) else list(objective)
        left, parts = list(dict.fromkeys(name.strip() for name in names)), []
        for oracle in self.oracles:
            chooser = required(oracle, kinds.Selectable)
            own = tuple(name for name in left if name in chooser.metric_names)
            left = [name for name in left if name not in own]
            parts += [chooser.select(own)] if own else []
        if left:
            raise unknown_name("metric", left[0], self.metric_names)
        return Joined(tuple(parts))

    @property
    def bounds(self) -> tuple[Limit, ...]:
        """The limits of all parts."""
        parts = (capability(oracle, Limiting) for oracle in self.oracles)
        return tuple(limit for part in parts if part is not None for limit in part.bounds)

    def limited_columns(self) -> dict[str, np.ndarray]:
        """Returns what the parts list of their limited metrics."""
        parts = (capability(oracle, Limiting) for oracle in self.oracles)
        listed = [part.limited_columns() for part in parts if part is not None]
        return {name: column for part in listed for name, column in part.items()}

    @property
    def repeats(self) -> str:
        """``"resample"`` where some part gives a new reading each time."""
        found = (capability(oracle, kinds.Repeating) for oracle in self.oracles)
        resample = any(part is not None and part.repeats == "resample" for part in found)
        return "resample" if resample else "stored"

    def truth(self, params: tuple[PyTree, ...], tokens: Tokens) -> Float[Array, "B M"]:
        """Returns the objectives without measurement noise."""
        parts, rows = zip(self.oracles, params, strict=True), jnp.asarray(tokens)
        values = [required(o, kinds.Truthful).truth(shared, rows) for o, shared in parts]
        return jnp.concatenate(values, axis=1)

    def spread(self, params: tuple[PyTree, ...], tokens: Tokens) -> Float[Array, "B M"]:
        """Returns the standard deviation of one measurement."""
        parts, rows = zip(self.oracles, params, strict=True), jnp.asarray(tokens)
        values = [required(o, kinds.Uncertain).spread(shared, rows) for o, shared in parts]
        return jnp.concatenate(values, axis=1)

    def columns(self) -> dict[str, np.ndarray]:
        """Returns every metric of every part."""
        parts = [required(oracle, kinds.Enumerated).columns() for oracle in self.oracles]
        return {name: column for part in parts for name, column in part.items()}

    def info(self) -> dict[str, Any]:
        """Returns the facts of the parts that have any, by their id."""
        found = {o.id: capability(o, kinds.Described) for o in self.oracles}
        return {name: part.info() for name, part in found.items() if part is not None}


@dataclass(frozen=True)
class Constrained(OracleWrapper):
    """Fills ``Evaluation.violation`` with how far some metrics exceed their limits.

        violation = sum_j max(0, excess_j)

    with the excess in units of the bound (:func:`jaxnas.core.constraints.excess`), so that
    limits in different units weigh alike; 0 where all hold. ``Evaluation.limited`` has the
    value of each limited metric. The objectives stay those of ``oracle``; metrics that are
    limited without being objectives are measured by ``gauges``. Use :func:`constrained`,
    which finds the gauges.

    Args:
        oracle: what is searched.
        limits: ``(metric, "<=" or ">=", bound)``.
        gauges: further oracles that measure the limited metrics.

    Raises:
        UserError: a limit on a metric that none of them measures, or that is no number.
    """

    limits: tuple[Limit, ...]
    gauges: tuple[Oracle, ...] = ()

    adds: ClassVar[tuple[type, ...]] = (Limiting,)

    def __post_init__(self) -> None:
        known = [item.name for item in self._all.objectives]
        if not self.limits:
            raise UserError("At least one limit is needed to constrain an oracle.")
        for metric, sign, bound in self.limits:
            if metric not in known:
                raise unknown_name("constrained metric", metric, known)
            if sign not in ("<=", ">=") or not np.isfinite(bound):
                raise UserError(
                    f"The limit on {metric!r} must be '<=' or '>=' a finite number, "
                    f"got {sign!r} {bound}."
                )

    @property
    def id(self) -> str:
        """The inner oracle's id and the limits."""
        return "|".join([self.oracle.id, *(f"{m}{s}{b:g}" for m, s, b in self.limits)])

    @property
    def traced(self) -> bool:
        """Whether oracle and gauges may live inside jit."""
        return self._all.traced

    def params(self) -> tuple[PyTree, ...]:
        """Returns what the oracle and each gauge share."""
        return self._all.params()

    def init(self, key: Key[Array, ""], params: tuple[PyTree, ...]) -> tuple[PyTree, ...]:
        """Returns the state of the oracle and of each gauge."""
        return self._all.init(key, params)

    def evaluate(
        self,
        key: Key[Array, ""],
        params: tuple[PyTree, ...],
        state: tuple[PyTree, ...],
        tokens: Tokens,
        fidelity: Int[Array | np.ndarray, "B"],
        active: Bool[Array | np.ndarray, "B"],
    ) -> tuple[tuple[PyTree, ...], Evaluation]:
        """Returns what the inner oracle measured, with the violation of the limits."""
        state, every = self._all.evaluate(key, params, state, tokens, fidelity, active)
        names = [item.name for item in self._all.objectives]
        values = [every.objectives[:, names.index(metric)] for metric, _, _ in self.limits]
        violation = every.violation
        for limit, value in zip(self.limits, values, strict=True):
            violation = violation + jnp.maximum(excess(limit, value), 0.0)
        limited = jnp.stack(values, axis=1)
        if every.limited is not None:
            limited = jnp.concatenate([every.limited, limited], axis=1)
        return state, every._replace(
            objectives=every.objectives[:, : len(self.objectives)],
            violation=jnp.where(every.status == OK, violation, 0.0),
            limited=limited,
        )

    @property
    def bounds(self) -> tuple[Limit, ...]:
        """The inner oracle's limits, if any, and these."""
        inner = capability(self.oracle, Limiting)
        return (*(() if inner is None else inner.bounds), *self.limits)

    def limited_columns(self) -> dict[str, np.ndarray]:
        """Returns limited metrics of all architectures, of the parts that list theirs."""
        wanted = {metric for metric, _, _ in self.bounds}
        parts = [capability(part, kinds.Enumerated) for part in self._all.oracles]
        size = tk.count(self.space)
        if size is None or size > tk.ENUMERABLE:
            return {}
        # A traced part has its table at hand; another might count for minutes.
        known = zip(parts, self._all.oracles, strict=True)
        listed = [p.columns() for p, whole in known if p is not None and whole.traced]
        found = {name: c for part in listed for name, c in part.items() if name in wanted}
        return {name: np.asarray(c) for name, c in found.items() if len(c) == size}

    def truth(self, params: tuple[PyTree, ...], tokens: Tokens) -> Float[Array, "B M"]:
        """Returns the objectives without measurement noise."""
        return required(self.oracle, kinds.Truthful).truth(params[0], jnp.asarray(tokens))

    def spread(self, params: tuple[PyTree, ...], tokens: Tokens) -> Float[Array, "B M"]:
        """Returns the standard deviation of one measurement."""
        return required(self.oracle, kinds.Uncertain).spread(params[0], jnp.asarray(tokens))

    def features(self, tokens: Int[Array, "B L"]) -> Float[Array, "B F"]:
        """Returns what the inner model sees."""
        return required(self.oracle, kinds.Predictor).features(tokens)

    def predict(self, params: tuple[PyTree, ...], tokens: Int[Array, "B L"]) -> Any:
        """Returns what the inner model predicts."""
        return required(self.oracle, kinds.Predictor).predict(params[0], tokens)

    def columns(self) -> dict[str, np.ndarray]:
        """Returns every metric of the oracle, and of the gauges that list theirs."""
        found = [capability(gauge, kinds.Enumerated) for gauge in self.gauges]
        parts = [required(self.oracle, kinds.Enumerated), *filter(None, found)]
        return {name: column for part in parts for name, column in part.columns().items()}

    def info(self) -> dict[str, Any]:
        """Returns the facts of the inner oracle, and the limits."""
        facts = required(self.oracle, kinds.Described).info()
        limits = [f"{metric} {sign} {bound:g}" for metric, sign, bound in self.limits]
        return {**facts, "limits": limits}

    def select(self, objective: str | Sequence[str]) -> Oracle:
        """Returns the inner oracle with other objectives, under the same limits."""
        inner = required(self.oracle, kinds.Selectable).select(objective)
        return constrained(inner, [f"{m}{sign}{bound!r}" for m, sign, bound in self.limits])

    @property
    def _all(self) -> Joined:
        return Joined((self.oracle, *self.gauges))


def constrained(oracle: Oracle, texts: Sequence[str]) -> Constrained:
    """Returns an oracle under limits such as ``"params<=1e6"`` or ``"digital>=90"``.

    Each metric is looked for among the objectives, then among what else the oracle can
    measure, then among the exact costs (``params``, ``flops``).

    Raises:
        UserError: a text of another form, or a metric that nobody measures.
    """
    limits = tuple(_parse(text) for text in texts)
    present = [item.name for item in oracle.objectives]
    wanted = list(dict.fromkeys(m for m, _, _ in limits if m not in present))
    chooser = capability(oracle, kinds.Selectable)
    more = chooser.metric_names if chooser is not None else ()
    for metric in wanted:
        if metric not in more and metric not in COSTS:
            raise unknown_name("constrained metric", metric, {*present, *more, *COSTS})
    own = tuple(metric for metric in wanted if metric in more)
    counted = tuple(metric for metric in wanted if metric not in more)
    gauges: list[Oracle] = []
    if own and chooser is not None:
        gauges.append(chooser.select(own))
    if counted:
        gauges.append(CostOracle(oracle.space, counted))
    return Constrained(oracle, limits, tuple(gauges))


def with_costs(make: Callable[[str], Oracle], objective: str) -> Oracle:
    """Returns an oracle, joined with the exact costs among its objectives.

    Args:
        make: makes the oracle with objectives joined by commas.
        objective: its own metrics, then those of ``cost`` that it does not know itself,
            such as ``"digital,params"``.

    Raises:
        UserError: what ``make`` raises, or a cost before one of the oracle's own metrics.
    """
    names = [name.strip() for name in objective.split(",")]
    own = [name for name in names if name not in COSTS]
    if not own or len(own) == len(names):
        return make(objective)
    oracle = make(",".join(own))
    chooser = capability(oracle, kinds.Selectable)
    if chooser is not None:
        own = [name for name in names if name in own or name in chooser.metric_names]
    if len(own) == len(names):
        return make(objective)
    costs = [name for name in names if name not in own]
    if names != [*own, *costs]:
        raise UserError(
            f"{objective!r} names a cost of the network before a metric of {oracle.id!r}; "
            f"write {','.join([*own, *costs])}."
        )
    return Joined((make(",".join(own)), CostOracle(oracle.space, tuple(costs))))


def _parse(text: str) -> Limit:
    found = re.fullmatch(r"\s*([\w-]+)\s*(<=|>=)\s*([-+.\deE]+)\s*", text)
    try:
        if found is None:
            raise ValueError(text)
        return found[1], cast(Literal["<=", ">="], found[2]), float(found[3])
    except ValueError as error:
        raise UserError(
            f"{text!r} is not a constraint; write one such as 'params<=1e6'."
        ) from error


def _lanes_for(oracle: Oracle, lanes: tuple[Any, ...]) -> tuple[Any, ...]:
    """Returns the lanes as jax arrays for a traced oracle, as numpy for a host one."""
    return tuple(map(jnp.asarray if oracle.traced else np.asarray, lanes))
