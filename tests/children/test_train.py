"""The training loop against torch and optax, and that it is a function of its key."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxnas.children import train as tr
from jaxnas.core.errors import UserError


def linear(variables, x, train):
    flat = x.reshape(x.shape[0], -1)
    params = variables["params"]
    return flat @ params["w"] + params["b"], variables


def images(n=24, m=10, classes=3):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n + m, 4, 4, 1)).astype(np.float32)
    y = rng.integers(0, classes, n + m).astype(np.int32)
    return tr.Images(*map(jnp.asarray, (x[:n], y[:n], x[n:], y[n:])))


def start(classes=3):
    rng = np.random.default_rng(1)
    w = rng.normal(size=(16, classes)).astype(np.float32) / 4
    return {"params": {"w": jnp.asarray(w), "b": jnp.zeros(classes)}}


def test_full_batches_follow_torch():
    """One batch an epoch has no order, so torch's SGD must walk the same path."""
    torch = pytest.importorskip("torch")
    data, training = images(), tr.Training(epochs=12, batch=24)
    hparams = tr.Hparams(lr=0.3, momentum=0.8, weight_decay=0.01, label_smoothing=0.1)
    trained, curves = tr.fit(linear, start(), data, jax.random.key(0), training, hparams)
    w = torch.nn.Parameter(torch.tensor(np.asarray(start()["params"]["w"])))
    b = torch.nn.Parameter(torch.zeros(3))
    rule = torch.optim.SGD([w, b], lr=1, momentum=0.8, weight_decay=0.01, nesterov=True)
    x = torch.tensor(np.asarray(data.x_train)).flatten(1)
    y = torch.tensor(np.asarray(data.y_train)).long()
    for step in range(12):
        # As torch's LambdaLR would: 10 % warm-up, then cosine.
        done = (step + 1) / 12
        size = (
            0.3
            * min(1, done / 0.1)
            * 0.5
            * (1 + np.cos(np.pi * max(0, (done - 0.1) / 0.9)))
        )
        rule.param_groups[0]["lr"] = size
        rule.zero_grad()
        loss = torch.nn.functional.cross_entropy(x @ w + b, y, label_smoothing=0.1)
        loss.backward()
        np.testing.assert_allclose(curves.train_loss[step], loss.item(), rtol=1e-5)
        rule.step()
    np.testing.assert_allclose(trained["params"]["w"], w.detach().numpy(), atol=1e-5)
    np.testing.assert_allclose(trained["params"]["b"], b.detach().numpy(), atol=1e-5)


def test_schedule_is_optaxs():
    training, steps = tr.Training(), 200
    ours = [
        float(tr.step_size(training, tr.Hparams(lr=0.4), jnp.int32(s), steps))
        for s in range(steps)
    ]
    # optax counts the warm-up from 0; ours is one step ahead, so that no step has size 0.
    theirs = optax.warmup_cosine_decay_schedule(0.0, 0.4, 20, 200)
    np.testing.assert_allclose(
        ours, [float(theirs(s + 1)) for s in range(steps)], atol=1e-6
    )


def test_same_key_same_bits_other_key_others():
    data, training = images(), tr.Training(epochs=2, batch=8, augment="shift-flip")
    run = jax.jit(lambda key: tr.fit(linear, start(), data, key, training, tr.Hparams()))
    first, again, other = (
        run(jax.random.key(3)),
        run(jax.random.key(3)),
        run(jax.random.key(4)),
    )
    for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(again), strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(first[0]["params"]["w"], other[0]["params"]["w"])


def test_every_image_is_used_once_an_epoch():
    seen = []

    def forward(variables, x, key):
        if key is not None:
            jax.debug.callback(lambda ids: seen.extend(ids.tolist()), x[:, 0, 0, 0])
        return linear(variables, x, key)

    data = images()
    ids = jnp.arange(24.0)[:, None, None, None] * jnp.ones((1, 4, 4, 1))
    data = data._replace(x_train=ids)
    training = tr.Training(epochs=3, batch=8)
    made = tr.fit(
        forward, start(), data, jax.random.key(0), training,
        tr.Hparams(lr=0.0),
    )  # fmt: skip
    jax.block_until_ready(made)
    jax.effects_barrier()
    epochs = np.array(seen).reshape(3, -1)
    for epoch in epochs:
        assert sorted(epoch.tolist()) == list(range(24))
    assert not np.array_equal(epochs[0], epochs[1])


@pytest.mark.parametrize("kind", ["shift", "shift-flip"])
def test_augmentation_moves_whole_images(kind):
    x = jax.random.uniform(jax.random.key(0), (64, 5, 6, 2)) + 0.1
    training = tr.Training(augment=kind, pixels=2)
    made = np.asarray(tr.augment(jax.random.key(1), x, training))
    padded = np.pad(np.asarray(x), ((0, 0), (2, 2), (2, 2), (0, 0)))
    places = [(i, j) for i in range(5) for j in range(5)]
    found = set()
    for n, image in enumerate(made):
        options = {
            (i, j, flip): padded[n, i : i + 5, j : j + 6][:, :: -1 if flip else 1]
            for i, j in places
            for flip in (False, True)
        }
        matching = [k for k, option in options.items() if np.array_equal(option, image)]
        assert len(matching) == 1
        found.add(matching[0])
    assert len({(i, j) for i, j, _ in found}) > 15
    assert any(flip for *_, flip in found) == (kind == "shift-flip")


def test_evaluation_in_parts_is_the_whole():
    data = images(n=24, m=10)
    whole = tr.evaluate(linear, start(), data.x_train, data.y_train)
    parts = tr.evaluate(linear, start(), data.x_train, data.y_train, batch=7)
    np.testing.assert_allclose(whole, parts, rtol=1e-6)
    logits, _ = linear(start(), data.x_train, False)
    right = np.mean(np.argmax(np.asarray(logits), 1) == np.asarray(data.y_train))
    np.testing.assert_allclose(parts[1], right, rtol=1e-6)


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"epochs": 0}, "at least 1"),
        ({"augment": "rotate"}, "shift-flip"),
        ({"schedule": "step"}, "cosine"),
    ],
)
def test_refuses_settings(settings, word):
    with pytest.raises(UserError, match=word):
        tr.Training(**settings)


def test_refuses_a_batch_larger_than_the_data():
    with pytest.raises(UserError, match="24 training images"):
        tr.fit(
            linear, start(), images(), jax.random.key(0),
            tr.Training(batch=25), tr.Hparams(),
        )  # fmt: skip
