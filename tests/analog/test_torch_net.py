"""Flax and torch form of a spec are one network, and the torch one stands alone."""

import functools
import json
import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

torch = pytest.importorskip("torch")
from networks import random_arrays  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

from jaxnas.analog.bridge import torch_net as tn  # noqa: E402
from jaxnas.children.build import build  # noqa: E402
from jaxnas.children.count import count_costs, matrices  # noqa: E402
from jaxnas.children.ops import OPS  # noqa: E402
from jaxnas.children.weights import from_arrays, save_network, to_arrays  # noqa: E402
from jaxnas.core import tokens as tk  # noqa: E402
from jaxnas.registry import make_space  # noqa: E402
from jaxnas.spaces import spec as sp  # noqa: E402
from jaxnas.spaces.analog_resnet import AnalogResNet  # noqa: E402
from jaxnas.spaces.nb201 import NB201  # noqa: E402

NB = NB201(channels=4, cells=1, image=(8, 8, 1))
SMALL = {"groups": 2, "blocks": 2, "branches": 2, "image": (12, 11, 3), "pool": 4}
IBM = AnalogResNet("ibm", channels=(8,), widenings=(0.5,), **SMALL)
SHIPPED = [
    make_space(name, image=(11, 12, 3), num_classes=5)
    for name in ("vocab", "zoph-cnn", "chain", "hierarchical")
]
TEXTS = make_space("text-chain").for_texts(11, 30, 5)
CSV = AnalogResNet("csv", channels=(8,), widenings=(1.0, 2.0), **SMALL)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Small networks: threads only cost."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def drawn(space, n, seed=0):
    """Specs of ``n`` architectures, uniform tokens under the mask."""
    keys = jax.random.split(jax.random.key(seed), n)
    rows = jax.vmap(functools.partial(tk.sample_uniform, space=space))(keys)
    return [space.to_spec(row) for row in np.asarray(rows)]


def images(spec, batch, seed=0):
    """Inputs, channels last; texts of several lengths."""
    (kind,) = spec["inputs"].values()
    rng = np.random.default_rng(seed)
    if kind["kind"] == "text":
        (length,) = kind["shape"]
        ids = rng.integers(1, kind["vocabulary"], (batch, length))
        ends = rng.integers(1, length + 1, (batch, 1))
        return np.where(np.arange(length) < ends, ids, 0).astype(np.float32)
    return rng.uniform(-1, 1, (batch, *kind["shape"])).astype(np.float32)


def channels_first(x):
    """The same batch for torch."""
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(x, -1, 1)))


def torch_of(spec, arrays):
    """A torch network that holds the arrays."""
    net = tn.TorchNet(spec).eval()
    state = {k: torch.from_numpy(v) for k, v in arrays.items()}
    found = net.load_state_dict(state, strict=False)
    assert not found.unexpected_keys
    assert all(key.endswith("num_batches_tracked") for key in found.missing_keys)
    return net


def compare(spec, seed, atol=1e-4):
    """Both forms of one network with the same weights: logits, weights, counts."""
    arrays, x = random_arrays(spec, seed), images(spec, 2, seed)
    child = build(spec)
    variables = from_arrays(child, arrays)
    net = torch_of(spec, arrays)
    with torch.no_grad():
        theirs = net(channels_first(x)).numpy()
    ours = np.asarray(child.apply(variables, jnp.asarray(x)))
    back = to_arrays(variables)
    assert back.keys() == arrays.keys()
    assert all(np.array_equal(back[name], arrays[name]) for name in arrays)
    params = count_costs(spec).params
    assert params == sum(p.numel() for p in net.parameters())
    assert params == sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
    assert ours.std() > 1e-3  # logits that say something
    np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=atol)


@pytest.mark.parametrize(
    ("space", "n"),
    [(NB, 5), (IBM, 5), (CSV, 5), (TEXTS, 2), (SHIPPED[0], 1)],  # all of them: slow
)
def test_flax_and_torch_agree(space, n):
    """Logits to 1e-4 with trained-like batch norm; round trip exact; parameters counted."""
    for seed, spec in enumerate(drawn(space, n)):
        compare(spec, seed)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("space", "n"),
    [
        (NB, 200),
        (IBM, 100),
        (CSV, 100),
        (TEXTS, 30),
        *((s, 4 if s.length > 100 else 15) for s in SHIPPED),
    ],
)
def test_flax_and_torch_agree_on_many_of_each_space(space, n):
    """The same on 200 of nb201, 100 of each analog-resnet, 4 to 15 of others."""
    # Up to six norms over the pixels of one image each magnify the rounding before them.
    atol = 1e-3 if space in SHIPPED else 1e-4
    for seed, spec in enumerate(drawn(space, n, seed=1)):
        compare(spec, seed, atol)


VOCABULARY = {
    "layer_type": ("conv1x1", "conv3x3", "conv5x5", "maxpool3x3", "avgpool3x3"),
    "activation": ("relu", "tanh", "sigmoid", "swish", "gelu"),
    "normalization": ("batch", "layer", "instance", "group"),
    "connectivity": ("sequential", "residual", "dense", "attention"),
}


def test_the_vocabulary_is_the_18_words():
    space = SHIPPED[0]
    assert space.document["decisions"][0]["decisions"] == [
        {"name": name, "choices": list(words)} for name, words in VOCABULARY.items()
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "word"), [(name, word) for name, words in VOCABULARY.items() for word in words]
)
def test_each_word_of_the_vocabulary_is_built_alike(name, word):
    """One layer with the word, equal logits and counts in flax and torch."""
    first = {key: words[0] for key, words in VOCABULARY.items()}
    tokens = SHIPPED[0].from_dict({"layer": [{**first, name: word}]})
    compare(SHIPPED[0].to_spec(tokens), 0)


def test_flax_and_torch_agree_at_the_published_size():
    """16 channels and 5 cells a stage, 100 layers deep."""
    compare(NB201(image=(12, 12, 3)).to_spec(np.array([2, 3, 0, 4, 2, 1])), 0)


@pytest.mark.slow
def test_flax_and_torch_agree_at_full_size():
    """CIFAR images, two cells of the published size and a macro network with its pool."""
    for seed, spec in enumerate(drawn(NB201(), 2)):
        compare(spec, seed)
    space = AnalogResNet("ibm", channels=(16,), groups=3, blocks=3, widenings=(0.6,))
    compare(drawn(space, 1)[0], 0)


def one(op, shape=(5, 7, 4), inputs=1, **attributes):
    """A network of one operation on copies of an image (or vector), read out by a head.

    Sides differ, so that a transposed image shows.
    """
    nodes = [sp.node(f"in{i}", "batch_norm", ["x"]) for i in range(inputs)]
    nodes.append(sp.node("op", op, [n["name"] for n in nodes], **attributes))
    out = OPS[op].rule([shape] * inputs, attributes).shape
    last = "op"
    if len(out) == 3:
        nodes.append(sp.node("flat", "flatten", ["op"]))
        out, last = (int(np.prod(out)),), "flat"
    kind = sp.image(*shape) if len(shape) == 3 else sp.vector(*shape)
    return {
        "format": sp.FORMAT,
        "space": "test",
        "inputs": {"x": kind},
        "outputs": {last: sp.vector(*out)},
        "blocks": {},
        "nodes": nodes,
    }


def several(op, *shapes, **attributes):
    """A network of one operation on values of different sizes, made by convolutions."""
    height, width, channels = 9, 9, 3
    nodes = []
    for i, (h, w, c) in enumerate(shapes):
        # Crops to h x w: rows and columns beyond are cut by windows of their number.
        kernel = {"kernel": 1, "stride": 1, "padding": 0}
        nodes.append(sp.node(f"wide{i}", "conv", ["x"], **kernel, features=c))
        side = min(h, w)
        window = {"kernel": height - side + 1, "stride": 1, "padding": 0}
        nodes.append(sp.node(f"in{i}", "avg_pool", [f"wide{i}"], **window))
    sides = [min(h, w) for h, w, _ in shapes]
    nodes.append(sp.node("op", op, [f"in{i}" for i in range(len(shapes))], **attributes))
    made = [(s, s, c) for s, (_, _, c) in zip(sides, shapes, strict=True)]
    out = int(np.prod(OPS[op].rule(made, attributes).shape))
    nodes.append(sp.node("flat", "flatten", ["op"]))
    return {
        "format": sp.FORMAT,
        "space": "test",
        "inputs": {"x": sp.image(height, width, channels)},
        "outputs": {"flat": sp.vector(out)},
        "blocks": {},
        "nodes": nodes,
    }


def text(op, inputs=("chain", "text"), **attributes):
    """A network of an embedding, a window that halves its length, and an operation."""
    words = {"vocabulary": 9, "features": 4}
    nodes = [
        sp.node("words", "embedding", ["text"], **words),
        sp.node("chain", "max_pool", ["words"], kernel=3, stride=2, padding=1),
        sp.node("op", op, list(inputs), **attributes),
    ]
    shapes = {"text": (7,), "words": (7, 1, 4), "chain": (4, 1, 4)}
    out = OPS[op].rule([shapes[name] for name in inputs], attributes).shape
    last = "op"
    if len(out) == 3:
        nodes.append(sp.node("flat", "flatten", ["op"]))
        out, last = (int(np.prod(out)),), "flat"
    return {
        "format": sp.FORMAT,
        "space": "test",
        "inputs": {"text": sp.text(7, 9)},
        "outputs": {last: sp.vector(*out)},
        "blocks": {},
        "nodes": nodes,
    }


WINDOW = {"kernel": 3, "stride": 2, "padding": 1}
CASES = [
    one("conv", **WINDOW, features=6, bias=True),
    one("conv", kernel=2, stride=3, padding=4, features=None),
    one("conv", **WINDOW, features=8, groups=4),
    one("conv", **WINDOW, groups=2, features=2, bias=False),
    one("conv", **WINDOW, kernel_width=5, padding_width=0, features=6),
    one("conv", kernel=4, stride=1, padding=0, kernel_width=1, groups=2),
    one("depthwise_conv", **WINDOW),
    one("relu_conv_bn", kernel=1, stride=1, padding=0, features=3),
    one("relu_conv_bn", **WINDOW, features=4, groups=4),
    one("batch_norm"),
    one("batch_norm", shape=(6,)),
    one("relu"),
    one("relu", shape=(6,)),
    one("identity"),
    one("zero"),
    one("zero", stride=2),
    one("zero", shape=(6,)),
    one("avg_pool", **WINDOW),
    one("avg_pool", kernel=2, stride=2, padding=1),
    one("avg_pool", kernel=4, stride=1, padding=2),
    one("global_avg_pool"),
    one("flatten"),
    one("concat", inputs=3),
    one("shift", pixels=1),
    one("shift", pixels=4),
    one("linear", shape=(6,), features=3),
    one("sum", inputs=3),
    one("sum", shape=(6,), inputs=2),
    one("max_pool", **WINDOW),
    one("max_pool", kernel=2, stride=2, padding=0),
    one("multi_scale_pool", scales=2),
    one("multi_scale_pool", scales=4),
    *[one(op) for op in ("tanh", "sigmoid", "swish", "gelu")],
    *[one(op, shape=(6,)) for op in ("tanh", "sigmoid", "swish", "gelu")],
    *[one(op) for op in ("layer_norm", "instance_norm", "group_norm")],
    *[one(op, shape=(6,)) for op in ("layer_norm", "group_norm")],
    one("group_norm", shape=(5, 7, 12), groups=3),
    one("dropout", rate=0.25),
    one("pad_concat", inputs=2),
    one("gated_skip", inputs=2),
    one("gated_skip", shape=(6,), inputs=2),
    one("attention_edge", inputs=1),
    one("attention_edge", inputs=2),
    several("pad_concat", (5, 7, 4), (3, 4, 2), (4, 8, 3)),
    several("attention_edge", (5, 7, 4), (3, 4, 6)),
    one("global_max_pool"),
    text("embedding", ["text"], vocabulary=5, features=3),  # ids of 5 to 8 are beyond
    text("gru", ["chain"], features=3),
    text("gru", features=3),
    text("gru", features=3, backward=True),
    text("mask"),
    text("global_avg_pool"),
    text("global_max_pool"),
    text("attention_edge"),
    text("attention_edge", ["words", "chain", "text"]),
]


@pytest.mark.parametrize("spec", CASES, ids=lambda s: s["nodes"][-2]["op"])
def test_each_operation_alone(spec):
    """Shapes, values to 1e-5 and the names of weights, one operation at a time."""
    arrays, x = random_arrays(spec, 1), images(spec, 3)
    child = build(spec)
    ours = child.apply(from_arrays(child, arrays), jnp.asarray(x))
    theirs = torch_of(spec, arrays)(channels_first(x)).detach().numpy()
    np.testing.assert_allclose(np.asarray(ours), theirs, rtol=1e-5, atol=1e-5)
    made = jax.eval_shape(child.init, jax.random.key(0), jnp.asarray(x))
    shapes = {k: v.shape for k, v in to_arrays(jax.tree.map(zeros, made)).items()}
    assert shapes == {k: v.shape for k, v in arrays.items()}


@pytest.mark.parametrize("backward", [False, True])
def test_a_gru_is_torchs_own(backward):
    """The same weights in ``torch.nn.GRU``; backward it reads from the last word."""
    spec = text("gru", ["chain"], features=3, backward=backward)
    arrays, x = random_arrays(spec, 2), images(spec, 5)
    ours = build(spec).apply(from_arrays(build(spec), arrays), jnp.asarray(x))
    seen = (
        torch_of(spec, arrays)
        .get_submodule("chain")(
            torch_of(spec, arrays).get_submodule("words")(torch.from_numpy(x))
        )[..., 0]
        .transpose(1, 2)
    )
    gru = torch.nn.GRU(4, 3, batch_first=True)
    names = {"weight": ".weight", "bias": ".bias"}
    with torch.no_grad():
        for kind, leaf in names.items():
            for own, theirs in (("input", "ih"), ("hidden", "hh")):
                value = torch.from_numpy(arrays[f"op.{own}{leaf}"])
                getattr(gru, f"{kind}_{theirs}_l0").copy_(value)
        states = gru(seen.flip(1) if backward else seen)[0]
    states = states.flip(1) if backward else states
    np.testing.assert_allclose(np.asarray(ours), states.flatten(1).numpy(), atol=1e-6)


def zeros(leaf):
    """An array for a shape."""
    return np.zeros(leaf.shape, leaf.dtype)


def test_both_tables_have_the_same_operations_and_all_are_tested():
    assert tn.MODULES.keys() == OPS.keys()
    assert {node["op"] for spec in CASES for node in spec["nodes"]} == OPS.keys()
    for name, (_, needed, optional) in tn.MODULES.items():
        known = OPS[name].attributes
        assert set(needed.split()) == {k for k, v in known.items() if not v.optional}
        assert set(optional.split()) == {k for k, v in known.items() if v.optional}


@pytest.mark.parametrize(
    "space", [*(pytest.param(space, marks=pytest.mark.slow) for space in (NB, IBM)), CSV]
)
def test_training_mode_agrees_and_updates_running_statistics(space):
    """Logits and means alike; torch's running variance takes n / (n - 1) of flax's step."""
    spec = drawn(space, 1, seed=3)[0]
    arrays, x = random_arrays(spec, 3), images(spec, 6)
    child, net = build(spec), torch_of(spec, arrays).train()
    counts = {}
    for name, module in net.named_modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            hook = functools.partial(keep_count, counts, name)
            module.register_forward_hook(hook)
    theirs = net(channels_first(x)).detach().numpy()
    variables = from_arrays(child, arrays)
    ours, updated = child.apply(variables, jnp.asarray(x), True, mutable=["batch_stats"])
    np.testing.assert_allclose(np.asarray(ours), theirs, rtol=0, atol=1e-4)
    assert counts.keys() == variables["batch_stats"].keys()
    state = net.state_dict()
    for path, new in updated["batch_stats"].items():
        old, n = variables["batch_stats"][path], counts[path]
        mean, var = (state[f"{path}.running_{k}"].numpy() for k in ("mean", "var"))
        np.testing.assert_allclose(new["mean"], mean, rtol=1e-4, atol=1e-5)
        step = (np.asarray(new["var"]) - 0.9 * old["var"]) * n / (n - 1)
        np.testing.assert_allclose(0.9 * old["var"] + step, var, rtol=1e-4, atol=1e-5)
        assert np.abs(new["mean"] - old["mean"]).max() > 1e-3


def keep_count(counts, name, module, inputs, output):
    """Notes how many values a channel has."""
    counts[name] = output.numel() // output.shape[1]


@pytest.mark.slow
@pytest.mark.parametrize("space", [NB, IBM, CSV])
def test_gradients_agree(space):
    """One batch, the same loss: every gradient within 1e-3 of its array's largest."""
    for seed, spec in enumerate(drawn(space, 2, seed=5)):
        arrays, x = random_arrays(spec, seed), images(spec, 4)
        child, net = build(spec), torch_of(spec, arrays).train()
        labels = np.arange(4)
        logits = net(channels_first(x))
        torch.nn.functional.cross_entropy(logits, torch.from_numpy(labels)).backward()
        variables = from_arrays(child, arrays)
        grads = jax.grad(functools.partial(loss, child, variables, x, labels))(
            variables["params"]
        )
        ours = to_arrays({"params": grads})
        theirs = {name: p.grad.numpy() for name, p in net.named_parameters()}
        assert ours.keys() == theirs.keys()
        largest = max(np.abs(g).max() for g in theirs.values())
        for name, gradient in theirs.items():
            # A gradient that batch norm makes zero is rounding: 1e-6 of the largest.
            allowed = 1e-3 * np.abs(gradient).max() + 1e-6 * largest
            assert np.abs(ours[name] - gradient).max() <= allowed, name


def loss(child, variables, x, labels, params):
    """Cross entropy in training mode."""
    held = {**variables, "params": params}
    logits, _ = child.apply(held, jnp.asarray(x), True, mutable=["batch_stats"])
    return -jnp.mean(jax.nn.log_softmax(logits)[jnp.arange(len(labels)), labels])


@pytest.mark.parametrize("space", [NB, IBM, CSV])
def test_flops_and_matrices_by_torchs_own_counter(space):
    """Torch's dispatch counter (2 a multiply-add, no bias); matrices of modules."""
    for seed, spec in enumerate(drawn(space, 4, seed=7)):
        net = torch_of(spec, random_arrays(spec, seed))
        uses = {}
        for name, module in net.named_modules():
            if isinstance(module, torch.nn.Conv2d | torch.nn.Linear):
                module.register_forward_hook(functools.partial(keep_count, uses, name))
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            net(channels_first(images(spec, 1)))
        classes = net.shape[0]
        assert count_costs(spec).flops == counter.get_total_flops() // 2 + classes
        found = matrices(spec)
        assert [m.path for m in found] == list(uses)
        for item in found:
            module = net.get_submodule(item.path)
            groups = getattr(module, "groups", 1)
            assert item.inputs == module.weight[0].numel()
            assert item.outputs * item.groups == module.weight.shape[0]
            assert (item.groups, item.uses) == (groups, uses[item.path])


ALONE = """
import sys
for name in ("jaxnas", "jax", "flax", "numpy", "aihwkit"):
    sys.modules[name] = None
sys.path.insert(0, ".")
import torch, torch_net
net = torch_net.TorchNet(torch_net.read_spec("spec.json")).eval()
torch_net.load_weights(net, "weights.npz")
x = torch.linspace(-1, 1, 2 * 64).reshape(2, 1, 8, 8)
print(net(x).double().tolist())
"""


def test_the_file_runs_alone(tmp_path):
    """Copied into an empty folder; jaxnas, jax, flax and numpy cannot be imported there."""
    spec = NB.to_spec(np.array([2, 3, 0, 4, 2, 1]))
    arrays = random_arrays(spec, 0)
    save_network(tmp_path, spec, arrays)
    shutil.copy(tn.__file__, tmp_path)
    out = subprocess.run(
        [sys.executable, "-I", "-c", ALONE],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    x = np.linspace(-1, 1, 128, dtype=np.float32).reshape(2, 8, 8, 1)
    child = build(spec)
    ours = np.asarray(child.apply(from_arrays(child, arrays), jnp.asarray(x)))
    np.testing.assert_allclose(np.array(json.loads(out.stdout)), ours, atol=1e-4)
