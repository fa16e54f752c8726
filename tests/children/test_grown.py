"""A growing network behind masks is what its spec says; morphs keep its function."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from networks import torch_logits

from jaxnas.children import grown as gr
from jaxnas.children import train as tr
from jaxnas.children.build import build
from jaxnas.children.count import arrays as array_shapes
from jaxnas.children.weights import from_arrays, to_arrays
from jaxnas.core import tokens as tk
from jaxnas.core.errors import UserError
from jaxnas.spaces.grown import Grown
from jaxnas.spaces.growth import Limits, limits_of
from jaxnas.spaces.toy import Toy

SPACE = Grown(stages=2, steps=6, levels=2, depth=2, image=(6, 6, 1), num_classes=3)
LIMITS = SPACE.limits
MODULE = gr.GrownChild(LIMITS)
X = jnp.asarray(np.random.default_rng(0).uniform(-1, 1, (96, 6, 6, 1)), jnp.float32)
Y = jnp.arange(96, dtype=jnp.int32) % 3
DATA = tr.Images(X[:64], Y[:64], X[64:], Y[64:])
TRAINING = tr.Training(1, 16)
KEY = jax.random.key(0)

apply = jax.jit(MODULE.apply)
morph = jax.jit(functools.partial(gr.morphed, LIMITS))


@jax.jit
def advance(variables, action, key):
    return gr.advanced(LIMITS, variables, action, key, DATA, TRAINING, tr.Hparams())


@pytest.fixture(scope="module")
def start():
    """A network of the least size, its batch norm as if trained."""
    made = jax.jit(functools.partial(gr.started, LIMITS))(KEY, X)
    rng = np.random.default_rng(0)
    spread = lambda x: jnp.asarray(rng.uniform(0.5, 1.5, x.shape), jnp.float32)
    norms = {k: v for k, v in made["params"].items() if "scale" in v}
    made["params"] |= jax.tree.map(spread, norms)
    return {**made, "batch_stats": jax.tree.map(spread, made["batch_stats"])}


def close(found, wanted):
    assert np.std(wanted) > 1e-3
    np.testing.assert_allclose(found, wanted, atol=1e-5 * np.abs(wanted).max(), rtol=0)


def grown(start, seed, train):
    """Yields tokens so far, network before and after each morph, with training between."""
    row, variables = np.asarray(tk.sample(jax.random.key(seed), SPACE)), start
    for t, token in enumerate(row):
        key = jax.random.fold_in(KEY, t)
        before = variables
        variables = morph(before, jnp.int32(token), key, X)
        yield np.r_[row[: t + 1], np.zeros(5 - t, np.int32)], before, variables
        if train:
            variables, curves = advance(variables, jnp.int32(0), key)
            assert np.isfinite(curves.val_loss).all()


@pytest.mark.parametrize("train", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_morphs_keep_the_function_and_the_torch_network_is_the_old_one(start, train):
    """Masked, extracted, and in torch: within 1e-5 of the network before each morph."""
    for seed in range(3):
        for tokens, before, after in grown(start, seed, train):
            wanted = np.asarray(apply(before, X))
            close(apply(after, X), wanted)
            exact = gr.extracted(LIMITS, after)
            close(torch_logits(SPACE.to_spec(tokens), exact, np.asarray(X)), wanted)
    assert morph._cache_size() == 1
    assert not train or advance._cache_size() == 1


@pytest.mark.slow
def test_masked_training_is_the_training_of_the_small_network(start):
    """Equal logits to 1e-3 after eight steps from equal weights, and nothing leaks."""
    made = morph(start, jnp.int32(3), KEY, X)  # deepen the first stage
    spec = SPACE.to_spec(np.array([3, 0, 0, 0, 0, 0], np.int32))
    child, exact = build(spec), gr.extracted(LIMITS, made)
    np.testing.assert_equal(
        {k: v.shape for k, v in to_arrays(exact).items()}, array_shapes(spec)
    )
    assert jax.tree.all(
        jax.tree.map(np.array_equal, exact, from_arrays(child, to_arrays(exact)))
    )
    masked, _ = advance(made, jnp.int32(0), KEY)
    key = jax.random.split(KEY)[1]
    fit = jax.jit(
        lambda v: tr.fit(tr.forward_of(child), v, DATA, key, TRAINING, tr.Hparams())
    )
    alone, _ = fit(jax.tree.map(jnp.asarray, exact))
    ours, theirs = apply(masked, X), jax.jit(child.apply)(alone, X)
    assert np.abs(np.asarray(theirs) - np.asarray(apply(made, X))).max() > 0.05
    np.testing.assert_allclose(ours, theirs, atol=1e-3)


@pytest.mark.slow
def test_training_sees_the_function_of_before_a_morph(start):
    """Batch statistics of all that the new layer was measured on are those of the batch."""
    run = jax.jit(lambda v: MODULE.apply(v, X, True, mutable=["batch_stats"]))
    for _ in range(200):
        start = {**start, **run(start)[1]}
    wanted = np.asarray(run(start)[0])
    for action in range(1, SPACE.vocab):
        made = morph(start, jnp.int32(action), KEY, X)
        np.testing.assert_allclose(run(made)[0], wanted, atol=1e-4)


def test_actions_beyond_the_limits_change_nothing(start):
    wide = morph(start, jnp.int32(1), KEY, X)
    for action in (1, -1, 7, 99):
        again = morph(wide, jnp.int32(action), KEY, X)
        assert jax.tree.all(jax.tree.map(np.array_equal, again, wide))


@pytest.mark.slow
def test_many_networks_grow_at_once(start):
    """``vmap`` over actions gives what each gives alone."""
    actions = jnp.arange(SPACE.vocab, dtype=jnp.int32)
    many = jax.jit(jax.vmap(lambda a: gr.morphed(LIMITS, start, a, KEY, X)))(actions)
    for i in (1, 4, 6):
        one = morph(start, actions[i], KEY, X)
        jax.tree.map(
            lambda a, b, i=i: np.testing.assert_allclose(a[i], b, atol=1e-6), many, one
        )


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"stages": 0}, "at least 1"),
        ({"levels": 40}, "at most 65536"),
        ({"depth": 65}, "1 to 64"),
        ({"stages": 4}, "cannot be halved for each of 4 stages"),
    ],
)
def test_limits_that_no_network_has_are_refused(change, word):
    plain = {"stages": 2, "channels": 4, "levels": 2, "depth": 2}
    with pytest.raises(UserError, match=word):
        Limits(**{**plain, **change}, image=(6, 6, 1), num_classes=3)


def test_a_space_that_does_not_grow_is_refused():
    assert limits_of(SPACE) == LIMITS
    with pytest.raises(UserError, match="'toy-v1' do not grow"):
        limits_of(Toy())
