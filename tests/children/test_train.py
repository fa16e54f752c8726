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
        ({"schedule": "linear"}, "cosine"),
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


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_adam_follows_torch(name):
    """Constant step size and full batches: torch's rule walks the same path."""
    torch = pytest.importorskip("torch")
    training = tr.Training(epochs=8, batch=24, schedule="constant", optimiser=name)
    hparams = tr.Hparams(lr=0.05, momentum=0.8, weight_decay=0.1, warmup=0.0)
    data = images()
    trained, curves = tr.fit(linear, start(), data, jax.random.key(0), training, hparams)
    w = torch.nn.Parameter(torch.tensor(np.asarray(start()["params"]["w"])))
    b = torch.nn.Parameter(torch.zeros(3))
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[name]
    rule = kind([w, b], lr=0.05, betas=(0.8, 0.999), weight_decay=0.1)
    x = torch.tensor(np.asarray(data.x_train)).flatten(1)
    y = torch.tensor(np.asarray(data.y_train)).long()
    for step in range(8):
        rule.zero_grad()
        loss = torch.nn.functional.cross_entropy(x @ w + b, y)
        loss.backward()
        np.testing.assert_allclose(curves.train_loss[step], loss.item(), rtol=1e-4)
        rule.step()
    np.testing.assert_allclose(trained["params"]["w"], w.detach().numpy(), atol=1e-4)


def test_the_step_schedule_falls_to_a_fifth_every_five_epochs():
    training, hparams = tr.Training(epochs=12, schedule="step"), tr.Hparams(0.4, warmup=0.0)
    sizes = [float(tr.step_size(training, hparams, jnp.int32(s), 36)) for s in range(36)]
    np.testing.assert_allclose(sizes, [0.4] * 15 + [0.08] * 15 + [0.016] * 6, rtol=1e-6)


def test_cutout_is_one_square_an_image_anywhere():
    x = jnp.ones((4_000, 9, 7, 2))
    cut = np.asarray(jax.jit(lambda k: tr.cut_out(k, x, 3))(jax.random.key(0)))[..., 0] == 0
    rows, columns = cut.any(axis=2), cut.any(axis=1)
    # A rectangle: as many zeros as rows times columns; 3 long, less at the border.
    np.testing.assert_array_equal(cut.sum((1, 2)), rows.sum(1) * columns.sum(1))
    assert set(rows.sum(1).tolist()) == {2, 3}
    # Every pixel as a middle equally often: inner pixels are cut by 9 of the 63 places.
    share = cut.mean(axis=0)
    np.testing.assert_allclose(share[1:-1, 1:-1], 9 / 63, atol=0.025)
    np.testing.assert_allclose(share[0, 0], 4 / 63, atol=0.02)


def test_mixup_mixes_images_and_labels_by_one_share():
    x = jnp.arange(8.0)[:, None, None, None] * jnp.ones((1, 2, 2, 1))
    shares = []
    for seed in range(400):
        mixed, share, order = tr.mix_up(jax.random.key(seed), x, 0.5)
        wanted = share * x + (1 - share) * x[order]
        np.testing.assert_allclose(mixed, wanted, rtol=1e-6)
        shares.append(float(share))
    # Beta(1/2, 1/2): mean 1/2, variance 1/8.
    assert abs(np.mean(shares) - 0.5) < 0.07
    assert abs(np.var(shares) - 0.125) < 0.02


@pytest.mark.parametrize(
    "options",
    [{"cutout": 2}, {"mixup": 0.4}, {"optimiser": "adamw"}, {"schedule": "step"}],
)
def test_everything_trains_and_the_same_key_gives_the_same_bits(options):
    training = tr.Training(epochs=6, batch=8, **options)
    hparams = tr.Hparams(lr=0.05)
    fit = jax.jit(lambda k: tr.fit(linear, start(), images(), k, training, hparams))
    first, again = fit(jax.random.key(0)), fit(jax.random.key(0))
    for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(again), strict=True):
        np.testing.assert_array_equal(a, b)
    assert first[1].train_loss[-1] < first[1].train_loss[0]


def test_dropout_is_drawn_in_training_only_and_anew_each_step():
    from jaxnas.children.build import build

    nodes = [
        {"name": "flat", "op": "flatten", "inputs": ["image"], "attributes": {}},
        {"name": "drop", "op": "dropout", "inputs": ["flat"], "attributes": {"rate": 0.5}},
        {"name": "logits", "op": "linear", "inputs": ["drop"],
         "attributes": {"features": 3}},
    ]  # fmt: skip
    child = build({
        "format": "jaxnas-spec-1", "space": "test", "blocks": {}, "nodes": nodes,
        "inputs": {"image": {"kind": "image", "shape": [4, 4, 1]}},
        "outputs": {"logits": {"kind": "vector", "shape": [3]}},
    })  # fmt: skip
    x = images().x_train
    variables = child.init(jax.random.key(0), x)
    forward = tr.forward_of(child)
    plain = forward(variables, x, None)[0]
    np.testing.assert_array_equal(plain, forward(variables, x, None)[0])
    one, two = (forward(variables, x, jax.random.key(k))[0] for k in (1, 2))
    assert not np.allclose(one, two)
    np.testing.assert_array_equal(one, forward(variables, x, jax.random.key(1))[0])
    many = [forward(variables, x, jax.random.key(k))[0] for k in range(200)]
    np.testing.assert_allclose(np.mean(many, axis=0), plain, atol=0.5)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"optimiser": "sdg"}, "optimiser 'sdg'"),
        ({"schedule": "cos"}, "schedule 'cos'"),
        ({"cutout": -1}, "0 or more"),
        ({"mixup": -0.1}, "0 or more"),
    ],
)
def test_trainings_that_cannot_be(options, words):
    with pytest.raises(UserError, match=words):
        tr.Training(**options)
