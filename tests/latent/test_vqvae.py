"""The model: valid for every latent, codes where an environment expects them, scale."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas.core import tokens as tk
from jaxnas.core.errors import UserError
from jaxnas.latent.model import LatentModel
from jaxnas.latent.networks import Dense, dropout
from jaxnas.latent.vqvae import VQVAE, rescale
from jaxnas.registry import make_space
from jaxnas.spaces.toy import Toy

TOY = Toy(length=5, vocab=4)
RESNET = make_space("analog-resnet", variant="csv")
MODELS = {
    "toy": VQVAE(TOY, codes=5, dims=2, hidden=16),
    "nb201": VQVAE(make_space("nb201"), codes=5, hidden=16),
    "resnet tokens": VQVAE(make_space("analog-resnet"), codes=4, dims=2, hidden=16),
    "resnet features": VQVAE(RESNET, mode="label", output="features", dims=8, hidden=16),
}
KEY = jax.random.key(3)


def made(model):
    return jax.jit(model.init)(KEY)


def garbage(model, n=150):
    """Latents that nobody would write: huge, tiny, infinite, not a number."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((n, model.latent_size)) * 10.0 ** rng.integers(-3, 38, (n, 1))
    x[1::3] = np.where(rng.random(x[1::3].shape) < 0.5, np.nan, x[1::3])
    x[2::3] = np.where(rng.random(x[2::3].shape) < 0.5, -np.inf, np.inf)
    return jnp.asarray(x.astype(np.float32))


def valid_share(model, decode, latents):
    tokens = jax.jit(jax.vmap(decode))(latents)
    return float(jnp.mean(jax.vmap(lambda t: tk.is_valid(model.space, t))(tokens)))


@pytest.mark.parametrize("name", MODELS)
def test_every_float_vector_decodes_to_a_valid_architecture(name):
    model = MODELS[name]
    params = made(model)
    assert valid_share(model, lambda z: model.decode(params, z), garbage(model)) == 1.0


def test_the_validity_test_sees_a_decoder_without_the_mask():
    model = MODELS["toy"]
    params = made(model)
    shape = (TOY.length, TOY.vocab)
    plain = lambda z: jnp.argmax(model.outputs(params, z).reshape(shape), -1).astype(
        jnp.int32
    )
    normal = jax.random.normal(KEY, (200, model.latent_size))
    assert valid_share(model, plain, normal) < 0.9


@pytest.mark.parametrize("name", ["toy", "resnet features"])
def test_protocol_sizes_and_entries(name):
    model = MODELS[name]
    params = made(model)
    assert isinstance(model, LatentModel)
    assert hash(model) == hash(dataclasses.replace(model))
    entries = np.asarray(model.entries(params))
    assert entries.shape == (model.num_codes, model.latent_size)
    for place in range(model.positions):
        part = entries[:, place * model.dims : (place + 1) * model.dims]
        np.testing.assert_array_equal(part, params.codes)
    tokens = tk.sample(KEY, model.space)
    latent = model.encode(params, tokens)
    assert latent.shape == (model.latent_size,)
    chosen = model.choose(params, tokens)
    written = np.concatenate([params.codes[c] for c in chosen])
    np.testing.assert_array_equal(latent, written)
    column = np.arange(model.latent_size)
    picked = entries[np.repeat(chosen, model.dims), column]
    np.testing.assert_array_equal(latent, picked, "an encoding is made of entries")


def test_jit_and_vmap_equal_one_at_a_time():
    model = MODELS["toy"]
    params = made(model)
    latents = jax.random.normal(KEY, (6, model.latent_size))
    many = jax.jit(jax.vmap(lambda z: model.decode(params, z)))(latents)
    for latent, tokens in zip(latents, many, strict=True):
        np.testing.assert_array_equal(model.decode(params, latent), tokens)


def test_the_published_sizes():
    """8 -> 512, 256, 128, 64, 32, 16 -> 22, counted by hand:
    4096+512 + 131072+256 + 32768+128 + 8192+64 + 2048+32 + 512+16 + 352+22 = 180,070."""
    model = VQVAE(
        RESNET,
        mode="label",
        output="features",
        codes=14,
        dims=8,
        hidden=512,
        layers=5,
        shrink=2,
    )
    assert model.widths == (512, 256, 128, 64, 32, 16)
    shapes = jax.eval_shape(model.init, KEY)
    count = lambda tree: sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(tree))
    assert count(shapes.decoder) == 180_070
    # the encoder is the same in the other direction: 22 inputs, 8 outputs
    assert count(shapes.encoder) == 180_070 + (22 - 8) * (512 - 16) - (22 - 8)
    assert shapes.codes.shape == (14, 8)


def spread(model, params, tokens):
    """Mean and root mean square of the latents of many architectures."""
    latents = jax.vmap(lambda t: model.encode(params, t))(tokens)
    return float(jnp.mean(latents)), float(jnp.std(latents))


def test_latents_have_mean_0_and_scale_1_and_the_published_scale_is_seen(small):
    """The original's codes had a standard deviation of 0.039 under a normal start."""
    model, params = small.model, small.fitted.params
    mean, scale = spread(model, params, jnp.asarray(small.train))
    assert abs(mean) < 0.1
    assert 0.9 < scale < 1.1
    shrunk = params._replace(codes=0.039 * params.codes)
    _, faulty = spread(model, shrunk, jnp.asarray(small.train))
    assert faulty < 0.1
    healed = rescale(model, shrunk)
    weight = np.asarray(healed.usage / healed.usage.sum())
    np.testing.assert_allclose(weight @ np.asarray(healed.codes), 0.0, atol=1e-5)
    np.testing.assert_allclose(
        np.mean(weight @ np.asarray(healed.codes) ** 2), 1.0, rtol=1e-4
    )


def test_rescaling_changes_no_code_no_decoding_and_no_score():
    model = MODELS["toy"]
    params = made(model)
    params = params._replace(codes=0.1 * params.codes + 3.0)
    after = rescale(model, params)

    def everything(params, tokens):
        latent = model.encode(params, tokens)
        return (
            model.choose(params, tokens),
            model.outputs(params, latent),
            model.score(params, latent),
        )

    rows = jax.vmap(lambda key: tk.sample(key, TOY))(jax.random.split(KEY, 40))
    run = jax.jit(jax.vmap(everything, in_axes=(None, 0)))
    for a, b in zip(run(params, rows), run(after, rows), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)


def test_dropout_drops_the_share_it_says_and_keeps_the_mean():
    x = jnp.ones((200, 500))
    for rate in (0.0, 0.25, 0.5):
        out = np.asarray(dropout(KEY, x, rate))
        # 1e5 draws: five standard deviations are below 0.008
        assert abs((out == 0).mean() - rate) < 0.008
        assert abs(out.mean() - 1) < 0.02
    net = Dense((32,), 4)
    params = net.init(KEY, jnp.ones(3))
    plain = net.apply(params, jnp.ones(3))
    np.testing.assert_array_equal(plain, net.apply(params, jnp.ones(3), 0.0, KEY))
    assert not np.allclose(plain, net.apply(params, jnp.ones(3), 0.5, KEY))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"mode": "labels"}, "must be one of"),
        ({"codes": 1}, "at least 2 codes"),
        ({"dims": 0}, "positive sizes"),
        ({"mode": "label", "positions": 2}, "positions=1"),
        ({"output": "features"}, "no numeric features"),
        ({"hidden": 4, "shrink": 2, "layers": 3}, "cannot shrink"),
    ],
)
def test_impossible_models_are_refused(options, text):
    with pytest.raises(UserError, match=text):
        VQVAE(TOY, **options)


def test_positions_default_to_one_a_token_and_one_in_label_mode():
    assert VQVAE(TOY).positions == 5
    assert VQVAE(TOY) == VQVAE(TOY, positions=5)
    assert VQVAE(TOY, mode="label").positions == 1
