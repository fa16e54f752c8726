"""The compiled programs of one job, and how its controllers are started and advanced."""

import time
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import PyTree

from jaxnas.core import rng
from jaxnas.core.algorithm import Algorithm
from jaxnas.core.oracle import MultiFidelity, required
from jaxnas.oracles.budget import Budgeted
from jaxnas.run.contracts import ROWS, check_tokens
from jaxnas.run.distributed import local
from jaxnas.run.halving import Halving, brackets, order
from jaxnas.run.host.cache import HostCache
from jaxnas.run.host.promotion import Promotion, Schedule
from jaxnas.run.memory import Memory
from jaxnas.run.policies import Initial
from jaxnas.run.population import Layout, Member, programs


@dataclass(frozen=True)
class Job:
    """Everything that decides a run, checked."""

    algo: Algorithm
    oracle: Budgeted
    settings: PyTree
    seeds: int
    seed0: int
    updates: int
    chunk: int
    layout: Layout
    wave: int
    mesh: Mesh
    label: str
    memory: Memory
    init: Initial | None = None
    halving: Halving | None = None


class Engine:
    """The compiled programs of a job, shared by all its waves."""

    def __init__(self, job: Job, cache: HostCache | None) -> None:
        self.job, self.cache = job, cache
        self.programs = programs(job.algo, job.oracle, job.layout, job.mesh, job.updates)
        params = job.oracle.params() if cache is None else ()
        self.params: PyTree = self.programs.share(params)
        self.compile_s = 0.0
        self._ids = np.zeros(0, np.int64)
        self.promotion: Promotion | None = None
        if cache is not None and job.halving is not None:
            self.promotion = _promotion(job, job.halving, cache)

    def ids(self, first: int, count: int) -> np.ndarray:
        """Returns the global ids of one wave's controllers, -1 for padding."""
        ids = np.full(self.job.layout.padded, -1, np.int64)
        ids[:count] = np.arange(first, first + count)
        return ids

    def mine(self, members: Member, ids: np.ndarray) -> tuple[Member, np.ndarray]:
        """Returns the members ``[blocks, width, ...]`` of this process and their ids."""
        if self.programs.sharded.is_fully_addressable:
            return members, ids
        return jax.tree.map(local, members), self.my_ids(ids).reshape(-1)

    def my_ids(self, ids: np.ndarray) -> np.ndarray:
        """Returns the ids ``[blocks, width]`` of the members that this process has."""
        blocks = self.programs.blocked(ids)
        here = self.programs.sharded.addressable_devices_indices_map(blocks.shape)
        rows = sorted((part or (slice(None),))[0].start or 0 for part in here.values())
        each = len(blocks) // self.job.layout.devices
        return np.concatenate([blocks[row : row + each] for row in rows])

    def start(self, ids: np.ndarray) -> Member:
        """Returns the members before the first update; compiles on first use."""
        self._ids = ids
        begun = time.perf_counter()
        setting = np.maximum(ids, 0) // self.job.seeds
        of_each = lambda x: np.asarray(x, np.float32)[setting]
        hparams = jax.tree.map(of_each, self.job.settings)
        root = self.programs.share(jax.random.key_data(rng.root_key(self.job.seed0)))
        blocks = self.programs.place(self.programs.blocked((ids.astype(np.int32), hparams)))
        members = self.programs.init(blocks, root, self.params)
        if self.job.init is not None:
            params = self.job.init.params
            saved = len(jax.tree.leaves(params)[0])
            rank = np.maximum(ids, 0) % self.job.seeds % saved
            chosen = self.programs.blocked(jax.tree.map(lambda x: x[rank], params))
            pair = members, self.programs.place(chosen)
            members = self.programs.with_policies(pair)
        if self.cache is None:
            members = self.advance(members, 0, 0)
        jax.block_until_ready(members)
        if not self.compile_s:
            self.compile_s = time.perf_counter() - begun
        return members

    def advance(self, members: Member, start: int, stop: int) -> Member:
        """Returns the members after updates ``start`` to ``stop - 1``."""
        if self.cache is None:
            steps = np.int32(start), np.int32(stop)
            members = self.programs.run(members, self.params, *steps)
            if start == 0 < stop:
                self._check_first(members)
            return jax.block_until_ready(members)
        for step in range(start, stop):
            members = self._split_update(members, np.int32(step))
        return members

    def _split_update(self, old: Member, step: np.int32) -> Member:
        assert self.cache is not None
        members = old
        for r in range(self.job.algo.rounds):
            turn = np.int32(r)
            members, proposal, admission = self.programs.ask(members, step, turn)
            shape = proposal.active.shape
            tokens = np.asarray(proposal.tokens).reshape(-1, self.job.oracle.space.length)
            scored = np.asarray(admission.scored).reshape(-1)
            if step == 0:
                check_tokens(self.job.algo, tokens[scored])
            if self.promotion is not None:
                lanes = (-1, shape[-1])
                masks = (np.asarray(m).reshape(lanes) for m in admission[:2])
                rows = tokens.reshape(*lanes, tokens.shape[-1])
                found = self.promotion.evaluate(self._ids, rows, *masks)
                found = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), found)
            else:
                levels = np.asarray(proposal.fidelity).reshape(-1)
                found = self.cache.evaluate(tokens, levels, scored)
            shaped = lambda x, shape=shape: x.reshape(shape + x.shape[1:])
            found = jax.tree.map(shaped, found)
            items = (members, proposal, admission, self.programs.place(found))
            members = self.programs.tell(items, step, turn)
        return self.programs.learn((old, members), step)

    def answers(self) -> dict[str, np.ndarray]:
        """Returns what a host oracle has said so far as arrays, for a checkpoint."""
        found = {} if self.cache is None else self.cache.to_arrays()
        return found | ({} if self.promotion is None else self.promotion.to_arrays())

    def recall(self, answers: dict[str, np.ndarray]) -> None:
        """Takes that back from a checkpoint."""
        if self.cache is not None:
            self.cache.load(answers)
        if self.promotion is not None:
            self.promotion.load(answers)

    def summary(self) -> dict[str, Any] | None:
        """Returns where evaluations came from and what halving saved; None if traced."""
        if self.cache is None:
            return None
        cut = {} if self.promotion is None else {"halving": self.promotion.summary()}
        return {**self.cache.summary(), **cut}

    def _check_first(self, members: Member) -> None:
        ledger, algo = members.oracle.ledger, self.job.algo
        mine = lambda x: x.addressable_shards[0].data[0, :ROWS]
        tokens = np.asarray(mine(ledger.tokens)[:, : algo.batch * algo.rounds])
        asked = np.arange(tokens.shape[1]) < np.asarray(mine(ledger.queries))[:, None]
        check_tokens(algo, tokens[asked])

    def spent(self, members: Member) -> np.ndarray:
        """Returns which members of this process are finished, ``[blocks, width]``."""
        ledger, book = members.oracle.ledger, self.job.oracle
        proposals = local(ledger.proposals)
        return (local(ledger.queries) >= book.budget) | (proposals >= book.max_proposals)


def _promotion(job: Job, halving: Halving, cache: HostCache) -> Promotion:
    """Returns what evaluates the job's proposals by brackets."""
    graded = required(job.oracle, MultiFidelity)
    rungs = graded.num_fidelities
    lanes = brackets(halving, rungs, job.algo.batch)
    chance = halving.chance if halving.kind == "extrapolated" else None
    return Promotion(
        cache, job.oracle.scalariser, Schedule(lanes, order(rungs), halving.eta, chance)
    )
