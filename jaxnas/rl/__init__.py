"""Training on environments: rollouts, returns, losses and learning steps."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxnas.rl.training import EnvHparams, EnvTraining, Trained, train

__all__ = ["EnvHparams", "EnvTraining", "Trained", "train"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'jaxnas.rl' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module("jaxnas.rl.training"), name)
