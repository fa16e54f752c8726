"""Ours: accuracy of one network over chips and times, in the JAX simulator."""

import argparse
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from worker import Region, serve

import jaxnas
from jaxnas.analog import config, evaluate
from jaxnas.data.formats.npz import read_npz
from jaxnas.handoff.validate import tuned_network


def prepare(args: argparse.Namespace) -> Region:
    """Returns the region: every chip at every time on every test image."""
    jaxnas.configure_host(1)
    folder = Path(args.folder)
    preset = config.preset()
    child, plan, analog = tuned_network(folder, preset)
    data = read_npz(folder / "data.npz")
    x, y = jnp.asarray(data["x_test"]), jnp.asarray(data["y_test"].astype(np.int32))
    settings = evaluate.Evaluation(draws=args.draws, batch=args.batch, noise=args.noise)
    found = []

    def run(number: int) -> float:
        accuracy = evaluate.evaluate_compiled(
            jax.random.key(number), analog, x, y, jnp.asarray(evaluate.TIMES),
            config.as_arrays(preset.hyper), module=child, plan=plan, settings=settings,
        ).accuracy  # fmt: skip
        found.append(np.asarray(accuracy).tolist())
        (folder / f"ours-{args.noise}.json").write_text(json.dumps(found[1:]))
        return float(np.mean(accuracy))

    run(0)
    return Region(run, lambda: len(found))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", required=True)
    parser.add_argument("--draws", type=int, default=25)
    parser.add_argument("--batch", type=int, default=200, help="as aihwkit has them")
    parser.add_argument("--noise", default="counter")
    args = parser.parse_args()
    serve(
        lambda: prepare(args),
        name="analog-chips",
        unit="chip and time",
        units=args.draws * len(evaluate.TIMES),
        noise=args.noise,
        jax=jax.__version__,
    )
