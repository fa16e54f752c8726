"""The algorithm of a study, moved along by the steps that its file holds."""

import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from jaxnas import registry
from jaxnas.core import rng
from jaxnas.core import tokens as tk
from jaxnas.core.algorithm import prepare
from jaxnas.core.errors import UserError, unknown_name
from jaxnas.core.ranges import check_hparams
from jaxnas.core.scalarise import weighted_sum
from jaxnas.core.space import SearchSpace
from jaxnas.core.types import FAILED, OK, Evaluation, Objective
from jaxnas.data.store.studies import Event, Row


class Driver:
    """The algorithm, moved along by the events of a study."""

    def __init__(
        self,
        space: SearchSpace,
        objectives: tuple[Objective, ...],
        settings: Mapping[str, Any],
    ) -> None:
        name, options = settings["algorithm"], dict(settings["options"])
        structural = registry.settable("algorithm", name).keys()
        fields = {k: v for k, v in options.items() if k in structural}
        algo = registry.make_algorithm(name, space=space, **fields)
        self.algo = prepare(algo, objectives)
        if self.algo.rounds != 1:
            raise UserError(
                f"The algorithm {name!r} needs scores while it proposes, so it cannot be "
                "asked by hand; choose another, such as evolution or ppo."
            )
        preset = self.algo.default_hparams()
        numbers = {k: v for k, v in options.items() if k not in structural}
        for key in numbers:
            if key not in preset._fields:
                raise unknown_name(
                    f"setting of {name!r}:", key, [*structural, *preset._fields]
                )
        check_hparams(preset, numbers, f"{name}.")
        hparams = jax.tree.map(jnp.float32, preset._replace(**numbers))
        self.scalariser = weighted_sum(objectives, tuple(settings["weights"]))
        self.names = [objective.name for objective in objectives]
        self.root = rng.root_key(settings["seed"])
        self.state = jax.jit(self.algo.init)(rng.stream(self.root, "init"), hparams)
        self.proposals: dict[int, Any] = {}

    def key(self, kind: str, batch: int) -> Any:
        """Returns the key of a step."""
        return rng.step_key(rng.stream(self.root, kind), batch)

    def ask(self, batch: int) -> list[list[int]]:
        """Returns the tokens of a batch's lanes; the state moves only by the event."""
        _, proposal = _ask(self.algo, self.key("ask", batch), self.state)
        return np.asarray(proposal.tokens).tolist()

    def replay(self, event: Event, lanes: Sequence[Row]) -> None:
        """Takes a step that was written down."""
        tokens = jnp.asarray([row.tokens for row in lanes], jnp.int32)
        if event.kind == "ask":
            self.state, proposal = _ask(self.algo, self.key("ask", event.batch), self.state)
            # What was given out, should another machine have drawn something else.
            self.proposals[event.batch] = proposal._replace(tokens=tokens)
            return
        values = np.array(
            [[row.metrics.get(n, math.nan) for n in self.names] for row in lanes],
            np.float32,
        )
        ok = np.isfinite(values).all(axis=1)
        rewards = self.rewards([row.metrics for row in lanes])
        zeros = jnp.zeros(len(lanes), jnp.float32)
        evaluation = Evaluation(
            jnp.asarray(values),
            zeros,
            zeros,
            jnp.asarray(np.where(ok, OK, FAILED), jnp.int32),
            jnp.asarray(np.where(ok, rewards, np.nan), jnp.float32),
        )
        proposal = self.proposals.pop(event.batch)
        keys = self.key("tell", event.batch), self.key("learn", event.batch)
        self.state = _learn(self.algo, *keys, self.state, proposal, evaluation)

    def rewards(self, metrics: Sequence[Mapping[str, float]]) -> Float[np.ndarray, "n"]:
        """Returns what the algorithm maximises; NaN where one failed."""
        if not metrics:
            return np.zeros(0)
        rows = [[one.get(name, math.nan) for name in self.names] for one in metrics]
        values = jnp.asarray(np.array(rows), jnp.float32)
        return np.asarray(self.scalariser(values, jnp.zeros(len(rows), jnp.float32)))


@functools.partial(jax.jit, static_argnums=0)
def _ask(algo: Any, key: Any, state: Any) -> Any:
    return algo.ask(key, state)


@functools.partial(jax.jit, static_argnums=0)
def _learn(
    algo: Any, tell_key: Any, learn_key: Any, state: Any, proposal: Any, evaluation: Any
) -> Any:
    state = algo.tell(tell_key, state, proposal, evaluation)
    return algo.learn(learn_key, state)[0]


@functools.partial(jax.jit, static_argnums=0)
def _valid_program(space: SearchSpace, tokens: Any) -> Any:
    return tk.is_valid(space, tokens)


def valid(space: SearchSpace, tokens: np.ndarray) -> bool:
    """Returns whether tokens are an architecture."""
    return bool(_valid_program(space, jnp.asarray(tokens, jnp.int32)))
