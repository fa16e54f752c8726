"""Cheap evaluations first, in front of a host oracle: the best, or the promising, go on.

Each controller's brackets are its own; what is evaluated is shared, as everywhere. A repeat
gets the answer that its controller has had. What stopped early is PARTIAL.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.core import tokens as tk
from jaxnas.core.oracle import MultiFidelity, required
from jaxnas.core.scalarise import Scalariser
from jaxnas.core.types import OK, PARTIAL, SKIPPED, Evaluation
from jaxnas.run.halving import WARM, Bracket, chances, survivors
from jaxnas.run.host.cache import HostCache

Where = tuple[int, str]
"""Number of a controller, digest of an architecture."""


class Schedule(NamedTuple):
    """Which lanes compete, from which rung, and how many of them go on."""

    brackets: Sequence[Bracket]
    order: tuple[int, ...]
    """Fidelity of each rung, the full one, 0, last."""
    eta: float
    chance: float | None = None
    """Of beating the best, below which a lane stops; None where lanes compete."""


class Promotion:
    """Answers proposals by brackets; its memory is saved with checkpoints.

    Args:
        cache: evaluates, each (architecture, fidelity) once.
        scalariser: ranks the lanes of a bracket.
        schedule: of every proposal.
    """

    def __init__(
        self, cache: HostCache, scalariser: Scalariser, schedule: Schedule
    ) -> None:
        self.cache, self.scalariser, self.schedule = cache, scalariser, schedule
        self.reached: dict[Where, tuple[np.ndarray, int]] = {}
        """Tokens and the fidelity of the last evaluation, of each controller."""
        self._paths: dict[str, np.ndarray] = {}

    def evaluate(
        self,
        controllers: np.ndarray,
        tokens: np.ndarray,
        scored: np.ndarray,
        fresh: np.ndarray,
    ) -> Evaluation:
        """Returns the evaluation of ``[n, B, L]`` proposals, its leaves ``[n, B, ...]``.

        Args:
            controllers: global numbers, ``[n]``.
            tokens: what each proposes.
            scored: lanes that get an answer, ``[n, B]``.
            fresh: lanes that are no repeats, which compete.
        """
        last = len(self.schedule.order) - 1
        rung = np.zeros(fresh.shape[1], np.int32)
        for first, stop, start in self.schedule.brackets:
            rung[first:stop] = start
        alive = fresh.copy()
        fidelity = np.full(fresh.shape, -1, np.int32)
        cost = np.zeros(fresh.shape, np.float32)
        for number, level in enumerate(self.schedule.order):
            now = alive & (rung <= number)
            fidelity[now] = level
            found = self._ask(tokens, np.full(fresh.shape, level), now)
            cost += np.where(now, found.cost, 0.0)
            if number < last:
                reward = np.where(found.status == OK, self._reward(found), -np.inf)
                reward = np.where(now, reward, -np.inf)
                if self.schedule.chance is None:
                    alive &= ~now | self._best(reward, fresh, number)
                else:
                    alive &= self._promising(controllers, tokens, reward, number)
        self._remember(controllers, tokens, fresh, fidelity)
        for i, b in np.argwhere(scored & ~fresh):
            where = int(controllers[i]), self._digest(tokens[i, b])
            fidelity[i, b] = self.reached[where][1]
        found = self._ask(tokens, np.maximum(fidelity, 0), scored)
        status = np.where((found.status == OK) & (fidelity > 0), PARTIAL, found.status)
        status = np.where(scored, status, SKIPPED).astype(np.int32)
        return found._replace(cost=cost, status=status)

    def _ask(self, tokens: np.ndarray, levels: np.ndarray, on: np.ndarray) -> Any:
        """Returns evaluations of lanes ``[n, B]``, leaves of the same shape."""
        rows = tokens.reshape(-1, tokens.shape[-1])
        found = self.cache.evaluate(rows, levels.reshape(-1), on.reshape(-1))
        lanes = lambda x: np.asarray(x).reshape(on.shape + x.shape[1:])
        return jax.tree.map(lanes, found)

    def _reward(self, found: Evaluation) -> np.ndarray:
        seen = jnp.asarray(found.objectives), jnp.asarray(found.violation)
        reward = np.asarray(self.scalariser(*seen))
        return np.where(np.isfinite(reward), reward, -np.inf)

    def _best(self, reward: np.ndarray, fresh: np.ndarray, number: int) -> np.ndarray:
        """Returns which lanes ``[n, B]`` go on from a rung; failed ones never do."""
        chosen = np.zeros(reward.shape, bool)
        for first, stop, start in self.schedule.brackets:
            if start > number:
                continue
            for i in range(len(reward)):
                entered = int(fresh[i, first:stop].sum())
                keep = survivors(entered, self.schedule.eta, number - start + 1)
                best = first + np.argsort(-reward[i, first:stop], kind="stable")[:keep]
                chosen[i, best] = np.isfinite(reward[i, best])
        return chosen

    def _promising(
        self, controllers: np.ndarray, tokens: np.ndarray, reward: np.ndarray, number: int
    ) -> np.ndarray:
        """Returns which lanes ``[n, B]`` go on from a rung; failed ones never do.

        Judged by what its controller had evaluated in full before this proposal.
        """
        chosen = np.isfinite(reward)
        assert self.schedule.chance is not None
        paths: dict[int, list[np.ndarray]] = {}
        for (owner, digest), (row, level) in self.reached.items():
            if level == 0:
                path = self._path(row, digest, len(self.schedule.order))
                paths.setdefault(owner, []).append(path)
        for i, controller in enumerate(controllers):
            rows = paths.get(int(controller), [])
            finished = np.asarray([row for row in rows if np.isfinite(row).all()])
            lanes = np.flatnonzero(chosen[i])
            if len(finished) < WARM or not len(lanes):
                continue
            some = [(tokens[i, b], self._digest(tokens[i, b])) for b in lanes]
            begun = np.asarray([self._path(*one, number + 1) for one in some])
            known = chances(finished, begun, float(finished[:, -1].max()))
            chosen[i, lanes] = known >= self.schedule.chance
        return chosen

    def _path(self, tokens: np.ndarray, digest: str, rungs: int) -> np.ndarray:
        """Returns the rewards of an architecture at its first rungs, all evaluated."""
        path = self._paths.get(digest)
        if path is None or len(path) < rungs:
            levels = np.asarray(self.schedule.order[:rungs])
            rows = np.repeat(np.asarray(tokens)[None], rungs, axis=0)
            found = self._ask(rows, levels, np.ones(rungs, bool))
            path = np.where(found.status == OK, self._reward(found), -np.inf)
            self._paths[digest] = path
        return path[:rungs]

    def _remember(
        self, controllers: np.ndarray, tokens: Any, fresh: np.ndarray, level: np.ndarray
    ) -> None:
        for i, b in np.argwhere(fresh):
            where = int(controllers[i]), self._digest(tokens[i, b])
            self.reached[where] = np.asarray(tokens[i, b], np.int32), int(level[i, b])

    def _digest(self, tokens: np.ndarray) -> str:
        return str(tk.digest_host(self.cache.oracle.space, tokens))

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Returns what each controller has had, as arrays, for a checkpoint."""
        pairs, length = list(self.reached.items()), self.cache.oracle.space.length
        rows = [tokens for _, (tokens, _) in pairs]
        return {
            "reached_controller": np.asarray([where[0] for where, _ in pairs], np.int64),
            "reached_tokens": np.asarray(rows, np.int32).reshape(-1, length),
            "reached_fidelity": np.asarray([level for _, (_, level) in pairs], np.int32),
        }

    def load(self, arrays: dict[str, np.ndarray]) -> None:
        """Takes that back from a checkpoint."""
        names = ("controller", "tokens", "fidelity")
        columns = [arrays[f"reached_{name}"] for name in names]
        for controller, row, level in zip(*columns, strict=True):
            where = int(controller), self._digest(row)
            self.reached[where] = np.asarray(row, np.int32), int(level)

    def rows(self) -> list[dict[str, Any]]:
        """Returns every distinct evaluation of the run, with its share of a full one."""
        graded = required(self.cache.oracle, MultiFidelity)
        return [
            {
                "tokens": request.tokens,
                "fidelity": request.fidelity,
                "effort": graded.effort(request.tokens, request.fidelity),
                "objectives": answer.objectives,
                "seconds": answer.cost,
                "failed": answer.status != OK,
            }
            for request, answer in self.cache.answers()
        ]

    def summary(self) -> dict[str, Any]:
        """Returns what was evaluated and what that saved, as JSON-able data.

        Distinct architectures of the run; ``equivalents`` are full evaluations of the same
        effort and ``saved`` how many fewer they are than one for each architecture.
        ``seconds`` are those of the evaluations, compilations included, and
        ``saved_seconds`` compares them with the median time of a full one for each
        architecture; None where the oracle does not measure time.
        """
        rungs = [
            {"fidelity": level, "evaluations": 0, "effort": 0.0, "failed": 0}
            for level in self.schedule.order
        ]
        place = {level: i for i, level in enumerate(self.schedule.order)}
        seen, seconds, full = set(), 0.0, []
        for row in self.rows():
            rung = rungs[place[row["fidelity"]]]
            rung["evaluations"] += 1
            rung["effort"] += row["effort"]
            rung["failed"] += row["failed"]
            seen.add(self._digest(row["tokens"]))
            seconds += row["seconds"]
            full += [row["seconds"]] if row["fidelity"] == 0 else []
        spent = sum(rung["effort"] for rung in rungs)
        timed = self.cache.measures
        known = timed and bool(full)
        whole = len(seen) * float(np.median(full)) if known else 0.0
        return {
            "rungs": rungs,
            "architectures": len(seen),
            "equivalents": spent,
            "saved": len(seen) - spent,
            "seconds": float(seconds) if timed else None,
            "saved_seconds": float(whole - seconds) if known else None,
        }
