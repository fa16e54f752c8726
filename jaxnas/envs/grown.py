"""Growing a network by actions, paid by what each does to its accuracy."""

import functools
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from jaxnas.children import grown as gr
from jaxnas.children import train as tr
from jaxnas.core.errors import UserError
from jaxnas.core.ranges import COUNT
from jaxnas.core.rng import root_key, step_key
from jaxnas.core.space import Imaged, SearchSpace
from jaxnas.core.types import Timestep
from jaxnas.data.images.sources import load_images
from jaxnas.envs.base import timestep
from jaxnas.registry import make_space
from jaxnas.spaces.growth import KEEP, Limits, limits_of


class GrownState(NamedTuple):
    """A network and how it came about."""

    variables: PyTree
    """Of :class:`jaxnas.children.grown.GrownChild`."""
    accuracy: Float[Array, ""]
    """Share of the validation images that it labels right."""
    tokens: Int[Array, "L"]
    """Actions so far, ``keep`` from ``time`` on."""
    time: Int[Array, ""]


class GrownTask(NamedTuple):
    """The traced parameters: images, settings, and the network that episodes begin with."""

    images: tr.Images
    hparams: tr.Hparams
    variables: PyTree
    accuracy: Float[Array, ""]


@dataclass(frozen=True)
class GrownEnv:
    """Real-time growth: each step morphs a network, trains it on, and pays the change.

        r_t = accuracy(after step t) - accuracy(before step t)

    Accuracy is a fraction of the validation images, so the undiscounted return is the last
    accuracy minus that of the first network.

    * observation: float32[3 S + 2] in [0, 1]: how often each action was taken over how
      often it can be, the share of the steps that are done, and the accuracy.
    * action: ``keep``, or widen, deepen or skip in a stage, as in
      :class:`jaxnas.spaces.growth.Limits`; the mask is the space's. One that is illegal or
      out of range is ``keep``.
    * termination: after ``steps`` actions. Never truncated. After the end nothing changes.

    Every episode begins with one trained network, which :meth:`params` holds: another task
    of the same shapes does not recompile. The test images are never touched.

    Args:
        space: of growths; ``grown`` when None.
        data: an image task or file; see ``jaxnas data list``.
        epochs: passes over the training images after each action.
        begin: trainings of the first network, of ``epochs`` passes.
        batch: images a step of training.
        lr: largest step size, at the beginning of each training.
        weight_decay: on all parameters.
        seed: decides the first network.
        limit: most images of each split; all when None.

    Raises:
        UserError: a space whose networks do not grow, an unknown task, or a number out of
            range.
    """

    space: SearchSpace | None = None
    data: str = "digits"
    epochs: int = 1
    begin: int = 4
    batch: int = 64
    lr: float = 0.1
    weight_decay: float = 5e-4
    seed: int = 0
    limit: int | None = None
    RANGES: ClassVar = {"lr": "(0, inf)", "weight_decay": "[0, 10]", "limit": COUNT}

    def __post_init__(self) -> None:
        space = make_space("grown") if self.space is None else self.space
        limits_of(space)
        if not isinstance(space, Imaged):
            raise UserError(f"The networks of {space.id!r} cannot be built for images.")
        data = load_images(self.data, limit=self.limit)
        if self.begin < 1:
            raise UserError("The first network needs at least 1 training: begin=1.")
        if self.batch > len(data.x_train):
            raise UserError(
                f"A batch of {self.batch} is more than the {len(data.x_train)} training "
                f"images of {data.name!r}; use a smaller batch."
            )
        _, height, width, channels = data.x_train.shape
        fitted = space.for_images((height, width, channels), data.num_classes)
        object.__setattr__(self, "space", fitted)
        _ = self.training

    @property
    def id(self) -> str:
        """Versioned name."""
        settings = f"{self.data},epochs={self.epochs},batch={self.batch}"
        return f"grown-v1:{self._space.id}:{settings}"

    @property
    def limits(self) -> Limits:
        """How the network begins and how far it can grow."""
        return limits_of(self.space)

    @property
    def training(self) -> tr.Training:
        """What is done after each action."""
        return tr.Training(self.epochs, self.batch)

    @property
    def num_actions(self) -> int:
        """Number of actions, ``A``."""
        return self._space.vocab

    @property
    def max_steps(self) -> int:
        """Steps of an episode, ``L``."""
        return self._space.length

    @property
    def observation_size(self) -> int:
        """Number of features, ``F = 3 S + 2``."""
        return len(self.limits.most) + 2

    @property
    def observation_bounds(self) -> tuple[float, float]:
        """Least and greatest value of any feature."""
        return 0.0, 1.0

    def params(self) -> GrownTask:
        """Returns the task; trains the first network, once in a process."""
        return _task(self)

    def reset(
        self, key: Key[Array, ""], params: GrownTask | None = None
    ) -> tuple[GrownState, Timestep]:
        """Returns the first network; ``key`` is not used."""
        task = self.params() if params is None else params
        tokens = jnp.full(self.max_steps, KEEP, jnp.int32)
        state = GrownState(task.variables, task.accuracy, tokens, jnp.int32(0))
        return state, timestep(self._observe(state), self._mask(state))

    def step(
        self,
        key: Key[Array, ""],
        state: GrownState,
        action: Int[Array, ""],
        params: GrownTask | None = None,
    ) -> tuple[GrownState, Timestep]:
        """Returns the network after an action and a training; ``key`` decides both."""
        task = self.params() if params is None else params
        over = state.time >= self.max_steps
        stay = lambda: (state.variables, state.accuracy)
        variables, accuracy = jax.lax.cond(
            over, stay, lambda: _grow(self.limits, self.training, key, state, action, task)
        )
        legal = self._mask(state)[jnp.clip(action, 0, self.num_actions - 1)]
        legal = legal & (action >= 0) & (action < self.num_actions)
        token = jnp.where(legal & ~over, action, KEEP).astype(jnp.int32)
        here = jnp.arange(self.max_steps, dtype=jnp.int32) == state.time
        after = GrownState(
            variables,
            accuracy,
            jnp.where(here, token, state.tokens),
            jnp.minimum(state.time + 1, self.max_steps),
        )
        return after, timestep(
            self._observe(after),
            self._mask(after),
            after.accuracy - state.accuracy,
            after.time >= self.max_steps,
        )

    @property
    def _space(self) -> SearchSpace:
        assert self.space is not None
        return self.space

    def _mask(self, state: GrownState) -> Bool[Array, "A"]:
        return self.limits.legal(state.variables["grown"]["taken"])

    def _observe(self, state: GrownState) -> Float[Array, "F"]:
        most = jnp.maximum(jnp.asarray(self.limits.most), 1)
        taken = state.variables["grown"]["taken"] / most
        share = state.time / self.max_steps
        return jnp.concatenate([taken, jnp.stack([share, state.accuracy])]).astype(
            jnp.float32
        )


def _grow(
    limits: Limits,
    training: tr.Training,
    key: Key[Array, ""],
    state: GrownState,
    action: Int[Array, ""],
    task: GrownTask,
) -> tuple[PyTree, Float[Array, ""]]:
    variables, curves = gr.advanced(
        limits, state.variables, action, key, task.images, training, task.hparams
    )
    return variables, curves.val_accuracy[-1]


@functools.lru_cache(maxsize=4)
def _task(env: GrownEnv) -> GrownTask:
    """Returns images, settings and the trained first network."""
    data, key = load_images(env.data, limit=env.limit), root_key(env.seed)
    arrays = (data.x_train, data.y_train, data.x_val, data.y_val)
    images = tr.Images(*map(jnp.asarray, arrays))
    hparams = tr.Hparams(lr=env.lr, weight_decay=env.weight_decay)
    hparams: Any = jax.tree.map(jnp.float32, hparams)

    @jax.jit
    def first() -> tuple[PyTree, Array]:
        fresh = gr.started(env.limits, step_key(key, env.begin), images.x_train)

        def train(variables: PyTree, t: Array) -> tuple[PyTree, Array]:
            given = (step_key(key, t), images, env.training, hparams)
            variables, curves = gr.advanced(env.limits, variables, jnp.int32(KEEP), *given)
            return variables, curves.val_accuracy[-1]

        return jax.lax.scan(train, fresh, jnp.arange(env.begin, dtype=jnp.int32))

    variables, accuracy = first()
    return GrownTask(images, hparams, variables, accuracy[-1])
