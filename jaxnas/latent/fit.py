"""Training of a supervised VQ-VAE: one scan, pure, vmappable over keys and settings."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, Key, PyTree

from jaxnas.core.errors import UserError
from jaxnas.core.ranges import HPARAMS
from jaxnas.latent import codebook as cb
from jaxnas.latent.labels import Labels
from jaxnas.latent.networks import Scalar
from jaxnas.latent.vqvae import VQVAE, Params, rescale

ADAM = optax.scale_by_adam(eps=1e-8)
"""The moments; step size and weight decay are traced."""


class Hparams(NamedTuple):
    """Traced settings of a fit."""

    lr: Scalar = 1e-2
    """Peak step size; it rises over the first 2 % and falls to 0 as a cosine."""
    weight_decay: Scalar = 1e-4
    """Decoupled, of the networks; codes do not decay."""
    commitment: Scalar = 0.5
    divergence: Scalar = 0.25
    """Weight of the bounded crowding of the codes."""
    score: Scalar = 0.1
    """Weight of the score head's squared error."""
    jitter: Scalar = 1.0
    """Standard deviation of the noise on the latents that the score head learns from, in
    units of the codes' own spread: the head is smooth over that distance."""
    ema: Scalar = 0.95
    """Decay of the moving averages of the codes."""
    revive: Scalar = 0.1
    """A code is dead whose usage is below this share of 1 / K; 0 revives none."""
    dropout: Scalar | None = None
    """Probability that a hidden unit is dropped; None leaves the layers out."""
    RANGES = HPARAMS


@dataclass(frozen=True)
class Plan:
    """How long and on how much a fit trains.

    Args:
        steps: gradient steps.
        batch: architectures a step.
        labelled: labelled architectures a step, on top.
        records: points of the training curves; must divide ``steps``.

    Raises:
        UserError: sizes that do not fit.
    """

    steps: int = 2000
    batch: int = 128
    labelled: int = 64
    records: int = 40

    def __post_init__(self) -> None:
        if min(self.steps, self.batch, self.labelled, self.records) < 1:
            raise UserError("Steps, batch, labelled and records must be at least 1.")
        if self.steps % self.records:
            raise UserError(f"{self.steps} steps do not make {self.records} equal records.")


DEFAULTS = Hparams()
PLAN = Plan()


class Fitted(NamedTuple):
    """A trained model and how it came about."""

    params: Params
    curves: dict[str, Float[Array, "R"]]
    """Means over each record: ``loss``, its parts, ``match`` (share of training
    architectures that every token is right of) and ``perplexity``."""


class _State(NamedTuple):
    """What a step carries."""

    nets: PyTree
    """``(encoder, decoder, head)``."""
    adam: PyTree
    book: cb.Codebook
    book_adam: PyTree


def fit(
    model: VQVAE,
    key: Key[Array, ""],
    tokens: Int[Array, "N L"],
    labels: Labels,
    hparams: Hparams = DEFAULTS,
    plan: Plan = PLAN,
    bins: Int[Array, "N"] | None = None,
) -> Fitted:
    """Returns a trained model; pure, and vmappable over ``key``, ``labels``, ``hparams``.

    reconstruction + commitment |x - e|^2 + codebook |e - x|^2 (gradient codes only)
        + divergence * crowding + score * (head - score)^2

    ``tokens`` are reconstructed and need no label; ``labels`` train the score head, with
    all weights 0 for none; ``bins`` is each architecture's code, in label mode only.

    Raises:
        UserError: label mode without ``bins``, or the reverse.
    """
    if (model.mode == "label") != (bins is not None):
        raise UserError(
            "Label mode needs the bin of every architecture, and only label mode does; "
            "see labels.bin_scores."
        )
    mean, scale = _moments(labels)
    start, run = jax.random.split(key)
    params = model.init(start)
    nets = (params.encoder, params.decoder, params.head)
    book = cb.init(jax.random.fold_in(start, 1), model.codes, model.dims)
    state = _State(nets, ADAM.init(nets), book, ADAM.init(book.codes))
    targets = jnp.where(labels.weight > 0, (labels.scores - mean) / scale, 0.0)
    data = _Data(tokens, labels.tokens, targets, jnp.cumsum(labels.weight), bins)

    def step(state: _State, t: Int[Array, ""]) -> tuple[_State, dict[str, Array]]:
        return _step(model, plan, hparams, data, jax.random.fold_in(run, t), state, t)

    def record(state: _State, first: Int[Array, ""]) -> tuple[_State, dict[str, Array]]:
        each = plan.steps // plan.records
        numbers = first + jnp.arange(each, dtype=jnp.int32)
        state, metrics = jax.lax.scan(step, state, numbers)
        return state, jax.tree.map(jnp.mean, metrics)

    firsts = jnp.arange(plan.records, dtype=jnp.int32) * (plan.steps // plan.records)
    state, curves = jax.lax.scan(record, state, firsts)
    encoder, decoder, head = state.nets
    codes, usage = state.book.codes, state.book.usage
    params = Params(encoder, decoder, head, codes, usage, mean, scale)
    return Fitted(rescale(model, params), curves)


class _Data(NamedTuple):
    """The training set."""

    tokens: Int[Array, "N L"]
    labelled: Int[Array, "M L"]
    targets: Float[Array, "M"]
    cumulative: Float[Array, "M"]
    bins: Int[Array, "N"] | None


def _moments(labels: Labels) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Returns weighted mean and standard deviation of the scores, 0 and 1 for none."""
    total = jnp.sum(labels.weight)
    weight = labels.weight / jnp.maximum(total, 1e-9)
    scores = jnp.where(labels.weight > 0, labels.scores, 0.0)
    mean = jnp.sum(weight * scores)
    scale = jnp.sqrt(jnp.sum(weight * (scores - mean) ** 2))
    return mean, jnp.where(scale > 0, scale, 1.0)


def _step(
    model: VQVAE,
    plan: Plan,
    hparams: Hparams,
    data: _Data,
    key: Key[Array, ""],
    state: _State,
    t: Int[Array, ""],
) -> tuple[_State, dict[str, Array]]:
    """Returns the state after one gradient step on one batch, and its metrics."""
    rows_key, labelled_key, revive_key, drop_key = jax.random.split(key, 4)
    rows = jax.random.randint(rows_key, (plan.batch,), 0, len(data.tokens), dtype=jnp.int32)
    uniform = jax.random.uniform(labelled_key, (plan.labelled,), dtype=jnp.float32)
    total = data.cumulative[-1]
    known = jnp.searchsorted(data.cumulative, uniform * total, side="right")
    known = jnp.minimum(known, data.targets.shape[0] - 1)
    bins = None if data.bins is None else data.bins[rows]
    some = (total > 0).astype(jnp.float32)
    batch = _Batch(data.tokens[rows], data.labelled[known], data.targets[known], some, bins)
    gradient = jax.value_and_grad(_loss, argnums=(1, 2), has_aux=True)
    (_, (metrics, x, index)), (grads, book_grad) = gradient(
        model, state.nets, state.book.codes, hparams, batch, drop_key
    )
    lr = hparams.lr * _schedule(t.astype(jnp.float32), plan.steps)
    moves, adam = ADAM.update(grads, state.adam)
    descend = lambda p, m: p - lr * (m + hparams.weight_decay * p)
    nets = jax.tree.map(descend, state.nets, moves)
    book, book_adam = _move_codes(model, hparams, state, book_grad, x, index, lr)
    if model.mode == "instance":
        revived = cb.revive(revive_key, book, x, hparams.revive)
        late = t >= 0.7 * plan.steps  # the last third trains on codes that stay
        book = jax.tree.map(lambda new, old: jnp.where(late, old, new), revived, book)
    return _State(nets, adam, book, book_adam), metrics


def _move_codes(
    model: VQVAE,
    hparams: Hparams,
    state: _State,
    grad: Float[Array, "K D"],
    x: Float[Array, "n D"],
    index: Int[Array, "n"],
    lr: Scalar,
) -> tuple[cb.Codebook, PyTree]:
    """Returns the codes after one step, by moving averages or by their gradient."""
    book = cb.observe(state.book, index)
    if model.ema:
        book = cb.follow(book, x, index, hparams.ema)
        # the loss leaves only the crowding term in the gradient of averaged codes
        push = lr * grad
        sums = book.sums - push * book.counts[:, None]
        return book._replace(codes=book.codes - push, sums=sums), state.book_adam
    move, adam = ADAM.update(grad, state.book_adam)
    return book._replace(codes=book.codes - lr * jnp.asarray(move)), adam


def _schedule(t: Float[Array, ""], steps: int) -> Float[Array, ""]:
    """Returns the share of the peak step size: linear warm-up, then a cosine to 0."""
    warm = max(steps // 50, 1)
    rise = jnp.minimum((t + 1) / warm, 1.0)
    return rise * 0.5 * (1 + jnp.cos(jnp.pi * t / steps))


class _Batch(NamedTuple):
    """What one step sees."""

    tokens: Int[Array, "B L"]
    labelled: Int[Array, "C L"]
    targets: Float[Array, "C"]
    has_labels: Float[Array, ""]
    bins: Int[Array, "B"] | None


def _loss(
    model: VQVAE,
    nets: PyTree,
    codes: Float[Array, "K D"],
    hparams: Hparams,
    batch: _Batch,
    key: Key[Array, ""],
) -> tuple[Float[Array, ""], Any]:
    """Returns the loss with ``(metrics, encoder outputs [n D], codes chosen [n])``.

    reconstruction + codebook (gradient codes only) + commitment + divergence + score
    """
    encoder, decoder, head = nets
    keys = jax.random.split(key, 3)
    size = batch.tokens.shape[0]
    # label mode learns its codes from the bins alone, so it has no unbinned rows to encode
    both = jnp.concatenate([batch.tokens, batch.labelled])
    inputs = jax.vmap(model.inputs)(both)
    x = jnp.asarray(model.encoder.apply(encoder, inputs, hparams.dropout, keys[0]))
    x = x.reshape(-1, model.positions, model.dims)
    index = cb.nearest(jax.lax.stop_gradient(codes), x)
    if batch.bins is not None:
        index = jnp.concatenate([batch.bins[:, None], index[size:]])
    fixed = jax.lax.stop_gradient(codes) if model.ema else codes
    quantised = fixed[index]
    latent = cb.straight_through(x, quantised).reshape(len(both), -1)
    out = jnp.asarray(model.decoder.apply(decoder, latent, hparams.dropout, keys[1]))
    recon, match = _reconstruction(model, out, inputs)
    noise = hparams.jitter * jax.lax.stop_gradient(jnp.std(codes))
    drawn = jax.random.normal(keys[2], latent[size:].shape, dtype=jnp.float32)
    guess = jnp.asarray(model.head.apply(head, latent[size:] + noise * drawn))
    parts = {
        "reconstruction": recon,
        "commitment": cb.commitment_loss(x, quantised),
        "codebook": cb.codebook_loss(x, quantised),
        "divergence": cb.divergence_loss(codes),
        "score": batch.has_labels * jnp.mean((guess[:, 0] - batch.targets) ** 2),
    }
    loss = (
        parts["reconstruction"]
        + hparams.commitment * parts["commitment"]
        + hparams.divergence * parts["divergence"]
        + hparams.score * parts["score"]
    )
    if not model.ema:
        loss = loss + parts["codebook"]
    flat = index.reshape(-1)
    use = cb.perplexity(cb.choice_counts(flat, model.codes))
    metrics = {"loss": loss, **parts, "match": match, "perplexity": use}
    rows = x.reshape(-1, model.dims)
    return loss, (metrics, jax.lax.stop_gradient(rows), flat)


def _reconstruction(
    model: VQVAE, out: Float[Array, "B I"], inputs: Float[Array, "B I"]
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Returns the loss of what the decoder says, and the share of exact matches.

    Cross-entropy a token, summed over an architecture (the mask plays no part: a token that
    never occurs after a prefix is unlearned like any other); squared error of features.
    """
    if model.output == "features":
        exact = jnp.all(jnp.round(out) == jnp.round(inputs), axis=-1)
        return jnp.mean((out - inputs) ** 2), jnp.mean(exact.astype(jnp.float32))
    shape = (-1, model.space.length, model.space.vocab)
    logits, truth = out.reshape(shape), inputs.reshape(shape)
    terms = optax.softmax_cross_entropy(logits, truth)
    exact = jnp.all(jnp.argmax(logits, -1) == jnp.argmax(truth, -1), axis=-1)
    return jnp.mean(jnp.sum(terms, -1)), jnp.mean(exact.astype(jnp.float32))
