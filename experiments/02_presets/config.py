"""The grid, the objectives and the budget of the presets' sweep."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Config:
    """The defaults are what the results were made with."""

    lr: tuple[float, ...] = (0.001, 0.003, 0.01, 0.03, 0.1)
    ppo_entropy: tuple[float, ...] = (0.03, 0.1, 0.2, 0.4)
    reinforce_entropy: tuple[float, ...] = (0.02, 0.04, 0.08, 0.16)
    a2c_entropy: tuple[float, ...] = (0.01, 0.03, 0.06, 0.12)
    objectives: tuple[tuple[str, str], ...] = (
        ("analog-nasbench", "digital"),
        ("analog-nasbench", "ptq"),
        ("nb201-table", "cifar100"),
    )
    """(oracle, metric): none of them shares a training run with the analog columns."""
    budget: int = 500
    max_factor: int = 2
    """Proposals allowed, times the budget, as in ``make search``."""
    seeds: int = 32
    a2c_seeds: int = 16
    random_seeds: int = 256
    seed0: int = 1000
    """Other seeds than those of the searches that the presets are reported with."""
