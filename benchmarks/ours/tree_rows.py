"""Ours: boosted trees as a JAX function, alone and inside a larger compiled program.

``--program batch`` calls the compiled function again and again from Python. ``--program
climb`` is one program of thousands of environments: each asks for one row a step, after
writing one random feature, and keeps the change where the prediction rises.
"""

import argparse

import jax
import jax.numpy as jnp
import numpy as np
import tree_models
from worker import Region, serve

from jaxnas.surrogates.trees import TreeParams, compile_trees, predict


def batch(params: TreeParams, x: jax.Array, repeats: int) -> Region:
    """Returns ``repeats`` predictions of the rows, each a call of its own."""
    compiled = jax.jit(predict)

    def region(_: None) -> float:
        total = 0.0
        for _ in range(repeats):
            total += float(np.asarray(compiled(params, x))[-1])
        return total

    return Region(region)


def climb(params: TreeParams, x: jax.Array, most: jax.Array, steps: int) -> Region:
    """Returns ``steps`` steps of all environments in one program."""
    features = x.shape[1]

    def step(params, held, best, feature, value):
        """One environment: a changed row, its score, the better of two."""
        changed = held.at[feature].set(value)
        score = predict(params, changed[None])[0]
        better = score > best
        return jnp.where(better, changed, held), jnp.where(better, score, best)

    @jax.jit
    def program(key, params, x):
        def every(carry, key):
            where, what = jax.random.split(key)
            feature = jax.random.randint(where, (len(x),), 0, features)
            value = jnp.floor(jax.random.uniform(what, (len(x),)) * (most[feature] + 1))
            new = jax.vmap(step, in_axes=(None, 0, 0, 0, 0))(params, *carry, feature, value)
            return new, None

        begin = x, jnp.full(len(x), -jnp.inf)
        return jax.lax.scan(every, begin, jax.random.split(key, steps))[0][1]

    return Region(lambda _: float(program(jax.random.key(0), params, x).mean()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=tree_models.FITTED[0])
    parser.add_argument("--batch", type=int, default=4096)
    parser.add_argument("--program", choices=("batch", "climb"), default="batch")
    parser.add_argument("--method", choices=("auto", "table", "walk"), default="auto")
    parser.add_argument("--repeats", type=int, default=32)
    args = parser.parse_args()

    def prepare() -> Region:
        model = tree_models.read_ours(args.model)
        params = compile_trees(model, method=args.method)
        x = jnp.asarray(tree_models.rows(args.model, args.batch))
        if args.program == "climb":
            most = jnp.asarray(tree_models.most(args.model))
            region = climb(params, x, most, args.repeats)
        else:
            region = batch(params, x, args.repeats)
        region.run(None)
        return region

    serve(
        prepare,
        name=f"jaxnas-trees-{args.program}",
        unit="1,000 rows",
        units=args.batch * args.repeats / 1000,
        settings=vars(args),
        versions={"jax": jax.__version__},
    )


if __name__ == "__main__":
    main()
