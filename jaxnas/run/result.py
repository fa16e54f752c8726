"""What a search leaves behind: raw arrays and the best architectures."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from jaxnas.core.algorithm import Algorithm, Exporting
from jaxnas.core.errors import UserError
from jaxnas.core.naming import to_dict
from jaxnas.core.oracle import Truthful, required
from jaxnas.core.space import Named, Nested, SearchSpace
from jaxnas.core.types import Objective
from jaxnas.moo import found
from jaxnas.oracles.budget import Budgeted
from jaxnas.registry import make_space
from jaxnas.run import policies
from jaxnas.run.population import Member

PIECE = 1024
"""Architectures evaluated together."""


@dataclass(frozen=True)
class Result:
    """The arrays of a finished search; see ``docs/decisions/0007-run-directory.md``.

    Attributes:
        config: the run's configuration.
        arrays: raw arrays by name: ``curve [P, Q]``, ``tokens [P, Q, L]``, ...
        archive: ``tokens [C, L]`` and ``objectives [C, M]`` of the best distinct
            architectures of the whole run by reward, best first; of several objectives
            also ``front_tokens [K, L]`` and ``front_objectives [K, M]``, its front.
        path: the run directory, or None.
        timings: seconds of compilation and of running.
        evaluations: with a host oracle, how many there were, how many of them were found
            in the store, where they ran and what failed.
    """

    config: dict[str, Any]
    arrays: dict[str, np.ndarray]
    archive: dict[str, np.ndarray]
    path: Path | None
    timings: dict[str, float]
    evaluations: dict[str, Any] | None = None
    learned: dict[str, np.ndarray] | None = None
    """Policies as in ``policies.npz``; None where they are still there."""
    algo: Any = None
    """What ran; None of a run that was read from its directory."""
    infeasible: str | None = None
    """Where nothing that was queried meets the constraints: which, how near the best came,
    and whether anything can, as one sentence."""

    def policy(self, i: int, algo: Any = None) -> policies.Policy:
        """Returns the policy that controller ``i`` ended with: ``apply`` and ``params``.

        Args:
            i: global number of a controller, as in ``arrays["controller"]``. The policies
                of all are saved, or of the best where they are more than 64 MiB.
            algo: the algorithm, where it cannot be made again by name.

        Raises:
            UserError: the method learns none, or this one was not saved.
        """
        header, saved = {}, self.learned
        if saved is None and self.path is not None:
            header, saved = policies.KIND.read(self.path / policies.FILE)
        if not saved:
            raise UserError("This search has no policies: its method learns none.")
        algo = algo or self.algo
        if algo is None:
            algo = policies.remade(header, self.space)
        return policies.one(saved, i, algo)

    @property
    def curve(self) -> np.ndarray:
        """True value of the recommended architecture after each query, carried forward."""
        return carry_forward(self.arrays["curve"])

    def best(self, k: int = 1) -> list[dict[str, Any]]:
        """Returns the ``k`` best distinct architectures that did not fail.

        Each has its ``tokens``, its objectives by name and, where the space names its
        decisions, what they are: ``architecture``.
        """
        values = self.archive["objectives"]
        there = np.flatnonzero(np.isfinite(values).all(axis=1))[:k]
        return self._rows(self.archive["tokens"][there], values[there])

    def front(self) -> list[dict[str, Any]]:
        """Returns the distinct feasible architectures that no other one found dominates.

        Rows are as in :meth:`best`, the best by the first objective first; values are
        without measurement noise where the oracle knows them. With one objective they are
        those that share its best value.
        """
        tokens, values = self.archive["tokens"], self.archive["objectives"]
        if "front_tokens" in self.archive:
            tokens, values = (self.archive[f"front_{n}"] for n in ("tokens", "objectives"))
        rows = front_order(values, self.goals)
        return self._rows(tokens[rows], values[rows])

    def hypervolume(
        self,
        reference: Sequence[float | int] | None = None,
        places: Sequence[int] | None = None,
    ) -> np.ndarray:
        """Returns the hypervolume of what each controller measured, ``[P, k]``.

        Only what succeeded and is feasible counts; up to three objectives.

        Args:
            reference: a number for each objective in its own unit; the worst value of each
                on any controller's front when None.
            places: after so many queries; after the last one when None.

        Raises:
            UserError: more than three objectives, or another number of reference values.
        """
        goals, values = self.goals, self.arrays["objectives"].astype(np.float64)
        found.check_number(len(goals))
        allowed = np.isfinite(values).all(axis=2) & (self.arrays["violation"] <= 0)
        if reference is None:
            fronts = [v[a][found.front(v[a], goals)] for v, a in zip(values, allowed)]
            point = found.nadir(fronts, goals)
        else:
            point = found.checked_reference(reference, goals)
        after = np.asarray([values.shape[1]] if places is None else places)
        return found.volumes_after(values, allowed, goals, point, after)

    @property
    def goals(self) -> tuple[Objective, ...]:
        """What was measured, in order."""
        return tuple(Objective(**o) for o in self.config["objectives"])

    def _rows(self, tokens: np.ndarray, values: np.ndarray) -> list[dict[str, Any]]:
        names, space = [goal.name for goal in self.goals], self.space
        named = isinstance(space, Named | Nested)
        return [
            {
                "tokens": tuple(map(int, row)),
                **({"architecture": to_dict(space, row)} if space and named else {}),
                **dict(zip(names, map(float, measured))),
            }
            for row, measured in zip(tokens, values, strict=True)
        ]

    @property
    def space(self) -> SearchSpace | None:
        """The space that was searched; None where it cannot be made again by name."""
        if self.algo is not None:
            return self.algo.space
        name, options = self.config["space_name"], self.config["space_options"]
        return None if name is None else make_space(name, **options)


def carry_forward(curve: np.ndarray) -> np.ndarray:
    """Returns curves whose NaN positions repeat the last number before them."""
    places = np.where(np.isnan(curve), 0, np.arange(curve.shape[-1]))
    last = np.maximum.accumulate(places, axis=-1)
    return np.take_along_axis(curve, last, axis=-1)


def gather(
    algo: Algorithm, oracle: Budgeted, members: Member, ids: np.ndarray, seeds: int
) -> dict[str, np.ndarray]:
    """Returns the raw arrays of controllers, padding left out.

    ``members`` are ``[blocks, width, ...]`` and ``ids`` their global ids, ``[padded]``, -1
    for padding; ``seeds`` is the number of controllers of each setting.
    """
    real = ids >= 0

    def fetch(x: Any) -> np.ndarray:
        x = np.asarray(x)
        return x.reshape((-1, *x.shape[2:]))[real]

    ledger = members.oracle.ledger
    log = {f"metric_{name}": fetch(column) for name, column in members.log.items()}
    if isinstance(algo, Exporting):
        kept = jax.vmap(jax.vmap(algo.artifacts))(members.algorithm)
        log |= {f"artifact_{name}": fetch(column) for name, column in kept.items()}
    return {
        "controller": ids[real].astype(np.int64),
        "setting": (ids[real] // seeds).astype(np.int32),
        "seed": (ids[real] % seeds).astype(np.int32),
        "count": fetch(ledger.queries),
        "proposals": fetch(ledger.proposals),
        "curve": oracle.scalariser.natural(fetch(ledger.curve)),
        "tokens": fetch(ledger.tokens),
        "objectives": fetch(ledger.objectives),
        "violation": fetch(ledger.violation),
        **({"limited": fetch(ledger.limited)} if oracle.bounds else {}),
        "best_tokens": fetch(ledger.best_tokens),
        "best_true": oracle.scalariser.natural(fetch(ledger.best_true)),
        **log,
        **policies.gathered(algo, members, ids),
    }


def best_distinct(
    oracle: Budgeted, params: PyTree, parts: Sequence[dict[str, np.ndarray]], capacity: int
) -> dict[str, np.ndarray]:
    """Returns the best ``capacity`` distinct feasible architectures, by true reward.

    Of several objectives also the front of all of them.
    """
    tokens, objectives = [], []
    for part in parts:
        flat = part["tokens"].reshape(-1, part["tokens"].shape[-1])
        values = part["objectives"].reshape(-1, part["objectives"].shape[-1])
        asked = (flat[:, 0] >= 0) & (part["violation"].reshape(-1) <= 0)
        rows = _first_rows(oracle.space, flat[asked])
        tokens.append(flat[asked][rows])
        objectives.append(values[asked][rows])
    every = np.concatenate(tokens)
    rows = _first_rows(oracle.space, every)
    every, values = every[rows].astype(np.int32), np.concatenate(objectives)[rows]
    values, reward = _evaluate(oracle, params, every, values)
    order = np.argsort(-np.nan_to_num(reward, nan=-np.inf), kind="stable")[:capacity]
    best = {"tokens": every[order], "objectives": values[order]}
    if len(oracle.objectives) > 1:
        rows = front_order(values, oracle.objectives)
        best |= {"front_tokens": every[rows], "front_objectives": values[rows]}
    return best


def front_order(values: np.ndarray, goals: Sequence[Objective]) -> np.ndarray:
    """Returns the rows of a front, the best by the first objective first."""
    rows = np.flatnonzero(found.front(values, goals))
    first = values[rows, 0] * (-1.0 if goals[0].maximise else 1.0)
    return rows[np.argsort(first, kind="stable")]


@functools.lru_cache(maxsize=32)
def _evaluate_program(oracle: Budgeted) -> Any:
    def evaluate(params: PyTree, tokens: Any, measured: Any) -> Any:
        values = measured
        if oracle.truthful:
            values = required(oracle, Truthful).truth(params, tokens)
        return values, oracle.scalariser(values, jnp.zeros(tokens.shape[0], jnp.float32))

    return jax.jit(evaluate)


def _evaluate(
    oracle: Budgeted, params: PyTree, tokens: np.ndarray, measured: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns true objectives and rewards, in pieces of one size so as to compile once."""
    evaluate, pieces = _evaluate_program(oracle), []
    for start in range(0, max(1, len(tokens)), PIECE):
        here = slice(start, start + PIECE)
        padding = ((0, PIECE - len(tokens[here])), (0, 0))
        args = np.pad(tokens[here], padding), np.pad(measured[here], padding)
        pieces.append([np.asarray(x)[: len(tokens[here])] for x in evaluate(params, *args)])
    values, reward = (np.concatenate(column) for column in zip(*pieces, strict=True))
    return values, reward


def _first_rows(space: SearchSpace, tokens: np.ndarray) -> np.ndarray:
    """Returns the first row of every distinct architecture, in order of appearance."""
    if space.vocab**space.length < 2**63:
        radix = space.vocab ** np.arange(space.length - 1, -1, -1, dtype=np.int64)
        _, rows = np.unique(tokens.astype(np.int64) @ radix, return_index=True)
    else:
        _, rows = np.unique(tokens, axis=0, return_index=True)
    return np.sort(rows)
