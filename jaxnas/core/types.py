"""The records that travel between the layers; every leaf of every one is traced.

Axis letters used in all annotations: ``B`` proposals (lanes), ``L`` tokens, ``V``
vocabulary, ``M`` objectives, ``K`` limits, ``N`` graph nodes, ``A`` actions, ``Q`` budget
in queries, ``C`` slots of a fixed-capacity container, ``T`` time steps, ``P`` controllers,
``F`` features.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

from jaxtyping import Array, Bool, Float, Int, PyTree

OK = 0
"""Status of an evaluation that succeeded."""
FAILED = 1
"""Status of an evaluation that failed: its numbers are NaN and it never wins."""
SKIPPED = 2
"""Status of a lane that was not evaluated (inactive, or the budget was spent)."""
PARTIAL = 3
"""Status of an evaluation that was stopped before it was a full one: an algorithm learns
from its numbers, but it never wins and is never reported as a full one."""

Spec = dict[str, Any]
"""A JSON-able typed DAG of named operations; see ``docs/decisions/0005-spec.md``."""


class Matrix(NamedTuple):
    """A weight matrix of a network, as hardware sees it: what an analog tile must hold."""

    path: str
    """Path of the layer's parameters."""
    inputs: int
    """Rows: input channels x kernel height x kernel width, of one group."""
    outputs: int
    """Columns, of one group."""
    uses: int
    """Matrix-vector products for one input of the network: output pixels, or 1."""
    groups: int = 1
    """Independent matrices of this size, as in a grouped convolution."""


class Measurement(NamedTuple):
    """Everything that one expensive evaluation found, as plain data that can be stored."""

    metrics: dict[str, float]
    """Every metric, whichever of them a search maximises; NaN where it failed."""
    curves: dict[str, list[float]]
    """Learning curves and the like, by name."""
    seconds: float
    """Wall time that it took."""
    status: int
    message: str = ""
    """One sentence when it failed."""


@dataclass(frozen=True)
class Objective:
    """One measured quantity: what it is called, its unit and which direction is better."""

    name: str
    unit: str
    maximise: bool = True
    meaning: str = ""
    predicted: bool = False
    """Whether its values are a model's predictions and nothing here knows the true ones."""


class Evaluation(NamedTuple):
    """What was measured, in natural units, and the scalar that a search maximises.

    ``reward`` is filled by :class:`jaxnas.oracles.budget.Budgeted` through
    ``core.scalarise`` and nowhere else; a bare oracle leaves it NaN.
    """

    objectives: Float[Array, "B M"]
    violation: Float[Array, "B"]
    """0 when every constraint holds."""
    cost: Float[Array, "B"]
    """Seconds that this evaluation stands for."""
    status: Int[Array, "B"]
    reward: Float[Array, "B"]
    limited: Float[Array, "B K"] | None = None
    """Value of each limited metric, NaN where it failed; None of an oracle without limits
    (see :class:`jaxnas.core.constraints.Limiting`)."""


class Proposal(NamedTuple):
    """Architectures that an algorithm wants scored this round."""

    tokens: Int[Array, "B L"]
    fidelity: Int[Array, "B"]
    active: Bool[Array, "B"]
    """False where a lane has nothing to score."""
    aux: PyTree = None
    """Private to the algorithm that asked."""


class Graph(NamedTuple):
    """A padded DAG of arrays, nodes in topological order, for predictors and costs."""

    ops: Int[Array, "N"]
    """Operation id of a node, 0 where the node is padding."""
    adjacency: Bool[Array, "N N"]
    """``adjacency[i, j]`` is True when node ``i`` feeds node ``j``."""
    present: Bool[Array, "N"]


class TokenObs(NamedTuple):
    """What a token-writing controller sees: the prefix, and how long it is."""

    tokens: Int[Array, "*batch L"]
    """Tokens at positions >= ``position`` carry no information and must not be read."""
    position: Int[Array, "*batch"]


class Timestep(NamedTuple):
    """What an environment returns; termination and truncation are distinct."""

    obs: PyTree
    mask: Bool[Array, "A"] | None
    """Legal actions; None where every action always is."""
    reward: Float[Array, ""]
    terminated: Bool[Array, ""]
    truncated: Bool[Array, ""]
    final_obs: PyTree
    """The observation before any automatic reset; equals ``obs`` elsewhere."""


class PolicyOutput(NamedTuple):
    """A controller's answer for one step."""

    logits: Float[Array, "*batch V"]
    """Before masking."""
    value: Float[Array, "*batch"]
    aux: PyTree = None
