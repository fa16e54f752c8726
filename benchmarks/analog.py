"""The JAX simulator against aihwkit: CPU seconds in turns, and whether they agree.

One nb201 cell network is trained on ``fashion-8x8`` (or another task), fine-tuned by
aihwkit and then measured by both with the same weights and input ranges: 25 chips, each
programmed anew, at 60 s, 1 h, 1 day and 30 days, on 1,000 test images. aihwkit runs on its
torch tile with one thread. Agreement: Welch's t-test of the mean accuracy over chips at
each time, all rounds together.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import harness
import numpy as np
from harness import Contender
from throughput import ratio, spread

from jaxnas.core.statistics import welch_p

TIMES = ("1 min", "1 h", "1 day", "30 days")
TARGETS = {"counter": 8, "threefry": 8, "bank": 16}
NOISE = {
    "counter": "independent normals",
    "threefry": "independent normals by jax.random",
    "bank": "a bank of normals, reused",
}


def write_network(folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Trains the network, has it fine-tuned, and returns what it is."""
    import jaxnas
    from jaxnas.analog import config
    from jaxnas.analog.bridge import jobs
    from jaxnas.children.weights import save_network, to_arrays
    from jaxnas.oracles.child import ChildOracle

    jaxnas.configure_host(1)
    oracle = ChildOracle(
        jaxnas.make_space("nb201"), args.data, size=args.size, limit=args.images
    )
    tokens = np.array([int(digit) for digit in args.cell], np.int32)
    child, variables, curves = oracle.train(tokens)
    save_network(folder, child.spec, to_arrays(variables))
    data = oracle.images
    images = {n: getattr(data, n) for n in ("x_train", "y_train", "x_test", "y_test")}
    jobs.write_job(folder, images, jobs.job_of(config.preset(), epochs=5, repetitions=1))
    metrics = jobs.run_job(folder)
    return {
        "cell": args.cell,
        "size": args.size,
        "data": data.name,
        "test images": len(data.x_test),
        "tiles": metrics.facts["tiles"],
        "digital": metrics.digital,
        "val_accuracy": float(curves.val_accuracy[-1]),
    }


def agreement(folder: Path) -> list[dict[str, Any]]:
    """Returns mean accuracy at each time, of both, and the p of their difference."""
    kit = np.concatenate(json.loads((folder / "aihwkit.json").read_text()))
    rows = []
    for noise in NOISE:
        chips = np.concatenate(json.loads((folder / f"ours-{noise}.json").read_text()))
        for i, label in enumerate(TIMES):
            rows.append(
                {
                    "noise": noise,
                    "time": label,
                    "aihwkit": [float(kit[:, i].mean()), float(kit[:, i].std(ddof=1))],
                    "ours": [float(chips[:, i].mean()), float(chips[:, i].std(ddof=1))],
                    "n": [len(kit), len(chips)],
                    "p": welch_p(kit[:, i], chips[:, i]),
                }
            )
    return rows


def page(facts: dict[str, Any], rows: list[dict], agreed: list[dict]) -> str:
    """Returns the Markdown page."""
    first, kit = rows[0], rows[0]
    text = (
        "# Analog simulator against aihwkit\n\n"
        f"{first['device']}, 1 of {first['cores']} cores, commit {first['commit']}, "
        f"{first['date']} UTC, load average before {first['load']}.\n"
        f"nb201 cell {facts['cell']} ({facts['size']}), {facts['tiles']} tiles, on "
        f"{facts['test images']:,} test images of {facts['data']}; digital accuracy "
        f"{100 * facts['digital']:.2f} %. aihwkit {kit['facts'].get('torch', '')} torch "
        "tile, one thread.\nCPU milliseconds of the process for one chip at one time: "
        f"median (minimum to maximum) of {first['rounds']} rounds in turns.\n\n"
    )
    lines = [[kit["label"], spread(kit), "-", "-"]]
    for row in rows[1:]:
        target = TARGETS[row["facts"]["noise"]]
        lines.append([row["label"], spread(row), f"{ratio(kit, row):.1f}", target])
    text += harness.markdown(["what", "ms a chip and time", "times", "target"], lines)
    text += "\nAccuracy (%), mean ± standard deviation over chips, and Welch's t-test:\n\n"
    lines = [
        [
            NOISE[r["noise"]], r["time"],
            f"{100 * r['aihwkit'][0]:.2f} ± {100 * r['aihwkit'][1]:.2f}",
            f"{100 * r['ours'][0]:.2f} ± {100 * r['ours'][1]:.2f}",
            " / ".join(map(str, r["n"])), "no test" if r["p"] is None else f"{r['p']:.3f}",
        ]
        for r in agreed
    ]  # fmt: skip
    header = ["noise", "time", "aihwkit", "ours", "chips", "p"]
    text += harness.markdown(header, lines)
    text += "\nMade by `python benchmarks/analog.py`.\n"
    return text


def main() -> None:
    parser = harness.Parser(__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--draws", type=int, default=25)
    parser.add_argument("--cell", default="220421", help="tokens of the cell")
    parser.add_argument("--size", default="channels:8,cells:1")
    parser.add_argument("--data", default="fashion-8x8")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--out", default="analog")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        facts = write_network(Path(name), args)
        given = ("--folder", name, "--draws", str(args.draws))
        single = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        contenders = [
            Contender(
                "aihwkit, torch tile", "peers/aihwkit_chips.py", given, environment=single
            )
        ]
        contenders += [
            Contender(f"jaxnas, {what}", "ours/analog_chips.py", (*given, "--noise", noise))
            for noise, what in NOISE.items()
        ]
        rows = harness.interleave(contenders, args.rounds)
        for row in rows:
            row["command"] = row["command"].replace(name, "FILES")
        agreed = agreement(Path(name))
    document = {"network": facts, "rows": rows, "agreement": agreed}
    harness.write(args.out, document, page(facts, rows, agreed))


if __name__ == "__main__":
    main()
