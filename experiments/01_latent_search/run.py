"""Compares latent RL, token RL, evolution and random search at equal true queries."""

import contextlib
import dataclasses
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from config import Case, Config

import jaxnas
from jaxnas.cli import main as command

HERE = Path(__file__).parent


def latent_model(config: Config, case: Case, seed: int, folder: Path) -> str:
    """Returns a latent model file trained with the case's labels."""
    path = folder / f"{case.budget}-{seed}.npz"
    words = [
        "latent", "train", "--objective", config.objective, "--labels", str(case.labels),
        "--seed", str(seed), "--quiet", "--out", str(path),
    ]  # fmt: skip
    with contextlib.suppress(SystemExit):
        command(words)
    return str(path)


def curves(
    name: str,
    case: Case,
    config: Config,
    options: dict[str, Any],
    hparams: dict[str, float],
) -> tuple[np.ndarray, float, float]:
    """Returns curves ``[n, budget]``, the share that spent the budget, and seconds."""
    space = jaxnas.make_space("nb201")
    oracle = jaxnas.make_oracle("analog-nasbench", space=space, objective=config.objective)
    begun, parts, spent = time.perf_counter(), [], []
    many = options.pop("models", None)
    for seed, model in enumerate(many or [None]):
        extra = {} if model is None else {"latent": model, "labels": case.labels}
        result = jaxnas.search(
            jaxnas.make_algorithm(name, space=space, **options, **extra),
            oracle,
            budget=case.budget,
            max_proposals=config.max_factor * case.budget,
            seeds=config.seeds if many else config.seeds * config.models,
            seed0=seed,
            hparams=hparams,
        )
        parts.append(result.curve)
        spent.append(result.arrays["count"] >= case.budget)
        jax.clear_caches()  # every latent model is a program of its own
    took = time.perf_counter() - begun
    return np.concatenate(parts), float(np.mean(np.concatenate(spent))), took


def standard_error(gap: np.ndarray, by_model: np.ndarray | None) -> tuple[float, int]:
    """Returns the standard error of a mean and the number of independent units behind it.

    Controllers that share a latent model and its labels are one unit: the error of a latent
    search is that of the mean over models, however many controllers each has.
    """
    units = gap if by_model is None else by_model
    return float(np.std(units, ddof=1) / len(units) ** 0.5), len(units)


def main() -> None:
    """Writes results/latent_search.json and results/latent_search.md."""
    jaxnas.configure_host()
    config, rows = Config(), []
    table = jaxnas.make_oracle("analog-nasbench", objective=config.objective)
    best = float(table.columns()[config.objective].max())
    with tempfile.TemporaryDirectory() as name:
        for case in config.cases:
            models = [
                latent_model(config, case, seed, Path(name))
                for seed in range(config.models)
            ]
            jobs: list[tuple[str, str, dict, dict]] = [
                (n, n, {}, {}) for n in config.others
            ]
            jobs += [(n, n, {"models": models}, {}) for n in config.latent]
            still = f"{config.ablation}, untrained policy"
            jobs.append((still, config.ablation, {"models": models}, {"lr": 0.0}))
            for label, algorithm, options, hparams in jobs:
                shared = "models" in options
                found, spent, took = curves(algorithm, case, config, options, hparams)
                gap = best - found[:, -1]
                means = gap.reshape(config.models, -1).mean(1)
                error, units = standard_error(gap, means if shared else None)
                row = {
                    "budget": case.budget,
                    "method": label,
                    "n": len(gap),
                    "units": units,
                    "regret": float(gap.mean()),
                    "se": error,
                    "by_model": means.tolist(),
                    "spent": spent,
                    "wall_s": round(took, 1),
                }
                rows.append(row)
                print(json.dumps(row), flush=True)
    write(config, rows)


def write(config: Config, rows: list[dict[str, Any]]) -> None:
    """Writes the rows as JSON and as a table."""
    text = "# Regret at equal true queries\n\n"
    for case in config.cases:
        text += (
            f"## {case.budget} queries ({case.labels} of them the first labels of the "
            "latent searches)\n\n| method | mean regret ± standard error "
            "| independent units | by latent model | spent the budget | controllers "
            "| wall (s) |\n|" + " --- |" * 7 + "\n"
        )
        mine = [r for r in rows if r["budget"] == case.budget]
        for r in sorted(mine, key=lambda r: r["regret"]):
            latent = r["method"].startswith("latent")
            by = ", ".join(f"{x:.2f}" for x in r["by_model"]) if latent else "-"
            units = f"{r['units']} {'latent models' if latent else 'controllers'}"
            text += (
                f"| {r['method']} | {r['regret']:.3f} ± {r['se']:.3f} | {units} | {by} | "
                f"{r['spent']:.2f} | {r['n']} | {r['wall_s']:.0f} |\n"
            )
        text += (
            "\nControllers that share a latent model and its labels are one unit: the "
            "error of a latent search is over models.\n\n"
        )
    out = HERE / "results"
    out.mkdir(exist_ok=True)
    document = {"config": dataclasses.asdict(config), "rows": rows}
    (out / "latent_search.json").write_text(json.dumps(document, indent=1) + "\n")
    (out / "latent_search.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
