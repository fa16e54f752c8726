"""``jaxnas search``: several methods, one budget, one report."""

import contextlib
import dataclasses
import inspect
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import tyro

from jaxnas import registry
from jaxnas.cli.common import config_file
from jaxnas.cli.common import options as opts
from jaxnas.cli.common.evaluating import Evaluating
from jaxnas.cli.common.halving import HalvingOptions
from jaxnas.cli.common.latent_parts import copy_file, default_folder, make_folder
from jaxnas.cli.common.progress import Reporter
from jaxnas.core.algorithm import PolicyBased
from jaxnas.core.constraints import Handling, make_handling
from jaxnas.core.errors import UserError
from jaxnas.core.files import LATENT, check_name
from jaxnas.core.oracle import Oracle
from jaxnas.core.ranges import check_hparams
from jaxnas.moo.found import checked_reference
from jaxnas.run import distributed, feasibility
from jaxnas.run.config import grid_settings

DEFAULTS = {
    "tokens": ("random", "evolution", "reinforce", "ppo"),
    "latent": (
        "random", "evolution", "reinforce", "ppo",
        "latent-reinforce", "latent-a2c", "latent-ppo",
    ),
}  # fmt: skip
"""Algorithms of a search that names none, by environment."""
NOTHING_FEASIBLE = 3
"""Exit code of a command that ran to its end and queried nothing that is feasible."""
SEEDS = {"tokens": 64, "latent": 32}
"""Controllers of each; a latent search also fits a surrogate, again and again."""


@dataclass(frozen=True)
class Common:
    """Options that search and sweep share."""

    oracle: str = "analog-nasbench"
    """What scores an architecture; see `jaxnas list`."""
    objective: str | None = None
    """Metric to optimise; several with commas. See `jaxnas info ORACLE`. The oracle's own
    when not given: analog_1month of analog-nasbench, val_accuracy of child."""
    oracle_set: tuple[str, ...] = ()
    """Options of the oracle, such as model=surrogate.npz truth=analog-nasbench."""
    space: str | None = None
    """Search space; the oracle's own when not given."""
    budget: int = 500
    """Distinct architectures that each controller may ask for."""
    max_proposals: int | None = None
    """Proposals after which a controller stops anyway; 8 x budget when not given."""
    seed0: int = 0
    """Seed of the whole run."""
    noise: Literal["none", "stored", "resample"] = "none"
    """Read recorded means, or measurements drawn with the recorded uncertainty."""
    constraint: tuple[str, ...] = ()
    """Constraints such as "params<=1e6". Where nothing that was asked meets them, the
    command ends with code 3 and says how near the best came; its results are written."""
    handling: Literal["penalty", "death", "lagrangian", "feasible-first"] = "penalty"
    """What breaking a constraint does to the reward: so much less for each unit, -1000,
    less by a multiplier that adapts, or a place behind everything feasible."""
    handling_set: tuple[str, ...] = ()
    """Options of the handling, such as factor=10 of penalty or step=2 of lagrangian."""
    weights: tuple[float, ...] = ()
    """Weight of each objective in the reward; 1 each when not given."""
    scalarise: Literal["weighted-sum", "chebyshev"] = "weighted-sum"
    """How several objectives become the reward; methods for several, such as nsga2, see
    them apart."""
    ideal: tuple[str, ...] = ()
    """Of chebyshev: the best value of each objective in its own unit, such as 95,90; that
    of the oracle's table, or 100 % and 1, when not given."""
    scale: tuple[str, ...] = ()
    """Of chebyshev: the unit of distance in each objective; the width of the same range
    when not given."""
    reference: tuple[str, ...] = ()
    """Point above which the report's hypervolume is measured, a number for each objective
    in its own unit, such as 50,80; the worst of all fronts that were found when not
    given."""
    set: tuple[str, ...] = ()
    """Settings such as ppo.lr=0.003 or reinforce.controller=gru."""
    out: Path = Path("runs")
    """Where run directories live."""
    name: str | None = None
    """Name of the run directory; made from oracle and objective when not given."""
    evaluating: Annotated[Evaluating, tyro.conf.arg(name="")] = field(
        default_factory=Evaluating
    )
    layout: Literal["auto", "wide", "blocked"] = "auto"
    """Training steps of all controllers as one wide product each, or one controller after
    another; auto is wide on accelerators and blocked on CPUs, where each is faster."""
    width: int | None = None
    """Controllers that a device advances together; measured default when not given."""
    coordinator: str | None = None
    """HOST:PORT of process 0, where a run has several processes; auto under SLURM or Open
    MPI, which say so themselves. See docs/clusters.md."""
    process: int | None = None
    """Which process of the run this is, from 0."""
    processes: int | None = None
    """Processes of the run; each has the same command but for --process."""
    resume: Path | None = None
    """Go on with a run where it stands, from its directory alone: its own options, and
    --budget where that is to be raised. See docs/searching.md."""
    init: Path | None = None
    """Start from the policies of another run: a run directory, or a search's with one for
    each method. Methods that learn no policy start as ever."""
    fresh: bool = False
    """Delete what the run directory holds and start over."""
    tensorboard: bool = False
    """Write the finished runs' histories for TensorBoard; extra tensorboard."""
    wandb: bool = False
    """Log the finished runs' histories to Weights & Biases, offline where WANDB_MODE says
    so; extra wandb."""
    quiet: bool = False
    """Print the final table only."""
    json: bool = False
    """Print progress and result as JSON lines."""
    RANGES: ClassVar = {"weights": "[0, inf)"}

    def start(self, command: Any) -> contextlib.AbstractContextManager[None]:
        """Sets up the devices and returns, as a context, the processes of the run.

        Args:
            command: the sub-command, whose options all processes must have alike.
        """
        self.check_loggers()
        self.evaluating.configure()
        options = dataclasses.asdict(command)
        common = {**options.pop("common"), "process": None}
        return distributed.joined(
            self.coordinator, self.process, self.processes, {**common, **options}
        )

    @property
    def loggers(self) -> list[str]:
        """Names of the loggers that were asked for."""
        asked = {"tensorboard": self.tensorboard, "wandb": self.wandb}
        return [name for name, wanted in asked.items() if wanted]

    def check_loggers(self) -> None:
        """Raises where the package of a logger is missing, before anything runs."""
        if self.loggers:
            from jaxnas.report import log

            log.check(self.loggers)

    def make_oracle(self, **more: Any) -> Oracle:
        """Returns the oracle as asked for, with more options of its own."""
        space = None if self.space is None else registry.make_space(self.space)
        if space is None and self._default("space") is inspect.Parameter.empty:
            raise UserError(
                f"The oracle {self.oracle!r} scores more than one space; name one, such as "
                "--space nb201."
            )
        oracle = registry.make_oracle(
            self.oracle, space=space, noise=self.noise, constraints=self.constraint,
            **({"objective": self.metric} if self.metric else {}),
            **opts.parse_options(self.oracle_set), **more,
        )  # fmt: skip
        if point := self.point:
            checked_reference(point, oracle.objectives)
        return oracle

    @property
    def point(self) -> tuple[float, ...]:
        """The reference point of the report's hypervolume; empty where none is given."""
        return opts.numbers("--reference", self.reference) or ()

    @property
    def metric(self) -> str:
        """The metric as asked for, or the oracle's own; empty where there is no choice."""
        own = self._default("objective")
        return str(self.objective or ("" if own is inspect.Parameter.empty else own or ""))

    def _default(self, option: str) -> Any:
        found = registry.settable("oracle", self.oracle).get(option)
        return None if found is None else found.default

    @property
    def directory(self) -> Path:
        """The run directory."""
        if self.resume is not None:
            return self.resume
        if self.name is not None:
            return self.out / check_name("--name", self.name)
        objective = self.metric.replace(",", "+").replace(" ", "")
        return self.out / f"{self.oracle}-{objective}".rstrip("-")

    def host(
        self, oracle: Oracle, runs: Sequence[Path], reporter: Reporter
    ) -> contextlib.AbstractContextManager[dict[str, Any]]:
        """Returns, as a context, what evaluates and keeps outside the compiled search."""
        again = self.fresh or self.resume is not None
        return self.evaluating.open(oracle, self.out, runs, again, reporter)

    def check_possible(self, oracle: Oracle, reporter: Reporter) -> None:
        """Says before anything runs where it is proven that nothing is feasible."""
        hopeless = feasibility.check_possible(oracle)
        if hopeless:
            reporter.remark(hopeless)

    @property
    def handled(self) -> Handling:
        """How constraints are handled, as asked for."""
        return make_handling(self.handling, **opts.parse_options(self.handling_set))

    def initial(self, choice: opts.Chosen) -> Path | None:
        """Returns the run whose policies a method starts from."""
        if self.init is None or not isinstance(choice.algo, PolicyBased):
            return None
        own = self.init / choice.name
        return own if own.is_dir() else self.init

    @property
    def reporter(self) -> Reporter:
        """How progress is shown."""
        if self.quiet and self.json:
            raise UserError("Choose either --quiet or --json.")
        if distributed.index():
            return Reporter("quiet")
        return Reporter("quiet" if self.quiet else "json" if self.json else "auto")


@dataclass(frozen=True)
class Search:
    """Searches an oracle with one or more algorithms and writes a report.

    Every controller of every algorithm has the same budget of distinct architectures. The
    same command run again resumes, or shows what is there.
    """

    common: Annotated[Common, tyro.conf.arg(name="")] = field(default_factory=Common)
    env: Literal["tokens", "latent"] = "tokens"
    """Policies write tokens, or also move through a learned latent space."""
    latent: Path | None = None
    """File of `jaxnas latent train`; its default place when not given."""
    algorithms: tuple[str, ...] = ()
    """Which algorithms run, one after the other; see `jaxnas list`. Random search,
    evolution and the policies of --env when not given."""
    seeds: int | None = None
    """Controllers of each setting, each with its own seed; 64, or 32 with --env latent."""
    grid: tuple[str, ...] = ()
    """Settings beside the preset, such as ppo.lr=log:1e-3:1e-1:4 ppo.entropy=0,0.01."""
    cutting: Annotated[HalvingOptions, tyro.conf.arg(name="")] = field(
        default_factory=HalvingOptions
    )

    def run(self) -> int:
        """Runs all algorithms and builds the report."""
        with self.common.start(self):
            return self._run()

    def _run(self) -> int:
        oracle = self.common.make_oracle()
        if levels := self.cutting.levels(oracle):
            oracle = self.common.make_oracle(**levels)
        names = self.algorithms or DEFAULTS[self.env]
        if len(set(names)) != len(names):
            raise UserError(
                "Name each algorithm once, for example --algorithms random ppo."
            )
        grids = {
            name: parse_grid(opts.for_algorithm(self.grid, name, names), name)
            for name in names
        }
        seeds = SEEDS[self.env] if self.seeds is None else self.seeds
        reporter = self.common.reporter
        self.common.check_possible(oracle, reporter)
        paths = [self.common.directory / name for name in names]

        def make(latent: Path) -> list[opts.Chosen]:
            chosen = []
            for name in names:
                options = {"latent": str(latent)} if name in moving else {}
                settings = opts.for_algorithm(self.common.set, name, names)
                options |= self.cutting.lanes(oracle, name, settings)
                chosen.append(opts.make_algorithm(name, oracle.space, settings, options))
                check_grid(chosen[-1], grids[name])
            return chosen

        moving = [n for n in names if "latent" in registry.settable("algorithm", n)]
        source = Path()
        if moving:
            source = Path(distributed.first(lambda: str(self._latent_model(oracle))))
        chosen = make(source)
        if self.common.init and not any(isinstance(c.algo, PolicyBased) for c in chosen):
            raise UserError(f"None of {list(names)} learns a policy; leave --init out.")
        copied = self.common.directory / LATENT
        if source not in (Path(), copied):
            make_folder(copied.parent)
            distributed.first(lambda: copy_file(source, copied))
            chosen = make(copied)
        with (
            recorded(self, "search", self.common.directory),
            self.common.host(oracle, paths, reporter) as host,
        ):
            host = {**host, "halving": self.cutting.settings}
            for choice, out in zip(chosen, paths, strict=True):
                grid = grids[choice.name]
                run_one(self.common, oracle, choice, grid, seeds, out, reporter, host=host)
        return conclude(self.common, paths, reporter)

    def _latent_model(self, oracle: Oracle) -> Path:
        """Returns the file of the latent model: to be copied, or the run's own copy.

        With a copy a run can be resumed and reported on wherever its directory goes.

        Raises:
            UserError: no model there, or another one is already part of this run.
        """
        from jaxnas.latent import files

        usual = default_folder(self.common.oracle, self.common.metric) / "model.npz"
        given, copied = self.latent or usual, self.common.directory / LATENT
        if self.common.fresh or not copied.exists():
            files.load(given, oracle.space)
            return given
        if self.latent and self.latent.read_bytes() != copied.read_bytes():
            raise UserError(
                f"{copied.parent} holds a run with another latent model than {given}; use "
                "another --name, or --fresh to start over."
            )
        return copied


def parse_grid(axes: Sequence[str], algorithm: str) -> dict[str, list[Any]]:
    """Returns the axes of one algorithm's grid.

    Raises:
        UserError: an axis is unreadable or named twice.
    """
    grid: dict[str, list[Any]] = {}
    for axis in axes:
        name, values = opts.parse_axis(axis)
        if name in grid:
            raise UserError(f"The grid of {algorithm!r} names {name!r} twice.")
        grid[name] = values
    return grid


def check_grid(choice: opts.Chosen, grid: dict[str, list[Any]]) -> None:
    """Refuses values of a grid that are no numbers, or out of their ranges."""
    for name, values in grid.items():
        if not all(isinstance(v, int | float) for v in values):
            raise UserError(f"The grid axis {name!r} needs numbers, got {values}.")
    check_hparams(choice.algo.default_hparams(), grid, f"{choice.name}.")


def run_one(
    common: Common,
    oracle: Oracle,
    choice: opts.Chosen,
    grid: dict[str, list[Any]],
    seeds: int,
    out: Path,
    reporter: Reporter,
    label: str | None = None,
    host: dict[str, Any] | None = None,
) -> Any:
    """Runs one algorithm over its grid into its own directory and returns the result."""
    from jaxnas.run.raised import raise_budget
    from jaxnas.run.search import search

    hparams: dict[str, Any] = dict(choice.hparams)
    cells: list[int] = []
    if grid:
        grid = {name: [float(v) for v in values] for name, values in grid.items()}
        columns, cells = grid_settings(choice.algo, grid, choice.hparams)
        hparams = dict(columns)
    try:
        result = (search if common.resume is None else raise_budget)(
            choice.algo, oracle, budget=common.budget, seeds=seeds, seed0=common.seed0,
            hparams=hparams, out=out, max_proposals=common.max_proposals,
            weights=common.weights or None, scalarise=common.scalarise,
            ideal=opts.numbers("--ideal", common.ideal),
            scale=opts.numbers("--scale", common.scale), handling=common.handled,
            layout=common.layout, width=common.width,
            init=common.initial(choice), callbacks=[reporter],
            resume="never" if common.fresh else "auto", grid=grid, grid_cells=cells,
            label=label or choice.name, **(host or {}),
        )  # fmt: skip
    finally:
        reporter.close()
    if result.evaluations is not None:
        event = {"label": label or choice.name, **result.evaluations}
        reporter({"event": "evaluations", **event})
    return result


def recorded(
    command: Any, name: str, folder: Path
) -> contextlib.AbstractContextManager[None]:
    """Writes ``config.toml`` before a run, as a context around it; process 0 does."""
    if distributed.index():
        return contextlib.nullcontext()
    return config_file.recorded(command, name, folder, command.common.space)


def conclude(
    common: Common, paths: Sequence[Path], reporter: Reporter, out: Path | None = None
) -> int:
    """Builds the report and prints the tables and where it is.

    Returns the exit code: 3 where no method queried anything that meets the constraints.
    """
    if distributed.index():
        return 0
    from jaxnas import report
    from jaxnas.report.log import log

    log(list(paths), common.loggers, reporter.remark)
    reporter.say("report: drawing")
    out = out or common.directory
    built = report.build([str(p) for p in paths], out, common.point)
    if common.json:
        print(
            json.dumps({"event": "report", "html": str(built.html_path), **built.summary()})
        )
    else:
        built.print()
        print(f"report: {built.html_path}")
    made = [json.loads((path / "provenance.json").read_text()) for path in paths]
    nothing = feasibility.nearest_of([one.get("infeasible") for one in made])
    if nothing:
        print(f"jaxnas: {nothing}", file=sys.stderr)
    return NOTHING_FEASIBLE if nothing else 0
