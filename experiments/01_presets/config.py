"""What is swept for the presets of PPO and REINFORCE, and on what."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Config:
    """Tasks, grids and sizes; the defaults are what the results were made with."""

    tasks: tuple[tuple[str, str], ...] = (
        ("analog-nasbench", "digital"),
        ("analog-nasbench", "ptq"),
        ("nb201-table", "cifar100"),
    )
    """Oracle and objective. None of them is reported anywhere: ``analog_*`` and ``noisy*``
    share training runs among themselves, and stay out."""
    grids: tuple[tuple[str, tuple[float, ...], tuple[float, ...]], ...] = (
        ("ppo", (0.001, 0.003, 0.01, 0.03), (0.03, 0.1, 0.2, 0.4)),
        ("reinforce", (0.003, 0.01, 0.03, 0.1), (0.02, 0.04, 0.08, 0.16)),
    )
    """Algorithm, learning rates, entropy bonuses: the grid of ``make search``."""
    seeds: int = 64
    budget: int = 500
    max_proposals: int = 4000
    at: tuple[int, ...] = (100, 200, 500)
    """Queries at which regret is read; a setting's score is the mean over them and over the
    tasks of regret / (mean regret of random search on that task at those queries)."""
