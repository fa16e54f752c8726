"""Both layouts of training: as wide as the population on an accelerator, the same results.

Lowering needs no device: what is read here is the program that XLA is given.
"""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnas
from jaxnas import registry
from jaxnas.core import rng
from jaxnas.core.layout import using
from jaxnas.oracles.toy import ToyOracle
from jaxnas.run.config import expand_hparams
from jaxnas.run.devices import population_mesh
from jaxnas.run.population import Layout, Programs, update
from jaxnas.spaces.toy import Toy

SPACE = Toy(length=5, vocab=4)
CONTROLLERS = 37
"""A prime that is no other size of these programs."""
TOKEN = ("reinforce", "a2c", "ppo")
LATENT = tuple(f"latent-{name}" for name in TOKEN)
PLATFORMS = ("cuda", "tpu")


def slow(name):
    """The same claim of one more method, in the slow tier."""
    return pytest.param(name, marks=pytest.mark.slow)


@pytest.fixture(scope="module")
def latent_file(tmp_path_factory):
    from jaxnas.latent import files
    from jaxnas.latent.vqvae import VQVAE

    model = VQVAE(SPACE, codes=6, dims=2, hidden=16)
    path = tmp_path_factory.mktemp("latent") / "toy.npz"
    files.save(path, model, model.init(jax.random.key(0)))
    return str(path)


def algorithm(name, latent_file):
    if name in TOKEN:
        return registry.make_algorithm(name, space=SPACE, batch=8, hidden=16)
    return registry.make_algorithm(
        name, space=SPACE, batch=2, latent=latent_file, labels=16, members=2, fit_steps=5,
        capacity=128, num_envs=4, num_steps=8, max_steps=8, hidden=16,
    )  # fmt: skip


def whole_update(algo):
    """Returns the vmapped update, and the shapes of its arguments."""
    oracle = jaxnas.budgeted(ToyOracle(SPACE), 50)
    keys = jax.random.split(jax.random.key(0), CONTROLLERS)
    hparams = jax.tree.map(jnp.float32, algo.default_hparams())

    def begin(keys):
        init = lambda key: (algo.init(key, hparams), oracle.init(key, oracle.params()))
        return jax.vmap(init)(keys)

    one = functools.partial(update, algo, oracle)
    many = jax.vmap(one, (0, None, 0, 0))
    shapes = jax.eval_shape(begin, keys)
    return many, (jax.eval_shape(lambda: keys), oracle.params(), *shapes)


def lowered(function, arguments, platform, layout="auto"):
    with using(layout):
        traced = jax.jit(function).trace(*arguments)
        return traced.lower(lowering_platforms=(platform,)).as_text()


def narrow_products(text):
    """Returns the matrix products without an axis of the population."""
    products = [line for line in text.splitlines() if "stablehlo.dot_general" in line]
    assert products, "the update has no matrix product at all"
    axis = re.compile(rf"tensor<(?:\d+x)*{CONTROLLERS}x")
    return [line for line in products if not axis.search(line.rsplit("->", 1)[1])]


def population_loops(text):
    """Returns the conditions of loops that end after one turn a controller."""
    bound = re.compile(rf"dense<{CONTROLLERS}> : tensor<[su]?i\d+>")
    return [line for line in text.splitlines() if bound.search(line)]


@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("name", [*TOKEN, "latent-ppo", *map(slow, LATENT[:2])])
def test_every_product_is_as_wide_as_the_population(name, platform, latent_file):
    function, arguments = whole_update(algorithm(name, latent_file))
    text = lowered(function, arguments, platform)
    assert not narrow_products(text)
    assert not population_loops(text)


@pytest.mark.parametrize("name", ["reinforce", "latent-ppo"])
def test_the_blocked_program_is_seen_to_fail(name, latent_file):
    """What accelerators were given before: a loop of narrow products."""
    function, arguments = whole_update(algorithm(name, latent_file))
    text = lowered(function, arguments, "cuda", layout="blocked")
    assert narrow_products(text)
    assert population_loops(text)


def test_auto_is_blocked_on_a_cpu(latent_file):
    function, arguments = whole_update(algorithm("ppo", latent_file))
    assert lowered(function, arguments, "cpu") != lowered(function, arguments, "cuda")
    assert narrow_products(lowered(function, arguments, "cpu"))


def test_the_program_of_a_search_is_wide(latent_file):
    """The program that ``search`` runs, with its blocks, budget and log."""
    algo = algorithm("ppo", latent_file)
    oracle = jaxnas.budgeted(ToyOracle(SPACE), 50)
    mesh = population_mesh(jax.devices()[:1])
    settings, _ = expand_hparams(algo, None)
    for kind, wide in (("wide", True), ("blocked", False)):
        layout = Layout(CONTROLLERS, CONTROLLERS, 1, kind)
        built = Programs(algo, oracle, layout, mesh, 9)
        hparams = jax.tree.map(lambda x: np.repeat(x, CONTROLLERS), settings)
        blocks = built.blocked((np.arange(CONTROLLERS, dtype=np.int32), hparams))
        root, params = jax.random.key_data(rng.root_key(0)), oracle.params()
        members = jax.eval_shape(built.init, blocks, root, params)
        step = np.int32(0)
        traced = built.run.trace(members, params, step, step)
        for platform in PLATFORMS:
            text = traced.lower(lowering_platforms=(platform,)).as_text()
            assert bool(narrow_products(text)) != wide
            assert bool(population_loops(text)) != wide


def trained(algo, layout, updates):
    """Returns the states of a few controllers of different settings after some updates."""
    oracle = jaxnas.budgeted(ToyOracle(SPACE), 200)
    params = oracle.params()

    def one(key, lr):
        hparams = algo.default_hparams()._replace(lr=lr)
        hparams = jax.tree.map(jnp.float32, hparams)
        first = algo.init(key, hparams), oracle.init(key, params)

        def body(states, key):
            return update(algo, oracle, key, params, *states)[:2], None

        return jax.lax.scan(body, first, jax.random.split(key, updates))[0]

    with using(layout):
        keys = jax.random.split(jax.random.key(3), 3)
        return jax.jit(jax.vmap(one))(keys, jnp.float32([1e-3, 3e-3, 1e-2]))


@pytest.mark.parametrize("name", [*map(slow, ["ppo", *TOKEN[:2], *LATENT])])
def test_both_layouts_train_the_same(name, latent_file):
    """Sums in another order: what is sampled is equal, and weights agree to 1e-3."""
    algo = algorithm(name, latent_file)
    updates = 4 if name in TOKEN else 11  # 8 of them are labels before the first fit
    wide, blocked = (trained(algo, layout, updates) for layout in ("wide", "blocked"))
    moved = trained(algo, "blocked", updates - 1)
    assert jax.tree.structure(wide) == jax.tree.structure(blocked)
    learned = False
    for a, b, before in zip(*map(jax.tree.leaves, (wide, blocked, moved)), strict=True):
        if jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
            a, b, before = map(jax.random.key_data, (a, b, before))
        if jnp.issubdtype(a.dtype, jnp.floating):
            np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)
            learned |= a.ndim == 3 and not np.array_equal(b, before)
        else:
            np.testing.assert_array_equal(a, b)
    assert learned, "no weight moved: the test compares nothing"
