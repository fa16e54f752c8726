"""Says how well aihwkit and the simulator agree on what has been measured so far."""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from agree import HERE
from config import SETS
from scipy.stats import binomtest, kendalltau

from jaxnas.handoff.validate import FILE

NAMES = {60.0: "1 minute", 3600.0: "1 hour", 86400.0: "1 day", 2592000.0: "30 days"}
SIGNIFICANT = 0.05


def rows_of(folder: Path) -> list[dict[str, Any]]:
    """Returns the record of every network of a set, in the order of its lots."""
    lots = sorted(folder.glob(f"lot-*/{FILE}"))
    return [row for lot in lots for row in json.loads(lot.read_text())["candidates"]]


def tau(a: np.ndarray, b: np.ndarray) -> list[float]:
    """Returns Kendall's tau-b and its 95 % interval over resampled networks."""
    draw = np.random.default_rng(0)
    picks = draw.integers(0, len(a), (1000, len(a)))
    taus = np.array([kendalltau(a[p], b[p])[0] for p in picks])
    low, high = np.nanquantile(taus, [0.025, 0.975])
    return [round(float(t), 3) for t in (kendalltau(a, b)[0], low, high)]


def summary(rows: list[dict[str, Any]], times: list[float]) -> list[dict[str, Any]]:
    """Returns the agreement at each time; accuracies in %."""
    toolkit, ours = (
        100 * np.array([row[kind] for row in rows]) for kind in ("aihwkit", "simulated")
    )
    found = []
    for t, seconds in enumerate(times):
        a, b = toolkit[..., t], ours[..., t]
        p = [row["p_values"][t] for row in rows]
        tested = [value for value in p if value is not None]
        few = sum(value < SIGNIFICANT for value in tested)
        gap = b.mean(axis=1) - a.mean(axis=1)
        found.append(
            {
                "seconds": seconds,
                "aihwkit": np.round(a.mean(axis=1), 3).tolist(),
                "simulator": np.round(b.mean(axis=1), 3).tolist(),
                "p_values": p,
                "tau": tau(a.mean(axis=1), b.mean(axis=1)),
                "tau_halves_of_aihwkit": tau(a[:, ::2].mean(1), a[:, 1::2].mean(1)),
                "difference": float(gap.mean()),
                "difference_se": float(gap.std(ddof=1) / len(gap) ** 0.5),
                "largest_difference": float(np.abs(gap).max()),
                "significant": few,
                "tested": len(tested),
                "p_of_so_many": binomtest(few, len(tested), SIGNIFICANT).pvalue,
                "sd_of_chips": [float(x.std(axis=1, ddof=1).mean()) for x in (a, b)],
                "sd_of_networks": float(a.mean(axis=1).std(ddof=1)),
            }
        )
    return found


def table(name: str, record: dict[str, Any]) -> str:
    """Returns a set as Markdown."""
    text = f"## {name}: {record['networks']} of {record['planned']} networks, "
    text += f"{record['chips']} chips each, {record['images']} images\n\n"
    text += "| read after | tau of the means | aihwkit's even and odd chips | "
    text += "simulator less aihwkit, points | Welch p below 0.05 | "
    text += "sd of chips, aihwkit and simulator | sd of networks |\n"
    text += "|" + " --- |" * 7 + "\n"
    interval = lambda v: f"{v[0]:.2f} [{v[1]:.2f}, {v[2]:.2f}]"
    for row in record["times"]:
        chips = ", ".join(f"{sd:.2f}" for sd in row["sd_of_chips"])
        text += (
            f"| {NAMES[row['seconds']]} | {interval(row['tau'])} "
            f"| {interval(row['tau_halves_of_aihwkit'])} "
            f"| {row['difference']:.2f} ({row['difference_se']:.2f}), largest "
            f"{row['largest_difference']:.2f} "
            f"| {row['significant']} of {row['tested']} (p {row['p_of_so_many']:.2f}) "
            f"| {chips} | {row['sd_of_networks']:.2f} |\n"
        )
    cpu = record["cpu_s"]
    text += f"\nCPU seconds: aihwkit {cpu['aihwkit']:.0f} with fine-tuning, simulator "
    return text + f"{cpu['simulator']:.0f} with compilation.\n"


def main() -> None:
    """Writes ``results/SET.json`` and ``results/silicon.md``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=HERE / "stores")
    args = parser.parse_args()
    text = "# aihwkit and the simulator on the same weights\n\n"
    text += "Tau is Kendall's, with its 95 % interval over resampled networks; differences "
    text += "are means over networks with their standard error; the p behind a number of "
    text += "tests is that of so many, or so few, below 0.05 by chance.\n"
    for name, config in SETS.items():
        rows = rows_of(args.folder / name)
        if len(rows) < 3:
            continue
        (first, *_) = (args.folder / name).glob(f"lot-*/{FILE}")
        known = json.loads(first.read_text())
        record = {
            "networks": len(rows),
            "planned": config.networks,
            "chips": config.chips,
            "images": known["test_images"],
            "versions": known["versions"],
            "tokens": [row["tokens"] for row in rows],
            "parameters": [row["training"]["params"] for row in rows],
            "tiles": [row["tiles"] for row in rows],
            "digital": [row["digital"] for row in rows],
            "cpu_s": {
                "aihwkit": sum(row["aihwkit_cpu_s"] for row in rows),
                "simulator": sum(row["simulator_cpu_s"] for row in rows),
            },
            "times": summary(rows, known["times"]),
        }
        target = HERE / "results" / f"{name}.json"
        target.parent.mkdir(exist_ok=True)
        target.write_text(json.dumps(record, indent=1) + "\n")
        text += "\n" + table(name, record)
    (HERE / "results" / "silicon.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
