"""Hardware-aware training: noisy forward pass, exact backward pass, clip and remap.

Joshi et al., Nature Communications 11:2473 (2020); Rasch et al., Nature Communications
14:5282 (2023). A trainer needs three functions: :func:`jaxnas.analog.variables.convert`
once, then each step :func:`forward` for loss and gradient and :func:`project` after the
optimiser. Learned are the collections ``params`` and ``analog``; :func:`fine_tune` is such
a trainer.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from jaxtyping import Array, Float, Int, Key, PyTree

from jaxnas.analog import noise
from jaxnas.analog import variables as av
from jaxnas.analog.config import Hyper, Scalar
from jaxnas.analog.device import tile_maximum
from jaxnas.analog.layers import Hooks, Source, TileValues, Vectors, apply
from jaxnas.analog.plan import Plan, Tile, flatten, largest_scale, unflatten
from jaxnas.core.errors import UserError

LEARNED = ("params", "analog")  # collections that an optimiser updates


class Training(NamedTuple):
    """Numbers of hardware-aware training; all leaves are traced. Defaults: IBM's recipe."""

    modifier_std: Scalar = 0.06
    """Weight noise in the forward pass, relative to the largest weight of the tile."""
    clip_sigma: Scalar = 2.0
    """``clip="gaussian"``: bound in standard deviations of the tile's weights."""
    clip_value: Scalar = 1.0  # ``clip="fixed"``: bound in tile units
    range_batches: Scalar = 100
    """Batches that the input range is estimated from before it is only learned."""
    range_std: Scalar = 3.0  # estimated range in standard deviations of the input
    range_decay: Scalar = 0.01
    range_min_share: Scalar = 0.995
    """The range decays while more than this share of the inputs is not clipped."""


RECIPE = Training()  # the numbers of IBM's analognasbench


@jax.custom_vjp
def _with_range_gradient(
    y: Array, b: Array, vectors: Array, weights: Array, decay: Array, share: Array
) -> Array:
    """Returns ``y``; its backward pass gives the input range its own gradient."""
    del b, vectors, weights, decay, share
    return y


def _range_forward(y: Array, *rest: Array) -> tuple[Array, tuple[Array, ...]]:
    return y, rest


def _range_backward(saved: tuple[Any, ...], dy: Array) -> tuple[Any, ...]:
    b, vectors, weights, *numbers = saved
    decay, share = map(jnp.asarray, numbers)  # vmap makes constants NumPy's
    gradient = range_gradient(b, vectors, dy @ weights, decay, share)
    return dy, gradient, *(jnp.zeros_like(v) for v in saved[1:])


_with_range_gradient.defvjp(_range_forward, _range_backward)


def range_gradient(
    b: Float[Array, ""],
    vectors: Float[Array, "*n"],
    dx: Float[Array, "*n"],
    decay: Scalar,
    min_share: Scalar,
) -> Float[Array, ""]:
    """Returns the gradient of a tile's input range ``b``.

        grad = b (sum_{x >= b} min(dx, 0) - sum_{x <= -b} max(dx, 0))
               + decay b [share of |x| < b exceeds min_share]

    ``vectors`` are the inputs ``x`` of the tile, one for each product, and ``dx`` is the
    gradient of the loss with respect to them.

    Reference: aihwkit 1.1.0, relative gradient of input-range learning.
    """
    above = jnp.sum(jnp.where(vectors >= b, jnp.minimum(dx, 0), 0))
    below = jnp.sum(jnp.where(vectors <= -b, jnp.maximum(dx, 0), 0))
    free = jnp.mean((jnp.abs(vectors) < b).astype(jnp.float32))
    return b * (above - below) + decay * b * (free > min_share)


ESTIMATES = "estimates"
"""Collection of a pass in training: a tile's range and its batches, in its layer.

Variables of flax and not a list beside the pass, so that a layer may stand inside a lifted
transformation such as ``nn.switch``.
"""


def _estimates(plan: Plan, learned: av.Learned, state: av.TileState) -> dict[str, Any]:
    """Returns the collection before a pass, nested as the layers are."""
    found: dict[str, Any] = {}
    for layer in plan.layers:
        at = found
        for name in layer.path:
            at = at.setdefault(name, {})
        for tile in layer.tiles:
            pair = learned.input_range[tile.index], state.seen[tile.index]
            at[str(tile.index)] = jnp.stack(pair)
    return found


def _updated(
    plan: Plan, found: Mapping[str, Any], learned: av.Learned, state: av.TileState
) -> tuple[av.Learned, av.TileState]:
    """Returns the variables with the estimates put in."""
    rows: list[Array] = []
    for layer in plan.layers:
        at = found
        for name in layer.path:
            at = at[name]
        rows += [at[str(tile.index)] for tile in layer.tiles]
    table = jnp.stack(rows)
    return learned._replace(input_range=table[:, 0]), state._replace(seen=table[:, 1])


class _TrainingHooks(Hooks):
    """Estimates each tile's input range and gives it its gradient."""

    straight = True

    def __init__(self, seen: Float[Array, "K"], training: Training):
        self.seen, self.training = seen, training

    def enter(self, tile: Tile, vectors: Vectors, b: Scalar) -> Scalar:
        """Returns the estimated range, through which the gradient of the old one passes."""
        count, seen = self.training.range_batches, self.seen[tile.index]
        inputs = jax.lax.stop_gradient(vectors())

        def estimate() -> tuple[Array, Array]:
            """Returns the running mean of ``range_std`` deviations, and its batches."""
            std = jnp.std(inputs, ddof=1)
            new = (b * seen + self.training.range_std * std) / (seen + 1)
            good = std > 0
            return jnp.where(good, new, b), seen + good

        keep = lambda: (jnp.asarray(b), seen)
        new, seen = jax.lax.cond(seen < count, estimate, keep)
        new = jax.lax.stop_gradient(new)
        self.layer.put_variable(ESTIMATES, str(tile.index), jnp.stack([new, seen]))
        return b + jax.lax.stop_gradient(new - b)

    def leave(
        self, tile: Tile, vectors: Vectors, y: Array, weights: Array, b: Scalar
    ) -> Array:
        del tile
        return self._with_gradient(vectors(), y, weights, jnp.asarray(b))

    def enter_stack(
        self, tiles: tuple[Tile, ...], vectors: Vectors, b: Float[Array, "G"]
    ) -> Float[Array, "G"]:
        """Does what :meth:`enter` does for one tile of each group."""
        count = self.training.range_batches
        seen = self.seen[np.array([tile.index for tile in tiles])]
        inputs = jax.lax.stop_gradient(vectors())

        def estimate() -> tuple[Array, Array]:
            axes = (*range(inputs.ndim - 2), inputs.ndim - 1)
            std = jnp.std(inputs, axis=axes, ddof=1)
            new = (b * seen + self.training.range_std * std) / (seen + 1)
            good = (std > 0) & (seen < count)
            return jnp.where(good, new, b), seen + good

        keep = lambda: (b, seen)
        new, seen = jax.lax.cond(jnp.any(seen < count), estimate, keep)
        new = jax.lax.stop_gradient(new)
        for tile, row in zip(tiles, jnp.stack([new, seen], axis=1), strict=True):
            self.layer.put_variable(ESTIMATES, str(tile.index), row)
        return b + jax.lax.stop_gradient(new - b)

    def leave_stack(
        self,
        vectors: Vectors,
        y: Float[Array, "*b G O"],
        weights: Float[Array, "G O I"],
        b: Float[Array, "G"],
    ) -> Float[Array, "*b G O"]:
        """Does what :meth:`leave` does for one tile of each group."""
        each = jax.vmap(self._with_gradient, in_axes=(-2, -2, 0, 0), out_axes=-2)
        return each(vectors(), y, weights, b)

    def _with_gradient(self, vectors: Array, y: Array, weights: Array, b: Array) -> Array:
        t = self.training
        product = jax.lax.stop_gradient((vectors, weights))
        numbers = jnp.float32(t.range_decay), jnp.float32(t.range_min_share)
        return _with_range_gradient(y, b, *product, *numbers)


def forward(
    variables: PyTree,
    x: Float[Array, "B ..."],
    key: Key[Array, ""],
    hyper: Hyper,
    training: Training = RECIPE,
    *,
    module: nn.Module,
    plan: Plan,
    train: bool = True,
    source: str = "counter",
) -> tuple[Any, dict[str, Any]]:
    """Returns logits of clean weights with training noise, and the updated variables.

    Converters, clipping and noise act forward only; the backward pass is that of the ideal
    product (with the noisy weights and the converted inputs). Drift compensation is off.
    The module is called with ``train=True``; weights are drawn once a call, normal numbers
    from ``source``, ``"counter"`` or ``"threefry"``. With ``train=False`` it is the same
    pass without weight noise, with running statistics and nothing updated.
    Apply the optimiser to the *updated* variables, then :func:`project` them.

    Raises:
        UserError: the variables are those of a digital network.
    """
    av.check_converted(variables)
    learned, state = variables["analog"], variables["tiles"]
    weights = av.normalised(plan, variables)
    weight_key, output_key = jax.random.split(key)
    if train and plan.structure.modifier == "additive":
        tile_of = jnp.asarray(plan.tile_of)
        largest = tile_maximum(weights, tile_of, plan.num_tiles)[tile_of]
        stream = noise.streams(weight_key, 1)[0]
        draw = noise.normal(stream, (plan.num_weights,), source)
        disturbance = training.modifier_std * largest * draw
        weights = weights + jax.lax.stop_gradient(disturbance)
    values = TileValues(
        weights,
        state.scale,
        jnp.ones(plan.num_tiles, jnp.float32),
        av.positive_range(learned.input_range),
        learned.out_scale,
    )
    noise_source = Source(noise.streams(output_key, plan.num_streams), source)
    own = av.flax_variables(variables)
    if not train:
        hooks = Hooks()
        hooks.straight = True
        out = apply(module, plan, own, values, x, noise_source, hyper, hooks=hooks)
        return out, dict(variables)
    hooks = _TrainingHooks(state.seen, training)
    own[ESTIMATES] = _estimates(plan, learned, state)
    call: dict[str, Any] = {"train": True, "mutable": ["batch_stats", ESTIMATES]}
    call["rngs"] = {"dropout": jax.random.fold_in(key, 2)}
    out, changed = apply(
        module, plan, own, values, x, noise_source, hyper, hooks=hooks, **call
    )
    found = changed.pop(ESTIMATES)
    if plan.structure.input_range:
        learned, state = _updated(plan, found, learned, state)
    return out, {**variables, **changed, "analog": learned, "tiles": state}


def project(
    variables: PyTree, training: Training = RECIPE, *, plan: Plan
) -> dict[str, Any]:
    """Returns the variables after an optimiser step: weights clipped, then mapped anew.

    Gaussian clip: ``|w| <= clip_sigma * std(w)`` over the tile (unbiased). Remap: a learned
    output scale is multiplied into the weights, ``s <- max|W|``, so ``max|w| = 1``; the
    network's own weights ``W`` do not change by it.
    """
    structure = plan.structure
    learned, state = variables["analog"], variables["tiles"]
    scale = state.scale[jnp.asarray(plan.scale_of)]
    w = flatten(plan, variables["params"]) / scale
    if structure.clip == "gaussian":
        bound = training.clip_sigma * _tile_std(w, plan)[jnp.asarray(plan.tile_of)]
        w = jnp.clip(w, -bound, bound)
    elif structure.clip == "fixed":
        w = jnp.clip(w, -training.clip_value, training.clip_value)
    full = w * scale
    if structure.remap:
        if structure.out_scale:
            full = full * learned.out_scale[jnp.asarray(plan.column_of)]
            learned = learned._replace(out_scale=jnp.ones(plan.num_columns, jnp.float32))
        state = state._replace(scale=largest_scale(plan, full, 1.0))
    params = unflatten(plan, full, variables["params"])
    return {**variables, "params": params, "analog": learned, "tiles": state}


def _tile_std(w: Float[Array, "P"], plan: Plan) -> Float[Array, "K"]:
    """Returns the unbiased standard deviation of each tile's weights."""
    tile_of = jnp.asarray(plan.tile_of)
    sizes = jnp.asarray([t.rows * t.columns for t in plan.tiles], jnp.float32)
    total = lambda v: jax.ops.segment_sum(
        v, tile_of, plan.num_tiles, indices_are_sorted=True
    )
    centred = w - (total(w) / sizes)[tile_of]
    return jnp.sqrt(total(centred**2) / jnp.maximum(sizes - 1, 1))


@dataclass(frozen=True)
class FineTune:
    """What is static about :func:`fine_tune`.

    Raises:
        UserError: a number below 1, or a momentum outside [0, 1).
    """

    epochs: int = 10
    """Passes over the data; images that fill no batch are left out, others each time."""
    batch: int = 100  # images a step
    momentum: float = 0.9  # of SGD
    source: str = "counter"  # of normal numbers

    def __post_init__(self) -> None:
        noise.check_source(self.source)
        if min(self.epochs, self.batch) < 1 or not 0 <= self.momentum < 1:
            raise UserError(
                f"epochs={self.epochs} and batch={self.batch} must be 1 or more and "
                f"momentum={self.momentum} in [0, 1)."
            )


TEN_EPOCHS = FineTune()


def fine_tune(
    key: Key[Array, ""],
    variables: PyTree,
    images: Float[Array, "n ..."],
    labels: Int[Array, "n"],
    hyper: Hyper,
    training: Training = RECIPE,
    learning_rate: Scalar = 0.01,
    *,
    module: nn.Module,
    plan: Plan,
    settings: FineTune = TEN_EPOCHS,
) -> tuple[dict[str, Any], Float[Array, "steps"]]:
    """Returns the variables after hardware-aware training, and the loss of each step.

    SGD with momentum, cosine from ``learning_rate`` to zero, cross entropy; one scan. The
    momentum is in units of ``W`` (the toolkit has it in tile units, which differ
    only while scales move).

    Raises:
        UserError: fewer images than a batch.
    """
    av.check_converted(variables)
    steps = labels.shape[0] // settings.batch
    if not steps:
        raise UserError(
            f"{labels.shape[0]} images do not fill a batch of {settings.batch}; take a "
            "smaller batch."
        )
    order_key, noise_key = jax.random.split(key)
    shuffle = lambda k: jax.random.permutation(k, labels.shape[0])
    order = jax.vmap(shuffle)(jax.random.split(order_key, settings.epochs))
    order = order[:, : steps * settings.batch].reshape(-1, settings.batch)
    schedule = optax.cosine_decay_schedule(1.0, order.shape[0])
    optimiser = optax.chain(
        optax.trace(settings.momentum), optax.scale_by_schedule(schedule)
    )

    def loss_of(learned: PyTree, rest: PyTree, batch: PyTree, key: Array) -> Any:
        x, y = batch
        on: dict[str, Any] = {"module": module, "plan": plan, "source": settings.source}
        logits, updated = forward({**rest, **learned}, x, key, hyper, training, **on)
        loss = optax.softmax_cross_entropy_with_integer_labels(logits, y)
        return jnp.mean(loss), updated

    def step(carry: PyTree, item: PyTree) -> tuple[PyTree, Array]:
        variables, state = carry
        number, rows = item
        learned = {name: variables[name] for name in LEARNED}
        rest = {name: v for name, v in variables.items() if name not in LEARNED}
        own = jax.random.fold_in(noise_key, number)
        (loss, updated), gradient = jax.value_and_grad(loss_of, has_aux=True)(
            learned, rest, (images[rows], labels[rows]), own
        )
        changes, state = optimiser.update(gradient, state)
        changes = jax.tree.map(lambda c: -learning_rate * c, changes)
        moved: Any = optax.apply_updates({n: updated[n] for n in LEARNED}, changes)
        return (project({**updated, **moved}, training, plan=plan), state), loss

    state = optimiser.init({name: variables[name] for name in LEARNED})
    numbers = jnp.arange(order.shape[0], dtype=jnp.int32)
    (variables, _), losses = jax.lax.scan(step, (dict(variables), state), (numbers, order))
    return variables, losses
