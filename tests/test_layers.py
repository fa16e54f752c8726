"""Imports point down and third-party walls hold; planted violations show that it works."""

import ast
from collections.abc import Set
from pathlib import Path

import pytest

import jaxnas
from jaxnas import registry

PACKAGE = Path(jaxnas.__file__).parent

# Rank of every folder: a module may import folders of a lower rank, and its own.
RANK = {
    "core": 0,
    "spaces": 1,
    "controllers": 1,
    "moo": 1,
    "latent": 2,
    "children": 2,
    "analog": 2,
    "envs": 3,
    "oracles": 3,
    "rl": 4,
    "surrogates": 4,
    "algorithms": 5,
    "oneshot": 5,
    "run": 6,
    "study": 7,
    "handoff": 7,
    "report": 8,
    "cli": 9,
}
# The same inside a folder that has rooms of its own; files beside them may import all.
INNER = {
    "data": {"formats": 0, "tables": 2, "store": 1, "images": 1, "texts": 1},
    "report": {"read": 0, "draw": 1, "loggers": 1, "say": 2, "render": 3},
    "run": {"host": 0},
    "cli": {"common": 0},
    "spaces": {"declared": 0},
    "study": {"adapters": 1},
    "analog": {"bridge": 0},
}
# `registry` holds strings and `data` is numpy: all ranks above core may import both.
# Of `data`, the two sources.py alone look names up (docs/decisions/0016-images.md).
BESIDE = {"registry", "data"}
# What a name in the registry stands for: nobody imports it from another folder.
CHOSEN = {
    target.partition(":")[0]
    for kind in ("space", "oracle", "env", "controller", "algorithm")
    for target in registry.TABLES[kind].values()
}
# cli/space.py runs the conformance suite on a space of the user.
# Exceptions, each seen to be needed. A trainer of networks is the child oracle ...
RECEIVED = {
    ("handoff/source.py", "jaxnas.oracles.child"),
    ("handoff/retrain.py", "jaxnas.oracles.child"),
    ("handoff/validate.py", "jaxnas.oracles.child"),
    ("cli/export.py", "jaxnas.oracles.child"),
    ("cli/validate.py", "jaxnas.oracles.child"),
    ("cli/common/labels.py", "jaxnas.oracles.analog"),
    ("cli/common/labels.py", "jaxnas.surrogates.open"),
    ("cli/common/labels.py", "jaxnas.surrogates.resnets"),
    ("cli/surrogate.py", "jaxnas.surrogates.open"),
    ("algorithms/latent_search.py", "jaxnas.envs.latent"),
    ("algorithms/latent_search.py", "jaxnas.controllers.mlp"),
}
# ... and these are the same thing with one part more.
BUILT_ON = {
    ("algorithms/dyna_ppo.py", "jaxnas.algorithms.model_based"),
    ("oracles/analog.py", "jaxnas.oracles.child"),
    ("oracles/grown.py", "jaxnas.oracles.child"),
    ("oracles/combine.py", "jaxnas.oracles.cost"),
    ("spaces/nb201_residual.py", "jaxnas.spaces.nb201"),
    ("surrogates/resnets.py", "jaxnas.surrogates.open"),
}
# Modules that one file alone may import.
WALLS = {
    "distrax": {"controllers/heads.py"},
    "orbax": {"run/checkpoint.py"},
    "matplotlib": {"report/draw/plots.py"},
    "gymnasium": {"envs/gymnasium_face.py"},
    "torch": {"analog/bridge/", "latent/vqvae_checkpoint"},
    "aihwkit": {"analog/bridge/"},
    "ray": {"run/host/ray_cluster.py", "study/adapters/ray_tune.py"},
    "tensorboardX": {"report/loggers/tensorboard.py"},
    "wandb": {"report/loggers/wandb.py"},
    "optuna": {"study/adapters/optuna_sampler.py"},
    "sqlite3": {"data/store/"},
    "pickle": {"data/formats/unpickle.py"},
    "tensorflow_datasets": {"data/images/tfds.py", "data/images/tfds_writer.py"},
}


def files() -> dict[str, str]:
    """Every source file of the package by its path in it."""
    return {
        file.relative_to(PACKAGE).as_posix(): file.read_text()
        for file in sorted(PACKAGE.rglob("*.py"))
    }


def module_of(path: str) -> str:
    """``run/host/cache.py`` -> ``jaxnas.run.host.cache``."""
    return ".".join(["jaxnas", *Path(path).with_suffix("").parts]).removesuffix(".__init__")


def imported(source: str, modules: Set[str]) -> set[str]:
    """Every module that a source file imports, also inside functions.

    ``from a import b`` is ``a.b`` where that is one of ``modules``, and else ``a``.
    """
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                names.add(whole if whole in modules else node.module)
    return names


def violations(path: str, source: str, modules: Set[str]) -> list[str]:
    """What a file at ``path`` (relative to the package) imports that it must not."""
    here, *inside = path.removesuffix(".py").split("/")
    says = []
    for name in sorted(imported(source, modules)):
        says += [f"{path} imports {name}, {why}" for why in _refused(path, name)]
        if not name.startswith("jaxnas"):
            continue
        _, *rest = name.split(".")
        if not rest:
            says.append(f"{path} imports from jaxnas itself: name the module")
        elif rest[0] == here and len(inside) > 1 and len(rest) > 2:
            ranks = INNER.get(here, {})
            above = ranks.get(rest[1], -1) >= ranks.get(inside[0], 9)
            if above and rest[1] != inside[0]:
                says.append(f"{path} imports {name}, which is not below it")
        chosen = name in CHOSEN and rest[0] != here and here != "testing"
        if chosen and (path, name) not in RECEIVED:
            says.append(f"{path} imports {name}: receive it, or look its name up")
        sibling = name in CHOSEN and rest[0] == here and module_of(path) in CHOSEN
        if sibling and (path, name) not in BUILT_ON:
            says.append(f"{path} imports its sibling {name}: share through a third file")
    return says


def _refused(path: str, name: str) -> list[str]:
    """Why the layers or a wall forbid one import."""
    here = path.split("/")[0].removesuffix(".py")
    head, *rest = name.split(".")
    allowed = WALLS.get(head)
    if allowed is not None and not any(path == a or path.startswith(a) for a in allowed):
        return [f"which belongs behind {sorted(allowed)}"]
    if head != "jaxnas" or not rest:
        return []
    target = rest[0]
    sources = ("data/images/sources.py", "data/texts/sources.py")
    named = path in sources and target == "registry"
    why = []
    if target == "testing" and here != "testing" and path != "cli/space.py":
        why.append("which is for tests")
    if here == "data" and target not in ("data", "core") and not named:
        why.append("but data knows only core")
    if here == "registry" and target != "core":
        why.append("but the registry holds strings")
    up = here in RANK and target in RANK and target != here
    if up and RANK[target] >= RANK[here]:
        why.append("which is not below it")
    if here == "core" and target in BESIDE:
        why.append("but core imports nothing")
    return why


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Groups of modules that import each other, by repeatedly removing what is free."""
    left = {m: {d for d in deps if d in graph and d != m} for m, deps in graph.items()}
    while free := [m for m, deps in left.items() if not deps]:
        for m in free:
            del left[m]
        for deps in left.values():
            deps.difference_update(free)
    return [[m, *sorted(deps)] for m, deps in left.items()]


@pytest.fixture(scope="module")
def sources():
    found = files()
    assert len(found) > 20
    return found, {module_of(path) for path in found}


def test_imports_point_down(sources):
    found, modules = sources
    says = [line for p, text in found.items() for line in violations(p, text, modules)]
    assert not says, "\n".join(says)


def test_there_is_no_circle(sources):
    found, modules = sources
    graph = {module_of(path): imported(text, modules) for path, text in found.items()}
    assert not circles(graph)
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}})


def test_every_folder_has_a_rank(sources):
    folders = {path.split("/")[0] for path in sources[0] if "/" in path}
    assert folders <= set(RANK) | {"data", "testing"}
    rooms = {tuple(p.split("/")[:2]) for p in sources[0] if p.count("/") > 1}
    assert rooms <= {(a, b) for a, inner in INNER.items() for b in inner}


def test_every_exception_is_needed(sources):
    found, modules = sources
    for path, name in RECEIVED | BUILT_ON:
        assert name in imported(found[path], modules), f"{path} no longer imports {name}"


def test_planted_violations_are_seen(sources):
    planted = {
        "core/tokens.py": "import jaxnas.spaces.nb201",
        "spaces/toy.py": "from jaxnas.envs import base",
        "oracles/table.py": "def f():\n    from jaxnas.run.search import search",
        "algorithms/ppo.py": "import distrax",
        "algorithms/a2c.py": "from jaxnas.algorithms.ppo import PPO",
        "rl/training.py": "from jaxnas.controllers.mlp import MLP",
        "report/render/html.py": "import matplotlib.pyplot as plt",
        "report/read/load.py": "from jaxnas.report.say import text",
        "report/log.py": "import tensorboardX",
        "run/search.py": "from jaxnas.testing import spaces",
        "run/store.py": "from jaxnas import __version__",
        "run/host/cache.py": "from jaxnas import search",
        "data/tables/nb201.py": "from jaxnas.spaces import nb201",
        "data/formats/idx.py": "from jaxnas import registry",
        "data/images/digits.py": "import tensorflow_datasets as tfds",
        "registry.py": "from jaxnas.spaces.toy import Toy",
        "envs/tokens.py": "from jaxnas.oracles import table",
    }
    for path, source in planted.items():
        assert violations(path, source, sources[1]), path


def test_the_package_itself_needs_little():
    """``import jaxnas`` pulls in no optional or heavy third party."""
    import subprocess
    import sys

    code = "import sys, jaxnas; print(*sorted({m.split('.')[0] for m in sys.modules}))"
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    loaded = set(out.stdout.split())
    heavy = {
        "torch",
        "distrax",
        "matplotlib",
        "orbax",
        "gymnasium",
        "analog_nasbench",
        "rich",
    }
    assert not loaded & heavy
