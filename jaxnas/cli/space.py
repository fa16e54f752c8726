"""``jaxnas space check | write``: search spaces that are written down as data."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import jax
import numpy as np
import tyro
from rich.tree import Tree

from jaxnas import registry
from jaxnas.analog.convertible import TABLE, TARGETS, refused
from jaxnas.children.check import check
from jaxnas.children.count import count_totals, layers
from jaxnas.cli.common.console import console, pairs
from jaxnas.core import naming
from jaxnas.core import tokens as tk
from jaxnas.core.errors import UserError
from jaxnas.core.rng import root_key
from jaxnas.core.space import SearchSpace
from jaxnas.spaces.declare import Declared, write_space
from jaxnas.spaces.operations import operations_of
from jaxnas.testing.spaces import SPACE_CHECKS

TRIED = 32
"""Random architectures whose networks are built on paper."""
BEYOND = 2.0**63
"""Architectures from which a count does not fit into 64 bits."""


@dataclass(frozen=True)
class Check:
    """Prints size, example and drawing of a space, and runs the conformance suite."""

    file: Annotated[str, tyro.conf.Positional]
    """A space file (.toml, .yaml, .json) or the name of a space."""
    image: tuple[int, int, int] = (32, 32, 3)
    """Height, width and channels of the images that its networks take."""
    classes: int = 10
    """Classes of the data."""
    seed: int = 0
    """Which example is drawn."""
    quick: bool = False
    """Leave the conformance suite out."""

    def run(self) -> int:
        """Prints everything; 2 where a check fails."""
        options: dict[str, Any] = {"image": self.image, "num_classes": self.classes}
        if not self.file.endswith(registry.SPACE_FILES):
            known = registry.settable("space", self.file)
            options = {name: value for name, value in options.items() if name in known}
        space = registry.make_space(self.file, **options)
        out, size = console(), tk.count(space)
        example = _draw(space, self.seed, 1)[0]
        facts = {
            "space": space.id,
            "architectures": "unknown" if size is None else _size(size),
            "decisions": f"{space.length}, of at most {space.vocab} choices",
        }
        out.print(pairs(facts))
        out.print(_tree(space, example))
        network = _network(space, example)
        if network is not None:
            out.print(network)
            _try_networks(space, self.seed)
            out.print(f"{TRIED} random networks can be built.")
            _print_targets(space)
        elif isinstance(space, Declared):
            out.print(
                "The file has no network: score its architectures with your own function "
                "or table, or add one (docs/spaces.md)."
            )
        for text in space.warnings() if isinstance(space, Declared) else ():
            out.print(f"warning: {text}", style="yellow")
        return 0 if self.quick else _conformance(space)


def _size(size: int) -> str:
    return f"{size:,}" if size < BEYOND else f"{size:,} (about {float(size):.3g})"


def _draw(space: SearchSpace, seed: int, number: int) -> np.ndarray:
    return np.asarray(tk.draw(space, jax.random.split(root_key(seed), number)))


def _tree(space: SearchSpace, tokens: np.ndarray) -> Tree:
    """Returns what an example decided, as a tree."""
    tree = Tree("an example")
    _grow(tree, naming.to_dict(space, tokens))
    return tree


def _grow(tree: Tree, values: Any) -> None:
    if not isinstance(values, dict):
        tree.add(str(values))
        return
    for name, value in values.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            for i, one in enumerate(value, 1):
                plain = [f"{k} {v}" for k, v in one.items() if not _deep(v)]
                branch = tree.add(f"{name} {i}: {', '.join(plain)}")
                _grow(branch, {k: v for k, v in one.items() if _deep(v)})
        else:
            tree.add(f"{name}: {value}")


def _deep(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict)


def _network(space: SearchSpace, tokens: np.ndarray) -> Tree | None:
    """Returns the layers of an example's network, or None where it has none."""
    if isinstance(space, Declared) and not space.has_network:
        return None
    spec = space.to_spec(tokens)
    check(spec)
    totals = count_totals(spec)
    tree = Tree(f"its network: {totals.params:,} parameters, {totals.flops:,} FLOPs")
    for path, made in layers(spec):
        shape = " x ".join(map(str, made.shape))
        tree.add(f"{path}: {shape}" + (f", {made.params:,}" if made.params else ""))
    return tree


def _try_networks(space: SearchSpace, seed: int) -> None:
    for tokens in _draw(space, seed + 1, TRIED):
        try:
            check(space.to_spec(tokens))
        except UserError as error:
            values = naming.to_dict(space, tokens)
            raise UserError(f"{error} It is the network of {values}.") from error


def _print_targets(space: SearchSpace) -> None:
    """Prints what lies on tiles, and which targets the space can go to."""
    out, uses = console(), operations_of(space)
    on_tiles = [op for op in uses if op in TABLE and TABLE[op].tiles]
    out.print(f"on analog tiles: {', '.join(on_tiles) or 'nothing'}; the rest is digital")
    found = {target: refused(space, target) for target in TARGETS}
    fine = [target for target, why in found.items() if not why]
    out.print(f"can go to: {', '.join(fine) or 'nothing'}")
    for target, why in found.items():
        for op, (where, reason) in why.items():
            text = f"not to {target}: {op}, put there by {where}: {reason}"
            out.print(text, style="yellow")


def _conformance(space: SearchSpace) -> int:
    """Runs every check of the suite and returns 2 where one fails."""
    out, failed = console(), 0
    for one in SPACE_CHECKS:
        name, start = one.__name__.removeprefix("check_").replace("_", " "), time.time()
        try:
            one(space)
        except AssertionError as error:
            failed += 1
            out.print(
                f"  failed  {name}: {str(error).strip().splitlines()[0]}", style="red"
            )
        else:
            out.print(f"  passed  {name} ({time.time() - start:.1f} s)")
    total = len(SPACE_CHECKS)
    out.print(f"{total - failed} of {total} checks passed.")
    return 2 if failed else 0


@dataclass(frozen=True)
class Write:
    """Writes a declared space as a file to change: jaxnas space write vocab mine.toml."""

    name: Annotated[str, tyro.conf.Positional]
    """One of vocab, zoph-cnn, chain, hierarchical, text-chain, or a file to convert."""
    file: Annotated[Path, tyro.conf.Positional]
    """Where to; .toml, .yaml or .json."""
    force: bool = False
    """Replace a file that is there."""

    def run(self) -> int:
        """Writes the file."""
        space = registry.make_space(self.name)
        if not isinstance(space, Declared):
            raise UserError(
                f"{self.name!r} is written in Python and not as data; choose a declared "
                "space, such as vocab."
            )
        if self.file.exists() and not self.force:
            raise UserError(f"{self.file} exists; add --force to replace it.")
        write_space(space, self.file)
        print(f"wrote {self.file}; check it with: jaxnas space check {self.file}")
        return 0


@dataclass(frozen=True)
class Space:
    """Checks and writes search spaces that are data."""

    command: tyro.conf.OmitSubcommandPrefixes[
        Annotated[Check, tyro.conf.subcommand("check")]
        | Annotated[Write, tyro.conf.subcommand("write")]
    ]

    def run(self) -> int:
        """Runs the sub-command."""
        return self.command.run()
