"""The one place where objectives in natural units become a reward, which is maximised."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxnas.core.errors import UserError, unknown_name
from jaxnas.core.types import Objective

UNIT_RANGES = {"%": (0.0, 100.0), "fraction": (0.0, 1.0)}
"""What a value can be, by its unit."""


@runtime_checkable
class Scalariser(Protocol):
    """A rule by which objectives and constraints become one number; hashable."""

    name: ClassVar[str]

    @property
    def weights(self) -> tuple[float, ...]:
        """One for each objective."""
        ...

    def __call__(
        self, objectives: Float[Array, "*b M"], violation: Float[Array, "*b"]
    ) -> Float[Array, "*b"]:
        """Returns the reward; NaN where an objective that carries weight is NaN."""
        ...

    def natural(self, reward: np.ndarray) -> np.ndarray:
        """Returns a single objective back in its own unit, several as the reward itself."""
        ...

    def record(self) -> dict[str, Any]:
        """Returns what decides it beside the weights, as JSON-able data."""
        ...

    def describe(self, names: tuple[str, ...]) -> str:
        """Returns the rule in words, for objectives of these names."""
        ...


def _check_weights(signs: tuple[float, ...], weights: tuple[float, ...]) -> None:
    if len(signs) != len(weights):
        raise UserError(
            f"{len(weights)} weights were given for {len(signs)} objectives; "
            "give one weight for each objective."
        )
    if not all(np.isfinite(weights)) or min(weights) < 0:
        raise UserError(f"Weights must be finite and not negative, got {weights}.")
    if sum(weights) == 0:
        raise UserError("At least one objective needs a weight above zero.")


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

    name: ClassVar[str] = "weighted-sum"

    def __post_init__(self) -> None:
        _check_weights(self.signs, self.weights)

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

    def record(self) -> dict[str, Any]:
        """Returns nothing more: weights say all."""
        return {}

    def describe(self, names: tuple[str, ...]) -> str:
        """Returns the sum in words."""
        parts = [
            f"{'' if sign > 0 else '-'}{weight:g} x {name}"
            for name, sign, weight in zip(names, self.signs, self.weights, strict=True)
        ]
        return "Weighted sum: " + " + ".join(parts)


@dataclass(frozen=True)
class Chebyshev:
    """Minus the augmented weighted Chebyshev distance to an ideal point.

        d_m = s_m (z_m - f_m) / scale_m
        reward = -max_m w_m d_m - rho * sum_m w_m d_m - penalty * violation

    Its maximum is on the front, and every point of the front is the maximum for some
    weights, also where the front is not convex, which a weighted sum cannot reach
    (Steuer and Choo 1983; ``rho`` as in ParEGO, Knowles 2006).

    Args:
        signs: +1 for each objective that is maximised, -1 for each that is minimised.
        weights: one non-negative weight for each objective.
        ideal: ``z``, the best value of each objective, in its own unit.
        scale: what counts as one unit of distance in each, in its own unit.
        rho: of the sum, which orders what has the same largest distance.
        penalty: reward lost per unit of (scale-free) constraint violation.
    """

    signs: tuple[float, ...]
    weights: tuple[float, ...]
    ideal: tuple[float, ...]
    scale: tuple[float, ...]
    rho: float = 0.05
    penalty: float = 100.0

    name: ClassVar[str] = "chebyshev"

    def __post_init__(self) -> None:
        _check_weights(self.signs, self.weights)
        for what, values in (("ideal", self.ideal), ("scale", self.scale)):
            if len(values) != len(self.signs) or not all(np.isfinite(values)):
                raise UserError(
                    f"The Chebyshev scalarisation needs a finite {what} for each of the "
                    f"{len(self.signs)} objectives, got {values}."
                )
        if min(self.scale) <= 0:
            raise UserError(f"Every scale must be above zero, got {self.scale}.")

    def __call__(
        self, objectives: Float[Array, "*b M"], violation: Float[Array, "*b"]
    ) -> Float[Array, "*b"]:
        """Returns the reward; NaN where an objective that carries weight is NaN."""
        factors = np.multiply(self.signs, self.weights) / np.asarray(self.scale)
        ideal = jnp.asarray(self.ideal, jnp.float32)
        gaps = (ideal - objectives) * jnp.asarray(factors, jnp.float32)
        counted = np.asarray(self.weights) > 0
        total = jnp.sum(jnp.where(counted, gaps, 0.0), axis=-1)
        most = jnp.max(jnp.where(counted, gaps, -jnp.inf), axis=-1)
        return -most - self.rho * total - self.penalty * violation

    def natural(self, reward: np.ndarray) -> np.ndarray:
        """Returns a single objective back in its own unit, several as the reward itself."""
        if len(self.signs) != 1:
            return reward
        (sign,), (weight,), (ideal,) = self.signs, self.weights, self.ideal
        return ideal + sign * reward * self.scale[0] / (weight * (1 + self.rho))

    def record(self) -> dict[str, Any]:
        """Returns name, ideal, scale and rho."""
        points = {"ideal": list(self.ideal), "scale": list(self.scale)}
        return {"name": self.name, **points, "rho": self.rho}

    def describe(self, names: tuple[str, ...]) -> str:
        """Returns the distance in words."""
        parts = [
            f"{weight:g} x {name} from {ideal:g} in units of {scale:g}"
            for name, weight, ideal, scale in zip(
                names, self.weights, self.ideal, self.scale, strict=True
            )
        ]
        return "Minus the augmented Chebyshev distance: " + ", ".join(parts)


SCALARISERS = {kind.name: kind for kind in (WeightedSum, Chebyshev)}
"""Every rule by its name; one that is added here has its options in ``make_scalariser``."""


def make_scalariser(
    objectives: tuple[Objective, ...],
    name: str = WeightedSum.name,
    weights: tuple[float, ...] | None = None,
    ideal: tuple[float, ...] | None = None,
    scale: tuple[float, ...] | None = None,
    ranges: Mapping[str, tuple[float, float]] | None = None,
) -> Scalariser:
    """Returns a rule by name.

    Args:
        objectives: what is measured.
        name: one of :data:`SCALARISERS`.
        weights: one for each objective; all 1 when None.
        ideal: of ``chebyshev``; when None the better end of each objective's range.
        scale: of ``chebyshev``; when None the width of that range.
        ranges: least and greatest value of objectives by name, where they are known; else
            a percentage has [0, 100] and a fraction [0, 1].

    Raises:
        UserError: an unknown name, wrong numbers, numbers that the rule does not take, or
            a range that is neither given nor known.
    """
    if name not in SCALARISERS:
        raise unknown_name("scalarisation", name, SCALARISERS)
    signs = tuple(1.0 if o.maximise else -1.0 for o in objectives)
    weights = tuple(weights) if weights else (1.0,) * len(objectives)
    if name == WeightedSum.name:
        if ideal is not None or scale is not None:
            raise UserError("ideal and scale belong to the scalarisation 'chebyshev'.")
        return WeightedSum(signs, weights)
    found = [(ranges or {}).get(o.name, UNIT_RANGES.get(o.unit)) for o in objectives]
    lacking = [o.name for o, r in zip(objectives, found, strict=True) if r is None]
    if lacking and (ideal is None or scale is None):
        raise UserError(
            f"The range of {' and '.join(lacking)} is not known here; give ideal and "
            "scale, one number for each objective."
        )
    known = [r or (0.0, 1.0) for r in found]
    best = tuple(r[1] if s > 0 else r[0] for r, s in zip(known, signs, strict=True))
    width = tuple(r[1] - r[0] or 1.0 for r in known)
    return Chebyshev(
        signs, weights, tuple(ideal) if ideal else best, tuple(scale) if scale else width
    )


def weighted_sum(
    objectives: tuple[Objective, ...], weights: tuple[float, ...] | None = None
) -> WeightedSum:
    """Returns the weighted sum of some objectives; weights default to one each."""
    signs = tuple(1.0 if o.maximise else -1.0 for o in objectives)
    return WeightedSum(signs, weights or (1.0,) * len(objectives))


def recorded(objectives: tuple[Objective, ...], config: Mapping[str, Any]) -> Scalariser:
    """Returns the rule of a run from its configuration."""
    weights = tuple(config.get("weights") or ()) or (1.0,) * len(objectives)
    found = config.get("scalarise")
    if not found:
        return weighted_sum(objectives, weights)
    signs = weighted_sum(objectives, weights).signs
    points = tuple(found["ideal"]), tuple(found["scale"])
    return Chebyshev(signs, weights, *points, rho=float(found["rho"]))
