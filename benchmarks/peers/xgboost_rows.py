"""Peer: XGBoost's in-place prediction on one thread, from NumPy arrays.

``--program batch`` predicts the same rows again and again. ``--program climb`` lets every
row climb: each step writes one random feature and keeps it where the prediction rises.
"""

import argparse

import numpy as np
import tree_models
import xgboost
from worker import Region, serve


def batch(model: xgboost.Booster, x: np.ndarray, repeats: int) -> Region:
    """Returns ``repeats`` predictions of the rows."""

    def region(_: None) -> float:
        total = 0.0
        for _ in range(repeats):
            total += float(model.inplace_predict(x, validate_features=False)[-1])
        return total

    return Region(region)


def climb(model: xgboost.Booster, x: np.ndarray, most: np.ndarray, steps: int) -> Region:
    """Returns ``steps`` steps of all rows."""
    lanes = np.arange(len(x))

    def region(_: None) -> float:
        rng = np.random.default_rng(0)
        held, best = x, np.full(len(x), -np.inf, np.float32)
        for _ in range(steps):
            feature = rng.integers(x.shape[1], size=len(x))
            changed = held.copy()
            value = np.floor(rng.random(len(x), np.float32) * (most[feature] + 1))
            changed[lanes, feature] = value
            score = model.inplace_predict(changed, validate_features=False)
            better = score > best
            held = np.where(better[:, None], changed, held)
            best = np.where(better, score, best)
        return float(best.mean())

    return Region(region)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=tree_models.FITTED[0])
    parser.add_argument("--batch", type=int, default=4096)
    parser.add_argument("--program", choices=("batch", "climb"), default="batch")
    parser.add_argument("--repeats", type=int, default=32)
    args = parser.parse_args()

    def prepare() -> Region:
        model, x = tree_models.booster(args.model), tree_models.rows(args.model, args.batch)
        if args.program == "climb":
            region = climb(model, x, tree_models.most(args.model), args.repeats)
        else:
            region = batch(model, x, args.repeats)
        region.run(None)
        return region

    serve(
        prepare,
        name=f"xgboost-{args.program}",
        unit="1,000 rows",
        units=args.batch * args.repeats / 1000,
        settings=vars(args),
        versions={"xgboost": xgboost.__version__, "numpy": np.__version__},
    )


if __name__ == "__main__":
    main()
