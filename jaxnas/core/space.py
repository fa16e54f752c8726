"""Search spaces: the protocol, and the capabilities that a space may have as well."""

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from jaxnas.core.types import Graph, Spec


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
class Operated(Protocol):
    """A space that knows every operation that its networks can have."""

    def operations(self) -> Mapping[str, str]:
        """Returns the operations by name, and what puts each there.

        Such as ``layer.type = 'separable'``, or ``its network`` where nothing is decided.
        """
        ...


@runtime_checkable
class Passing(Protocol):
    """A space that knows which operations of its graphs hand their input on unchanged."""

    @property
    def passing_ops(self) -> tuple[int, ...]:
        """Operation ids of :meth:`SearchSpace.to_graph`."""
        ...


@runtime_checkable
class Textual(Protocol):
    """A space whose networks can be built for other texts, the tokens unchanged."""

    def for_texts(
        self, length: int, vocabulary: int, num_classes: int, **size: int
    ) -> SearchSpace:
        """Returns the same architectures as networks for these texts.

        Args:
            length: ids of each text, padded.
            vocabulary: number of ids: padding, unknown words and the known ones.
            num_classes: of the data set.
            **size: sizes of the network that are not searched, by name.

        Raises:
            UserError: an unknown size, or networks that take no texts.
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
class Resizable(Protocol):
    """A space that knows which of its decisions make a network deeper, and which wider."""

    @property
    def depth_positions(self) -> tuple[int, ...]:
        """Positions of the tokens that decide how many layers there are."""
        ...

    @property
    def width_positions(self) -> tuple[int, ...]:
        """Positions of the tokens that decide channels and parallel branches."""
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


Value = str | int | float | bool | None
"""What a token stands for; None where the decision has no value."""


@runtime_checkable
class Named(Protocol):
    """A space whose decisions and choices have names, for people, tables and functions."""

    @property
    def decision_names(self) -> tuple[str, ...]:
        """Name of each token's decision, ``L`` of them, all different."""
        ...

    @property
    def decision_values(self) -> tuple[tuple[Value, ...], ...]:
        """What each token of each decision stands for; at most ``V`` of each."""
        ...


@runtime_checkable
class Nested(Protocol):
    """A space that writes its architectures as nested names and values."""

    def to_dict(self, tokens: np.ndarray) -> dict[str, Any]:
        """Returns what was decided, by name, JSON-able; host side."""
        ...

    def from_dict(self, values: Mapping[str, Any]) -> np.ndarray:
        """Returns the tokens that ``to_dict`` was given.

        Raises:
            UserError: unknown names or values, or no architecture of the space.
        """
        ...
