"""``--halving`` of a search: cheap evaluations first, as asked for on the command line."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from jaxnas import registry
from jaxnas.core.errors import UserError
from jaxnas.core.oracle import MultiFidelity, Oracle, Scalable, capability
from jaxnas.core.ranges import COUNT
from jaxnas.run.halving import Halving


@dataclass(frozen=True)
class HalvingOptions:
    """Options about evaluations that are cut short."""

    halving: Literal["successive", "hyperband", "extrapolated"] | None = None
    """Evaluate what a method proposes cheaply, and only the best one in --eta at each
    larger cost, up to the full one; of oracles that train. Hyperband starts part of a
    proposal at each cost; extrapolated stops what will probably not beat the best."""
    eta: float = 3.0
    """One in so many goes on, and each evaluation costs so many times the one before."""
    resource: Literal["epochs", "images", "channels"] = "epochs"
    """What a cheap training has less of."""
    least: int = 1
    """How much of it the cheapest training has at least."""
    chance: float = Halving.chance
    """Of beating the best, below which an extrapolated training stops."""
    RANGES: ClassVar = {**Halving.RANGES, "least": COUNT}

    @property
    def settings(self) -> Halving | None:
        """What a search is told."""
        return (
            None if self.halving is None else Halving(self.halving, self.eta, self.chance)
        )

    def levels(self, oracle: Oracle) -> dict[str, Any]:
        """Returns the options that give an oracle cheaper fidelities; none if it has some.

        Raises:
            UserError: it can have none, or not these.
        """
        graded = capability(oracle, MultiFidelity)
        if self.halving is None or (graded is not None and graded.num_fidelities > 1):
            return {}
        scalable = capability(oracle, Scalable)
        if scalable is not None:
            return scalable.cheaper(self.resource, self.eta, self.least)
        advice = "leave --halving out, or use one that trains, such as --oracle child"
        if graded is not None:
            advice = "name some, such as --oracle-set fidelities=1,3,9"
        raise UserError(
            f"The oracle {oracle.id!r} evaluates in one way only, so nothing can be "
            f"halved; {advice}."
        )

    def lanes(
        self, oracle: Oracle, algorithm: str, settings: Sequence[str]
    ) -> dict[str, Any]:
        """Returns the option ``batch`` that holds the brackets, unless it was set."""
        graded, halving = capability(oracle, MultiFidelity), self.settings
        own = any(item.partition("=")[0] == "batch" for item in settings)
        if halving is None or graded is None or own:
            return {}
        if "batch" not in registry.settable("algorithm", algorithm):
            return {}
        return {"batch": halving.lanes(graded.num_fidelities)}
