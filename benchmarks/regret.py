"""Regret of ours, of plain references and of Optuna's TPE at equal distinct queries.

Every run has ``budget`` distinct queries and at most ``8 * budget`` proposals; a curve
that ends early carries its last value forward. Regret is the table's optimum minus the best
value found. Ours run their presets through ``jaxnas.search``; the references are plain
NumPy; TPE runs in the peers' environment, and its curves are cached in ``--cache``.
"""

import json
import subprocess
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import harness
import numpy as np

import jaxnas

AT = (50, 100, 150, 200, 300, 500)
OBJECTIVES = ("digital", "noisy_1day", "analog_1day", "analog_1month")
OURS: dict[str, tuple[str, dict[str, Any]]] = {
    "random": ("random", {}),
    "local-search": ("local-search", {}),
    "evolution-30-15": ("evolution", {"population": 30, "sample": 15}),
    "evolution-20-10": ("evolution", {"population": 20, "sample": 10}),
    "reinforce": ("reinforce", {}),
    "a2c": ("a2c", {}),
    "ppo": ("ppo", {}),
}
LEARNED = ("reinforce", "a2c", "ppo")
REFERENCES = ("random", "local-search", "evolution-30-15", "evolution-20-10")
"""Names in ``peers/numpy_baselines.py``."""
ISSUE = {
    "random": (2.07, 1.57, 1.39, 1.25, 1.10, 0.91),
    "evolution-30-15": (1.54, 0.81, 0.52, 0.34, 0.18, 0.11),
    "evolution-20-10": (1.37, 0.77, 0.50, 0.36, 0.25, 0.09),
    "local-search": (1.25, 0.70, 0.48, 0.38, 0.26, 0.16),
    "tabular-reinforce": (1.81, 1.24, 1.01, 0.86, 0.65, 0.44),
}
"""Reference regrets on analog_1month that the project was given, at ``AT``."""
ISSUE_SE = 0.01
"""Their standard errors were given as 0.01 to 0.05; the strictest is used."""
JUDGED_AT = (100, 200, 500)


def summarise(who: str, objective: str, regret: np.ndarray, **more: Any) -> dict[str, Any]:
    """Returns the row of a method: mean regret and its standard error at ``AT``.

    Args:
        who: label of the method.
        objective: the metric searched.
        regret: ``[n, budget]``.
        more: further fields.
    """
    at = [q - 1 for q in AT if q <= regret.shape[1]]
    return {
        "who": who,
        "objective": objective,
        "n": len(regret),
        "regret": regret[:, at].mean(0).round(4).tolist(),
        "se": (regret[:, at].std(0, ddof=1) / len(regret) ** 0.5).round(4).tolist(),
        **more,
    }


def worse(ours: dict[str, Any], value: float, se: float, query: int) -> tuple[float, bool]:
    """Returns (difference / combined standard error, whether that is above 2)."""
    place = AT.index(query)
    combined = float(np.hypot(ours["se"][place], se))
    score = (ours["regret"][place] - value) / max(combined, 1e-9)
    return score, score > 2


def run_ours(name: str, objective: str, seeds: int, budget: int):
    """Returns (regret ``[seeds, budget]``, fraction that spent the budget, seconds)."""
    algorithm, options = OURS[name]
    space = jaxnas.make_space("nb201")
    oracle = jaxnas.make_oracle("analog-nasbench", space=space, objective=objective)
    algo = jaxnas.make_algorithm(algorithm, space=space, **options)
    begun = time.perf_counter()
    result = jaxnas.search(
        algo, oracle, seeds=seeds, budget=budget, max_proposals=8 * budget
    )
    best = float(oracle.columns()[objective].max())
    spent = float(np.mean(result.arrays["count"] >= budget))
    return best - result.curve, spent, time.perf_counter() - begun


def run_reference(
    name: str, values: Sequence[float], seeds: int, budget: int
) -> np.ndarray:
    """Returns curves ``[seeds, budget]`` of a plain reference; NaN where not reached."""
    with ProcessPoolExecutor(2) as pool:
        one = partial(_reference, name, tuple(values), budget)
        return np.array(list(pool.map(one, range(seeds), chunksize=25)))


def _reference(name: str, values: Sequence[float], budget: int, seed: int) -> np.ndarray:
    from peers import numpy_baselines

    return numpy_baselines.run(name, values, seed, budget)


def run_tpe(
    objective: str,
    values: np.ndarray,
    seeds: int,
    budget: int,
    multivariate: bool,
    cache: Path,
) -> np.ndarray:
    """Returns curves ``[seeds, budget]``, NaN where not reached; made once, then read."""
    kind = "multivariate" if multivariate else "default"
    cache.mkdir(parents=True, exist_ok=True)
    made = cache / f"tpe-{kind}-{objective}-{budget}-{seeds}.npy"
    if not made.exists():
        column = cache / f"values-{objective}.npy"
        np.save(column, values)
        script = harness.HERE / "peers" / "optuna_tpe.py"
        command = [
            harness.peer_python(),
            "-W",
            "ignore",
            str(script),
            str(column),
            str(made),
        ]
        command += ["--seeds", str(seeds), "--budget", str(budget)]
        command += ["--multivariate"] if multivariate else []
        subprocess.run(command, check=True)
    return np.load(made)


def regret_of(curves: np.ndarray, best: float) -> tuple[np.ndarray, float]:
    """Returns regret, carried forward, and the fraction of runs that spent the budget."""
    spent = float(np.mean(np.isfinite(curves[:, -1])))
    return best - np.fmax.accumulate(curves, axis=1), spent


def table(rows: Sequence[dict[str, Any]], objective: str) -> str:
    """Returns the Markdown table of one objective, best at the last query first."""
    mine = sorted(
        (r for r in rows if r["objective"] == objective),
        key=lambda r: (-len(r["regret"]), r["regret"][-1]),
    )
    lines = []
    for r in mine:
        cells = [f"{m:.3f} ± {s:.3f}" for m, s in zip(r["regret"], r["se"], strict=True)]
        cells += ["-"] * (len(AT) - len(cells))
        lines.append([r["who"], r["n"], f"{r['spent']:.2f}", *cells])
    header = ["method", "n", "spent the budget", *(f"{q} queries" for q in AT)]
    return f"## {objective}\n\n" + harness.markdown(header, lines) + "\n"


def judgement(rows: Sequence[dict[str, Any]]) -> str:
    """Returns how ours stand against the given values and against our own references."""
    found = {(r["who"], r["objective"]): r for r in rows}
    lines = []
    for name in REFERENCES:
        ours = found.get((f"jaxnas {name}", "analog_1month"))
        if ours is None:
            continue
        for query in JUDGED_AT:
            place = AT.index(query)
            given = ISSUE[name][place]
            score, bad = worse(ours, given, ISSUE_SE, query)
            line = [
                name, query, f"{ours['regret'][place]:.3f} ± {ours['se'][place]:.3f}",
                f"{given:.2f}", f"{score:+.1f}", "no" if bad else "yes",
            ]  # fmt: skip
            plain = found.get((f"NumPy {name}", "analog_1month"))
            if plain is not None:
                score, bad = worse(ours, plain["regret"][place], plain["se"][place], query)
                line += [f"{plain['regret'][place]:.3f}", f"{score:+.1f}"]
            else:
                line += ["-", "-"]
            lines.append(line)
    header = [
        "method", "queries", "ours", "given", "difference / SE", "no worse than 2 SE",
        "our NumPy reference", "difference / SE",
    ]  # fmt: skip
    text = "## Against the reference values (analog_1month)\n\n"
    return text + harness.markdown(header, lines) + "\n"


def main() -> None:
    parser = harness.Parser(__doc__)
    parser.add_argument("--objectives", nargs="+", default=list(OBJECTIVES))
    parser.add_argument("--methods", nargs="*", default=list(OURS))
    parser.add_argument("--seeds", type=int, default=1000, help="of the cheap methods")
    parser.add_argument("--learned-seeds", type=int, default=256)
    parser.add_argument("--tpe-seeds", type=int, default=200, help="multivariate TPE")
    parser.add_argument(
        "--tpe-default-seeds",
        type=int,
        default=50,
        help="TPE as Optuna ships it; it repeats itself and takes minutes a run",
    )
    parser.add_argument("--tpe-default-budget", type=int, default=200)
    parser.add_argument("--no-references", action="store_true")
    parser.add_argument("--budget", type=int, default=500)
    parser.add_argument(
        "--cache", type=Path, default=harness.ROOT / "runs" / "bench-regret"
    )
    parser.add_argument("--out", default="regret")
    args = parser.parse_args()
    jaxnas.configure_host()
    oracle = jaxnas.make_oracle("analog-nasbench", space=jaxnas.make_space("nb201"))
    columns = oracle.columns()
    rows: list[dict[str, Any]] = []

    def add(row: dict[str, Any]) -> None:
        rows.append(row)
        print(json.dumps(row), flush=True)

    for objective in args.objectives:
        values = columns[objective]
        best = float(values.max())
        for name in args.methods:
            seeds = args.learned_seeds if name in LEARNED else args.seeds
            regret, spent, seconds = run_ours(name, objective, seeds, args.budget)
            add(summarise(f"jaxnas {name}", objective, regret, spent=spent, wall_s=seconds))
        for name in () if args.no_references else REFERENCES:
            curves = run_reference(name, values.tolist(), args.seeds, args.budget)
            regret, spent = regret_of(curves, best)
            add(summarise(f"NumPy {name}", objective, regret, spent=spent))
        wanted = (
            (True, args.tpe_seeds, args.budget),
            (False, args.tpe_default_seeds, args.tpe_default_budget),
        )
        for multivariate, seeds, budget in wanted:
            if not seeds:
                continue
            curves = run_tpe(objective, values, seeds, budget, multivariate, args.cache)
            regret, spent = regret_of(curves, best)
            label = "Optuna TPE, multivariate" if multivariate else "Optuna TPE"
            add(summarise(label, objective, regret, spent=spent))
    text = "# Regret at equal distinct queries\n\n"
    where = harness.provenance()
    text += (
        f"Mean regret (percentage points) ± standard error; {8 * args.budget:,} proposals "
        f"at most; carried forward. {where['device']}, commit {where['commit']}, "
        f"{where['date']} UTC.\n\n"
    )
    text += "".join(table(rows, objective) for objective in args.objectives)
    text += judgement(rows)
    command = "python benchmarks/regret.py"
    text += f"Made by `{command}` with the settings in the JSON file beside this page.\n"
    settings = {k: str(v) if isinstance(v, Path) else v for k, v in vars(args).items()}
    settings.pop("cache")
    harness.write(args.out, {"settings": settings, **where, "rows": rows}, text)


if __name__ == "__main__":
    main()
