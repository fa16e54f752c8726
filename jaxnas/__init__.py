"""Reinforcement learning that designs neural networks, compiled end to end in JAX.

>>> import jaxnas
>>> space = jaxnas.make_space("nb201")
>>> oracle = jaxnas.make_oracle("analog-nasbench", space=space, objective="analog_1month")
>>> algo = jaxnas.make_algorithm("ppo", space=space, batch=8)
>>> result = jaxnas.search(algo, oracle, seeds=4, budget=20, out="runs/demo")
>>> best = result.best(5)
"""

from typing import TYPE_CHECKING, Any

from jaxnas.core.algorithm import Algorithm, prepare
from jaxnas.core.controller import Controller
from jaxnas.core.environment import Environment
from jaxnas.core.errors import DiskFullError, JaxnasError, UserError
from jaxnas.core.oracle import Oracle, OracleWrapper, capability
from jaxnas.core.space import SearchSpace
from jaxnas.core.types import (
    FAILED,
    OK,
    PARTIAL,
    SKIPPED,
    Evaluation,
    Graph,
    Measurement,
    Objective,
    PolicyOutput,
    Proposal,
    Timestep,
)
from jaxnas.core.version import VERSION
from jaxnas.registry import (
    make_algorithm,
    make_controller,
    make_env,
    make_oracle,
    make_space,
    names,
    table_oracle,
)

if TYPE_CHECKING:
    from jaxnas import rl
    from jaxnas.data.images.sources import load_images, make_images
    from jaxnas.data.store.evaluations import Store
    from jaxnas.data.texts.sources import load_texts
    from jaxnas.envs.base import timestep
    from jaxnas.oracles.budget import budgeted
    from jaxnas.oracles.function import oracle
    from jaxnas.run.config import grid_settings
    from jaxnas.run.devices import configure_host
    from jaxnas.run.halving import Halving
    from jaxnas.run.host.processes import Processes
    from jaxnas.run.host.ray_cluster import RayExecutor
    from jaxnas.run.options import RunOptions
    from jaxnas.run.population import update
    from jaxnas.run.result import Result
    from jaxnas.run.search import load_result, search
    from jaxnas.spaces.declare import declare
    from jaxnas.study.study import Study

__version__ = VERSION
__all__ = [
    "FAILED", "OK", "PARTIAL", "SKIPPED", "Algorithm", "Controller", "DiskFullError",
    "Environment", "Evaluation", "Graph", "Halving", "JaxnasError", "Measurement",
    "Objective", "Oracle", "OracleWrapper", "PolicyOutput", "Processes", "Proposal",
    "RayExecutor", "Result", "RunOptions", "SearchSpace", "Store", "Study", "Timestep",
    "UserError",
    "budgeted", "capability", "configure_host", "declare", "grid_settings", "load_images",
    "load_result", "load_texts", "make_algorithm", "make_controller", "make_env",
    "make_images", "make_oracle", "make_space", "names", "oracle", "prepare", "rl",
    "search", "table_oracle", "timestep", "update",
]  # fmt: skip
_LAZY = {
    "Halving": "jaxnas.run.halving",
    "Processes": "jaxnas.run.host.processes",
    "RayExecutor": "jaxnas.run.host.ray_cluster",
    "Result": "jaxnas.run.result",
    "RunOptions": "jaxnas.run.options",
    "Store": "jaxnas.data.store.evaluations",
    "Study": "jaxnas.study.study",
    "budgeted": "jaxnas.oracles.budget",
    "configure_host": "jaxnas.run.devices",
    "declare": "jaxnas.spaces.declare",
    "grid_settings": "jaxnas.run.config",
    "load_images": "jaxnas.data.images.sources",
    "load_result": "jaxnas.run.search",
    "load_texts": "jaxnas.data.texts.sources",
    "make_images": "jaxnas.data.images.sources",
    "oracle": "jaxnas.oracles.function",
    "rl": "jaxnas.rl",
    "search": "jaxnas.run.search",
    "timestep": "jaxnas.envs.base",
    "update": "jaxnas.run.population",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'jaxnas' has no attribute {name!r}")
    import importlib

    module = importlib.import_module(_LAZY[name])
    return module if _LAZY[name] == f"jaxnas.{name}" else getattr(module, name)
