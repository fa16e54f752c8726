"""Metrics of trained children against independent computations."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import recall_score

from jaxnas.children import metrics as cm
from jaxnas.children.build import build
from jaxnas.children.references import reference
from jaxnas.children.train import forward_of
from jaxnas.core.errors import UserError
from jaxnas.core.rng import root_key
from jaxnas.oracles.child import ChildOracle
from jaxnas.testing.tiny import TinyNets

KEY = root_key(0)


def linear(weights):
    """A network without images: flattened pixels times weights."""
    return lambda variables, x, key: (x.reshape(len(x), -1) @ variables, variables)


def data(n=97, classes=4, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.uniform(size=(n, 3, 2, 1)).astype(np.float32)
    y = rng.integers(0, classes - 1, n).astype(np.int32)  # the last class has no image
    weights = rng.normal(size=(6, classes)).astype(np.float32) * 4
    return jnp.asarray(weights), jnp.asarray(x), jnp.asarray(y)


def assessed(names, epsilon=0.1, sigma=0.2, batch=32):
    weights, x, y = data()
    found = cm.assess(
        linear(weights), weights, x, y, KEY, epsilon, sigma,
        names=names, num_classes=4, batch=batch,
    )  # fmt: skip
    return {name: float(value) for name, value in found.items()}


def test_calibration_brier_and_worst_class_are_those_of_others():
    """ECE by ``np.histogram``, recall by scikit-learn; batches do not matter."""
    weights, x, y = data()
    logits = np.asarray(x).reshape(len(x), -1).astype(np.float64) @ np.asarray(weights)
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    sure, guess = chances.max(axis=1), chances.argmax(axis=1)
    edges = np.linspace(0, 1, cm.BINS + 1)
    mass, _ = np.histogram(sure, edges)
    right, _ = np.histogram(sure, edges, weights=(guess == np.asarray(y)).astype(float))
    total, _ = np.histogram(sure, edges, weights=sure)
    there = mass > 0
    gaps = np.abs(right[there] / mass[there] - total[there] / mass[there])
    ece = np.sum(mass[there] / len(y) * gaps)
    brier = np.mean(np.sum((chances - np.eye(4)[np.asarray(y)]) ** 2, axis=1))
    worst = recall_score(np.asarray(y), guess, average=None, labels=[0, 1, 2]).min()
    for batch in (10, 97, 500):
        found = assessed(("worst_class", "ece", "brier"), batch=batch)
        assert found["ece"] == pytest.approx(ece, abs=1e-5)
        assert found["brier"] == pytest.approx(brier, rel=1e-5)
        assert found["worst_class"] == pytest.approx(worst, rel=1e-6)


def test_only_what_is_asked_for_is_returned_and_attacks_hurt():
    weights, x, _ = data()
    y = jnp.argmax(x.reshape(len(x), -1) @ weights, axis=1)
    names = ("fgsm_accuracy", "noise_accuracy")
    run = lambda names, *sizes: cm.assess(
        linear(weights), weights, x, y, KEY, *sizes, names=names, num_classes=4
    )
    assert list(run(names[:1], 0.1, 0.1)) == ["fgsm_accuracy"]
    plain, hard = run(names, 0.0, 0.0), run(names, 0.4, 5.0)
    assert [float(plain[name]) for name in names] == [1.0, 1.0]
    assert all(float(hard[name]) < 0.7 for name in names)


@pytest.mark.external
def test_attacked_images_are_those_of_torch():
    """Of a reference network with batch norm, by torch's autograd on the exported net."""
    import torch

    from jaxnas.analog.bridge import torch_net
    from jaxnas.children.weights import to_arrays

    spec = reference("hand-made CNN", (8, 8, 1), 10, 4)
    child = build(spec)
    rng = np.random.default_rng(0)
    x = rng.uniform(size=(16, 8, 8, 1)).astype(np.float32)
    y = rng.integers(0, 10, 16).astype(np.int32)
    variables = child.init(jax.random.key(0), jnp.asarray(x[:1]))
    made = cm.attack(forward_of(child), variables, jnp.asarray(x), jnp.asarray(y), 0.05)
    arrays = to_arrays(jax.tree.map(np.asarray, variables))
    net = torch_net.TorchNet(spec).eval()
    state = {name: torch.tensor(np.array(value)) for name, value in arrays.items()}
    assert not net.load_state_dict(state, strict=False).unexpected_keys
    given = torch.tensor(x.transpose(0, 3, 1, 2), requires_grad=True)
    loss = torch.nn.functional.cross_entropy(net(given), torch.tensor(y).long())
    loss.backward()
    assert given.grad is not None
    moved = (given + 0.05 * given.grad.sign()).clamp(0, 1).detach().numpy()
    agree = np.isclose(moved.transpose(0, 2, 3, 1), np.asarray(made), atol=1e-6)
    assert agree.mean() > 0.998  # a gradient of rounding size has either sign


def oracle(**options):
    return ChildOracle(TinyNets(), **{"epochs": 1, "limit": 80, "batch": 40, **options})


def test_metrics_on_request_change_the_id_and_nothing_else():
    plain = oracle()
    tokens = np.array([1, 0], np.int32)
    extra = dataclasses.replace(plain, objective="val_accuracy,worst_class,ece")
    assert "metrics" not in plain.id
    assert dataclasses.replace(plain, epsilon=0.2, sigma=0.3).id == plain.id
    assert "metrics=worst_class+ece," in extra.id
    assert "epsilon" not in extra.id
    assert "epsilon=0.03," in oracle(objective="fgsm_accuracy").id
    first, more = plain.measure(tokens).metrics, extra.measure(tokens).metrics
    assert {name: more[name] for name in first} == first
    assert set(more) - set(first) == {"worst_class", "ece"}
    assert 0 <= more["worst_class"] <= more["val_accuracy"]
    lost = dataclasses.replace(extra, lr=1e30).measure(tokens).metrics
    assert np.isnan([lost["worst_class"], lost["ece"]]).all()


def test_sizes_out_of_range_are_refused():
    from jaxnas import registry

    for option in ({"epsilon": -0.1}, {"epsilon": 2.0}, {"sigma": -1.0}):
        with pytest.raises(UserError, match="must be in"):
            registry.make_oracle("child", space=TinyNets(), **option)


@pytest.mark.slow
def test_shuffled_labels_leave_chance():
    """Digits, 10 classes, 359 validation images: 10 % and a standard error of 1.6 points.

    Right labels of the same training reach 90 %; shuffled ones stay within 4 standard
    errors of chance (16.4 %), which class frequencies move by less than a point.
    """
    from jaxnas.oracles import programs

    tokens = np.array([1, 0], np.int32)
    asked = oracle(epochs=10, limit=None, batch=64, size="channels:16", route="exact")
    assert asked.measure(tokens).metrics["val_accuracy"] > 90
    images = programs.on_device("digits", None, None)
    order = np.random.default_rng(0).permutation(len(images.y_train))
    shuffled = images._replace(y_train=images.y_train[order])
    child = build(asked.network(0).to_spec(tokens))
    start = jax.random.key(0, impl="rbg")
    variables = programs.initial_of(child)(start, images.x_train[:1])
    program = programs.program_of(child, asked.training(0))
    _, curves = program(variables, shuffled, root_key(0), asked.hparams)
    assert 100 * float(curves.val_accuracy[-1]) < 16.4
