"""The tasks, constraints, handlings and methods that are compared."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Config:
    """The defaults are what the results were made with."""

    tasks: tuple[tuple[str, str, str, tuple[str, ...]], ...] = (
        ("tune loose", "nb201-table", "cifar100", ("params<=2e5",)),
        ("tune tight", "nb201-table", "cifar100", ("params<=4e5", "cifar10>=90")),
        ("loose", "analog-nasbench", "analog_1month", ("params<=2e5",)),
        ("tight", "analog-nasbench", "analog_1month", ("params<=4e5", "digital>=93")),
    )
    """(name, oracle, objective, constraints); the first two decide about the default."""
    handlings: tuple[str, ...] = ("penalty", "death", "lagrangian", "feasible-first")
    methods: tuple[str, ...] = ("ppo", "reinforce", "evolution", "random")
    budget: int = 200
    max_factor: int = 2
    """Proposals allowed, times the budget, as in ``make search``."""
    seeds: int = 64
    seed0: int = 0
