"""The one place where objectives in natural units become a reward, which is maximised."""

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxnas.core.errors import UserError
from jaxnas.core.types import Objective


@dataclass(frozen=True)
class WeightedSum:
    """``reward = sum_m w_m s_m f_m - penalty * violation`` with ``s_m`` = +1 to maximise.

    Args:
        signs: +1 for each objective that is maximised, -1 for each that is minimised.
        weights: one non-negative weight for each objective.
        penalty: reward lost per unit of (scale-free) constraint violation.
    """

    signs: tuple[float, ...]
    weights: tuple[float, ...]
    penalty: float = 100.0

    def __post_init__(self) -> None:
        if len(self.signs) != len(self.weights):
            raise UserError(
                f"{len(self.weights)} weights were given for {len(self.signs)} objectives; "
                "give one weight for each objective."
            )
        if not all(np.isfinite(self.weights)) or min(self.weights) < 0:
            raise UserError(f"Weights must be finite and not negative, got {self.weights}.")
        if sum(self.weights) == 0:
            raise UserError("At least one objective needs a weight above zero.")

    def __call__(
        self, objectives: Float[Array, "*b M"], violation: Float[Array, "*b"]
    ) -> Float[Array, "*b"]:
        """Returns the reward; NaN where an objective that carries weight is NaN."""
        factors = jnp.asarray(np.multiply(self.signs, self.weights), jnp.float32)
        terms = jnp.where(factors == 0, 0.0, objectives * factors)
        return jnp.sum(terms, axis=-1) - self.penalty * violation

    def natural(self, reward: np.ndarray) -> np.ndarray:
        """Returns a single objective back in its own unit, several as the reward itself."""
        if len(self.signs) != 1:
            return reward
        (sign,), (weight,) = self.signs, self.weights
        return reward / (sign * weight)


def weighted_sum(
    objectives: tuple[Objective, ...], weights: tuple[float, ...] | None = None
) -> WeightedSum:
    """Returns the scalariser of some objectives; weights default to one each."""
    signs = tuple(1.0 if o.maximise else -1.0 for o in objectives)
    return WeightedSum(signs, weights or (1.0,) * len(objectives))
