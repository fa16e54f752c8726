"""Peer: PPO of rejax on gymnax CartPole-v1, many agents by ``vmap``.

Settings of the comparison: 4 environments x 128 steps, 4 epochs x 4 minibatches, actor and
critic of 64 x 64 each, as rejax builds them. The timed program is rejax's own
``train_iteration`` in a ``fori_loop`` under ``jit(vmap(...))``: its evaluation callback is
left out, which favours rejax.
"""

import argparse
from importlib.metadata import version

import jax
import jax.numpy as jnp
import rejax
from worker import Region, serve


def prepare(args: argparse.Namespace) -> Region:
    """Returns the region: ``updates`` training iterations of every agent."""
    ppo = rejax.PPO.create(
        env="CartPole-v1",
        agent_kwargs={"activation": args.activation, "hidden_layer_sizes": (64, 64)},
        num_envs=4,
        num_steps=128,
        num_epochs=4,
        num_minibatches=4,
        learning_rate=5e-4,
        max_grad_norm=0.5,
    )
    train = jax.jit(
        jax.vmap(
            lambda ts: jax.lax.fori_loop(
                0, args.updates, lambda _, ts: ppo.train_iteration(ts), ts
            )
        )
    )
    keys = jax.random.split(jax.random.PRNGKey(args.seed), args.agents)
    state = jax.block_until_ready(jax.jit(jax.vmap(ppo.init_state))(keys))
    train = train.lower(state).compile()
    state = jax.block_until_ready(train(state))

    def region(_: None) -> float:
        nonlocal state
        state = train(state)
        leaves = jax.tree.leaves((state.actor_ts.params, state.critic_ts.params))
        return float(sum(jnp.sum(leaf) for leaf in leaves))

    region(None)
    return Region(region)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--agents", type=int, default=16)
    parser.add_argument("--updates", type=int, default=10)
    parser.add_argument("--activation", default="tanh")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    serve(
        lambda: prepare(args),
        name="rejax-ppo-cartpole",
        unit="agent-update",
        units=args.updates * args.agents,
        settings=vars(args),
        versions={name: version(name) for name in ("jax", "gymnax", "rejax")},
    )


if __name__ == "__main__":
    main()
