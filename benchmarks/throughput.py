"""Throughput of jaxnas and of its peers, in turns, in CPU seconds of one core.

Sections: ``token`` (LSTM REINFORCE against PyTorch), ``cartpole`` (PPO against rejax),
``scaling`` (rate by number of controllers), ``peak`` (fraction of the matrix-product peak
and where the rest goes), ``compile`` (each method's program in a fresh process). Each
writes ``results/throughput_SECTION.json`` and ``.md``.
"""

import os
from collections.abc import Callable, Sequence
from typing import Any

import flops
import harness
from harness import Contender

TORCH_LOOP = Contender("PyTorch, one at a time", "peers/torch_reinforce.py", peer=True)
TORCH_BATCHED = Contender(
    "PyTorch, batched 64 x 8", "peers/torch_batched.py", ("--controllers", "64"), peer=True
)
TORCH_FOLDED = Contender(
    "PyTorch, batched 64 x 8, token rows for embeddings",
    "peers/torch_batched.py",
    ("--controllers", "64", "--folded"),
    peer=True,
)
METHODS = ("random", "local-search", "evolution", "reinforce", "a2c", "ppo")


def tokens(controllers: int, *options: str, algorithm: str = "reinforce") -> Contender:
    """Returns our token search with ``controllers`` controllers."""
    repeats = max(1, 256 // controllers)
    fixed = ("--controllers", str(controllers), "--repeats", str(repeats))
    label = f"jaxnas {algorithm}, {controllers:,} controllers"
    chosen = ("--algorithm", algorithm, *fixed, *options)
    return Contender(label, "ours/token_search.py", chosen)


def agents(count: int, *options: str) -> Contender:
    """Returns our CartPole PPO with ``count`` agents."""
    updates = max(2, 512 // count)
    chosen = ("--agents", str(count), "--updates", str(updates), *options)
    suffix = " ".join(("", *options)) if options else ""
    return Contender(f"jaxnas, {count:,} agents{suffix}", "ours/cartpole_ppo.py", chosen)


def rejax(count: int) -> Contender:
    """Returns rejax's CartPole PPO with ``count`` agents."""
    updates = max(2, 512 // count)
    chosen = ("--agents", str(count), "--updates", str(updates))
    return Contender(
        f"rejax 0.1.3, {count:,} agents", "peers/rejax_ppo.py", chosen, peer=True
    )


def matmul(library: str, size: int) -> Contender:
    """Returns a matrix-product peak worker."""
    chosen = ("--library", library, "--size", str(size))
    peer = library == "torch"
    return Contender(f"{library} {size}", "peers/matmul_peak.py", chosen, peer=peer)


def spread(row: dict[str, Any]) -> str:
    """Returns ``median (min to max)`` in milliseconds."""
    return f"{row['ms_median']:.3f} ({row['ms_min']:.3f} to {row['ms_max']:.3f})"


def ratio(slow: dict[str, Any], fast: dict[str, Any]) -> float:
    """Returns how many times ``fast`` is faster, by medians."""
    return slow["ms_median"] / fast["ms_median"]


def finish(section: str, rows: Sequence[dict[str, Any]], header: str, text: str) -> None:
    """Writes a section with the commands that made it."""
    first = rows[0]
    pinned = len(first["pinned_to"])
    where = (
        f"{first['device']}, {pinned} of {first['cores']} cores, commit {first['commit']}, "
        f"{first['date']} UTC, load average before {first['load']}.\n"
    )
    if first["rounds"] > 1:
        where += (
            "CPU milliseconds of the process per unit: median (minimum to maximum) of "
            f"{first['rounds']} rounds in turns.\n"
        )
    commands = "".join(f"- {row['label']}: `{row['command']}`\n" for row in rows)
    made = f"\nMade by `python benchmarks/throughput.py {section}`, which runs:\n\n"
    body = f"# {header}\n\n{where}\n{text}{made}{commands}"
    harness.write(f"throughput_{section}", {"rows": list(rows)}, body)


def section_token(rounds: int) -> None:
    """LSTM REINFORCE, hidden 64, 12 tokens, 8 samples an update."""
    ours, ours_64 = tokens(256), tokens(64)
    contenders = (ours, TORCH_LOOP, TORCH_BATCHED, TORCH_FOLDED, ours_64)
    rows = harness.interleave(contenders, rounds)
    mine, loop, batched, folded, mine_64 = rows
    lines = [
        [r["label"], spread(r), f"{1e3 / r['ms_median']:.0f}"] for r in rows
    ]  # fmt: skip
    text = harness.markdown(["what", "ms a controller-update", "updates a second"], lines)
    targets = [
        ["256 controllers / PyTorch one at a time", f"{ratio(loop, mine):.0f}", "120"],
        ["256 controllers / PyTorch batched", f"{ratio(batched, mine):.2f}", "5"],
        ["64 controllers / PyTorch batched", f"{ratio(batched, mine_64):.2f}", "5"],
        [
            "256 controllers / PyTorch batched, token rows",
            f"{ratio(folded, mine):.2f}",
            "-",
        ],
    ]
    text += "\n" + harness.markdown(["rate of ours over", "times", "target"], targets)
    finish("token", rows, "Token-writing LSTM, REINFORCE", text)


def section_cartpole(rounds: int) -> None:
    """PPO at CartPole size against rejax at 16 and 256 agents."""
    contenders = (agents(16), rejax(16), agents(256), rejax(256))
    rows = harness.interleave(contenders, rounds)
    text = harness.markdown(
        ["what", "ms an agent-update", "prepared in (s, wall)"],
        [[r["label"], spread(r), f"{r['prepare_wall_s']:.1f}"] for r in rows],
    )
    pairs = ((16, rows[1], rows[0]), (256, rows[3], rows[2]))
    targets = [[n, f"{ratio(slow, fast):.2f}", "1.5"] for n, slow, fast in pairs]
    text += "\n" + harness.markdown(["agents", "ours / rejax", "target"], targets)
    finish("cartpole", rows, "PPO on CartPole against rejax", text)


def section_scaling(rounds: int) -> None:
    """Rate by number of controllers, every region with the same minibatches."""
    everything, text = [], ""
    groups: Sequence[tuple[str, Callable[[int], Contender], Sequence[int]]] = (
        ("LSTM REINFORCE", tokens, (8, 16, 64, 256, 1024)),
        (
            "LSTM PPO",
            lambda n: tokens(n, algorithm="ppo"),
            (8, 16, 64, 256, 1024),
        ),
        ("CartPole PPO", agents, (16, 64, 256, 1024)),
    )
    for name, make, numbers in groups:
        rows = harness.interleave([make(n) for n in numbers], rounds)
        best = min(row["ms_median"] for row in rows)
        lines = [
            [f"{n:,}", spread(row), f"{best / row['ms_median']:.2f}"]
            for n, row in zip(numbers, rows, strict=True)
        ]
        text += f"## {name}\n\n" + harness.markdown(
            ["controllers", "ms a controller-update", "rate / best rate"], lines
        )
        text += "\n"
        everything += rows
    finish("scaling", everything, "Rate by number of controllers (target 0.9)", text)


def section_peak(rounds: int) -> None:
    """Fraction of the machine's float32 matrix-product peak, and where the rest goes."""
    peaks = [matmul("numpy", n) for n in (256, 512, 1024)]
    peaks += [matmul("torch", 512), matmul("torch", 1024), matmul("jax", 512)]
    programs = [
        agents(16),
        agents(16, "--epochs", "8"),
        agents(16, "--minibatches", "1"),
        agents(16, "--part", "environment"),
        tokens(256),
    ]
    rows = harness.interleave([*peaks, *programs], rounds)
    fastest = min(rows[: len(peaks)], key=lambda row: row["ms_median"])
    peak = 1e3 / fastest["ms_median"]
    text = harness.markdown(
        ["product", "GFLOP/s"],
        [[r["label"], f"{1e3 / r['ms_median']:.1f}"] for r in rows[: len(peaks)]],
    )
    text += f"\nPeak: {peak:.1f} GFLOP/s ({fastest['label']}).\n\n"
    whole, eight, single, dynamics, token = rows[len(peaks) :]
    needed = ((whole, flops.cartpole_ppo(), "0.30"), (token, flops.token_lstm(), "-"))
    text += harness.markdown(
        ["program", "MFLOP by formula", "ms", "GFLOP/s", "fraction of peak", "target"],
        [
            [
                row["label"],
                f"{work / 1e6:.1f}",
                spread(row),
                f"{work / row['ms_median'] / 1e6:.1f}",
                f"{work / row['ms_median'] / 1e6 / peak:.2f}",
                target,
            ]
            for row, work, target in needed
        ],
    )
    text += "\n" + shares(whole, eight, single, dynamics, peak)
    finish("peak", rows, "Fraction of the matrix-product peak", text)


def shares(
    whole: dict[str, Any],
    eight: dict[str, Any],
    single: dict[str, Any],
    dynamics: dict[str, Any],
    peak: float,
) -> str:
    """Returns the table of where an update of the CartPole program spends its time."""
    total = whole["ms_median"]
    epochs = eight["ms_median"] - total
    learning = flops.cartpole_ppo() - flops.cartpole_ppo(epochs=0)
    ideal = learning / peak / 1e6
    steps = max(0.0, total - single["ms_median"])
    rest = total - epochs
    env = dynamics["ms_median"]
    lines = [
        ["four epochs (slope from 4 to 8)", epochs],
        ["- of which products at peak would need", ideal],
        ["- of which 16 gradient steps cost over 4 large ones", steps],
        ["rollout, values, advantages (the rest)", rest],
        ["- of which environment steps alone", env],
        [
            "- of which products at peak would need",
            flops.cartpole_ppo(epochs=0) / peak / 1e6,
        ],
    ]
    return harness.markdown(
        ["part of a CartPole update, 16 agents", "ms", "share"],
        [[name, f"{ms:.3f}", f"{ms / total:.0%}"] for name, ms in lines],
    )


def section_compile(rounds: int) -> None:
    """Compile time of each method's program on nb201 with 64 seeds, each alone."""
    del rounds
    contenders = [
        tokens(64, "--problem", "nb201", "--updates", "1", algorithm=method)
        for method in METHODS
    ]
    rows = []
    for contender in (*contenders, agents(16)):
        rows += harness.interleave([contender], 1, pinned=False)
    lines = []
    for row in rows:
        measured = row["facts"]["measured"]
        init, run = measured.get("compile_init_s", 0.0), measured["compile_run_s"]
        cells = (init, measured["trace_run_s"], run, init + run, row["prepare_cpu_s"])
        lines.append([row["label"], *(f"{cell:.1f}" for cell in cells)])
    text = harness.markdown(
        [
            "program", "init (s)", "tracing the update loop (s)",
            "the update loop, tracing included (s)", "both (s)", "everything (CPU s)",
        ],
        lines,
    )  # fmt: skip
    text += (
        "\nSeconds of wall time, each program alone in a fresh process that may use all "
    )
    text += "cores, no persistent cache. Target: both under 15 s.\n"
    finish("compile", rows, "Compile times", text)


SECTIONS = {
    "token": section_token,
    "cartpole": section_cartpole,
    "scaling": section_scaling,
    "peak": section_peak,
    "compile": section_compile,
}


def main() -> None:
    parser = harness.Parser(__doc__)
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=", ".join(SECTIONS))
    parser.add_argument("--rounds", type=int, default=harness.ROUNDS)
    args = parser.parse_args()
    os.environ.pop("JAX_COMPILATION_CACHE_DIR", None)
    for name in args.sections or SECTIONS:
        if name not in SECTIONS:
            raise SystemExit(
                f"Unknown section {name!r}; choose from {', '.join(SECTIONS)}."
            )
        SECTIONS[name](args.rounds)


if __name__ == "__main__":
    main()
