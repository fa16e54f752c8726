"""Algorithms: ask, tell, learn; and what one may leave behind."""

from typing import Any, NamedTuple, Protocol, runtime_checkable

from jaxtyping import Array, Float, Int, Key, PyTree

from jaxnas.core.space import SearchSpace
from jaxnas.core.types import Evaluation, Objective, PolicyOutput, Proposal


@runtime_checkable
class Algorithm(Protocol):
    """Ask, tell, learn. Never calls an oracle, so budget and noise cannot be bypassed.

    A dataclass with ``frozen=True`` whose fields are hashable: what changes a shape or a
    branch is a field, what appears in a formula is a leaf of ``hparams`` inside the state.
    Every method is traced: pure, and the state keeps its structure, shapes and dtypes.

    ``search`` checks this once, before anything runs, and the tokens of the first batch.
    """

    @property
    def id(self) -> str:
        """Versioned name; bump it when the rule changes."""
        ...

    @property
    def space(self) -> SearchSpace:
        """The space that it proposes from."""
        ...

    @property
    def batch(self) -> int:
        """Lanes of a proposal, ``B``."""
        ...

    @property
    def rounds(self) -> int:
        """Ask/tell rounds before each ``learn``; static."""
        ...

    @property
    def preferred_width(self) -> int:
        """Controllers that one CPU core should advance together, by measurement."""
        ...

    def default_hparams(self) -> Any:
        """Returns the preset: a NamedTuple of numbers.

        ``search`` replaces some by what was asked for and casts all of them to float32
        before ``init`` sees them, which therefore need not.
        """
        ...

    def init(self, key: Key[Array, ""], hparams: Any) -> PyTree:
        """Returns the state before the first proposal; it carries ``hparams``."""
        ...

    def ask(self, key: Key[Array, ""], state: PyTree) -> tuple[PyTree, Proposal]:
        """Returns the architectures to score next.

        ``tokens`` is ``int32[B, L]``, each row legal under the space's mask where
        ``active`` (``bool[B]``); ``fidelity`` is ``int32[B]``.
        """
        ...

    def tell(
        self, key: Key[Array, ""], state: PyTree, proposal: Proposal, evaluation: Evaluation
    ) -> PyTree:
        """Returns the state that has seen the evaluation; failed lanes are ignored."""
        ...

    def learn(
        self, key: Key[Array, ""], state: PyTree
    ) -> tuple[PyTree, dict[str, Float[Array, ""]]]:
        """Returns the state after learning, and scalar metrics under fixed names."""
        ...


@runtime_checkable
class ManyObjective(Protocol):
    """An algorithm that sees several objectives apart, and not only their reward.

    It works on any number of them, one included.
    """

    def for_objectives(self, objectives: tuple[Objective, ...]) -> Algorithm:
        """Returns the same algorithm for these objectives: their number, and their signs.

        ``Evaluation.objectives`` then has these columns, in natural units.
        """
        ...


def prepare(algo: Algorithm, objectives: tuple[Objective, ...]) -> Algorithm:
    """Returns the algorithm as it searches for these objectives.

    ``search`` and studies do this themselves; who calls ``ask`` and ``tell`` or
    ``jaxnas.update`` does it first. What is not :class:`ManyObjective` comes back as it is.
    """
    if isinstance(algo, ManyObjective):
        return algo.for_objectives(objectives)
    return algo


@runtime_checkable
class Exporting(Protocol):
    """An algorithm that leaves more behind than its queries and its metrics."""

    def artifacts(self, state: PyTree) -> dict[str, Array]:
        """Returns arrays of a finished controller, saved as ``artifact_NAME [P, ...]``."""
        ...


@runtime_checkable
class PolicyBased(Protocol):
    """An algorithm that learns a policy, which a run saves and another may start from."""

    @property
    def policy_config(self) -> dict[str, Any]:
        """What must be equal for a saved policy to fit, beside id and space; JSON-able."""
        ...

    def policy(self, state: PyTree) -> PyTree:
        """Returns the policy's parameters."""
        ...

    def with_policy(self, state: PyTree, params: PyTree) -> PyTree:
        """Returns a state that has other parameters, of the same shapes and dtypes."""
        ...

    def act(self, params: PyTree, obs: Any) -> PolicyOutput:
        """Returns logits and values of a batch of what the policy sees."""
        ...


class Played(NamedTuple):
    """``N`` whole episodes of a policy that does not learn."""

    tokens: Int[Array, "N L"]
    """The architecture that each ends with."""
    begun: Int[Array, "N L"] | None
    """The one that it began with; None where it begins with nothing."""
    entropy: Float[Array, "N"]
    """Of the policy, mean over the decisions of the episode; nats."""


@runtime_checkable
class Playing(Protocol):
    """A method with a policy whose episodes can be played without learning from them."""

    def play(
        self,
        key: Key[Array, ""],
        params: PyTree,
        hparams: Any,
        known: Int[Array, "K L"],
        episodes: int,
        greedy: bool,
    ) -> Played:
        """Returns episodes of a policy; pure, ``episodes`` and ``greedy`` are static.

        Args:
            key: of all episodes.
            params: what :meth:`PolicyBased.policy` gave.
            hparams: the controller's, whose temperature is that of the draws.
            known: the best architectures that the controller found, for a policy that
                begins from some.
            episodes: how many.
            greedy: whether every decision is the most likely one, and not drawn.
        """
        ...
