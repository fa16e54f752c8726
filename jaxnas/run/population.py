"""Many controllers as one compiled program: blocks of them, mapped, vmapped and sharded.

A population is an array of members ``[blocks, width, ...]``. Its leading axis is sharded
over the mesh axis ``"pop"``; each device visits its blocks one after the other and advances
all ``width`` members of a block by ``vmap``. On a CPU a block of the right width fits in
the cache, so the rate does not fall with the number of controllers; an accelerator has one
block, as wide as its memory allows. Nothing is communicated.
"""

import functools
from collections.abc import Callable
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
from jaxnas.core.errors import UserError
from jaxnas.core.layout import using
from jaxnas.core.types import OK, PARTIAL, Evaluation, Proposal
from jaxnas.oracles.budget import Admission, Budgeted, BudgetState

Metrics = dict[str, Float[Array, ""]]


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
    """How many controllers, in which blocks, on how many devices, and how they train."""

    controllers: int
    width: int
    devices: int
    kind: str = "blocked"
    """Training steps of a block: one after another, or ``"wide"``; see ``core.layout``."""

    @property
    def blocks(self) -> int:
        """Blocks, padded to a multiple of the devices."""
        blocks = -(-self.controllers // self.width)
        return -(-blocks // self.devices) * self.devices

    @property
    def padded(self) -> int:
        """Members with the padding, which is frozen from the start."""
        return self.blocks * self.width


def ask(
    algo: Algorithm,
    oracle: Budgeted,
    key: Key[Array, ""],
    state: PyTree,
    oracle_state: BudgetState,
) -> tuple[PyTree, BudgetState, Proposal, Admission]:
    """Returns the states after a proposal, the proposal, and which lanes get an answer."""
    state, proposal = algo.ask(key, state)
    active = proposal.active & ~oracle.spent(oracle_state)
    ledger, admission = oracle.admit(oracle_state.ledger, proposal.tokens, active)
    return state, oracle_state._replace(ledger=ledger), proposal, admission


def tell(
    algo: Algorithm,
    oracle: Budgeted,
    key: Key[Array, ""],
    params: PyTree,
    state: PyTree,
    oracle_state: BudgetState,
    answered: tuple[Proposal, Admission, Evaluation],
) -> tuple[PyTree, BudgetState]:
    """Returns the states that have seen what a proposal was evaluated to."""
    proposal, admission, evaluation = answered
    ledger, evaluation = oracle.settle(oracle_state.ledger, admission.scored, evaluation)
    ledger = oracle.record(params, ledger, admission, proposal.tokens, evaluation)
    status = jnp.where(evaluation.status == PARTIAL, OK, evaluation.status)
    state = algo.tell(key, state, proposal, evaluation._replace(status=status))
    return state, oracle_state._replace(ledger=ledger)


def update(
    algo: Algorithm,
    oracle: Budgeted,
    key: Key[Array, ""],
    params: PyTree,
    state: PyTree,
    oracle_state: BudgetState,
) -> tuple[PyTree, BudgetState, dict[str, Float[Array, ""]]]:
    """Returns the states after ``rounds`` of ask, evaluate and tell, and then one learn.

    Pure: ``vmap`` it over keys and states (whose ``hparams`` are leaves), ``scan`` it over
    keys. ``params`` are ``oracle.params()``, shared: ``in_axes=None``. The states are first
    those of ``algo.init(key, hparams)`` and ``oracle.init(key, params)``; returned are
    both, and the scalar metrics of ``learn``. The oracle is one of :func:`jaxnas.budgeted`,
    traced.

    Raises:
        UserError: the oracle has no budget, or lives on the host.
    """
    if not isinstance(oracle, Budgeted):
        raise UserError("update needs an oracle with a budget: jaxnas.budgeted(oracle, n).")
    if not oracle.traced:
        raise UserError(f"The oracle {oracle.id!r} lives on the host; use jaxnas.search.")
    keys, learn_key = rng.round_keys(key, algo.rounds)
    for ask_key, evaluate_key, tell_key in keys:
        state, oracle_state, proposal, admission = ask(
            algo, oracle, ask_key, state, oracle_state
        )
        inner, evaluation = oracle.oracle.evaluate(
            evaluate_key, params, oracle_state.inner, proposal.tokens, proposal.fidelity,
            admission.scored,
        )  # fmt: skip
        oracle_state = oracle_state._replace(inner=inner)
        answered = (proposal, admission, evaluation)
        state, oracle_state = tell(
            algo, oracle, tell_key, params, state, oracle_state, answered
        )
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
    key = rng.controller_key(rng.wrap(root), controller)
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
        hparams = jax.tree.map(jnp.float32, algo.default_hparams())
        return algo.learn(key, algo.init(key, hparams))[1]

    shapes = jax.eval_shape(probe, jax.random.key(0))
    return (*sorted(shapes), "queries")


def _ended(
    oracle: Budgeted, old: Member, new: Member, metrics: Metrics, step: Int[Array, ""]
) -> Member:
    """Returns the member with its log, or as it was before when its budget was spent."""
    values = {**metrics, "queries": new.oracle.ledger.queries}
    log = {
        name: column.at[step].set(jnp.asarray(values[name], jnp.float32))
        for name, column in new.log.items()
    }
    return trees.select(~oracle.spent(old.oracle), new._replace(log=log), old)


def advance(
    algo: Algorithm, oracle: Budgeted, params: PyTree, member: Member, step: Int[Array, ""]
) -> Member:
    """Returns a member after update ``step``, or unchanged when its budget is spent."""
    key = rng.step_key(rng.wrap(member.key), step)
    state, oracle_state, metrics = update(
        algo, oracle, key, params, member.algorithm, member.oracle
    )
    new = member._replace(algorithm=state, oracle=oracle_state)
    return _ended(oracle, member, new, metrics, step)


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


def _put(tree: PyTree, sharding: NamedSharding) -> PyTree:
    """Returns leaves, whole in each process, as arrays of all processes' devices."""
    if sharding.is_fully_addressable:
        return jax.device_put(tree, sharding)

    def put(x: Any) -> Array:
        x = np.asarray(x)
        return jax.make_array_from_callback(x.shape, sharding, lambda here: x[here])

    return jax.tree.map(put, tree)


class Programs:
    """The compiled programs of one population: ``init`` and ``run`` (or ask and tell).

    ``updates`` is the upper bound on updates, the length of the logs.
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
        return _put(tree, self.sharded)

    def share(self, tree: PyTree) -> PyTree:
        """Returns leaves that every device holds whole."""
        return _put(tree, self.replicated)

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
            if self.layout.blocks == self.layout.devices:
                alone = function(jax.tree.map(lambda x: x[0], blocks), *shared)
                return jax.tree.map(lambda x: x[None], alone)
            return jax.lax.map(lambda block: function(block, *shared), blocks)

        def spread(blocks: PyTree, *shared: PyTree) -> PyTree:
            specs = (P("pop"), *(P() for _ in shared))
            mapped = jax.shard_map(
                local, mesh=self.mesh, in_specs=specs, out_specs=P("pop"), check_vma=False
            )
            with using(self.layout.kind):
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
    def with_policies(self) -> Any:
        """The jitted ``((members, policies)) -> members`` that have these policies."""
        algo: Any = self.algo

        def block(pair: tuple[Member, PyTree]) -> Member:
            members, policies = pair
            begun = jax.vmap(algo.with_policy)(members.algorithm, policies)
            return members._replace(algorithm=begun)

        return self._over_blocks(block)

    def _phase(self, phase: Callable[..., Any]) -> Any:
        """Returns ``phase(item, keys, learn_key, *scalars)`` over all members, jitted.

        An item is a member, or a tuple that begins with one.
        """

        def member(item: Any, step: Array, *scalars: Array) -> Any:
            data = item.key if isinstance(item, Member) else item[0].key
            key = rng.step_key(rng.wrap(data), step)
            return phase(item, *rng.round_keys(key, self.algo.rounds), step, *scalars)

        def block(items: Any, *scalars: Array) -> Any:
            return jax.vmap(lambda item: member(item, *scalars))(items)

        return self._over_blocks(block)

    @functools.cached_property
    def ask(self) -> Any:
        """The jitted ``(members, step, round)`` before a host oracle: ask and admit."""

        def phase(member: Member, keys: Array, _: Array, step: Array, r: Array) -> Any:
            state, booked, proposal, admission = ask(
                self.algo, self.oracle, keys[r, 0], member.algorithm, member.oracle
            )
            return member._replace(algorithm=state, oracle=booked), proposal, admission

        return self._phase(phase)

    @functools.cached_property
    def tell(self) -> Any:
        """The jitted ``(items, step, round)`` after a host oracle: record and tell."""

        def phase(item: Any, keys: Array, _: Array, step: Array, r: Array) -> Member:
            member, *answered = item
            state, booked = tell(
                self.algo, self.oracle, keys[r, 2], (), member.algorithm, member.oracle,
                tuple(answered),
            )  # fmt: skip
            return member._replace(algorithm=state, oracle=booked)

        return self._phase(phase)

    @functools.cached_property
    def learn(self) -> Any:
        """The jitted end of a split update: learn, log, and freeze the finished."""

        def phase(pair: Any, keys: Array, learn_key: Array, step: Array) -> Member:
            old, new = pair
            state, metrics = self.algo.learn(learn_key, new.algorithm)
            new = new._replace(algorithm=state)
            return _ended(self.oracle, old, new, metrics, step)

        return self._phase(phase)


@functools.lru_cache(maxsize=32)
def programs(
    algo: Algorithm, oracle: Budgeted, layout: Layout, mesh: Mesh, updates: int
) -> Programs:
    """Returns the programs of a population; the same arguments compile once a process."""
    return Programs(algo, oracle, layout, mesh, updates)
