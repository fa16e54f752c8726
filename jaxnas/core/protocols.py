"""The interfaces between the layers, nothing else."""

from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from jaxnas.core.types import (
    Evaluation,
    Graph,
    Measurement,
    Objective,
    PolicyOutput,
    Proposal,
    Spec,
    Timestep,
)


@runtime_checkable
class SearchSpace(Protocol):
    """Architectures as ``int32[L]`` token vectors under a legality mask.

    Frozen, hashable, and a static argument: two spaces that are equal share a compilation.
    """

    @property
    def id(self) -> str:
        """Versioned name; bump it when the meaning of a token changes."""
        ...

    @property
    def length(self) -> int:
        """Number of tokens, ``L``."""
        ...

    @property
    def vocab(self) -> int:
        """Number of token values, ``V``."""
        ...

    def mask(self, tokens: Int[Array, "L"], t: Int[Array, ""]) -> Bool[Array, "V"]:
        """Returns the legal tokens at ``t``; reads ``tokens[:t]`` only, never empty."""
        ...

    def canonical(self, tokens: Int[Array, "L"]) -> Int[Array, "L"]:
        """Returns the same tokens for architectures that are the same network."""
        ...

    def to_graph(self, tokens: Int[Array, "L"]) -> Graph:
        """Returns the padded DAG of an architecture."""
        ...

    def to_spec(self, tokens: np.ndarray) -> Spec:
        """Returns the JSON-able typed DAG of named operations; host side."""
        ...

    def from_spec(self, spec: Spec) -> np.ndarray:
        """Returns the tokens that ``to_spec`` was given."""
        ...


@runtime_checkable
class Imaged(Protocol):
    """A space whose networks can be built for other images, the tokens unchanged."""

    def for_images(
        self, image: tuple[int, int, int], num_classes: int, **size: int
    ) -> SearchSpace:
        """Returns the same architectures as networks for these images.

        Args:
            image: height, width, channels.
            num_classes: of the data set.
            **size: sizes of the network that are not searched, by name.

        Raises:
            UserError: an unknown size, or images that its networks cannot take.
        """
        ...


@runtime_checkable
class Sized(Protocol):
    """A space that knows its size in closed form."""

    def count(self) -> int:
        """Returns the exact number of architectures."""
        ...


@runtime_checkable
class Counted(Protocol):
    """A space that knows how many architectures follow each token."""

    def completions(self, tokens: Int[Array, "L"], t: Int[Array, ""]) -> Float[Array, "V"]:
        """Returns the share of the architectures after ``tokens[:t]`` behind each token.

        Zero where the token is illegal; sums to one. Computed from exact integers: the
        counts themselves overflow 32 bits.
        """
        ...


@runtime_checkable
class Mutable(Protocol):
    """A space with a mutation of its own, used instead of the generic one."""

    def mutate(self, key: Key[Array, ""], tokens: Int[Array, "L"]) -> Int[Array, "L"]:
        """Returns a valid architecture that differs from ``tokens``."""
        ...


@runtime_checkable
class Featured(Protocol):
    """A space with numeric features of its own, for predictors."""

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Name of each feature, ``F`` of them."""
        ...

    def features(self, tokens: Int[Array, "L"]) -> Float[Array, "F"]:
        """Returns the features of an architecture; a changed token always shows."""
        ...


@runtime_checkable
class Projectable(Protocol):
    """A :class:`Featured` space that makes an architecture of any feature vector."""

    def project(self, features: Float[Array, "F"]) -> Int[Array, "L"]:
        """Returns a valid canonical architecture, also for NaN and infinite numbers.

        Idempotent: ``project(features(tokens)) == canonical(tokens)``.
        """
        ...


@runtime_checkable
class Oracle(Protocol):
    """Scores architectures. A frozen, hashable configuration that holds no arrays.

    What all controllers share is ``params`` (traced: changing the task does not recompile);
    what belongs to one controller is ``state``.
    """

    @property
    def id(self) -> str:
        """Versioned name; bump it when the numbers change."""
        ...

    @property
    def space(self) -> SearchSpace:
        """The space that it scores."""
        ...

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """What it measures, in order."""
        ...

    @property
    def traced(self) -> bool:
        """Whether ``evaluate`` may live inside jit; else it takes and returns numpy."""
        ...

    def params(self) -> PyTree:
        """Returns what all controllers share: tables, trees, the task."""
        ...

    def init(self, key: Key[Array, ""], params: PyTree) -> PyTree:
        """Returns the state of one controller."""
        ...

    def evaluate(
        self,
        key: Key[Array, ""],
        params: PyTree,
        state: PyTree,
        tokens: Int[Array, "B L"],
        fidelity: Int[Array, "B"],
        active: Bool[Array, "B"],
    ) -> tuple[PyTree, Evaluation]:
        """Returns the new state and what was measured; inactive lanes are SKIPPED."""
        ...


@runtime_checkable
class Measuring(Protocol):
    """A host oracle whose evaluations are dear, so that each is kept for good.

    A measurement is a function of (oracle id, architecture, fidelity, seed, data checksum)
    and may be made in another process: the oracle is pickled there.
    """

    @property
    def seed(self) -> int:
        """Decides initial weights, order of the data and noise."""
        ...

    @property
    def data_checksum(self) -> str:
        """SHA-256 of the data and of their splits."""
        ...

    def measure(self, tokens: np.ndarray, fidelity: int) -> Measurement:
        """Returns every metric of ``int[L]`` tokens; a failure is a status, no error."""
        ...


@runtime_checkable
class Truthful(Protocol):
    """An oracle whose readings are noisy and whose true values are known."""

    def truth(self, params: PyTree, tokens: Int[Array, "B L"]) -> Float[Array, "B M"]:
        """Returns the objectives without measurement noise."""
        ...


@runtime_checkable
class Uncertain(Protocol):
    """An oracle that knows how far one measurement lies from the truth."""

    def truth(self, params: PyTree, tokens: Int[Array, "B L"]) -> Float[Array, "B M"]:
        """Returns the objectives without measurement noise."""
        ...

    def spread(self, params: PyTree, tokens: Int[Array, "B L"]) -> Float[Array, "B M"]:
        """Returns the standard deviation of one measurement, 0 where it is not known."""
        ...


@runtime_checkable
class Predictor(Protocol):
    """An oracle that scores by a fitted model of numeric features.

    Its readings are predictions, so ``truth`` may differ from them; a row's numbers must
    not depend on what else is in the batch, up to rounding.
    """

    def features(self, tokens: Int[Array, "B L"]) -> Float[Array, "B F"]:
        """Returns what the model sees; every decision that is not redundant shows."""
        ...

    def predict(self, params: PyTree, tokens: Int[Array, "B L"]) -> Any:
        """Returns mean, epistemic and aleatoric spread, and the extrapolation flag."""
        ...


@runtime_checkable
class Repeating(Protocol):
    """An oracle that says what asking again does: ``"stored"`` or ``"resample"``."""

    @property
    def repeats(self) -> str:
        """``"resample"`` where each evaluation is a new reading and costs a query."""
        ...


@runtime_checkable
class Enumerated(Protocol):
    """An oracle that holds every architecture's metrics, so that regret is exact."""

    def columns(self) -> dict[str, np.ndarray]:
        """Returns every metric, ``[n]`` in the order of ``enumerate_space``; host side."""
        ...


@runtime_checkable
class Described(Protocol):
    """Something that can say where its numbers come from."""

    def info(self) -> dict[str, Any]:
        """Returns facts by name: size, source, licence, checksum, ...; host side."""
        ...


@runtime_checkable
class Environment(Protocol):
    """Dynamics only: key and parameters are arguments, never hidden in the state."""

    @property
    def num_actions(self) -> int:
        """Number of discrete actions ``A``, or components of a continuous one."""
        ...

    def reset(self, key: Key[Array, ""], params: PyTree) -> tuple[PyTree, Timestep]:
        """Returns the first state and time step of an episode."""
        ...

    def step(
        self, key: Key[Array, ""], state: PyTree, action: Array, params: PyTree
    ) -> tuple[PyTree, Timestep]:
        """Returns the state and time step after ``action``."""
        ...


@runtime_checkable
class Controller(Protocol):
    """A recurrent or feed-forward policy with a value head.

    ``init(key) -> params`` and ``apply`` come from flax.linen; these are the calls that an
    algorithm makes through ``module.apply(params, ..., method=...)``.
    """

    def initial_carry(self, batch: int) -> PyTree:
        """Returns the memory before the first step; empty for a feed-forward net."""
        ...

    def __call__(
        self, carry: PyTree, obs: PyTree, reset: Bool[Array, "B"]
    ) -> tuple[PyTree, PolicyOutput]:
        """Returns the new memory and one step's policy; ``reset`` clears memory first."""
        ...


@runtime_checkable
class LatentModel(Protocol):
    """Architectures as float vectors, in both directions.

    Frozen, hashable, and a static argument; what was learned is ``params``.
    """

    @property
    def space(self) -> SearchSpace:
        """The space that it embeds."""
        ...

    @property
    def latent_size(self) -> int:
        """Numbers that describe an architecture, ``Z``."""
        ...

    @property
    def num_codes(self) -> int:
        """Codes in the codebook, ``K``."""
        ...

    def entries(self, params: PyTree) -> Float[Array, "K Z"]:
        """Returns the value that code ``k`` writes into latent dimension ``z``."""
        ...

    def encode(self, params: PyTree, tokens: Int[Array, "L"]) -> Float[Array, "Z"]:
        """Returns what the decoder is given for an architecture."""
        ...

    def decode(self, params: PyTree, latent: Float[Array, "Z"]) -> Int[Array, "L"]:
        """Returns a valid architecture, for any float vector."""
        ...


@runtime_checkable
class Algorithm(Protocol):
    """Ask, tell, learn. Never calls an oracle, so budget and noise cannot be bypassed.

    A frozen, hashable configuration: what changes a shape or a branch is a field, what
    appears in a formula is a leaf of ``hparams`` inside the state.
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
        """Returns the preset: a pytree of scalars."""
        ...

    def init(self, key: Key[Array, ""], hparams: Any) -> PyTree:
        """Returns the state before the first proposal; it carries ``hparams``."""
        ...

    def ask(self, key: Key[Array, ""], state: PyTree) -> tuple[PyTree, Proposal]:
        """Returns the architectures to score next."""
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
class Keeping(Protocol):
    """An algorithm that leaves more behind than its queries and its metrics."""

    def keep(self, state: PyTree) -> dict[str, Array]:
        """Returns arrays of a finished controller, saved as ``kept_NAME [P, ...]``."""
        ...
