"""Ours: PPO on the original's latent environment, many controllers in blocks.

The same work as ``peers/sb3_latent.py`` does for one controller: decode and score every
step, 4 environments x 128 steps, 4 epochs x 4 minibatches, actor and critic of 64 x 64
each. ``--part`` times some of it alone: ``score`` decodes and scores as many latents,
``rollout`` acts without learning.
"""

import argparse
import json
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from worker import Region, serve

from jaxnas import registry
from jaxnas.controllers.mlp import MLP
from jaxnas.envs.change import ChangeEnv
from jaxnas.envs.latent import LatentEnv
from jaxnas.latent.vqvae import VQVAE, Params
from jaxnas.rl.rollout import collect
from jaxnas.rl.training import EnvHparams, EnvTraining
from jaxnas.spaces.analog_resnet import AnalogResNet

PARTS = ("all", "rollout", "score")
facts: dict[str, float] = {}


def read_model(folder: Path) -> tuple[VQVAE, Params]:
    """Returns the latent model of a decoder that is only its arrays."""
    arrays = np.load(folder / "latent.npz")
    codes, dims = arrays["codebook"].shape
    model = VQVAE(
        AnalogResNet("csv"),
        mode="label",
        output="features",
        codes=codes,
        positions=1,
        dims=dims,
        hidden=arrays["bias_0"].shape[0],
        layers=sum(name.startswith("kernel_") for name in arrays) - 2,
        shrink=2,
    )
    names = [f"layer_{i}" for i in range(model.layers + 1)] + ["out"]
    decoder = {
        name: {
            "kernel": jnp.asarray(arrays[f"kernel_{i}"]),
            "bias": jnp.asarray(arrays[f"bias_{i}"]),
        }
        for i, name in enumerate(names)
    }
    book, one = jnp.asarray(arrays["codebook"]), jnp.float32(1.0)
    usage = jnp.full(codes, 1.0 / codes)
    return model, Params(None, {"params": decoder}, None, book, usage, one, one)


def score_only(training: EnvTraining, params: Any, updates: int) -> Any:
    """Returns ``(key, state) -> state`` that scores the latents of as many steps."""
    env: Any = training.env
    rows = training.num_envs * training.num_steps

    def run(key, state):
        def once(total, i):
            latent = jax.random.uniform(jax.random.fold_in(key, i), (rows * 8,)) + total
            begun = state.stream.state
            states = jax.tree.map(lambda x: jnp.repeat(x, rows // x.shape[0], 0), begun)
            states = states._replace(latent=latent.reshape(rows, 8))
            active = jnp.ones(rows, bool)
            found = env.score(key, params, states, active)
            return total + 1e-9 * jnp.sum(found), None

        total, _ = jax.lax.scan(once, jnp.float32(0), jnp.arange(updates))
        return state._replace(params=jax.tree.map(lambda x: x + total, state.params))

    return run


def rollout_only(training: EnvTraining, params: Any, updates: int) -> Any:
    """Returns ``(key, state) -> state`` that acts and is paid, and learns nothing."""

    def run(key, state):
        def once(begun, i):
            begun, seen = collect(
                jax.random.fold_in(key, i),
                training.env,
                training.module,
                state.params,
                params,
                begun,
                1.0,
                training.num_steps,
            )
            return begun, jnp.sum(seen.reward) + jnp.sum(seen.final_obs)

        begun, totals = jax.lax.scan(once, state.stream, jnp.arange(updates))
        nudge = lambda leaf: leaf + 1e-20 * jnp.sum(totals)
        return state._replace(stream=begun, params=jax.tree.map(nudge, state.params))

    return run


def whole(training: EnvTraining, params: Any, updates: int) -> Any:
    """Returns ``(key, state) -> state`` after ``updates`` updates of one controller."""
    return lambda key, state: training.train(key, state, params, updates)[0]


MAKE = {"all": whole, "rollout": rollout_only, "score": score_only}


def prepare(args: argparse.Namespace) -> Region:
    """Compiles and returns the region: ``updates`` updates of every controller."""
    model, weights = read_model(args.files)
    oracle = registry.make_oracle(
        "surrogate", space=model.space, model=str(args.files / "surrogate.json")
    )
    dynamics = LatentEnv(model, start="normal")
    env = ChangeEnv(dynamics, oracle, reward="delta_from_zero")
    params = env.params(dynamics.params(weights))
    module = MLP(env.num_actions, separate=True)
    training = EnvTraining(env, module, epochs=args.epochs, minibatches=args.minibatches)
    keys = jax.random.split(jax.random.key(args.seed), args.controllers)
    init = jax.jit(
        jax.vmap(lambda key, p: training.init(key, EnvHparams(lr=3e-4), p), (0, None))
    )
    states = jax.block_until_ready(init(keys, params))

    def run(keys, states, params):
        one = MAKE[args.part](training, params, args.updates)
        if args.controllers <= args.block:
            return jax.vmap(one)(keys, states)
        return jax.lax.map(lambda item: one(*item), (keys, states), batch_size=args.block)

    clock = time.perf_counter()
    program = jax.jit(run).lower(keys, states, params).compile()
    facts["compile_s"] = time.perf_counter() - clock

    def region(_: None) -> float:
        nonlocal states
        states = program(keys, states, params)
        leaves = jax.tree.leaves((states.params, states.stream.obs))
        return float(sum(jnp.sum(leaf) for leaf in leaves))

    region(None)
    return Region(region)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=Path, required=True)
    parser.add_argument("--controllers", type=int, default=16)
    parser.add_argument("--updates", type=int, default=4)
    parser.add_argument("--block", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--minibatches", type=int, default=4)
    parser.add_argument("--part", choices=PARTS, default="all")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    serve(
        lambda: prepare(args),
        name=f"jaxnas-ppo-latent-{args.part}",
        unit="environment step",
        units=args.updates * args.controllers * 4 * 128,
        settings=json.loads(json.dumps(vars(args), default=str)),
        versions={name: version(name) for name in ("jax",)},
        measured=lambda: dict(facts),
    )


if __name__ == "__main__":
    main()
