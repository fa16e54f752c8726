"""Training rates of this checkout against those of an earlier commit, in turns.

Token REINFORCE, token PPO, CartPole PPO and latent PPO, each at several numbers of
controllers, are measured with the code of ``REF``, checked out beside, and with the code
here. Writes ``results/before_after.json`` and ``.md``. The latent files are made with torch
and XGBoost, which ``make test`` installs.
"""

import dataclasses
import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

import harness
import latent
import throughput
from harness import ROOT, Contender

TARGET = 0.97
KEEP = {"MALLOC_TRIM_THRESHOLD_": str(2**28), "MALLOC_MMAP_THRESHOLD_": str(2**28)}
"""Makes glibc keep what a call frees. Else the working memory of a program goes back to the
kernel after each call, or not, by where on the heap it happens to lie."""


def rows() -> dict[str, list[Contender]]:
    """Returns what is measured, by heading; ``FILES`` is a folder yet to be named."""
    sizes = (16, 64, 256, 1024)
    token = lambda name, n: throughput.tokens(n, algorithm=name)
    return {
        "LSTM REINFORCE": [token("reinforce", n) for n in sizes],
        "LSTM PPO": [token("ppo", n) for n in sizes],
        "CartPole PPO": [throughput.agents(n) for n in sizes],
        "Latent PPO": [latent.ours("FILES", n, max(1, 128 // n)) for n in (16, 256)],
    }


def place(contender: Contender, root: Path, files: Path) -> Contender:
    """Returns the same contender run from the checkout ``root``."""
    options = tuple(str(files) if o == "FILES" else o for o in contender.options)
    return dataclasses.replace(contender, root=root, options=options)


def main() -> None:
    parser = harness.Parser(__doc__)
    parser.add_argument("ref", metavar="REF", help="a commit of this repository")
    parser.add_argument("--rounds", type=int, default=harness.ROUNDS)
    parser.add_argument(
        "--keep-memory", action="store_true", help="glibc keeps what a call frees"
    )
    parser.add_argument("--only", choices=rows(), help="measure this alone")
    args = parser.parse_args()
    os.environ.pop("JAX_COMPILATION_CACHE_DIR", None)
    git = ["git", "-C", str(ROOT)]
    verify = [*git, "rev-parse", "--verify", "--short", f"{args.ref}^{{commit}}"]
    known = subprocess.run(verify, capture_output=True, text=True)
    if known.returncode:
        parser.error(f"there is no commit {args.ref!r} in this repository")
    commit = known.stdout.strip()
    measured, lines = [], []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        before = folder / "before"
        subprocess.run([*git, "worktree", "add", "--detach", before, args.ref], check=True)
        try:
            trees = ((before, folder / "old"), (ROOT, folder / "new"))
            for root, files in trees:
                latent.write_files(str(files), None, root, sys.executable)
            for heading, contenders in rows().items():
                if args.only not in (None, heading):
                    continue
                for one in contenders:
                    kept = dataclasses.replace(
                        one, environment=KEEP if args.keep_memory else {}
                    )
                    pair = [place(kept, *tree) for tree in trees]
                    old, new = harness.interleave(pair, args.rounds)
                    old["commit"] = commit
                    for row in (old, new):
                        row["command"] = one.shown()
                        row["facts"] = None
                    measured += [old, new]
                    rate = throughput.ratio(old, new)
                    shown = [throughput.spread(old), throughput.spread(new)]
                    lines.append([heading, one.label, *shown, f"{rate:.3f}"])
                    print(*lines[-1], sep=" | ", file=sys.stderr, flush=True)
        finally:
            subprocess.run([*git, "worktree", "remove", "--force", before], check=True)
    first = measured[1]
    text = (
        f"# Training rates before and after\n\n{first['device']}, 1 of {first['cores']} "
        f"cores, {first['date']} UTC, load average before {first['load']}. Before: commit "
        f"{commit}; after: {first['commit']}. CPU milliseconds of the process per "
        f"unit: median (minimum to maximum) of {args.rounds} rounds in turns. Rate: after "
        f"/ before, by medians; target {TARGET}.\n\n"
        + harness.markdown(["what", "row", "before", "after", "rate"], lines)
        + f"\nMade by `python benchmarks/before_after.py {shlex.join(sys.argv[1:])}`.\n"
    )
    name = "before_after_kept" if args.keep_memory else "before_after"
    harness.write(name, {"rows": measured}, text)


if __name__ == "__main__":
    main()
