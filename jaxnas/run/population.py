"""Many controllers as one compiled program: blocks of them, mapped, vmapped and sharded.

A population is an array of members ``[blocks, width, ...]``. Its leading axis is sharded
over the mesh axis ``"pop"``; each device visits its blocks one after the other and advances
all ``width`` members of a block by ``vmap``. A block of the right width fits in the
processor's cache, so the rate does not fall with the number of controllers. Nothing is
communicated.
"""

import functools
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from jaxnas.core import rng, trees
from jaxnas.core.algorithm import Algorithm
from jaxnas.core.types import Proposal
from jaxnas.oracles.budget import Admission, Budgeted, BudgetState


class Member(NamedTuple):
    """One controller: its key, its algorithm's and its oracle's state, and its log."""

    key: Array
    """Raw key data, so that the state can be saved and placed like any array."""
    algorithm: PyTree
    oracle: BudgetState
    log: dict[str, Float[Array, "U"]]
    """Metrics of every update; NaN where it was frozen."""


@dataclass(frozen=True)
class Layout:
    """How many controllers, in which blocks, on how many devices."""

    controllers: int
    width: int
    devices: int

    @property
    def blocks(self) -> int:
        """Blocks, padded to a multiple of the devices."""
        blocks = -(-self.controllers // self.width)
        return -(-blocks // self.devices) * self.devices

    @property
    def padded(self) -> int:
        """Members with the padding, which is frozen from the start."""
        return self.blocks * self.width


def update(
    algo: Algorithm,
    oracle: Budgeted,
    key: Key[Array, ""],
    params: PyTree,
    state: PyTree,
    oracle_state: BudgetState,
) -> tuple[PyTree, BudgetState, dict[str, Float[Array, ""]]]:
    """Returns the states after ``rounds`` of ask, evaluate and tell, and then one learn."""
    *round_keys, learn_key = jax.random.split(key, 3 * algo.rounds + 1)
    for r in range(algo.rounds):
        ask_key, evaluate_key, tell_key = round_keys[3 * r : 3 * r + 3]
        state, proposal = algo.ask(ask_key, state)
        oracle_state, evaluation = oracle.evaluate(
            evaluate_key,
            params,
            oracle_state,
            proposal.tokens,
            proposal.fidelity,
            proposal.active,
        )
        state = algo.tell(tell_key, state, proposal, evaluation)
    state, metrics = algo.learn(learn_key, state)
    return state, oracle_state, metrics


def init_member(
    algo: Algorithm,
    oracle: Budgeted,
    updates: int,
    metric_names: tuple[str, ...],
    root: Array,
    params: PyTree,
    controller: Int[Array, ""],
    hparams: PyTree,
    padding: Bool[Array, ""],
) -> Member:
    """Returns a controller before its first update, from its global id alone."""
    key = rng.controller_key(jax.random.wrap_key_data(root), controller)
    state = oracle.init(rng.stream(key, "oracle"), params)
    stop = jnp.where(padding, oracle.max_proposals, 0).astype(jnp.int32)
    ledger = state.ledger._replace(proposals=stop)
    return Member(
        key=jax.random.key_data(key),
        algorithm=algo.init(rng.stream(key, "algorithm"), hparams),
        oracle=state._replace(ledger=ledger),
        log={name: jnp.full(updates, jnp.nan, jnp.float32) for name in metric_names},
    )


@functools.lru_cache(maxsize=64)
def metric_names(algo: Algorithm) -> tuple[str, ...]:
    """Returns the names of an algorithm's metrics, and ``queries``."""

    def probe(key: Key[Array, ""]) -> dict[str, Array]:
        return algo.learn(key, algo.init(key, algo.default_hparams()))[1]

    shapes = jax.eval_shape(probe, jax.random.key(0))
    return (*sorted(shapes), "queries")


def _logged(
    member: Member, metrics: dict[str, Float[Array, ""]], step: Int[Array, ""]
) -> dict[str, Float[Array, "U"]]:
    """Returns the member's log with one more update written into it."""
    values = {**metrics, "queries": member.oracle.ledger.queries}
    return {
        name: column.at[step].set(jnp.asarray(values[name], jnp.float32))
        for name, column in member.log.items()
    }


def advance(
    algo: Algorithm,
    oracle: Budgeted,
    params: PyTree,
    member: Member,
    step: Int[Array, ""],
) -> Member:
    """Returns a member after update ``step``, or unchanged when its budget is spent."""
    key = rng.step_key(jax.random.wrap_key_data(member.key), step)
    state, oracle_state, metrics = update(
        algo, oracle, key, params, member.algorithm, member.oracle
    )
    new = Member(member.key, state, oracle_state, member.log)
    new = new._replace(log=_logged(new, metrics, step))
    return trees.select(~oracle.spent(member.oracle), new, member)


def _advance_block(
    algo: Algorithm,
    oracle: Budgeted,
    params: PyTree,
    start: Int[Array, ""],
    stop: Int[Array, ""],
    block: Member,
) -> Member:
    """Returns a block after updates ``start`` to ``stop - 1``, fewer once all froze."""

    def unfinished(carry: tuple[Int[Array, ""], Member]) -> Bool[Array, ""]:
        step, block = carry
        return (step < stop) & jnp.any(~jax.vmap(oracle.spent)(block.oracle))

    def body(carry: tuple[Int[Array, ""], Member]) -> tuple[Int[Array, ""], Member]:
        step, block = carry
        one = functools.partial(advance, algo, oracle, params, step=step)
        return step + 1, jax.vmap(one)(block)

    return jax.lax.while_loop(unfinished, body, (start, block))[1]


class Programs:
    """The compiled programs of one population: ``init`` and ``run`` (or ask and tell).

    Args:
        algo: the algorithm of every controller.
        oracle: the budgeted oracle that they ask.
        layout: blocks and devices.
        mesh: where the blocks live.
        updates: upper bound on updates, the length of the logs.
    """

    def __init__(
        self, algo: Algorithm, oracle: Budgeted, layout: Layout, mesh: Mesh, updates: int
    ) -> None:
        self.algo, self.oracle, self.layout, self.mesh = algo, oracle, layout, mesh
        self.updates = updates
        self.names = metric_names(algo)
        self.sharded = NamedSharding(mesh, P("pop"))
        self.replicated = NamedSharding(mesh, P())

    def place(self, tree: PyTree) -> PyTree:
        """Returns ``[blocks, width, ...]`` leaves laid out over the population axis."""
        return jax.device_put(tree, self.sharded)

    def share(self, tree: PyTree) -> PyTree:
        """Returns leaves that every device holds whole."""
        return jax.device_put(tree, self.replicated)

    def blocked(self, tree: PyTree) -> PyTree:
        """Returns ``[n, ...]`` leaves as ``[blocks, width, ...]``."""
        shape = (self.layout.blocks, self.layout.width)
        return jax.tree.map(lambda x: np.reshape(x, shape + x.shape[1:]), tree)

    @functools.cached_property
    def init(self) -> Any:
        """The jitted ``init((ids, hparams), root, params) -> members``.

        ``ids`` and ``hparams`` are ``[blocks, width]``; the id of padding is -1.
        """
        fixed = (self.algo, self.oracle, self.updates, self.names)

        def block(args: tuple[Array, PyTree], root: Array, params: PyTree) -> Member:
            ids, hparams = args
            make = functools.partial(init_member, *fixed, root, params)
            return jax.vmap(lambda c, h: make(jnp.maximum(c, 0), h, c < 0))(ids, hparams)

        return self._over_blocks(block)

    def _over_blocks(self, function: Any) -> Any:
        """Returns ``function(block, *shared)`` mapped over blocks, sharded over devices."""

        def local(blocks: PyTree, *shared: PyTree) -> PyTree:
            return jax.lax.map(lambda block: function(block, *shared), blocks)

        def spread(blocks: PyTree, *shared: PyTree) -> PyTree:
            specs = (P("pop"), *(P() for _ in shared))
            mapped = jax.shard_map(
                local, mesh=self.mesh, in_specs=specs, out_specs=P("pop"), check_vma=False
            )
            return mapped(blocks, *shared)

        return jax.jit(spread)

    @functools.cached_property
    def run(self) -> Any:
        """The jitted ``run(members, params, start, stop) -> members``, donating."""

        def block(members: Member, params: PyTree, start: Array, stop: Array) -> Member:
            return _advance_block(self.algo, self.oracle, params, start, stop, members)

        inner = self._over_blocks(block)
        return jax.jit(lambda m, p, start, stop: inner(m, p, start, stop), donate_argnums=0)

    @functools.cached_property
    def ask(self) -> Any:
        """The jitted split half before a host oracle: ask and admit."""

        def member(member: Member, step: Array, r: Array) -> tuple[Member, Any, Any]:
            key = rng.step_key(jax.random.wrap_key_data(member.key), step)
            keys = jax.random.split(key, 3 * self.algo.rounds + 1)
            state, proposal = self.algo.ask(keys[3 * r], member.algorithm)
            active = proposal.active & ~self.oracle.spent(member.oracle)
            ledger, admission = self.oracle.admit(
                member.oracle.ledger, proposal.tokens, active
            )
            booked = member.oracle._replace(ledger=ledger)
            member = member._replace(algorithm=state, oracle=booked)
            return member, proposal, admission

        def block(members: Member, step: Array, r: Array) -> Any:
            return jax.vmap(lambda m: member(m, step, r))(members)

        return self._over_blocks(block)

    @functools.cached_property
    def tell(self) -> Any:
        """The jitted split half after a host oracle: record and tell."""

        def member(
            item: tuple[Member, Proposal, Admission, Any], step: Array, r: Array
        ) -> Member:
            member, proposal, admission, evaluation = item
            key = rng.step_key(jax.random.wrap_key_data(member.key), step)
            keys = jax.random.split(key, 3 * self.algo.rounds + 1)
            evaluation = self.oracle.finish(admission.scored, evaluation)
            ledger = self.oracle.record(
                (), member.oracle.ledger, admission, proposal.tokens, evaluation
            )
            state = self.algo.tell(keys[3 * r + 2], member.algorithm, proposal, evaluation)
            booked = member.oracle._replace(ledger=ledger)
            return member._replace(algorithm=state, oracle=booked)

        def block(items: Any, step: Array, r: Array) -> Member:
            return jax.vmap(lambda item: member(item, step, r))(items)

        return self._over_blocks(block)

    @functools.cached_property
    def learn(self) -> Any:
        """The jitted end of a split update: learn, log, and freeze the finished."""

        def member(pair: tuple[Member, Member], step: Array) -> Member:
            old, new = pair
            key = rng.step_key(jax.random.wrap_key_data(new.key), step)
            keys = jax.random.split(key, 3 * self.algo.rounds + 1)
            state, metrics = self.algo.learn(keys[-1], new.algorithm)
            new = new._replace(algorithm=state)
            new = new._replace(log=_logged(new, metrics, step))
            return trees.select(~self.oracle.spent(old.oracle), new, old)

        def block(pairs: Any, step: Array) -> Member:
            return jax.vmap(lambda pair: member(pair, step))(pairs)

        return self._over_blocks(block)


@functools.lru_cache(maxsize=32)
def programs(
    algo: Algorithm, oracle: Budgeted, layout: Layout, mesh: Mesh, updates: int
) -> Programs:
    """Returns the programs of a population; the same arguments compile once a process."""
    return Programs(algo, oracle, layout, mesh, updates)
