"""``jaxnas sweep``: one algorithm over a grid of settings, as a response surface."""

import itertools
import re
from dataclasses import dataclass, field
from typing import Annotated

import tyro

from jaxnas.cli.common.options import make_algorithm
from jaxnas.cli.search import (
    Common,
    check_grid,
    conclude,
    parse_grid,
    recorded,
    run_one,
)
from jaxnas.core.errors import UserError
from jaxnas.run.config import hparam_names


@dataclass(frozen=True)
class Sweep:
    """Runs one algorithm over a grid of settings and draws the response surface.

    Numeric axes (learning rate, entropy bonus, ...) are vmapped: all cells and seeds train
    in one compiled program. Structural axes (hidden, controller, batch, ...) compile once
    each. Example: jaxnas sweep --algorithm reinforce --grid lr=log:1e-3:1e-1:4
    entropy=0,0.01
    """

    grid: tuple[str, ...]
    """Axes, such as lr=log:1e-4:1e-1:8 entropy=0,0.01,0.1 hidden=32,64."""
    common: Annotated[Common, tyro.conf.arg(name="")] = field(default_factory=Common)
    algorithm: str = "ppo"
    """Which algorithm; see `jaxnas list`."""
    seeds: int = 32
    """Controllers of each cell."""

    def run(self) -> int:
        """Runs every cell and builds the report."""
        with self.common.start(self):
            return self._run()

    def _run(self) -> int:
        oracle = self.common.make_oracle()
        grid = parse_grid(self.grid, self.algorithm)
        if not grid:
            raise UserError("A sweep needs --grid, for example --grid lr=log:1e-3:1e-1:4.")
        preset = make_algorithm(self.algorithm, oracle.space, self.common.set)
        names = hparam_names(preset.algo)
        numeric = {n: v for n, v in grid.items() if n in names}
        structural = {n: v for n, v in grid.items() if n not in names}
        reporter = self.common.reporter
        self.common.check_possible(oracle, reporter)
        chosen = []
        for values in itertools.product(*structural.values()):
            pairs = [f"{n}={v}" for n, v in zip(structural, values, strict=True)]
            settings = [*self.common.set, *pairs]
            label = " ".join([self.algorithm, *pairs])
            chosen.append((make_algorithm(self.algorithm, oracle.space, settings), label))
            check_grid(chosen[-1][0], numeric)
        directory = self.common.directory.with_name(self.common.directory.name + "-sweep")
        if self.common.name or self.common.resume:
            directory = self.common.directory
        paths = [directory / re.sub(r"[^\w.=+-]", "-", label) for _, label in chosen]
        with (
            recorded(self, "sweep", directory),
            self.common.host(oracle, paths, reporter) as host,
        ):
            for (choice, label), out in zip(chosen, paths, strict=True):
                run_one(
                    self.common, oracle, choice, numeric, self.seeds, out, reporter, label,
                    host,
                )  # fmt: skip
        return conclude(self.common, paths, reporter, directory)
