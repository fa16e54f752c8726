"""The acquisition function of a learner that owns a surrogate."""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from jaxnas.core.space import SearchSpace
from jaxnas.core.types import Evaluation, Objective
from jaxnas.oracles.metrics import measured
from jaxnas.surrogates.ensemble import Ensemble, EnsembleParams, Prediction, predict
from jaxnas.surrogates.features import Encoder

ACQUISITION = Objective("acquisition", "1", True, "upper confidence bound, scaled")
FLOOR = -1.0
"""Lower bound, as far below the median as the best is above it."""


class AcquisitionParams(NamedTuple):
    """The fitted surrogate and the scale of the acquisition."""

    model: EnsembleParams
    median: Float[Array, ""]
    """Reward of the median label, acquisition 0."""
    best: Float[Array, ""]
    """Reward of the best label, acquisition 1."""
    kappa: Float[Array, ""]
    """Weight of the epistemic spread: above 0 seeks what the surrogate has not seen."""


@dataclass(frozen=True)
class Acquisition:
    """Upper confidence bound of a surrogate fitted to rewards, on the labels' own scale.

        acquisition = max(-1, (mean + kappa epistemic - median) / (best - median))

    The lower clip keeps a hopeless architecture from drowning what tells good ones apart.
    Holds no arrays: :class:`AcquisitionParams` are given to every call.

    Reference: Srinivas et al., 2010 (the bound); the scale is ours.

    Args:
        encoder: what the surrogate sees of an architecture.
        config: the surrogate's shape; one output, a reward that is maximised.
    """

    encoder: Encoder
    config: Ensemble
    id: str = "acquisition-v1"
    objectives = (ACQUISITION,)
    traced = True

    @property
    def space(self) -> SearchSpace:
        """The space that the features encode."""
        return self.encoder.space

    def params(self) -> AcquisitionParams:
        """Raises TypeError: a surrogate is fitted first."""
        raise TypeError("An acquisition has no parameters before its surrogate is fitted.")

    def init(self, key: Key[Array, ""], params: AcquisitionParams) -> tuple[()]:
        """Returns nothing: a surrogate remembers nothing about who asks."""
        return ()

    def predict(self, params: AcquisitionParams, tokens: Int[Array, "B L"]) -> Prediction:
        """Returns what the surrogate says, in units of the reward."""
        return predict(self.config, params.model, jax.vmap(self.encoder)(tokens))

    def score(self, params: AcquisitionParams, predicted: Prediction) -> Float[Array, "B"]:
        """Returns the acquisition of predicted architectures."""
        bound = predicted.mean[:, 0] + params.kappa * predicted.epistemic[:, 0]
        span = jnp.maximum(params.best - params.median, 1e-6)
        return jnp.maximum((bound - params.median) / span, FLOOR)

    def evaluate(
        self,
        key: Key[Array, ""],
        params: AcquisitionParams,
        state: tuple[()],
        tokens: Int[Array, "B L"],
        fidelity: Int[Array, "B"],
        active: Bool[Array, "B"],
    ) -> tuple[tuple[()], Evaluation]:
        """Returns the acquisition of each architecture."""
        value = self.score(params, self.predict(params, tokens))
        cost = jnp.zeros(tokens.shape[0], jnp.float32)
        return state, measured(value[:, None], cost, active)
