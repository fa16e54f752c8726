"""The budget: a controller pays one query for each architecture it has not asked yet.

A query is the first evaluation of a *raw* token vector by a controller. Repeats, also
inside one batch, are free and return the stored value. With ``repeats="resample"`` every
evaluation is a new reading and costs a query. A controller is finished when its budget is
spent or ``max_proposals`` is reached, whichever is first.
"""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from jaxnas.core import oracle as kinds
from jaxnas.core import tokens as tk
from jaxnas.core import visited as vs
from jaxnas.core.constraints import DEFAULT, Handling, Limit, Limiting
from jaxnas.core.errors import UserError
from jaxnas.core.oracle import Oracle, OracleWrapper, capability, required
from jaxnas.core.scalarise import Scalariser, WeightedSum, make_scalariser
from jaxnas.core.types import FAILED, OK, PARTIAL, SKIPPED, Evaluation


class Ledger(NamedTuple):
    """What one controller has asked, and what it would recommend after each query."""

    visited: vs.Visited
    queries: Int[Array, ""]
    proposals: Int[Array, ""]
    """Active lanes seen, repeats included."""
    best_reading: Float[Array, ""]
    """Measured reward of the recommended architecture, -inf before there is one."""
    best_true: Float[Array, ""]
    """Its reward without measurement noise, NaN before there is one."""
    best_tokens: Int[Array, "L"]
    curve: Float[Array, "Q"]
    """``best_true`` after each query; NaN where not reached."""
    tokens: Int[Array, "Q L"]
    """The queries in order, -1 where not reached."""
    objectives: Float[Array, "Q M"]
    violation: Float[Array, "Q"]
    limited: Float[Array, "Q K"]
    """Value of each limited metric; NaN where it failed."""
    handling: PyTree
    """What the handling of constraints remembers."""
    draws: Int[Array, "C"]
    """Readings of each slot; size 0 unless readings are resampled."""
    sums: Float[Array, "C"]


class Admission(NamedTuple):
    """What the ledger lets through of one proposal."""

    scored: Bool[Array, "B"]
    """Lanes that get an answer."""
    fresh: Bool[Array, "B"]
    """Lanes that cost a query; a subset of ``scored``."""
    slot: Int[Array, "B"]


class BudgetState(NamedTuple):
    """Oracle state and ledger of one controller."""

    inner: PyTree
    ledger: Ledger


@dataclass(frozen=True)
class Budgeted(OracleWrapper):
    """Counts, caps and records what one controller asks of an oracle, and fills rewards.

    Its objectives cannot be chosen anew: the weights belong to them.

    Args:
        oracle: what is asked.
        scalariser: turns its objectives into the reward.
        budget: queries allowed, ``Q``.
        max_proposals: proposals allowed, repeats included.
        handling: what breaking constraints does to the reward.
    """

    scalariser: Scalariser
    budget: int
    max_proposals: int
    handling: Handling = DEFAULT

    hides: ClassVar[tuple[type, ...]] = (kinds.Selectable,)

    def __post_init__(self) -> None:
        if self.budget < 1:
            raise UserError(f"The budget must be at least one query, got {self.budget}.")
        if self.max_proposals < self.budget:
            raise UserError(
                f"max_proposals ({self.max_proposals}) is below the budget ({self.budget}) "
                "and could never spend it; raise it."
            )

    @property
    def truthful(self) -> bool:
        """Whether truths are asked beside readings; on a host readings have no noise."""
        return self.traced and capability(self.oracle, kinds.Truthful) is not None

    @property
    def bounds(self) -> tuple[Limit, ...]:
        """The limits of the oracle, ``K`` of them."""
        found = capability(self.oracle, Limiting)
        return () if found is None else found.bounds

    @property
    def resample(self) -> bool:
        """Whether each evaluation is a new reading that costs a query."""
        found = capability(self.oracle, kinds.Repeating)
        return found is not None and found.repeats == "resample"

    def init(self, key: Key[Array, ""], params: PyTree) -> BudgetState:
        """Returns an unspent budget."""
        space, Q = self.space, self.budget
        slots = vs.num_slots(space, Q) if self.resample else 0
        ledger = Ledger(
            visited=vs.empty(space, Q),
            queries=jnp.int32(0),
            proposals=jnp.int32(0),
            best_reading=jnp.float32(-jnp.inf),
            best_true=jnp.float32(jnp.nan),
            best_tokens=jnp.zeros(space.length, jnp.int32),
            curve=jnp.full(Q, jnp.nan, jnp.float32),
            tokens=jnp.full((Q, space.length), -1, jnp.int16),
            objectives=jnp.full((Q, len(self.objectives)), jnp.nan, jnp.float32),
            violation=jnp.full(Q, jnp.nan, jnp.float32),
            limited=jnp.full((Q, len(self.bounds)), jnp.nan, jnp.float32),
            handling=self.handling.init(),
            draws=jnp.zeros(slots, jnp.int32),
            sums=jnp.zeros(slots, jnp.float32),
        )
        # A host oracle is asked outside the compiled halves and keeps its state there.
        inner = self.oracle.init(key, params) if self.traced else ()
        return BudgetState(inner, ledger)

    def spent(self, state: BudgetState) -> Bool[Array, ""]:
        """Returns whether the controller is finished and must be frozen."""
        ledger = state.ledger
        return (ledger.queries >= self.budget) | (ledger.proposals >= self.max_proposals)

    def admit(
        self, ledger: Ledger, tokens: Int[Array, "B L"], active: Bool[Array, "B"]
    ) -> tuple[Ledger, Admission]:
        """Books a proposal: which lanes get an answer, and which of them cost a query."""
        left = self.max_proposals - ledger.proposals
        active = active & (jnp.cumsum(active, dtype=jnp.int32) <= left)
        room = self.budget - ledger.queries
        if self.resample:
            active = active & (jnp.cumsum(active, dtype=jnp.int32) <= room)
        seen, new, known, slot = vs.insert(self.space, ledger.visited, tokens, active, room)
        proposals = ledger.proposals + jnp.sum(active, dtype=jnp.int32)
        ledger = ledger._replace(visited=seen, proposals=proposals)
        fresh = known if self.resample else new
        return ledger, Admission(known, fresh, slot)

    def record(
        self,
        params: PyTree,
        ledger: Ledger,
        admission: Admission,
        tokens: Int[Array, "B L"],
        evaluation: Evaluation,
    ) -> Ledger:
        """Writes the answers of the lanes that cost a query, in lane order.

        One that was stopped before its full evaluation is a query without an objective.
        """
        fresh, full = admission.fresh, evaluation.status != PARTIAL
        wins = fresh & (evaluation.status == OK) & (evaluation.violation <= 0)
        seen = jnp.where(full[:, None], evaluation.objectives, jnp.nan)
        reading = jnp.where(wins, evaluation.reward, -jnp.inf)
        if self.resample:
            ledger, choice = _best_means(ledger, admission.slot, reading)
            advised = tk.from_index(self.space, jnp.maximum(choice, 0))
            true = jnp.where(choice >= 0, self._true_reward(params, advised), jnp.nan)
        else:
            ledger, choice = _best_reading(ledger, reading)
            exact = evaluation.reward
            if self.truthful:
                exact = self._true_reward(params, tokens)
            lane = jnp.maximum(choice, 0)
            advised = jnp.where(choice[:, None] >= 0, tokens[lane], ledger.best_tokens)
            true = jnp.where(choice >= 0, exact[lane], ledger.best_true)
        place = ledger.queries + jnp.cumsum(fresh, dtype=jnp.int32) - 1
        place = jnp.where(fresh, place, self.budget)
        any_choice = choice[-1] >= 0
        limited = ledger.limited
        if evaluation.limited is not None and self.bounds:
            limited = limited.at[place].set(evaluation.limited, mode="drop")
        return ledger._replace(
            queries=ledger.queries + jnp.sum(fresh, dtype=jnp.int32),
            best_true=jnp.where(any_choice, true[-1], ledger.best_true),
            best_tokens=jnp.where(any_choice, advised[-1], ledger.best_tokens),
            curve=ledger.curve.at[place].set(true, mode="drop"),
            tokens=ledger.tokens.at[place].set(tokens.astype(jnp.int16), mode="drop"),
            objectives=ledger.objectives.at[place].set(seen, mode="drop"),
            violation=ledger.violation.at[place].set(evaluation.violation, mode="drop"),
            limited=limited,
        )

    def finish(self, scored: Bool[Array, "B"], evaluation: Evaluation) -> Evaluation:
        """Returns the evaluation with the rewards of its objectives, constraints left out.

        SKIPPED and NaN where nothing was asked, FAILED where the reward is not finite.
        """
        status = jnp.where(scored, evaluation.status, SKIPPED)
        ok = (status == OK) | (status == PARTIAL)
        none = jnp.zeros_like(evaluation.violation)
        reward = self.scalariser(evaluation.objectives, none)
        return evaluation._replace(
            objectives=jnp.where(ok[:, None], evaluation.objectives, jnp.nan),
            status=jnp.where(ok & ~jnp.isfinite(reward), FAILED, status),
            reward=jnp.where(ok & jnp.isfinite(reward), reward, jnp.nan),
        )

    def settle(
        self, ledger: Ledger, scored: Bool[Array, "B"], evaluation: Evaluation
    ) -> tuple[Ledger, Evaluation]:
        """Returns ledger and evaluation with rewards after constraints were handled."""
        evaluation = self.finish(scored, evaluation)
        ok = (evaluation.status == OK) | (evaluation.status == PARTIAL)
        state, reward = self.handling(
            ledger.handling, evaluation.reward, evaluation.violation, ok
        )
        reward = jnp.where(ok, reward, jnp.nan).astype(jnp.float32)
        return ledger._replace(handling=state), evaluation._replace(reward=reward)

    def evaluate(
        self,
        key: Key[Array, ""],
        params: PyTree,
        state: BudgetState,
        tokens: Int[Array, "B L"],
        fidelity: Int[Array, "B"],
        active: Bool[Array, "B"],
    ) -> tuple[BudgetState, Evaluation]:
        """Admits, asks the inner oracle and records, in one traced step."""
        ledger, admission = self.admit(state.ledger, tokens, active)
        inner, evaluation = self.oracle.evaluate(
            key, params, state.inner, tokens, fidelity, admission.scored
        )
        ledger, evaluation = self.settle(ledger, admission.scored, evaluation)
        ledger = self.record(params, ledger, admission, tokens, evaluation)
        return BudgetState(inner, ledger), evaluation

    def _true_reward(self, params: PyTree, tokens: Int[Array, "B L"]) -> Float[Array, "B"]:
        """Returns the reward of architectures without measurement noise."""
        truth = required(self.oracle, kinds.Truthful).truth(params, tokens)
        return self.scalariser(truth, jnp.zeros(tokens.shape[0], jnp.float32))


def _best_reading(
    ledger: Ledger, reading: Float[Array, "B"]
) -> tuple[Ledger, Int[Array, "B"]]:
    """Returns, after each lane, which lane holds the best reading; -1 for the incumbent."""
    running = jax.lax.cummax(jnp.concatenate([ledger.best_reading[None], reading]))
    lanes = jnp.arange(reading.shape[0], dtype=jnp.int32)
    choice = jax.lax.cummax(jnp.where(reading > running[:-1], lanes, -1))
    return ledger._replace(best_reading=running[-1]), choice


def _best_means(
    ledger: Ledger, slot: Int[Array, "B"], reading: Float[Array, "B"]
) -> tuple[Ledger, Int[Array, "B"]]:
    """Returns, after each lane, the slot with the best mean reading; -1 if none.

    When the incumbent's mean falls below another architecture's, that one takes over.
    """

    def lane(book: Ledger, item: PyTree) -> tuple[Ledger, Int[Array, ""]]:
        here, read = item
        ok = jnp.isfinite(read)
        draws = book.draws.at[here].add(ok.astype(jnp.int32))
        sums = book.sums.at[here].add(jnp.where(ok, read, 0.0))
        means = jnp.where(draws > 0, sums / jnp.maximum(draws, 1), -jnp.inf)
        leader = jnp.argmax(means)
        best = means[leader]
        book = book._replace(draws=draws, sums=sums, best_reading=best)
        return book, jnp.where(best > -jnp.inf, leader, -1).astype(jnp.int32)

    return jax.lax.scan(lane, ledger, (slot, reading))


def budgeted(
    oracle: Oracle,
    budget: int,
    max_proposals: int | None = None,
    weights: tuple[float, ...] | None = None,
    scalarise: str = WeightedSum.name,
    ideal: tuple[float, ...] | None = None,
    scale: tuple[float, ...] | None = None,
    handling: Handling = DEFAULT,
) -> Budgeted:
    """Returns an oracle that counts the queries of a controller and fills its rewards.

    ``max_proposals`` counts repeats, 8 x budget when None; all weights are 1 when None.
    How several objectives become a reward is in
    :func:`jaxnas.core.scalarise.make_scalariser`; the ranges are those of the table where
    the oracle lists every value. ``handling`` decides what breaking constraints does to it.

    Raises:
        UserError: a budget below 1, fewer proposals than queries, or weights, an ideal or a
            scale that do not fit the objectives.
    """
    cap = 8 * budget if max_proposals is None else max_proposals
    ranges = {}
    if scalarise != WeightedSum.name and (ideal is None or scale is None):
        ranges = _ranges(oracle)
    scalariser = make_scalariser(
        oracle.objectives, scalarise, weights, ideal, scale, ranges
    )
    return Budgeted(oracle, scalariser, budget, cap, handling)


def _ranges(oracle: Oracle) -> dict[str, tuple[float, float]]:
    """Returns least and greatest value of each objective that the oracle lists."""
    table = capability(oracle, kinds.Enumerated)
    columns = {} if table is None else table.columns()
    names = [o.name for o in oracle.objectives if o.name in columns]
    found = {name: np.asarray(columns[name], float) for name in names}
    return {n: (float(np.nanmin(c)), float(np.nanmax(c))) for n, c in found.items()}
