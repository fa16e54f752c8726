"""Training: what is learned, what it costs, and the original's faults as planted ones."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas.core import tokens as tk
from jaxnas.core.errors import UserError
from jaxnas.latent import codebook as cb
from jaxnas.latent import labels as lb
from jaxnas.latent.dataset import split
from jaxnas.latent.fit import Hparams, Plan, fit
from jaxnas.latent.quality import assess, warn_if_collapsed
from jaxnas.latent.vqvae import VQVAE
from jaxnas.registry import make_oracle, make_space

SHORT = Plan(steps=20, batch=16, labelled=8, records=2)
KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def measure(small):
    """Compiled measurement of the small model's parameters on its held-out rows."""
    rows, scores = jnp.asarray(small.heldout), jnp.asarray(small.scores, jnp.float32)
    return jax.jit(lambda params: assess(small.model, params, KEY, rows, scores))


def leaves_close(a, b, **tolerance):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(x, y, **tolerance)


def test_it_reconstructs_architectures_that_it_has_not_seen(small, measure):
    found = measure(small.fitted.params)
    assert found.match > 0.85, "of 150 held out; guessing is right once in 1,549"
    assert found.validity == 1.0
    assert found.perplexity > 4
    assert found.score_r2 > 0.4
    assert found.score_rank > 0.6
    assert found.smoothness > 0.5


def test_curves_fall_and_no_term_of_the_loss_is_negative(small):
    curves = small.fitted.curves
    assert {v.shape for v in curves.values()} == {(10,)}
    for name in ("reconstruction", "commitment", "codebook", "divergence", "score", "loss"):
        assert np.min(curves[name]) >= 0, name
    assert curves["reconstruction"][-1] < 0.1 * curves["reconstruction"][0]
    assert curves["match"][-1] > 0.95
    assert np.max(curves["perplexity"]) <= small.model.codes + 1e-4


class Short(NamedTuple):
    """A short fit of a small model, compiled once for the tests that only compare."""

    function: Any
    compiled: Any
    labels: lb.Labels
    hparams: Hparams
    traces: list


@pytest.fixture(scope="module")
def short(small):
    model = dataclasses.replace(small.model, hidden=8, layers=0)
    some = lb.make_labels(small.train[:30], small.score(small.train[:30]))
    hparams = jax.tree.map(jnp.float32, Hparams(dropout=0.1))
    traces = []

    def run(key, known, hparams):
        traces.append(1)
        return fit(model, key, jnp.asarray(small.train), known, hparams, SHORT)

    return Short(run, jax.jit(run), some, hparams, traces)


def test_vmapping_over_keys_labels_and_settings_equals_a_loop(short):
    keys = jax.random.split(KEY, 2)
    weight = jnp.asarray(np.random.default_rng(0).random((2, 30)) < 0.5, jnp.float32)
    known = jax.vmap(lambda w: short.labels._replace(weight=w))(weight)
    settings = jax.tree.map(lambda v: jnp.stack([v, 2 * v]), short.hparams)
    settings = settings._replace(ema=jnp.asarray([0.95, 0.9]))
    many = jax.jit(jax.vmap(short.function))(keys, known, settings)
    for i in range(2):
        row = lambda tree, i=i: jax.tree.map(lambda leaf: leaf[i], tree)
        one = short.compiled(keys[i], row(known), row(settings))
        leaves_close(row(many), one, rtol=2e-3, atol=2e-4)


def test_every_setting_changes_the_fit_without_another_trace(short):
    """Dropout among them: the original had the layers and never applied them."""
    short.compiled(KEY, short.labels, short.hparams)
    before = len(short.traces)
    reference = short.compiled(KEY, short.labels, short.hparams).params
    for name, value in short.hparams._asdict().items():
        change = 200 * value if name == "revive" else 0.5 * value
        hparams = short.hparams._replace(**{name: change})
        other = short.compiled(KEY, short.labels, hparams).params
        pairs = zip(jax.tree.leaves(reference), jax.tree.leaves(other), strict=True)
        assert any(not np.allclose(a, b, atol=1e-6) for a, b in pairs), name
    assert len(short.traces) == before


def test_absent_labels_are_not_read(short):
    run = lambda known: short.compiled(KEY, known, short.hparams)
    weight = (jnp.arange(30) < 15).astype(jnp.float32)
    half = short.labels._replace(weight=weight)
    nan = half._replace(scores=jnp.where(weight > 0, half.scores, jnp.nan))
    leaves_close(run(half), run(nan), rtol=1e-6)
    none = run(nan._replace(weight=jnp.zeros(30)))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(none))
    assert np.max(none.curves["score"]) == 0
    changed = run(half._replace(scores=half.scores**2))
    assert not np.allclose(changed.curves["score"], run(half).curves["score"])


def decoder_inputs(model, params, tokens):
    """How many different latents the decoder is given for these architectures."""
    latents = jax.jit(jax.vmap(lambda t: model.encode(params, t)))(jnp.asarray(tokens))
    return len(np.unique(np.round(np.asarray(latents), 5), axis=0))


def test_codes_are_the_nearest_and_each_architecture_has_its_own(small):
    model, params = small.model, small.fitted.params
    assert decoder_inputs(model, params, small.train) > 0.9 * len(small.train)
    x = jax.vmap(lambda t: model.project(params, t))(jnp.asarray(small.heldout))
    gaps = ((np.asarray(x)[:, :, None] - np.asarray(params.codes)) ** 2).sum(-1)
    chosen = jax.vmap(lambda t: model.choose(params, t))(jnp.asarray(small.heldout))
    np.testing.assert_array_equal(chosen, gaps.argmin(-1))


def test_label_mode_has_14_inputs_and_cannot_beat_the_bin_means():
    """The original's code was the label: whatever the training, this bound holds.

    Numeric features as in the original; the bound is exact, and our model nears it.
    """
    space = make_space("analog-resnet", variant="csv")
    tokens = split(space, 300, 1, seed=1).train
    features = np.asarray(jax.vmap(space.features)(jnp.asarray(tokens)), np.float64)
    scores = features @ np.random.default_rng(0).standard_normal(22)
    bins = lb.bin_scores(scores, 14, lb.quantile_edges(scores, 14))
    bound = lb.floor(features, bins)
    model = VQVAE(
        space,
        mode="label",
        output="features",
        codes=14,
        dims=8,
        hidden=32,
        layers=1,
        ema=False,
    )
    known = lb.make_labels(tokens, scores)
    plan = Plan(steps=600, batch=64, labelled=8, records=2)
    run = jax.jit(
        lambda key, bins: fit(model, key, jnp.asarray(tokens), known, plan=plan, bins=bins)
    )
    params = run(KEY, jnp.asarray(bins)).params
    assert decoder_inputs(model, params, tokens) <= 14
    out = jax.vmap(lambda z: model.outputs(params, z))(params.codes)
    error = float(np.mean((np.asarray(out, np.float64)[bins] - features) ** 2))
    assert error >= bound
    assert error < 1.3 * bound, "it is the bound that limits it, not the training"
    assert np.mean(features.var(axis=0)) > bound > 0


def test_a_collapsed_codebook_is_said_with_the_number_of_live_codes(small, measure):
    params = small.fitted.params
    far = params.codes.at[1:].set(1e3)
    dead = measure(params._replace(codes=far))
    with pytest.warns(UserWarning, match="collapsed: 1 of 10 codes are in use"):
        warn_if_collapsed(small.model, dead)
    warn_if_collapsed(small.model, measure(params))


def test_revival_keeps_codes_alive():
    """Codes that start far from every encoder output; without revival they stay dead."""
    book = cb.init(KEY, 8, 2)
    lost = book.codes.at[2:].set(50.0)
    book = book._replace(codes=lost, sums=lost)
    x = jax.random.normal(KEY, (64, 2))

    def step(state, key):
        floor, book = state
        index = cb.nearest(book.codes, x)
        book = cb.follow(cb.observe(book, index), x, index, 0.9)
        return (floor, cb.revive(key, book, x, floor)), None

    def alive(floor):
        (_, last), _ = jax.lax.scan(step, (floor, book), jax.random.split(KEY, 300))
        return len(np.unique(cb.nearest(last.codes, x)))

    assert alive(0.0) == 2
    assert alive(0.1) == 8


def test_bad_plans_and_modes_are_refused(small):
    with pytest.raises(UserError, match="equal records"):
        Plan(steps=41, records=2)
    with pytest.raises(UserError, match="at least 1"):
        Plan(batch=0)
    with pytest.raises(UserError, match="needs the bin"):
        fit(
            dataclasses.replace(small.model, mode="label", positions=1),
            KEY,
            jnp.asarray(small.train),
            lb.no_labels(6),
        )


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_nb201_is_reconstructed_exactly_on_held_out_architectures(seed):
    """The defaults, 150 labels; AnalogNAS-Bench's accuracy after a month as the score."""
    oracle = make_oracle("analog-nasbench")
    space = oracle.space
    train, heldout = split(space, 8192, 15625 - 8192, seed)
    truth = oracle.columns()["analog_1month"]
    value = lambda tokens: truth[np.asarray(tk.index(space, jnp.asarray(tokens)))]
    model = VQVAE(space)
    some = lb.make_labels(train[:150], value(train[:150]))
    fitted = jax.jit(lambda key: fit(model, key, jnp.asarray(train), some))(
        jax.random.key(seed)
    )
    rows = jnp.asarray(heldout[:3000])
    measure = jax.jit(lambda p, x, y: assess(model, p, KEY, x, y))
    found = measure(fitted.params, rows, jnp.asarray(value(heldout[:3000]), jnp.float32))
    assert found.match >= 0.99
    assert found.validity == 1.0
    assert found.live_codes == 10
    assert found.smoothness > 0.4
    assert abs(found.mean) < 0.05
    assert 0.95 < found.spread < 1.05
