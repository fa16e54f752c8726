"""Reinforcement learning that designs neural networks, compiled end to end in JAX."""

__version__ = "0.1.0"
