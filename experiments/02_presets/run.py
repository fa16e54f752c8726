"""Sweeps learning rate and entropy bonus of the token methods on the tuning objectives.

All of them, or ``python run.py a2c``: that one anew, the others as they are stored.
"""

import dataclasses
import itertools
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from config import Config

import jaxnas

HERE = Path(__file__).parent


def regrets(
    name: str, where: tuple[str, str], config: Config, seeds: int, hparams: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Returns final regret and whether the budget was spent, ``[settings, seeds]``."""
    space = jaxnas.make_space("nb201")
    oracle = jaxnas.make_oracle(where[0], space=space, objective=where[1])
    result = jaxnas.search(
        jaxnas.make_algorithm(name, space=space),
        oracle,
        budget=config.budget,
        max_proposals=config.max_factor * config.budget,
        seeds=seeds,
        seed0=config.seed0,
        hparams=hparams,
    )
    best = float(oracle.columns()[where[1]].max())
    spent = result.arrays["count"] >= config.budget
    return (best - result.curve[:, -1]).reshape(-1, seeds), spent.reshape(-1, seeds)


def main() -> None:
    """Writes results/presets.json and results/presets.md."""
    jaxnas.configure_host()
    config, rows = Config(), []
    plan = {
        "ppo": (config.ppo_entropy, config.seeds),
        "reinforce": (config.reinforce_entropy, config.seeds),
        "a2c": (config.a2c_entropy, config.a2c_seeds),
    }
    anew = sys.argv[1:] or list(plan)
    if len(anew) < len(plan):
        stored = json.loads((HERE / "results/presets.json").read_text())
        rows = [row for row in stored["rows"] if row["method"] not in anew]
        scale = {where: stored["random"][where[1]] for where in config.objectives}
    else:
        scale = {
            where: float(
                regrets("random", where, config, config.random_seeds, None)[0].mean()
            )
            for where in config.objectives
        }
    for name in anew:
        bonuses, seeds = plan[name]
        cells = list(itertools.product(config.lr, bonuses))
        hparams = {"lr": [lr for lr, _ in cells], "entropy": [e for _, e in cells]}
        found = {
            where: regrets(name, where, config, seeds, hparams)
            for where in config.objectives
        }
        for i, (lr, entropy) in enumerate(cells):
            # A seed's score: its regret over random search's, mean over the objectives.
            share = np.mean([found[w][0][i] / scale[w] for w in config.objectives], axis=0)
            row = {
                "method": name,
                "lr": lr,
                "entropy": entropy,
                "score": float(share.mean()),
                "se": float(share.std(ddof=1) / len(share) ** 0.5),
                "regret": {w[1]: float(found[w][0][i].mean()) for w in config.objectives},
                "spent": float(np.mean([found[w][1][i] for w in config.objectives])),
            }
            rows.append(row)
            print(json.dumps(row), flush=True)
    write(config, {w[1]: value for w, value in scale.items()}, rows)


def write(config: Config, scale: dict[str, float], rows: list[dict[str, Any]]) -> None:
    """Writes the rows as JSON and as tables."""
    text = "# Presets on the tuning objectives\n\nRegret of random search at "
    text += f"{config.budget} queries: "
    text += ", ".join(f"{name} {value:.3f}" for name, value in scale.items()) + ".\n"
    for name, seeds in (
        ("ppo", config.seeds),
        ("reinforce", config.seeds),
        ("a2c", config.a2c_seeds),
    ):
        preset = jaxnas.make_algorithm(name, space=jaxnas.make_space("nb201"))
        chosen = preset.default_hparams()
        text += f"\n## {name}, n = {seeds}\n\n"
        text += f"| lr | entropy | regret / random's | {' | '.join(scale)} | spent | |\n"
        text += "|" + " --- |" * (5 + len(scale)) + "\n"
        mine = [row for row in rows if row["method"] == name]
        for row in sorted(mine, key=lambda row: row["score"]):
            at = (row["lr"], row["entropy"])
            same = np.allclose(at, (float(chosen.lr), float(chosen.entropy)))
            each = " | ".join(f"{row['regret'][metric]:.3f}" for metric in scale)
            text += (
                f"| {row['lr']:g} | {row['entropy']:g} | {row['score']:.3f} ± "
                f"{row['se']:.3f} | {each} | {row['spent']:.2f} | "
                f"{'the preset' if same else ''} |\n"
            )
    out = HERE / "results"
    out.mkdir(exist_ok=True)
    document = {"config": dataclasses.asdict(config), "random": scale, "rows": rows}
    (out / "presets.json").write_text(json.dumps(document, indent=1) + "\n")
    (out / "presets.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
