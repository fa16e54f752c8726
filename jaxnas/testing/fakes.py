"""Oracles that misbehave on purpose and a latent space without training, for tests."""

import dataclasses
import hashlib
import math
import os
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from jaxnas.core.oracle import OracleWrapper
from jaxnas.core.space import SearchSpace
from jaxnas.core.types import FAILED, OK, SKIPPED, Evaluation, Measurement, Objective
from jaxnas.registry import make_space


@dataclass(frozen=True)
class OnHost(OracleWrapper):
    """A traced oracle that pretends to need the host, to test the split path."""

    @property
    def traced(self) -> bool:
        """It lives on the host, or so it says."""
        return False

    def init(self, key: Key[Array, ""], params: PyTree) -> PyTree:
        """Returns no state."""
        return ()

    def evaluate(
        self, key: Any, params: PyTree, state: Any, tokens: Any, fidelity: Any, active: Any
    ) -> tuple[PyTree, Any]:
        """Returns the inner evaluation as numpy arrays."""
        inner = self.oracle.init(key, params)
        rows, levels, on = jnp.asarray(tokens), jnp.asarray(fidelity), jnp.asarray(active)
        _, found = self.oracle.evaluate(key, params, inner, rows, levels, on)
        return (), jax.tree.map(np.asarray, found)


@dataclass(frozen=True)
class Flaky(OracleWrapper):
    """A traced oracle whose evaluations fail with some probability, NaN and all."""

    rate: float = 0.2

    @property
    def id(self) -> str:
        """The inner oracle's id."""
        return f"{self.oracle.id}+flaky"

    def evaluate(
        self,
        key: Key[Array, ""],
        params: PyTree,
        state: PyTree,
        tokens: Int[Array, "B L"],
        fidelity: Int[Array, "B"],
        active: Bool[Array, "B"],
    ) -> tuple[PyTree, Evaluation]:
        """Returns the inner evaluation, some lanes FAILED and NaN."""
        state, found = self.oracle.evaluate(key, params, state, tokens, fidelity, active)
        failed = jax.random.uniform(key, active.shape, dtype=jnp.float32) < self.rate
        return state, found._replace(
            objectives=jnp.where(failed[:, None], jnp.nan, found.objectives),
            status=jnp.where(failed, FAILED, found.status),
        )


class LinearParams(NamedTuple):
    """Parameters of a :class:`LinearLatent`."""

    entries: Float[Array, "K Z"]
    weights: Float[Array, "Z n"]
    """Logits of all tokens, side by side, per unit of each latent dimension."""


@dataclass(frozen=True)
class LinearLatent:
    """A latent space that is one fixed random matrix: nothing to train, all of it exact.

    ``decode`` takes the best legal token at each position, left to right; ``encode`` is the
    transposed matrix, and no inverse. Entries have the original's spread.
    """

    space: SearchSpace
    num_codes: int = 5
    latent_size: int = 4
    seed: int = 0

    def params(self) -> LinearParams:
        """Returns the matrices."""
        rng = np.random.default_rng(self.seed)
        entries = rng.normal(0.0, 0.04, (self.num_codes, self.latent_size))
        columns = self.space.length * self.space.vocab
        weights = rng.normal(size=(self.latent_size, columns))
        return LinearParams(jnp.float32(entries), jnp.float32(weights))

    def entries(self, params: LinearParams) -> Float[Array, "K Z"]:
        """Returns the entries."""
        return params.entries

    def encode(self, params: LinearParams, tokens: Int[Array, "L"]) -> Float[Array, "Z"]:
        """Returns a vector of about the entries' size."""
        one_hot = jax.nn.one_hot(tokens, self.space.vocab, dtype=jnp.float32).reshape(-1)
        return 0.04 * params.weights @ one_hot / self.space.length**0.5

    def decode(self, params: LinearParams, latent: Float[Array, "Z"]) -> Int[Array, "L"]:
        """Returns the best legal tokens."""
        logits = (latent @ params.weights).reshape(self.space.length, self.space.vocab)
        tokens = jnp.zeros(self.space.length, jnp.int32)
        for t in range(self.space.length):
            legal = self.space.mask(tokens, jnp.int32(t))
            best = jnp.argmax(jnp.where(legal, logits[t], -jnp.inf))
            tokens = tokens.at[t].set(best.astype(jnp.int32))
        return tokens


@dataclass(frozen=True)
class FakeChild:
    """A measuring host oracle without a network: numbers from a hash, troubles on request.

    Args:
        space: what it scores; the toy space when None.
        objective: some of ``digits_accuracy`` and ``layers``, with commas.
        seed: changes the numbers.
        data: name of the imagined data; changes the checksum.
        log: file that gets one line for each finished measurement, from any process.
        marks: folder for the marks of troubles that happen once.
            Logs, marks and troubles do not tell two oracles apart: no recompilation.
        troubles: architectures and what befalls them: ``kill`` (SIGKILL to the own
            process), ``kill-once``, ``hang`` (a minute), ``raise``, ``defect`` (an error
            that no oracle should raise) or ``diverge`` (a FAILED measurement).
    """

    space: SearchSpace = None  # pyright: ignore[reportAssignmentType]  # set below
    objective: str = "digits_accuracy"
    seed: int = 0
    data: str = "digits"
    log: str = field(default="", compare=False)
    marks: str = field(default="", compare=False)
    troubles: tuple[tuple[tuple[int, ...], str], ...] = field(default=(), compare=False)
    traced: bool = False
    id = "fake-child-v1"
    metric_names = ("digits_accuracy", "layers")

    def __post_init__(self) -> None:
        if self.space is None:
            object.__setattr__(self, "space", make_space("toy"))

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """The chosen metrics."""
        known = {
            "digits_accuracy": Objective("digits_accuracy", "share"),
            "layers": Objective("layers", "layers", False),
        }
        return tuple(known[name] for name in self.objective.split(","))

    @property
    def data_checksum(self) -> str:
        """SHA-256 of the data's name: there is no data."""
        return hashlib.sha256(self.data.encode()).hexdigest()

    def select(self, objective: Any) -> "FakeChild":
        """Returns the same oracle with other objectives."""
        text = objective if isinstance(objective, str) else ",".join(objective)
        return dataclasses.replace(self, objective=text)

    def params(self) -> PyTree:
        """Returns nothing."""
        return ()

    def init(self, key: Any, params: PyTree) -> PyTree:
        """Returns no state."""
        return ()

    def measure(self, tokens: np.ndarray, fidelity: int) -> Measurement:
        """Returns a pseudo-random accuracy, the number of layers and a learning curve."""
        row = tuple(int(token) for token in tokens)
        trouble = dict(self.troubles).get(row, "")
        mark = Path(self.marks or ".") / "-".join(map(str, row))
        if trouble == "kill" or (trouble == "kill-once" and not mark.exists()):
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if trouble == "hang":
            time.sleep(60.0)
        if trouble == "raise":
            raise RuntimeError("out of cheese")
        if trouble == "defect":
            raise LookupError("nobody expects this")
        text = f"{row}:{fidelity}:{self.seed}:{self.data}"
        digest = hashlib.sha256(text.encode()).digest()
        accuracy = int.from_bytes(digest[:6], "big") / 2**48
        if self.log:
            with open(self.log, "a") as handle:
                handle.write(" ".join(map(str, row)) + "\n")
        layers = float(sum(token > 0 for token in row))
        if trouble == "diverge":
            lost = {"digits_accuracy": math.nan, "layers": layers}
            return Measurement(lost, {}, 0.25, FAILED, "the loss became NaN")
        curve = [accuracy / 2, accuracy, math.nan]
        metrics = {"digits_accuracy": accuracy, "layers": layers}
        return Measurement(metrics, {"accuracy": curve}, 0.25, OK)

    def evaluate(
        self, key: Any, params: PyTree, state: Any, tokens: Any, fidelity: Any, active: Any
    ) -> tuple[PyTree, Any]:
        """Returns the objectives of every active lane."""
        names = [objective.name for objective in self.objectives]
        n = len(tokens)
        values = np.full((n, len(names)), np.nan, np.float32)
        cost, status = np.zeros(n, np.float32), np.full(n, SKIPPED, np.int32)
        for i in np.flatnonzero(active):
            one = self.measure(tokens[i], int(fidelity[i]))
            values[i] = [one.metrics[name] for name in names]
            cost[i], status[i] = one.seconds, one.status
        empty = np.zeros(n, np.float32)
        found: Any = (values, empty, cost, status, np.full(n, np.nan, np.float32))
        return state, Evaluation(*found)
