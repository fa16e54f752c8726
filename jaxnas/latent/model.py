"""Latent models: architectures as float vectors, in both directions."""

from typing import Protocol, runtime_checkable

from jaxtyping import Array, Float, Int, PyTree

from jaxnas.core.space import SearchSpace


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
