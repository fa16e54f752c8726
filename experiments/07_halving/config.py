"""What is compared: random search with full trainings and with brackets, on digits."""

from dataclasses import dataclass

import jaxnas
from jaxnas.oracles.child import ChildOracle


@dataclass(frozen=True)
class Config:
    """Budgets in CPU seconds of one core, compilations left out of both arms."""

    seeds: int = 10
    cpu_s: float = 36.0  # of each arm and seed
    shares: tuple[float, ...] = (1 / 3, 1.0)  # of it, at which the arms are compared
    tests: int = 2  # trainings of what an arm chose, with other seeds
    size: str = "channels:4,cells:1"
    epochs: int = 9  # of a full training
    levels: str = "epochs:1;epochs:3"
    eta: float = 3.0
    bracket: int = 9

    def oracle(self, seed: int) -> ChildOracle:
        """Returns the oracle of a search; the seed is that of the trainings."""
        space = jaxnas.make_space("nb201")
        return ChildOracle(
            space, "digits", size=self.size, epochs=self.epochs, levels=self.levels,
            route="choice", seed=seed,
        )  # fmt: skip
