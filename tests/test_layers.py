"""Imports point down and third-party walls hold; planted violations show that it works."""

import ast
from pathlib import Path

import jaxnas

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
    "algorithms": 4,
    "oneshot": 4,
    "run": 5,
    "report": 6,
    "cli": 7,
}
# `registry` holds strings and `data` is numpy: all ranks above core may import both.
# Of `data`, images.py alone looks names up (docs/decisions/0016-images.md).
BESIDE = {"registry", "data"}
# Modules that one file alone may import.
WALLS = {
    "distrax": {"controllers/heads.py"},
    "orbax": {"run/checkpoint.py"},
    "matplotlib": {"report/plots.py"},
    "gymnasium": {"envs/gymnasium_face.py"},
    "torch": {"analog/bridge/"},
    "aihwkit": {"analog/bridge/"},
    "ray": {"run/fanout_ray.py"},
    "sqlite3": {"data/evaluations.py"},
    "pickle": {"data/unpickle.py"},
    "tensorflow_datasets": {"data/tfds_source.py"},
}


def imported(source: str) -> list[str]:
    """Every module that a source file imports, also inside functions."""
    names = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.append(node.module)
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


def violations(path: str, source: str) -> list[str]:
    """What a file at ``path`` (relative to the package) imports that it must not."""
    found = []
    here = path.split("/")[0].removesuffix(".py")
    for name in imported(source):
        head, *rest = name.split(".")
        allowed = WALLS.get(head)
        walled = allowed is not None and not any(
            path == a or path.startswith(a) for a in allowed
        )
        if walled:
            found.append(f"{path} imports {name}, which belongs behind {sorted(allowed)}")
        if head != "jaxnas" or not rest:
            continue
        target = rest[0]
        if target == "testing" and here != "testing":
            found.append(f"{path} imports jaxnas.testing, which is for tests")
        named = path == "data/images.py" and target == "registry"
        if here == "data" and target not in ("data", "core") and not named:
            found.append(f"{path} imports jaxnas.{target}, but data knows only core.errors")
        if here == "registry" and target != "core":
            found.append(f"{path} imports jaxnas.{target}, but the registry holds strings")
        if (
            here in RANK
            and target in RANK
            and target != here
            and RANK[target] >= RANK[here]
        ):
            found.append(f"{path} imports jaxnas.{target}, which is not below it")
        if here == "core" and target in BESIDE:
            found.append(f"{path} imports jaxnas.{target}, but core imports nothing")
    return found


def test_imports_point_down():
    files = sorted(PACKAGE.rglob("*.py"))
    assert len(files) > 20
    found = [
        line
        for file in files
        for line in violations(file.relative_to(PACKAGE).as_posix(), file.read_text())
    ]
    assert not found, "\n".join(found)


def test_every_folder_has_a_rank():
    folders = {p.parent.relative_to(PACKAGE).parts[0] for p in PACKAGE.rglob("*/*.py")}
    assert folders <= set(RANK) | {"data", "testing"}


def test_planted_violations_are_seen():
    planted = {
        "core/tokens.py": "import jaxnas.spaces.nb201",
        "spaces/toy.py": "from jaxnas.moo import scalarise",
        "oracles/table.py": "def f():\n    from jaxnas.run.loop import search",
        "algorithms/ppo.py": "import distrax",
        "report/html.py": "import matplotlib.pyplot as plt",
        "run/loop.py": "from jaxnas.testing import spaces",
        "data/nb201.py": "from jaxnas.spaces import nb201",
        "data/idx.py": "from jaxnas import registry",
        "data/digits.py": "import tensorflow_datasets as tfds",
        "registry.py": "from jaxnas.spaces.toy import Toy",
        "envs/tokens.py": "from jaxnas.oracles import table",
    }
    for path, source in planted.items():
        assert violations(path, source), path


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
