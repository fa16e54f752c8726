"""Objectives, budgets, seeds and the variants that are compared."""

from dataclasses import dataclass, field
from typing import Any

REPLAY: dict[str, tuple[dict[str, Any], dict[str, float]]] = {
    "preset": ({}, {}),
    "repeats allowed": ({"draws": 2}, {}),
    "no replay: batch 8, 4 passes": ({"batch": 8, "minibatch": 8, "steps": 4}, {}),
    "weighed likelihood, sharpness 2": ({"objective": "weigh"}, {"sharpness": 2.0}),
    "imitation of the best 10": ({"objective": "imitate"}, {"entropy": 0.2}),
    "path consistency, sharpness 4": ({"objective": "match"}, {"sharpness": 4.0}),
    "entropy bonus 0.05": ({}, {"entropy": 0.05}),
    "entropy bonus 0.1": ({}, {"entropy": 0.1}),
    "entropy target 0.6": ({}, {"target": 0.6}),
    "uniform replay": ({}, {"priority": 0.0}),
    "batch 1, 4 steps": ({"batch": 1, "steps": 4}, {}),
    "batch 4, 16 steps": ({"batch": 4, "steps": 16}, {}),
    "clip 0.5": ({}, {"clip": 0.5}),
    "MLP": ({"controller": "mlp"}, {}),
}
"""Variants of ``ppo-replay``: options and hyperparameters that differ from its preset."""
DYNA: dict[str, tuple[dict[str, Any], dict[str, float]]] = {
    "policy that never learns": ({}, {"lr": 0.0}),
    "entropy bonus 0.3": ({}, {"entropy": 0.3}),
    "entropy bonus 0.1": ({}, {"entropy": 0.1}),
    "32 candidates": ({"candidates": 32}, {}),
}
"""Variants of ``dyna-ppo``."""


@dataclass(frozen=True)
class Config:
    """The defaults are what the results were made with."""

    objectives: tuple[tuple[str, str], ...] = (
        ("analog-nasbench", "noisy_1day"),
        ("nb201-table", "cifar100"),
        ("analog-nasbench", "ptq"),
        ("analog-nasbench", "digital"),
    )
    """(oracle, metric): the tuning objectives. Variants are compared on the first two."""
    methods: tuple[str, ...] = (
        "evolution",
        "dyna-ppo",
        "ppo",
        "reinforce",
        "a2c",
        "random",
    )
    budget: int = 200
    at: tuple[int, ...] = (25, 50, 100, 150, 200)
    seeds: int = 32
    more_seeds: int = 64
    """Of evolution and random search, which cost little."""
    fewer_seeds: int = 16
    """Of the variants of DyNA-PPO, and of its preset on the two easy objectives."""
    seed0: int = 5000
    """Other seeds than those of the searches that presets are reported with."""
    replay: dict[str, Any] = field(default_factory=lambda: REPLAY)
    dyna: dict[str, Any] = field(default_factory=lambda: DYNA)
