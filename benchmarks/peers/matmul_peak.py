"""The machine's float32 matrix-product rate on one core, by library."""

import argparse
import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
from worker import Region, serve


def with_numpy(n: int, repeats: int) -> Region:
    """Returns ``repeats`` products of ``n x n`` matrices in NumPy."""
    import numpy as np

    a = np.random.default_rng(0).normal(size=(n, n)).astype(np.float32) / n**0.5
    out = np.empty_like(a)

    def region(_: None) -> float:
        for _ in range(repeats):
            np.matmul(a, a, out=out)
        return out.sum()

    return Region(region)


def with_torch(n: int, repeats: int) -> Region:
    """Returns ``repeats`` products of ``n x n`` matrices in PyTorch."""
    import torch

    torch.set_num_threads(1)
    a = torch.randn(n, n) / n**0.5
    out = torch.empty_like(a)

    def region(_: None) -> float:
        for _ in range(repeats):
            torch.matmul(a, a, out=out)
        return float(out.sum())

    return Region(region)


def with_jax(n: int, repeats: int) -> Region:
    """Returns ``repeats`` dependent products of ``n x n`` matrices in one XLA program."""
    import jax

    a = jax.random.normal(jax.random.key(0), (n, n)) / n**0.5
    loop = jax.jit(lambda a: jax.lax.fori_loop(0, repeats, lambda i, x: x @ a, a))
    return Region(lambda _: float(loop(a).sum()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--library", choices=("numpy", "torch", "jax"), default="numpy")
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--gflop", type=float, default=30)
    args = parser.parse_args()
    repeats = max(1, round(args.gflop * 1e9 / (2 * args.size**3)))
    make = {"numpy": with_numpy, "torch": with_torch, "jax": with_jax}[args.library]

    def prepare() -> Region:
        region = make(args.size, repeats)
        region.run(None)
        return region

    serve(
        prepare,
        name=f"matmul-{args.library}",
        unit="GFLOP",
        units=repeats * 2 * args.size**3 / 1e9,
        settings=vars(args),
    )


if __name__ == "__main__":
    main()
