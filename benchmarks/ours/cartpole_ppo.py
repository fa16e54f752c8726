"""Ours: PPO on gymnax CartPole-v1 at rejax's settings, many agents in blocks.

Where the time goes is found by public settings only: the cost of an epoch is the slope over
``--epochs``, that of a gradient step beyond its samples the slope over ``--minibatches``,
and ``--part environment`` steps the environments without any policy.
"""

import argparse
import time
from importlib.metadata import version

import gymnax
import jax
import jax.numpy as jnp
from flax import linen as nn
from worker import Region, serve

from jaxnas.core.types import PolicyOutput
from jaxnas.envs.gymnax_face import FromGymnax
from jaxnas.rl.training import EnvHparams, EnvTraining

PARTS = ("all", "environment")
facts: dict[str, float] = {}


class Towers(nn.Module):
    """Separate actor and critic, 64 x 64 each, as rejax has them."""

    num_actions: int = 2
    hidden: int = 64

    def initial_carry(self, batch: int) -> tuple[()]:
        """Returns nothing: the net has no memory."""
        del batch
        return ()

    @nn.compact
    def __call__(self, carry, obs, reset):
        """Returns the policy and the value of each observation."""

        def tower(name: str, out: int) -> jax.Array:
            x = obs
            for i in range(2):
                x = jnp.tanh(nn.Dense(self.hidden, name=f"{name}{i}")(x))
            return nn.Dense(out, name=f"{name}_out")(x)

        return carry, PolicyOutput(
            tower("actor", self.num_actions), tower("critic", 1)[..., 0]
        )


def whole(training: EnvTraining, params, updates: int):
    """Returns ``(key, state) -> state`` after ``updates`` updates of one agent."""
    return lambda key, state: training.train(key, state, params, updates)[0]


def environment_only(training: EnvTraining, params, updates: int):
    """Returns ``(key, state) -> state`` that steps the environments, no policy."""
    step_all = jax.vmap(training.env.step, in_axes=(0, 0, 0, None))

    def step(carry, i):
        key, envs, total = carry
        key, act, dynamics = jax.random.split(key, 3)
        actions = jax.random.randint(act, (training.num_envs,), 0, 2)
        keys = jax.random.split(dynamics, training.num_envs)
        envs, seen = step_all(keys, envs, actions, params)
        return (key, envs, total + jnp.sum(seen.obs) + jnp.sum(seen.final_obs)), None

    def run(key, state):
        begin = (key, state.stream.state, jnp.float32(0))
        places = jnp.arange(updates * training.num_steps)
        (_, envs, total), _ = jax.lax.scan(step, begin, places)
        nudge = lambda leaf: leaf + 1e-20 * total
        params = jax.tree.map(nudge, state.params)
        return state._replace(params=params, stream=state.stream._replace(state=envs))

    return run


def program(one, block: int):
    """Returns ``(keys, states) -> states`` for every agent, block after block."""

    def run(keys, states):
        if keys.shape[0] <= block:
            return jax.vmap(one)(keys, states)
        return jax.lax.map(lambda item: one(*item), (keys, states), batch_size=block)

    return run


def prepare(args: argparse.Namespace) -> Region:
    """Compiles and returns the region: ``updates`` updates of every agent."""
    env = FromGymnax(gymnax.make("CartPole-v1")[0])
    training = EnvTraining(
        env,
        Towers(),
        num_envs=4,
        num_steps=128,
        epochs=args.epochs,
        minibatches=args.minibatches,
        clip_value=True,
    )
    params = env.params()
    keys = jax.random.split(jax.random.key(args.seed), args.agents)
    hparams = EnvHparams(lr=5e-4)
    init = jax.jit(jax.vmap(lambda key: training.init(key, hparams, params)))
    states = jax.block_until_ready(init(keys))
    make = whole if args.part == "all" else environment_only
    run = jax.jit(program(make(training, params, args.updates), args.block))
    clock = time.perf_counter()
    run = run.lower(keys, states)
    facts["trace_run_s"] = time.perf_counter() - clock
    run = run.compile()
    facts["compile_run_s"] = time.perf_counter() - clock

    def region(_: None) -> float:
        nonlocal states
        states = run(keys, states)
        leaves = jax.tree.leaves((states.params, states.stream.obs))
        return float(sum(jnp.sum(leaf) for leaf in leaves))

    region(None)
    return Region(region)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--agents", type=int, default=16)
    parser.add_argument("--updates", type=int, default=10)
    parser.add_argument("--block", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--minibatches", type=int, default=4)
    parser.add_argument("--part", choices=PARTS, default="all")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    serve(
        lambda: prepare(args),
        name=f"jaxnas-ppo-cartpole-{args.part}",
        unit="agent-update",
        units=args.updates * args.agents,
        settings=vars(args),
        versions={name: version(name) for name in ("jax", "gymnax")},
        measured=lambda: dict(facts),
    )


if __name__ == "__main__":
    main()
