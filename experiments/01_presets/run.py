"""Sweeps both policy-gradient methods on the source tasks and ranks the settings."""

import dataclasses
import json
from pathlib import Path

import numpy as np
from config import Config

import jaxnas

HERE = Path(__file__).parent


def regrets(oracle: object, objective: str, name: str, config: Config, grid: dict) -> tuple:
    """Returns mean regret ``[settings, at]``, its standard error, and the settings."""
    space = jaxnas.make_space("nb201")
    table = jaxnas.make_oracle(oracle, space=space, objective=objective)
    algo = jaxnas.make_algorithm(name, space=space)
    columns, _ = jaxnas.grid_settings(algo, grid)
    result = jaxnas.search(
        algo,
        table,
        budget=config.budget,
        max_proposals=config.max_proposals,
        seeds=config.seeds,
        hparams=columns,
    )
    at = [q - 1 for q in config.at]
    best = float(table.columns()[objective].max())
    gap = best - result.curve[:, at]
    gap = gap.reshape(-1, config.seeds, len(at))
    return gap.mean(1), gap.std(1, ddof=1) / config.seeds**0.5, columns


def main() -> None:
    """Writes results/presets.json and results/presets.md."""
    jaxnas.configure_host()
    config, text, rows = Config(), "", []
    scale = {task: regrets(*task, "random", config, {})[0][0] for task in config.tasks}
    for name, lrs, entropies in config.grids:
        grid = {"lr": lrs, "entropy": entropies}
        found = {t: regrets(*t, name, config, grid) for t in config.tasks}
        relative = {t: m / scale[t] for t, (m, *_) in found.items()}
        score = np.mean([r.mean(1) for r in relative.values()], axis=0)
        columns = found[config.tasks[0]][2]
        text += f"## {name}\n\n| lr | entropy | score | " + " | ".join(
            f"{objective} regret at {config.at[-1]}" for _, objective in config.tasks
        )
        text += " |\n|" + " --- |" * (3 + len(config.tasks)) + "\n"
        for g in np.argsort(score):
            lr, entropy = float(columns["lr"][g]), float(columns["entropy"][g])
            ends = [
                f"{found[t][0][g, -1]:.3f} ± {found[t][1][g, -1]:.3f}" for t in config.tasks
            ]
            preset = " (preset)" if g == 0 else ""
            cells = [f"{lr:g}{preset}", f"{entropy:g}", f"{score[g]:.3f}", *ends]
            text += "| " + " | ".join(cells) + " |\n"
            rows.append(
                {
                    "algorithm": name,
                    "lr": lr,
                    "entropy": entropy,
                    "preset": bool(g == 0),
                    "score": float(score[g]),
                    "regret": {t[1]: found[t][0][g].tolist() for t in config.tasks},
                    "se": {t[1]: found[t][1][g].tolist() for t in config.tasks},
                }
            )
        text += "\n"
    out = HERE / "results"
    out.mkdir(exist_ok=True)
    document = {"config": dataclasses.asdict(config), "rows": rows}
    (out / "presets.json").write_text(json.dumps(document, indent=1) + "\n")
    (out / "presets.md").write_text(f"# Settings by score, best first\n\n{text}")
    print(text)


if __name__ == "__main__":
    main()
