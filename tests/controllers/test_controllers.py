"""Controllers: one step equals the whole sequence, and hand-written gradients are right."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxnas import registry
from jaxnas.algorithms.token_policy import init_params, sequence
from jaxnas.controllers import heads, recurrent
from jaxnas.controllers.initialisers import orthogonal
from jaxnas.controllers.unroll import unroll
from jaxnas.core.types import TokenObs
from jaxnas.spaces.toy import Toy
from jaxnas.testing.stats import chi_square_p

SPACE = Toy(length=5, vocab=4)
RNG = np.random.default_rng(0)


def controller(name):
    sizes = {"num_actions": SPACE.vocab, "length": SPACE.length}
    module = registry.make_controller(name, hidden=8, **sizes)
    params = init_params(jax.random.key(1), module, SPACE)
    noise = jax.random.key(2)
    return module, jax.tree.map(
        lambda x: x + 0.3 * jax.random.normal(noise, x.shape), params
    )


@pytest.mark.parametrize("name", registry.names("controller"))
def test_step_equals_sequence_and_sees_the_past_only(name):
    module, params = controller(name)
    tokens = jnp.asarray(RNG.integers(0, SPACE.vocab, (3, SPACE.length)), jnp.int32)
    whole = sequence(module, params, tokens)
    carry, step = module.initial_carry(3), jax.jit(module.apply)
    for t in range(SPACE.length):
        scrambled = jnp.where(jnp.arange(SPACE.length) < t, tokens, 3 - tokens)
        obs = TokenObs(scrambled, jnp.full(3, t))
        carry, out = step(params, carry, obs, jnp.zeros(3, bool))
        np.testing.assert_allclose(out.logits, whole.logits[:, t], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(out.value, whole.value[:, t], rtol=1e-4, atol=1e-5)
    other = sequence(module, params, tokens.at[:, 0].set((tokens[:, 0] + 1) % SPACE.vocab))
    moved = np.abs(np.asarray(other.logits - whole.logits)).max(axis=(0, 2))
    assert moved[0] == 0
    assert (moved[1:] > 1e-4).any(), "later decisions depend on earlier ones"


@pytest.mark.parametrize("cell", ["LSTM_CELL", "GRU_CELL"])
def test_hoisted_gradients_equal_plain_autodiff(cell):
    cell = getattr(recurrent, cell)
    T, B, H, F = 4, 3, 5, 2
    gates, leaves = (4, 2) if cell is recurrent.LSTM_CELL else (3, 1)
    draw = lambda *shape: jnp.asarray(RNG.normal(size=shape), jnp.float32) * 0.5
    x, U, W = draw(T, B, F), draw(F, gates * H), draw(H, gates * H)
    carry = tuple(draw(B, H) for _ in range(leaves))
    target = draw(T, B, H)

    def plain(x, kernel, recurrent_kernel, carry):
        outs = []
        for t in range(T):
            carry, _ = cell.step(carry, x[t] @ kernel, carry[0] @ recurrent_kernel)
            outs.append(carry[0])
        return jnp.sum(jnp.stack(outs) * target) + jnp.sum(carry[-1])

    def hoisted(x, kernel, recurrent_kernel, carry):
        last, hidden = unroll(cell, x, kernel, recurrent_kernel, carry)
        return jnp.sum(hidden * target) + jnp.sum(last[-1])

    want = jax.grad(plain, argnums=(0, 1, 2, 3))(x, U, W, carry)
    got = jax.grad(hoisted, argnums=(0, 1, 2, 3))(x, U, W, carry)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_lstm_step_equals_flax():
    """Parity of the elementwise part with flax's own cells, weights copied gate by gate."""
    B, F, H = 3, 4, 5
    x = jnp.asarray(RNG.normal(size=(B, F)), jnp.float32)
    h, c = jnp.asarray(RNG.normal(size=(2, B, H)), jnp.float32)
    flax_cell = nn.OptimizedLSTMCell(H)
    params = flax_cell.init(jax.random.key(0), (c, h), x)["params"]
    (want_c, want_h), _ = flax_cell.apply({"params": params}, (c, h), x)
    U = jnp.concatenate([params[f"i{g}"]["kernel"] for g in "ifgo"], axis=1)
    W = jnp.concatenate([params[f"h{g}"]["kernel"] for g in "ifgo"], axis=1)
    orders = [[0, 1, 2, 3], [0, 1, 3, 2], [1, 0, 2, 3]]
    errors = []
    for order in orders:
        columns = np.concatenate([np.arange(H) + gate * H for gate in order])
        (got_h, got_c), _ = recurrent.LSTM_CELL.step(
            (h, c), x @ U[:, columns], h @ W[:, columns]
        )
        errors.append(float(jnp.abs(got_h - want_h).max() + jnp.abs(got_c - want_c).max()))
    assert min(errors) < 1e-5, f"no usual order of the gates gives flax's LSTM: {errors}"


@pytest.mark.filterwarnings("ignore")
def test_masked_categorical_agrees_with_distrax():
    pytest.importorskip("distrax")
    logits = jnp.asarray(RNG.normal(size=(6, 5)), jnp.float32)
    mask = jnp.asarray(RNG.random((6, 5)) < 0.6).at[:, 0].set(True)
    action = jnp.argmax(mask, axis=1)
    other = heads.distribution(logits, mask)
    want = other.log_prob(action), other.entropy()
    np.testing.assert_allclose(heads.log_prob(logits, mask, action), want[0], rtol=1e-5)
    np.testing.assert_allclose(heads.entropy(logits, mask), want[1], rtol=1e-4, atol=1e-6)
    grad = jax.grad(lambda z: jnp.sum(heads.entropy(z, mask)))(logits)
    assert np.isfinite(grad).all()
    assert (np.asarray(grad)[~np.asarray(mask)] == 0).all()


def test_draws_follow_the_policy_and_never_the_mask():
    logits = jnp.asarray([1.0, -0.5, 3.0, 0.2])
    mask = jnp.asarray([True, True, False, True])
    n = 20_000
    uniforms = jax.random.uniform(jax.random.key(0), (n,))
    rows = jnp.broadcast_to(logits, (n, 4)), jnp.broadcast_to(mask, (n, 4))
    counts = np.bincount(np.asarray(heads.sample(uniforms, *rows)), minlength=4)
    assert counts[2] == 0
    p = np.asarray(jax.nn.softmax(jnp.where(mask, logits, -jnp.inf)))
    assert chi_square_p(counts[p > 0], p[p > 0]) > 1e-4
    biased = np.array([0.4, 0.2, 0.4])
    assert chi_square_p(counts[p > 0], biased) < 1e-4, "the check can fail"


@pytest.mark.parametrize("shape", [(7, 7), (9, 4), (4, 9)])
def test_orthogonal_weights_are_orthogonal(shape):
    made = np.asarray(
        jax.vmap(lambda k: orthogonal(2.0)(k, shape))(
            jax.random.split(jax.random.key(0), 3)
        )
    )
    for weights in made:
        tall = weights if shape[0] >= shape[1] else weights.T
        np.testing.assert_allclose(tall.T @ tall, 4.0 * np.eye(min(shape)), atol=1e-4)
