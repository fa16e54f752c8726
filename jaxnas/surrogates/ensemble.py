"""A surrogate that says how sure it is: several small networks on the same labels.

    z = S(y), S monotone and fitted to the labels        (score of a label)
    m_e, v_e = network e;  mean = S^-1(avg_e m_e)
    epistemic = sd_e(m_e),  aleatoric = sqrt(avg_e v_e)  (in score, mapped back by S^-1)

    loss = mse (m - z)^2 + nll (log v + (m - z)^2 / v) / 2
         + rank log(1 + exp(-sign(z_i - z_j) (m_i - m_j))) over the pairs of a minibatch

Accuracies pile up just below the best one with a long tail of failures. With
``labels="ranks"`` S sends the labels to a normal distribution, so that the crowded top,
which a search is about, is as wide for the network as the tail; ``"values"`` standardises.

Network ``e`` never sees fold ``e`` of the rows. Its errors there are honest, and scale both
spreads such that three in four held-out labels fall inside the interval meant for them.

A row *extrapolates* when one of its features lies outside the range of the training rows,
or when the networks disagree more about it, in score and in any output, than they do about
any training row.

References: Lakshminarayanan et al., 2017 (deep ensembles); Burges et al., 2005 (the rank
loss); the folds follow Barber et al., 2021 (cross-conformal intervals), with one scale
instead of quantiles.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from jaxnas.core.errors import UserError
from jaxnas.core.layout import per_controller
from jaxnas.core.ranges import HPARAMS

MIN_ROWS = 10
"""Fewest labelled rows of a fit."""
GRID = np.array([-12.0, *np.linspace(-2.4, 2.4, 33), 12.0], np.float32)
"""Scores at which S^-1 is tabulated; it is linear between them and through the ends."""
END = 8
"""Knots whose mean slope continues S^-1 beyond the labels."""
COVER = 0.75
"""Share of held-out labels inside the interval that is scaled to hold that share."""
COVER_Z = 1.1503494
"""Half the width of that interval of a normal distribution."""
LOG_V = (-7.0, 3.0)
"""Bounds of the predicted log variance, in score."""
ADAM = optax.scale_by_adam()


@dataclass(frozen=True)
class Ensemble:
    """Shape of an ensemble and of its training; a static argument of :func:`fit`.

    Args:
        members: networks, each of which leaves out one fold of the rows; at least 2.
        hidden: widths of the hidden layers.
        steps: minibatch steps of each network.
        batch: rows of a minibatch, drawn with probability proportional to their weight.
        labels: what the networks learn, ``"ranks"`` or ``"values"``, see the module.

    Raises:
        UserError: a size that no ensemble has.
    """

    members: int = 5
    hidden: tuple[int, ...] = (64, 64)
    steps: int = 400
    batch: int = 64
    labels: str = "ranks"

    def __post_init__(self) -> None:
        if self.members < 2:
            raise UserError(
                f"An ensemble needs at least 2 members to disagree, got {self.members}."
            )
        if not self.hidden or min(*self.hidden, self.steps, self.batch) < 1:
            raise UserError("Hidden widths, steps and batch of an ensemble must be >= 1.")
        if self.labels not in ("ranks", "values"):
            raise UserError(f"labels must be 'ranks' or 'values', got {self.labels!r}.")


class EnsembleHparams(NamedTuple):
    """What appears in the formulas; all traced, so a grid of them is one program."""

    lr: Float[Array, ""] | float = 2e-2
    """Adam's first step size; it falls to 0 along a half cosine."""
    weight_decay: Float[Array, ""] | float = 0.3
    """Decoupled, multiplied by the step size."""
    mse: Float[Array, ""] | float = 1.0
    nll: Float[Array, ""] | float = 0.3
    rank: Float[Array, ""] | float = 0.3
    RANGES = HPARAMS


class EnsembleParams(NamedTuple):
    """A fitted ensemble; arrays only. ``E`` members, ``F`` features, ``K`` outputs."""

    kernels: tuple[Float[Array, "E _ _"], ...]
    biases: tuple[Float[Array, "E _"], ...]
    x_mean: Float[Array, "F"]
    x_scale: Float[Array, "F"]
    x_low: Float[Array, "F"]
    """Smallest value of each feature among the training rows."""
    x_high: Float[Array, "F"]
    knots: Float[Array, "G K"]
    """S^-1 at :data:`GRID`: the label of each score."""
    widen: Float[Array, "K"]
    """What both spreads are multiplied by, from the held-out folds."""
    limit: Float[Array, "K"]
    """Largest epistemic spread of a training row, in score."""


class Prediction(NamedTuple):
    """What an ensemble says, in the unit of the labels."""

    mean: Float[Array, "B K"]
    epistemic: Float[Array, "B K"]
    """Standard deviation between the members: shrinks with more labels."""
    aleatoric: Float[Array, "B K"]
    """Predicted standard deviation of a label: does not shrink."""
    extrapolates: Bool[Array, "B"]
    """Whether the training rows say nothing about such a row; see the module."""


class _Member(NamedTuple):
    """Weights of one network."""

    kernels: tuple[Float[Array, "_ _"], ...]
    biases: tuple[Float[Array, "_"], ...]


def check_rows(
    x: Float[np.ndarray, "N F"], y: Float[np.ndarray, "N K"], weight: Float[np.ndarray, "N"]
) -> None:
    """Refuses rows that no surrogate can be fitted on; host side, before :func:`fit`.

    Labels may be NaN where the weight is 0, which says that the row is absent.

    Raises:
        UserError: NaN or infinite labels or features, negative weights, too few rows.
    """
    if not (np.isfinite(weight).all() and (weight >= 0).all()):
        raise UserError("The weights of the training rows must be finite and not negative.")
    used = weight > 0
    broken = used & ~np.isfinite(y).all(axis=1)
    if broken.any():
        raise UserError(
            f"{int(broken.sum())} of {int(used.sum())} labels are NaN or infinite (first "
            f"in row {int(np.argmax(broken))}); leave those rows out or give them weight 0."
        )
    if not np.isfinite(x[used]).all():
        raise UserError("Some features of the training rows are NaN or infinite.")
    if used.sum() < MIN_ROWS:
        raise UserError(
            f"A surrogate needs at least {MIN_ROWS} labelled rows, got {int(used.sum())}."
        )


def fit(
    config: Ensemble,
    key: Key[Array, ""],
    x: Float[Array, "N F"],
    y: Float[Array, "N K"],
    weight: Float[Array, "N"],
    hparams: EnsembleHparams | None = None,
) -> EnsembleParams:
    """Returns an ensemble fitted to labelled rows; pure, and vmappable over data sets.

    Args:
        config: static.
        key: decides folds, first weights and minibatches.
        x: features in any units; standardised inside.
        y: labels in natural units; ignored, NaN too, where the weight is 0.
        weight: how often a row is drawn relative to others; 0 where it is absent.
        hparams: the preset when None.

    Whether the networks train one after another or side by side is a matter of the layout
    (:mod:`jaxnas.core.layout`). Check rows with :func:`check_rows`.
    """
    given = EnsembleHparams() if hparams is None else hparams
    hparams = EnsembleHparams(*(jnp.asarray(leaf, jnp.float32) for leaf in given))
    used = weight > 0
    y = jnp.where(used[:, None], y, 0.0)
    x = jnp.where(used[:, None], x, 0.0)
    share = weight / jnp.sum(weight)
    x_mean, x_scale = _moments(x, share)
    knots = jax.vmap(_knots, (1, None, None), 1)(y, share, config.labels == "ranks")
    scaled, z = (x - x_mean) / x_scale, _to_score(knots, y)
    fold_key, init_key, draw_key = jax.random.split(key, 3)
    fold = jax.random.permutation(fold_key, x.shape[0]) % config.members

    def train(
        member: Int[Array, ""], start: Key[Array, ""], draw: Key[Array, ""], *data: Array
    ) -> _Member:
        return _train(config, member, start, draw, *data)

    axes = (0, 0, 0, *(None,) * 9)
    numbers, data = jnp.arange(config.members, dtype=jnp.int32), (scaled, z, share, fold)
    keys = (jax.random.split(one, config.members) for one in (init_key, draw_key))
    trained = jax.vmap(per_controller(train), axes)(numbers, *keys, *data, *hparams)
    means, variances = jax.vmap(_forward, (0, None))(trained, scaled)
    own = jnp.take_along_axis(means, fold[None, :, None], axis=0)[0]
    epistemic = jnp.std(means, axis=0)
    total = jnp.sqrt(epistemic**2 + jnp.mean(variances, axis=0))
    ratio = jnp.abs(z - own) / total
    widen = jax.vmap(_quantile, (1, None, None))(ratio, share, COVER) / COVER_Z
    return EnsembleParams(
        kernels=trained.kernels,
        biases=trained.biases,
        x_mean=x_mean,
        x_scale=x_scale,
        x_low=jnp.min(jnp.where(used[:, None], x, jnp.inf), axis=0),
        x_high=jnp.max(jnp.where(used[:, None], x, -jnp.inf), axis=0),
        knots=knots,
        widen=widen,
        limit=jnp.max(jnp.where(used[:, None], epistemic, 0.0), axis=0),
    )


def predict(config: Ensemble, params: EnsembleParams, x: Float[Array, "B F"]) -> Prediction:
    """Returns mean, spreads and extrapolation flag of each row by itself; pure."""
    members = _Member(params.kernels, params.biases)
    scaled = (x - params.x_mean) / params.x_scale
    means, variances = jax.vmap(_forward, (0, None))(members, scaled)
    mean, epistemic = jnp.mean(means, axis=0), jnp.std(means, axis=0)
    aleatoric = jnp.sqrt(jnp.mean(variances, axis=0))
    slack = 1e-5 * params.x_scale
    outside = (x < params.x_low - slack) | (x > params.x_high + slack)
    unsure = epistemic > params.limit * (1 + 1e-5)

    def spread(of: Float[Array, "B K"]) -> Float[Array, "B K"]:
        half = of * params.widen
        high, low = (_to_label(params.knots, at) for at in (mean + half, mean - half))
        return (high - low) / 2

    return Prediction(
        mean=_to_label(params.knots, mean),
        epistemic=spread(epistemic),
        aleatoric=spread(aleatoric),
        extrapolates=jnp.any(outside, axis=1) | jnp.any(unsure, axis=1),
    )


def _train(
    config: Ensemble,
    member: Int[Array, ""],
    init_key: Key[Array, ""],
    draw_key: Key[Array, ""],
    x: Float[Array, "N F"],
    z: Float[Array, "N K"],
    share: Float[Array, "N"],
    fold: Int[Array, "N"],
    *hparams: Float[Array, ""],
) -> _Member:
    """Returns one network trained on the rows outside its own fold."""
    settings = EnsembleHparams(*hparams)
    cdf = jnp.cumsum(jnp.where(fold == member, 0.0, share))
    uniforms = jax.random.uniform(draw_key, (config.steps, config.batch), dtype=jnp.float32)
    rows = jnp.searchsorted(cdf, uniforms * cdf[-1], side="right")
    rows = jnp.minimum(rows, x.shape[0] - 1)
    network = _start(init_key, (x.shape[1], *config.hidden, 2 * z.shape[1]))

    def step(carry: PyTree, t: Int[Array, ""]) -> tuple[PyTree, None]:
        network, adam = carry
        here = rows[t]
        grads = jax.grad(_loss)(network, x[here], z[here], settings)
        moves, adam = ADAM.update(grads, adam)
        lr = settings.lr * 0.5 * (1 + jnp.cos(math.pi * t / config.steps))
        descend = lambda p, m: p - lr * (m + settings.weight_decay * p)
        return (jax.tree.map(descend, network, moves), adam), None

    state = (network, ADAM.init(network))
    (network, _), _ = jax.lax.scan(step, state, jnp.arange(config.steps, dtype=jnp.int32))
    return network


def _loss(
    network: _Member,
    x: Float[Array, "b F"],
    z: Float[Array, "b K"],
    hparams: EnsembleHparams,
) -> Float[Array, ""]:
    mean, variance = _forward(network, x)
    square = jnp.square(mean - z)
    nll = 0.5 * jnp.mean(jnp.log(variance) + square / variance)
    order = jnp.sign(z[:, None] - z[None, :])
    gap = mean[:, None] - mean[None, :]
    rank = jnp.mean(jnp.abs(order) * jax.nn.softplus(-order * gap))
    return hparams.mse * jnp.mean(square) + hparams.nll * nll + hparams.rank * rank


def _start(key: Key[Array, ""], sizes: tuple[int, ...]) -> _Member:
    """Returns He-normal weights, the last layer ten times smaller, and zero biases."""
    keys = jax.random.split(key, len(sizes) - 1)
    kernels = []
    for place, (one, wide, out) in enumerate(zip(keys, sizes[:-1], sizes[1:], strict=True)):
        gain = 0.1 if place == len(sizes) - 2 else 1.0
        scale = gain * math.sqrt(2 / wide)
        kernels.append(scale * jax.random.normal(one, (wide, out), dtype=jnp.float32))
    return _Member(tuple(kernels), tuple(jnp.zeros(out, jnp.float32) for out in sizes[1:]))


def _forward(
    network: _Member, x: Float[Array, "B F"]
) -> tuple[Float[Array, "B K"], Float[Array, "B K"]]:
    """Returns mean and variance of each row's score."""
    layers = list(zip(network.kernels, network.biases, strict=True))
    for kernel, bias in layers[:-1]:
        x = jax.nn.silu(x @ kernel + bias)
    kernel, bias = layers[-1]
    mean, log_v = jnp.split(x @ kernel + bias, 2, axis=-1)
    return mean, jnp.exp(jnp.clip(log_v, *LOG_V))


def _moments(
    x: Float[Array, "N F"], share: Float[Array, "N"]
) -> tuple[Float[Array, "F"], Float[Array, "F"]]:
    """Returns weighted mean and standard deviation; 1 where a column is constant."""
    mean = share @ x
    scale = jnp.sqrt(share @ jnp.square(x - mean))
    return mean, jnp.where(scale > 1e-6 * (1 + jnp.abs(mean)), scale, 1.0)


def _quantile(
    y: Float[Array, "N"], share: Float[Array, "N"], at: Float[Array, "*g"] | float
) -> Float[Array, "*g"]:
    """Returns weighted quantiles, linear between the middles of the rows' shares."""
    largest = jnp.max(jnp.where(share > 0, y, -jnp.inf))
    y = jnp.where(share > 0, y, largest)
    order = jnp.argsort(jnp.where(share > 0, y, jnp.inf))
    middle = jnp.cumsum(share[order]) - 0.5 * share[order]
    return jnp.interp(jnp.asarray(at, jnp.float32), middle, y[order])


def _knots(y: Float[Array, "N"], share: Float[Array, "N"], rank: bool) -> Float[Array, "G"]:
    """Returns S^-1 at :data:`GRID`, strictly increasing.

    Quantiles of the labels at normal probabilities, with a small slope so that equal labels
    keep an inverse; beyond them the mean slope of the last few goes on. Without ``rank``
    the straight line of mean and standard deviation.
    """
    mean, scale = _moments(y[:, None], share)
    line = mean + scale * GRID
    if not rank:
        return line
    inner = GRID[1:-1]
    q = _quantile(y, share, jax.scipy.stats.norm.cdf(inner)) + 1e-3 * scale * inner
    step = inner[END] - inner[0]
    low = q[0] - (q[END] - q[0]) / step * (inner[0] - GRID[0])
    high = q[-1] + (q[-1] - q[-1 - END]) / step * (GRID[-1] - inner[-1])
    return jnp.concatenate([low[None], q, high[None]])


def _to_label(knots: Float[Array, "G K"], z: Float[Array, "B K"]) -> Float[Array, "B K"]:
    """Returns S^-1 of scores."""
    return jax.vmap(lambda one, k: jnp.interp(one, GRID, k), 1, 1)(z, knots)


def _to_score(knots: Float[Array, "G K"], y: Float[Array, "B K"]) -> Float[Array, "B K"]:
    """Returns S of labels."""
    return jax.vmap(lambda one, k: jnp.interp(one, k, GRID), 1, 1)(y, knots)
