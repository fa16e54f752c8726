"""PPO on the original's latent environment against Stable-Baselines3, in CPU seconds.

The same work on both sides: 14 x 8 codebook, decoder 8-512-256-128-64-32-16-22, 150 trees
of depth 4 asked every step, 4 environments x 128 steps, 4 epochs x 4 minibatches, actor and
critic of 64 x 64 each. With ``--data``, the folder of the original's files, the decoder and
the trees are its own; without, they have the same sizes and random content.
"""

import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import flops
import harness
from harness import Contender
from throughput import ratio, spread

TARGETS = (("xgboost in place", 80), ("DataFrame and DMatrix", 700))


def ours(files: str, controllers: int, updates: int, *options: str) -> Contender:
    """Returns our PPO with ``controllers`` controllers."""
    sizes = ("--controllers", str(controllers), "--updates", str(updates))
    label = " ".join((f"jaxnas, {controllers} controllers", *options[1:]))
    return Contender(label, "ours/latent_ppo.py", ("--files", files, *sizes, *options))


def stable_baselines(files: str, path: str, updates: int) -> Contender:
    """Returns the peer on one of its two paths."""
    how = dict(zip(("inplace", "pandas"), (name for name, _ in TARGETS), strict=True))[path]
    chosen = ("--files", files, "--path", path, "--updates", str(updates))
    alone = {"OMP_NUM_THREADS": "1"}
    return Contender(
        f"Stable-Baselines3, {how}", "peers/sb3_latent.py", chosen, True, alone
    )


def write_files(
    folder: str, data: str | None, root: Path = harness.ROOT, python: str | None = None
) -> str:
    """Writes what all contenders read, and returns where it came from.

    Args:
        folder: where to.
        data: the folder of the original's files, or None for random content.
        root: the checkout whose script writes them.
        python: the interpreter; that of the peers when None.
    """
    script = str(root / "benchmarks/peers/latent_files.py")
    given = ["--data", data] if data else []
    python = python or harness.peer_python()
    command = [python, "-W", "ignore", script, "--out", folder, *given]
    subprocess.run(command, check=True)
    return "the original's files" if data else "random weights, trees on random labels"


def learning(epochs: int) -> float:
    """Returns the FLOPs of PPO in one step: acting, evaluating, and its share of epochs."""
    return flops.cartpole_ppo(features=8, actions=113, epochs=epochs) / (4 * 128)


def report(rows: list[dict[str, Any]], source: str) -> str:
    """Returns the Markdown page."""
    few, many, score, rollout, inplace, pandas = rows
    first = rows[0]
    text = (
        "# PPO on the latent environment against Stable-Baselines3\n\n"
        f"{first['device']}, 1 of {first['cores']} cores, commit {first['commit']}, "
        f"{first['date']} UTC, load average before {first['load']}. Decoder, codebook and "
        f"trees: {source}. CPU milliseconds of the process per environment step, learning "
        f"included: median (minimum to maximum) of {first['rounds']} rounds in turns.\n\n"
    )
    lines = [
        [row["label"], spread(row), f"{1e3 / row['ms_median']:,.0f}"]
        for row in (few, many, inplace, pandas)
    ]
    text += harness.markdown(["what", "ms a step", "steps a second"], lines) + "\n"
    pairs = [
        [f"{peer['label']} / {mine['label']}", f"{ratio(peer, mine):.0f}", str(target)]
        for peer, (_, target) in zip((inplace, pandas), TARGETS, strict=True)
        for mine in (few, many)
    ]
    text += harness.markdown(["times faster", "measured", "target"], pairs) + "\n"
    spent = [
        ["decode and score", score["ms_median"], flops.latent_decoder()],
        [
            "act, values, the rest of a rollout",
            rollout["ms_median"] - score["ms_median"],
            learning(0),
        ],
        [
            "learn (4 epochs)",
            few["ms_median"] - rollout["ms_median"],
            learning(4) - learning(0),
        ],
    ]
    table = [
        [
            name,
            f"{1e3 * ms:.2f}",
            f"{ms / few['ms_median']:.0%}",
            f"{n / 1e3:.0f}",
            f"{n / ms / 1e6:.0f}",
        ]
        for name, ms, n in spent
    ]
    head = ["part of a step, 16 controllers", "us", "share", "kFLOP", "GFLOP/s"]
    text += harness.markdown(head, table)
    text += "\nkFLOP by formula, matrix products only (`flops.py`).\n\nCommands:\n\n"
    text += "".join(f"- {row['label']}: `{row['command']}`\n" for row in rows)
    return text


def main() -> None:
    parser = harness.Parser(__doc__)
    parser.add_argument("--data", help="folder with the original's files")
    parser.add_argument("--rounds", type=int, default=harness.ROUNDS)
    args = parser.parse_args()
    os.environ.pop("JAX_COMPILATION_CACHE_DIR", None)
    with tempfile.TemporaryDirectory() as folder:
        source = write_files(folder, args.data)
        contenders = (
            ours(folder, 16, 8),
            ours(folder, 256, 1),
            ours(folder, 16, 8, "--part", "score"),
            ours(folder, 16, 8, "--part", "rollout"),
            stable_baselines(folder, "inplace", 4),
            stable_baselines(folder, "pandas", 1),
        )
        rows = harness.interleave(contenders, args.rounds)
        for row in rows:
            row["command"] = row["command"].replace(folder, "FILES")
    hide = lambda row: row | {"facts": _without_folder(row["facts"], folder)}
    rows = [hide(row) for row in rows]
    name = "latent" if args.data else "latent_random"
    harness.write(name, {"source": source, "rows": rows}, report(rows, source))


def _without_folder(facts: dict[str, Any], folder: str) -> dict[str, Any]:
    """Returns the facts with the temporary folder named ``FILES``."""
    settings = {
        name: "FILES" if value == folder else value
        for name, value in facts["settings"].items()
    }
    return facts | {"settings": settings}


if __name__ == "__main__":
    main()
