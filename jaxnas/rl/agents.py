"""Trained agents: what they achieve over whole episodes, and their files."""

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple, Protocol, cast, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from jaxnas.core.errors import UserError
from jaxnas.core.space import SearchSpace
from jaxnas.core.trees import select
from jaxnas.data.formats.npz import FileKind, content_checksum, named_leaves
from jaxnas.envs.base import Continuing, done
from jaxnas.envs.change import ChangeEnv
from jaxnas.rl.rollout import head_of, policy
from jaxnas.rl.training import EnvTraining

KIND = FileKind("agent", "jaxnas-agent-v1", "save it again with `save_agent`.")


@runtime_checkable
class Located(Protocol):
    """An environment that knows the space of its architectures."""

    @property
    def space(self) -> SearchSpace:
        """The search space."""
        ...


class Episodes(NamedTuple):
    """``N`` whole episodes."""

    returns: Float[Array, "N"]
    """Undiscounted."""
    length: Int[Array, "N"]
    terminated: Bool[Array, "N"]
    """False where an episode was cut off."""
    score: Float[Array, "N"]
    """Of the architecture that a ``ChangeEnv`` ended with; NaN of other environments."""
    state: PyTree
    """Of the environment at the end."""


def evaluate(
    key: Key[Array, ""],
    training: EnvTraining,
    params: PyTree,
    env_params: PyTree,
    *,
    episodes: int = 100,
    horizon: int = 200,
    greedy: bool = True,
) -> Episodes:
    """Returns what a trained controller does in ``episodes`` fresh episodes; pure.

    Args:
        key: of starts, dynamics and draws.
        training: names the environment and the controller.
        params: of the controller, ``TrainState.params``.
        env_params: the task.
        episodes: ``N``.
        horizon: steps after which an episode counts as cut off.
        greedy: the most likely action, or a draw at temperature 1.

    Raises:
        UserError: an environment that restarts itself, so that its episodes have no end.
    """
    if isinstance(training.env, Continuing):
        raise UserError("An environment that restarts itself has no episodes; unwrap it.")

    def one(key: Key[Array, ""]) -> Episodes:
        return _episode(key, training, params, env_params, horizon, greedy)

    return jax.vmap(one)(jax.random.split(key, episodes))


def _episode(
    key: Key[Array, ""],
    training: EnvTraining,
    params: PyTree,
    env_params: PyTree,
    horizon: int,
    greedy: bool,
) -> Episodes:
    env: Any = training.env
    module: Any = training.module
    head = head_of(env)
    reset_key, act_key, env_key, score_key = jax.random.split(key, 4)

    def act(key: Array, memory: PyTree, seen: Any, first: Array) -> tuple[PyTree, Array]:
        obs, mask = jax.tree.map(lambda x: x[None], (seen.obs, seen.mask))
        memory, out = policy(module, params, memory, obs, first[None])
        if greedy:
            return memory, head.best(out.logits, mask)[0]
        uniform = jax.random.uniform(key, (1, *head.num_uniforms), dtype=jnp.float32)
        return memory, head.sample(uniform, out.logits, mask, 1.0)[0]

    def step(carried: PyTree, t: Int[Array, ""]) -> tuple[PyTree, None]:
        state, seen, memory, played = carried
        at = lambda key: jax.random.fold_in(key, t)
        memory, action = act(at(act_key), memory, seen, t == 0)
        after, new = env.step(at(env_key), state, action, env_params)
        running = ~done(seen)
        played = played._replace(
            returns=played.returns + jnp.where(running, new.reward, 0.0),
            length=played.length + running,
        )
        state, seen = select(running, (after, new), (state, seen))
        return (state, seen, memory, played), None

    state, seen = env.reset(reset_key, env_params)
    no, zero = jnp.asarray(False), jnp.float32(0.0)
    played = Episodes(zero, jnp.int32(0), no, jnp.float32(jnp.nan), ())
    begin = (state, seen, module.initial_carry(1), played)
    (state, seen, _, played), _ = jax.lax.scan(
        step, begin, jnp.arange(horizon, dtype=jnp.int32)
    )
    if isinstance(env, ChangeEnv):
        held = jax.tree.map(lambda x: x[None], state.dynamics)
        score = env.score(score_key, env_params, held, jnp.ones(1, bool))[0]
        played = played._replace(score=score)
    return played._replace(terminated=seen.terminated, state=state)


def save_agent(
    path: str | Path, training: EnvTraining, params: PyTree, task: PyTree = None
) -> None:
    """Writes a controller with its configuration and the hash of its space; no pickle.

    Args:
        path: the file, npz; its folder is made.
        training: what trained it.
        params: of the controller.
        task: what it only makes sense with, such as the parameters of the dynamics; their
            checksum is stored.

    Raises:
        UserError: it cannot be written there.
    """
    header = {"task": _task_checksum(task), **_description(training)}
    KIND.write(Path(path), header, named_leaves(params))


def load_agent(path: str | Path, training: EnvTraining, task: PyTree = None) -> PyTree:
    """Returns the parameters of a controller that :func:`save_agent` wrote.

    Args:
        path: the file.
        training: the same environment, controller and space as when it was saved.
        task: compared with the one it was saved with; None does not compare.

    Raises:
        UserError: no such file, damaged, of another version, space, environment,
            controller or task.
    """
    header, arrays = KIND.read(Path(path))
    here = _description(training)
    for part, value in here.items():
        if header.get(part) != value:
            raise UserError(
                f"The agent in {path} has another {part} ({header.get(part)}) than the one "
                f"asked for ({value}); make the training as it was."
            )
    if task is not None and header["task"] not in (None, _task_checksum(task)):
        raise UserError(
            f"The agent in {path} was trained on another task, such as another latent "
            "model; load that one, or train again."
        )
    like = jax.eval_shape(_fresh(training))
    return KIND.fill(path, like, arrays)


def _fresh(training: EnvTraining) -> Any:
    """Returns a function that makes parameters of a controller."""
    env: Any = training.env
    module: Any = training.module

    def make() -> PyTree:
        obs = jnp.zeros((1, env.observation_size), jnp.float32)
        begin = module.initial_carry(1), obs, jnp.ones(1, bool)
        return module.init(jax.random.key(0), *begin)

    return make


def _description(training: EnvTraining) -> dict[str, Any]:
    """Returns what must be the same for a controller to make sense, JSON-able."""
    env: Any = training.env
    space = _space_hash(env.space) if isinstance(training.env, Located) else "none"
    fields = dataclasses.fields(cast(Any, training.module))
    skipped = ("parent", "name")
    sizes = {f.name: getattr(training.module, f.name) for f in fields}
    config = {name: value for name, value in sizes.items() if name not in skipped}
    return {
        "environment": env.id,
        "space": space,
        "observation": env.observation_size,
        "method": training.method,
        "controller": type(training.module).__name__,
        "config": json.loads(json.dumps(config)),
    }


def _space_hash(space: SearchSpace) -> str:
    """Returns the identity of a space with all its options."""
    text = f"{space.id} {space.length} {space.vocab} {space!r}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _task_checksum(task: PyTree) -> str | None:
    """Returns the checksum of traced parameters, None where there are none."""
    return None if task is None else content_checksum(named_leaves(task))
