"""What training children costs: by route, and by how convolutions are computed.

``routes``: nb201 cell networks (8 channels, 1 cell a stage) trained for 10 epochs on
digits, a new random architecture each turn; the exact route compiles each. ``conv``: three
3x3 convolutions with gradient inside a loop, as one matrix product and as XLA's own.
"""

from typing import Any

import harness
from harness import Contender
from throughput import ratio, spread

SIZES = ((8, 8), (16, 4), (32, 2), (64, 8))
"""Channels and side of the image."""


def head(rows: list[dict[str, Any]]) -> str:
    """Returns where and how the rows were measured."""
    first = rows[0]
    return (
        f"{first['device']}, 1 of {first['cores']} cores, commit {first['commit']}, "
        f"{first['date']} UTC, load average before {first['load']}.\nCPU milliseconds "
        f"of the process: median (minimum to maximum) of {first['rounds']} rounds in "
        "turns.\n\n"
    )


def routes(rounds: int) -> None:
    """Writes ``results/children.*``."""
    labels = {"choice": "one program for all", "exact": "one program each"}
    script = "ours/child_training.py"
    contenders = [
        Contender(text, script, ("--route", name)) for name, text in labels.items()
    ]
    rows = harness.interleave(contenders, rounds)
    lines = []
    for row in rows:
        seconds, once = row["ms_median"] / 1e3, row["prepare_cpu_s"]
        hundred = once + 100 * seconds
        cells = [row["label"], spread(row), f"{once:.1f}", f"{60 * 100 / hundred:.0f}"]
        lines.append(cells)
    header = ["route", "ms a network", "first one, once (CPU s)", "networks a CPU minute"]
    text = "# Training children on digits\n\n" + head(rows)
    text += harness.markdown(header, lines)
    text += (
        "\nThe last column is for 100 networks on one core, compilation included, without "
        "the persistent compilation cache; the target is 20 a minute on two cores. One "
        f"program for all is {ratio(rows[1], rows[0]):.1f} times faster a network.\n\n"
        "Made by `python benchmarks/children.py routes`.\n"
    )
    harness.write("children", {"rows": rows}, text)


def conv(rounds: int) -> None:
    """Writes ``results/children_conv.*``."""
    contenders = [
        Contender(
            f"{channels} channels, {side} x {side}, {kind}",
            "ours/convolution.py",
            ("--kind", kind, "--channels", str(channels), "--side", str(side)),
        )
        for channels, side in SIZES
        for kind in ("native", "product")
    ]
    rows = harness.interleave(contenders, rounds)
    lines = [
        [f"{c}", f"{s} x {s}", spread(native), spread(product),
         f"{ratio(native, product):.1f}"]
        for (c, s), native, product in zip(SIZES, rows[::2], rows[1::2], strict=True)
    ]  # fmt: skip
    header = ["channels", "image", "XLA's own (ms)", "one product (ms)", "times"]
    text = "# A 3x3 convolution and its gradients inside a loop, batch of 64\n\n"
    text += head(rows) + harness.markdown(header, lines)
    text += "\nMade by `python benchmarks/children.py conv`.\n"
    harness.write("children_conv", {"rows": rows}, text)


def main() -> None:
    parser = harness.Parser(__doc__)
    parser.add_argument("sections", nargs="*", default=["routes", "conv"])
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    for section in args.sections:
        {"routes": routes, "conv": conv}[section](args.rounds)


if __name__ == "__main__":
    main()
