"""``jaxnas eval``: what the policies of a finished search do when they only act."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
import tyro

from jaxnas.cli.common.console import console, headed
from jaxnas.cli.common.evaluating import Evaluating
from jaxnas.cli.common.progress import Reporter
from jaxnas.core.errors import UserError
from jaxnas.core.naming import to_dict

FORMAT = "jaxnas-episodes-1"
FILES = {False: "episodes-sampled.json", True: "episodes-greedy.json"}
"""What is written into the run of each method, by ``--greedy``."""


@dataclass(frozen=True)
class Eval:
    """Plays episodes of the policies that a search saved; nothing is learned.

    Prints, and writes into the run of each method, the mean return with its 95 % interval
    over controllers, mean and best value of the architectures that the episodes end with,
    and how many of them are distinct, failed or illegal. Example: jaxnas eval runs/demo
    """

    run_dir: Annotated[Path, tyro.conf.Positional]
    """Directory of a search, or of one of its methods."""
    episodes: int = 100
    """Episodes of each policy."""
    greedy: bool = False
    """Make the most likely decision every time, in place of draws at the temperature that
    the search had."""
    top: int | None = None
    """Policies of the best controllers only; all that were saved when not given."""
    seed: int = 0
    """Seed of the draws."""
    evaluating: Annotated[Evaluating, tyro.conf.arg(name="")] = field(
        default_factory=Evaluating
    )
    json: bool = False
    """Print the numbers as JSON, one line a method."""
    RANGES: ClassVar = {"episodes": "[1, 1000000]"}

    def run(self) -> int:
        """Plays, prints and writes."""
        self.evaluating.configure()
        runs, others = _with_policies(self.run_dir)
        found = [self._play(run) for run in runs]
        if self.json:
            for record in found:
                print(json.dumps(record))
            return 0
        self._print(found)
        for run in others:
            print(f"{run.name}: learned no policy, so none was played")
        print(f"written: {', '.join(str(run / FILES[self.greedy]) for run in runs)}")
        return 0

    def _play(self, run: Path) -> dict[str, Any]:
        from jaxnas.run import episodes
        from jaxnas.run.search import load_result
        from jaxnas.run.store import write_json

        reporter = Reporter("quiet" if self.json else "auto")
        warn = lambda text: reporter({"event": "warning", "label": run.name, "text": text})
        oracle = episodes.oracle_of(load_result(run))
        out = run.parent.parent
        with self.evaluating.open(oracle, out, [run], True, reporter) as host:
            result, made = episodes.play(
                run, self.episodes, greedy=self.greedy, top=self.top, seed=self.seed,
                warn=warn, **host,
            )  # fmt: skip
        if made.asked:
            reporter.say(f"{run.name}: {made.asked:,} architectures evaluated anew")
        record = {"seed": self.seed, "greedy": self.greedy, **summary(result, made)}
        write_json(run / FILES[self.greedy], record)
        return record

    def _print(self, found: list[dict[str, Any]]) -> None:
        columns = ("method", "policies", "return", "value", "best", "distinct", "failed")
        table = headed(None, (*columns, "infeasible", "illegal", "entropy"), right=True)
        for record in found:
            for one in record["settings"]:
                table.add_row(
                    _named(record["label"], one, len(record["settings"])),
                    f"{one['controllers']} of {record['controllers']}",
                    _number(one["return"]),
                    *(_plain(one[n]["mean"], ".4g") for n in ("value", "best")),
                    *(_plain(one[n]["mean"], ".1%") for n in SHARES),
                    _plain(one["entropy"]["mean"], ".3f"),
                )
        screen = console()
        screen.print(table)
        for record in found:
            if best := record["best"]:
                screen.print(
                    f"best of {record['label']}: {best['value']:.4g}  "
                    f"{json.dumps(best['architecture'])}",
                    highlight=False,
                    markup=False,
                )


SHARES = ("distinct", "failed", "infeasible", "illegal")
"""Of a policy's episodes."""


def _with_policies(folder: Path) -> tuple[list[Path], list[Path]]:
    """Returns the runs of a folder that saved policies, and those that did not.

    Raises:
        UserError: no run, an unfinished one, or none with policies.
    """
    from jaxnas.run.policies import FILE

    if folder.suffix == ".zip" and folder.is_file():
        raise UserError(f"{folder} is a packed run; unzip it and name the folder.")
    own = (folder / "config.json").is_file()
    runs = [folder] if own else sorted(p.parent for p in folder.glob("*/config.json"))
    if not runs:
        raise UserError(f"{folder} holds no run: no config.json was found in it or below.")
    unfinished = [run for run in runs if not (run / "results.npz").exists()]
    if unfinished:
        whole = folder.absolute().parent if own else folder
        raise UserError(
            f"{unfinished[0]} is not finished; end it first: jaxnas search --resume {whole}"
        )
    learned = [run for run in runs if (run / FILE).exists()]
    if not learned:
        names = ", ".join(run.name for run in runs)
        raise UserError(
            f"{folder} holds no policies: {names} learn none. Search with a policy-"
            "gradient method, such as --algorithms ppo; it saves them without an option."
        )
    return learned, [run for run in runs if run not in learned]


def summary(result: Any, made: Any) -> dict[str, Any]:
    """Returns what episodes come to, as JSON-able data.

    Args:
        result: the run.
        made: :class:`jaxnas.run.episodes.Episodes` of its policies.

    Returns:
        For each setting the mean over controllers, with its 95 % interval, of each
        controller's mean and best; every controller's own under ``replicates``.
    """
    from jaxnas.report.read.stats import finite_mean
    from jaxnas.run import episodes

    config, count = result.config, made.tokens.shape[1]
    goals = config["objectives"]
    upward = len(goals) > 1 or goals[0]["maximise"]
    each = {
        "return": finite_mean(made.returns, 1),
        "value": finite_mean(made.value, 1),
        "best": _best(made.value, upward),
        "distinct": episodes.distinct(made.tokens) / count,
        "failed": made.failed.mean(axis=1),
        "infeasible": made.infeasible.mean(axis=1),
        "illegal": episodes.invalid(result, made.tokens).mean(axis=1),
        "entropy": made.entropy.mean(axis=1),
    }
    each["duplicate"] = 1.0 - each["distinct"]
    return {
        "format": FORMAT,
        "label": config["label"],
        "space": config["space"],
        "oracle": config["oracle"]["id"],
        "objective": " + ".join(goal["name"] for goal in goals),
        "episodes": count,
        "policies": made.checksum,
        "controllers": config["controllers"],
        "new_evaluations": made.asked,
        "settings": [
            {
                "setting": int(setting),
                "hparams": {n: c[int(setting)] for n, c in config["hparams"].items()},
                "controllers": int((made.setting == setting).sum()),
                **{n: _interval(x[made.setting == setting], n) for n, x in each.items()},
            }
            for setting in np.unique(made.setting)
        ],
        "best": _architecture(result, made, upward),
        "replicates": {
            "controller": made.controller.tolist(),
            **{n: [_finite(v) for v in x] for n, x in each.items()},
        },
    }


def _best(x: np.ndarray, upward: bool) -> np.ndarray:
    worst = -np.inf if upward else np.inf
    filled = np.where(np.isfinite(x), x, worst)
    found = filled.max(axis=1) if upward else filled.min(axis=1)
    return np.where(np.isfinite(found), found, np.nan)


def _interval(x: np.ndarray, name: str) -> dict[str, float | None]:
    from jaxnas.report.read.stats import EVERYWHERE, mean_interval

    share = name in (*SHARES, "duplicate")
    found = mean_interval(x, (0.0, 1.0) if share else EVERYWHERE)
    return {
        "mean": _finite(found.value),
        "low": _finite(found.low),
        "high": _finite(found.high),
    }


def _architecture(result: Any, made: Any, upward: bool) -> dict[str, Any] | None:
    """Returns the best architecture of all episodes; None where all of them failed."""
    value = made.value if upward else -made.value
    if not np.isfinite(value).any():
        return None
    at = np.unravel_index(np.nanargmax(value), value.shape)
    tokens = made.tokens[at]
    return {
        "controller": int(made.controller[at[0]]),
        "value": float(made.value[at]),
        "tokens": [int(token) for token in tokens],
        "architecture": to_dict(result.space, tokens),
    }


def _finite(x: Any) -> float | None:
    return float(x) if np.isfinite(x) else None


def _plain(x: float | None, form: str) -> str:
    return "-" if x is None else format(x, form)


def _number(one: Mapping[str, Any]) -> str:
    """Returns a mean with its interval, ``72.1 [71.8, 72.4]``."""
    if one["low"] is None:
        return _plain(one["mean"], ".4g")
    return f"{one['mean']:.4g} [{one['low']:.4g}, {one['high']:.4g}]"


def _named(label: str, one: Mapping[str, Any], settings: int) -> str:
    return label if settings == 1 else f"{label} setting {one['setting']}"
