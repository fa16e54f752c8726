"""Puts methods side by side on equal terms: the same task, the same number of queries."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from jaxnas.core.constraints import excess, worded
from jaxnas.core.errors import UserError
from jaxnas.report.read import stats
from jaxnas.report.read.load import Results, RunData
from jaxnas.report.read.stats import Interval
from jaxnas.report.read.task import Known, Task, costs_of, make_task

CHECKPOINTS = (50, 100, 150, 200, 300, 500)
"""Queries at which curves are tabulated."""
LARGE_CLASS = 4
"""Rows that a class needs to compete in the second class-mean regret."""
BASELINES = ("random", "local-search", "evolution", "nsga2", "analog-ea")
"""Methods that learn no policy; every other one is held against them."""
NICE = {
    "random": "random search",
    "local-search": "local search",
    "evolution": "regularised evolution",
    "nsga2": "NSGA-II",
    "model-based": "model-based search",
    "analog-ea": "AnalogNAS's evolution",
    "reinforce": "REINFORCE",
    "a2c": "A2C",
    "ppo": "PPO",
    "ppo-replay": "PPO with replay",
    "dyna-ppo": "DyNA-PPO",
    "latent-reinforce": "latent REINFORCE",
    "latent-a2c": "latent A2C",
    "latent-ppo": "latent PPO",
}


@dataclass(frozen=True)
class Method:
    """One row of every table: the controllers of one run that are compared.

    Attributes:
        run: where it comes from.
        name: its label, unique in the study.
        note: which controllers these are, in words.
        keep: those controllers among all of the run, ``[P]``.
        curve: their curves carried forward to the common budget, ``[n, Q]``.
        rows: table row of what they recommend at the common budget, ``[n]``; -1 unknown.
        spent: whether they spent the common budget, ``[n]``.
        setting: hyperparameter setting of each, ``[n]``.
    """

    run: RunData
    name: str
    note: str
    keep: Bool[np.ndarray, "P"]
    curve: Float[np.ndarray, "n Q"]
    rows: Int[np.ndarray, "n"]
    spent: Bool[np.ndarray, "n"]
    setting: Int[np.ndarray, "n"]

    @property
    def results(self) -> Results:
        """The raw arrays; a method exists only where there are some."""
        assert self.run.results is not None
        return self.run.results

    @property
    def final(self) -> Float[np.ndarray, "n"]:
        """True value of what each recommends in the end."""
        return self.curve[:, -1]

    @property
    def strata(self) -> list[np.ndarray]:
        """Final values apart for each hyperparameter setting, for the bootstrap."""
        return [self.final[self.setting == s] for s in np.unique(self.setting)]

    @property
    def nice(self) -> str:
        """The method's name in a sentence."""
        stem = str(self.run.config["algorithm"].get("id", "")).rpartition("-v")[0]
        plain = self.name in (self.run.algorithm, stem)
        return NICE.get(self.run.algorithm, self.name) if plain else self.name

    @property
    def learns(self) -> bool:
        """Whether it trains a policy."""
        return self.run.algorithm not in BASELINES

    @property
    def latent(self) -> bool:
        """Whether its controllers share one latent model, and so are not independent."""
        return "path" in self.results.kept


class Row(NamedTuple):
    """The numbers of one method in the main table."""

    mean: Interval
    median: Interval
    iqm: Interval
    regret: Interval
    class_regret: Interval
    large_class_regret: Interval
    spent: float
    n: int


@dataclass(frozen=True)
class Study:
    """All methods that answered one question.

    Attributes:
        task: the question.
        budget: distinct queries at which they are compared; the smallest budget of all.
        methods: best mean first.
        pending: runs without results yet.
    """

    task: Task
    budget: int
    methods: tuple[Method, ...]
    pending: tuple[RunData, ...]

    @property
    def runs(self) -> tuple[RunData, ...]:
        """Every run, compared or pending."""
        return (*(m.run for m in self.methods), *self.pending)


def studies(runs: Sequence[RunData]) -> list[Study]:
    """Returns one study for each question that the runs answered, in order of appearance.

    Raises:
        UserError: no run has results yet.
    """
    groups: dict[str, list[RunData]] = {}
    for run in runs:
        groups.setdefault(run.task, []).append(run)
    if all(run.results is None for run in runs):
        raise UserError(
            f"{runs[0].path} has not finished yet, so there is nothing to report; run the "
            "same search command again to resume it."
        )
    return [_study(group) for group in groups.values() if any(r.results for r in group)]


def _study(runs: Sequence[RunData]) -> Study:
    task = make_task(runs[0])
    ready = [run for run in runs if run.results is not None]
    budget = min(int(run.config["budget"]) for run in ready)
    names = _unique_names(ready)
    methods = [_method(r, n, task, budget) for r, n in zip(ready, names, strict=True)]

    def rank(method: Method) -> float:
        mean = stats.mean_interval(method.final).value
        return -np.inf if np.isnan(mean) else task.direction * mean

    methods.sort(key=rank, reverse=True)
    pending = tuple(run for run in runs if run.results is None)
    return Study(task, budget, tuple(methods), pending)


def _unique_names(runs: Sequence[RunData]) -> list[str]:
    """Returns the labels, with as much of the path as it takes to tell them apart."""
    labels = [run.label for run in runs]
    names = []
    for run in runs:
        if labels.count(run.label) == 1:
            names.append(run.label)
            continue
        twins = [r.path.resolve() for r in runs if r.label == run.label]
        depth = 1
        while len({p.parts[-depth:] for p in twins}) < len(twins):
            depth += 1
        names.append(f"{run.label} ({'/'.join(run.path.resolve().parts[-depth:])})")
    return names


def _method(run: RunData, name: str, task: Task, budget: int) -> Method:
    """Returns the controllers of a run that are compared: those of its preset."""
    results = run.results
    assert results is not None
    if run.preset is not None:
        keep = results.setting == run.preset
        note = "preset" if run.num_settings > 1 else ""
    else:
        keep = np.ones(len(results.setting), bool)
        note = f"all {run.num_settings} settings"
    if not run.finished:
        note = f"{note}, unfinished".lstrip(", ")
    curve = stats.carry_forward(results.curve[keep][:, :budget])
    rows = np.full(len(curve), -1)
    if task.known is not None:
        rows = task.known.rows(_recommended(results, keep, budget, task))
        rows = np.where(np.isfinite(curve[:, -1]), rows, -1)
    spent = results.count[keep] >= budget
    return Method(run, name, note, keep, curve, rows, spent, results.setting[keep])


def _recommended(
    results: Results, keep: Bool[np.ndarray, "P"], budget: int, task: Task
) -> Int[np.ndarray, "n L"]:
    """Returns what each controller recommends after ``budget`` queries.

    At the run's own budget this is recorded. Earlier it is the query with the best reading
    so far of a single objective, and unknown (-1) for a weighted sum.
    """
    if budget == results.curve.shape[1]:
        return results.best_tokens[keep]
    tokens = results.tokens[keep][:, :budget]
    if results.objectives.shape[2] != 1:
        return np.full_like(tokens[:, 0], -1)
    read = task.direction * results.objectives[keep][:, :budget, 0]
    choice = np.argmax(np.where(np.isnan(read), -np.inf, read), axis=1)
    return np.take_along_axis(tokens, choice[:, None, None], axis=1)[:, 0]


def summarise(study: Study, method: Method) -> Row:
    """Returns the main table's numbers of one method; NaN where no table is known."""
    known, final = study.task.known, method.final
    regret = by_class = by_large = Interval(np.nan, np.nan, np.nan, 0)
    if known is not None:
        maximise = study.task.objective.maximise
        gaps = stats.regret(final, known.optimum, maximise=maximise)
        regret = stats.mean_interval(gaps, (0.0, study.task.breadth[1]))
        rows = method.rows[np.isfinite(final)]
        if len(rows) and np.all(rows >= 0):
            by_class, by_large = map(
                stats.mean_interval, _class_regrets(study, known, rows)
            )
    return Row(
        mean=stats.mean_interval(final, study.task.range),
        median=stats.bootstrap(method.strata, stats.median),
        iqm=stats.bootstrap(method.strata, stats.interquartile_mean),
        regret=regret,
        class_regret=by_class,
        large_class_regret=by_large,
        spent=float(np.mean(method.spent)),
        n=int(np.sum(np.isfinite(final))),
    )


def advised(study: Study, method: Method) -> dict[str, Float[np.ndarray, "n"]]:
    """Returns every objective and constrained metric of what each controller recommends.

    True values where the table is known, else what was measured; exact costs are counted.
    NaN where a controller recommends nothing, or where a metric is not recorded.
    """
    task, results = study.task, method.results
    there = np.isfinite(method.final)
    tokens = _recommended(results, method.keep, study.budget, task)
    asked = results.tokens[method.keep][:, : study.budget]
    same = np.all(asked == tokens[:, None], axis=2)
    measured = results.objectives[method.keep][np.arange(len(same)), same.argmax(axis=1)]
    measured = np.where((there & same.any(axis=1))[:, None], measured, np.nan)
    found = {o.name: measured[:, i].astype(float) for i, o in enumerate(task.objectives)}
    limited = results.limited[method.keep][np.arange(len(same)), same.argmax(axis=1)]
    for i, (name, _, _) in enumerate(method.run.limits):
        known = there & same.any(axis=1)
        found.setdefault(name, np.where(known, limited[:, i].astype(float), np.nan))
    for name in (*found, *task.limited):
        if task.known is not None and name in task.known.columns:
            values = task.known.columns[name][method.rows]
            found[name] = np.where(there & (method.rows >= 0), values, np.nan)
        elif name not in found or np.isnan(found[name][there]).all():
            found[name] = np.where(there, costs_of(task, name, tokens), np.nan)
    return found


def feasible(study: Study, method: Method) -> Float[np.ndarray, "n"]:
    """Returns the share of each controller's successful queries that met the constraints.

    NaN where none succeeded.
    """
    results, budget = method.results, study.budget
    ok = np.all(np.isfinite(results.objectives[method.keep][:, :budget]), axis=2)
    met = ok & (results.violation[method.keep][:, :budget] <= 0)
    return np.where(ok.any(axis=1), met.sum(axis=1) / np.maximum(ok.sum(axis=1), 1), np.nan)


def met_shares(study: Study, method: Method) -> dict[str, float]:
    """Returns the share of successful queries that met each limit, in words.

    Mean over controllers; empty where the limited metrics are not recorded.
    """
    results, budget, found = method.results, study.budget, {}
    values = results.limited[method.keep][:, :budget]
    ok = np.all(np.isfinite(results.objectives[method.keep][:, :budget]), axis=2)
    for i, limit in enumerate(method.run.limits):
        met = ok & (excess(limit, values[..., i]) <= 0)
        some = ok.any(axis=1)
        if some.any() and np.isfinite(values[..., i]).any():
            shares = met.sum(axis=1)[some] / ok.sum(axis=1)[some]
            found[worded(limit)] = float(np.mean(shares))
    return found


def class_floors(study: Study) -> tuple[float, float]:
    """Returns the class-mean regrets of the raw optimum itself, over all and large classes.

    A search by raw values cannot be expected below them: the raw optimum is a lucky row.
    """
    known = study.task.known
    if known is None:
        return np.nan, np.nan
    every, large = _class_regrets(study, known, np.asarray([known.best_row]))
    return float(every[0]), float(large[0])


def _class_regrets(
    study: Study, known: Known, rows: Int[np.ndarray, "n"]
) -> list[Float[np.ndarray, "n"]]:
    """Returns the class-mean regrets of some rows, over all and over large classes."""
    regret, maximise = stats.class_mean_regret, study.task.objective.maximise
    return [
        regret(known.classes, rows, maximise=maximise, at_least=size)
        for size in (1, large_class(study))
    ]


def large_class(study: Study) -> int:
    """Returns the rows that make a class large; fewer where the space has no such class."""
    known = study.task.known
    return LARGE_CLASS if known is None else min(LARGE_CLASS, int(known.classes.size.max()))


def checkpoints(budget: int) -> list[int]:
    """Returns the queries at which curves are tabulated, the budget itself last.

    A budget with fewer than three of the usual ones is cut into quarters instead.
    """
    usual = [q for q in CHECKPOINTS if q < budget]
    if len(usual) < 2:
        usual = sorted({q for q in (budget // 4, budget // 2, 3 * budget // 4) if q > 0})
    return [*usual, budget]


def resolution(study: Study) -> float:
    """Returns how far two trainings of one good network lie apart, in natural units.

    The pooled standard deviation of rows about their class mean, over all rows of the
    classes whose mean is in the best tenth. Classes are chosen by their mean: choosing rows
    by their own value would cut the spread off. NaN where equal networks score alike.
    """
    known = study.task.known
    if known is None:
        return np.nan
    score = study.task.direction * known.classes.mean
    there = score[np.isfinite(score)]
    among = (score >= np.quantile(there, 0.9)) & np.isfinite(known.value)
    spread = stats.spread_within_classes(known.classes, known.value, among)
    return spread if spread > 0 else np.nan
