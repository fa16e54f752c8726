"""Which methods, budgets and seeds the latent searches are compared at."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Case:
    """A budget, and how much of it is spent on the first labels."""

    budget: int
    labels: int
    """Random queries before the surrogate is fitted; the latent model sees all of them."""


@dataclass(frozen=True)
class Config:
    """The defaults are what the results were made with."""

    objective: str = "analog_1month"
    cases: tuple[Case, ...] = (Case(150, 72), Case(500, 152))
    models: int = 4
    """Latent models, each with its own sample of architectures and of labels."""
    seeds: int = 25
    """Controllers of each model; n is the product."""
    max_factor: int = 4
    """Proposals allowed, times the budget."""
    latent: tuple[str, ...] = ("latent-reinforce", "latent-a2c", "latent-ppo")
    ablation: str = "latent-ppo"
    """Also run with a learning rate of 0: what the policy adds to the surrogate."""
    others: tuple[str, ...] = ("random", "evolution", "local-search", "reinforce", "ppo")
