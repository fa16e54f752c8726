"""Specs of strangers: each kind of fault is one sentence, and no damage is a traceback."""

import math
import random

import numpy as np
import pytest
from networks import damaged

from jaxnas.children.build import build
from jaxnas.children.check import check
from jaxnas.children.count import count_costs, count_totals
from jaxnas.core.errors import UserError
from jaxnas.spaces import spec as sp
from jaxnas.spaces.analog_resnet import AnalogResNet
from jaxnas.spaces.nb201 import NB201
from jaxnas.spaces.toy import Toy

NB = NB201(channels=4, cells=1, image=(8, 8, 1))
BIG = {"kernel": 1, "stride": 1, "padding": 0, "features": 2**24}


def test_the_specs_of_our_spaces_pass():
    tokens = np.zeros(22, int)
    tokens[[0, 2, 7, 12, 17]] = 1
    check(NB.to_spec(np.array([0, 1, 2, 3, 4, 0])))
    check(Toy().to_spec(np.array([2, 0, 1, 0])))
    resnet = AnalogResNet("ibm")
    first = [int(np.argmax(legal)) for legal in resnet._legal[0]]
    check(resnet.to_spec(np.array(first)))


def cell(spec):
    """Nodes of the cell by name."""
    return {node["name"]: node for node in spec["blocks"]["cell"]["nodes"]}


def top(spec):
    """Top-level nodes by name."""
    return {node["name"]: node for node in spec["nodes"]}


def swap(nodes, a, b):
    """Exchanges two nodes."""
    nodes[a], nodes[b] = nodes[b], nodes[a]


def call(block):
    """A node that calls a block."""
    return sp.node("again", "call", ["in"], block=block)


def stem(**attributes):
    """A change of the first convolution."""
    return lambda s: top(s)["stem_conv"]["attributes"].update(attributes)


FAULTS = [
    (lambda s: s.pop("blocks"), "JSON object with the parts format, inputs, outputs"),
    (lambda s: s.update(format="x"), "This spec is 'x'; 'jaxnas-spec-1' is needed"),
    (lambda s: s.update(space={1, 2}), "cannot be written as JSON"),
    (lambda s: s.update(space=math.nan), "cannot be written as JSON"),
    (lambda s: s.update(nodes={}), "nodes of 'the spec' must be a list"),
    (lambda s: s.update(inputs={}), "at least one input"),
    (lambda s: s["inputs"]["image"].update(shape=[8, 8]), "'image' of the inputs must be"),
    (lambda s: s["inputs"]["image"].update(shape=[8, 8, 0]), "'image' of the inputs must"),
    (lambda s: s["inputs"]["image"].update(shape=[8, 8.0, 1]), "'image' of the inputs"),
    (lambda s: s["outputs"]["logits"].update(kind="text"), "'logits' of the outputs must"),
    (
        lambda s: s["outputs"]["logits"].update(shape=[7]),
        r"shape \(10,\) instead of \(7,\)",
    ),
    (lambda s: s["outputs"].update(more=sp.vector(1)), "output 'more' .* has shape None"),
    (lambda s: top(s)["stem"].update(op="magic"), "'stem' is 'magic', which the flax"),
    (lambda s: top(s)["stem"].update(inputs=["x"]), "'stem' uses 'x', which no node makes"),
    (lambda s: top(s)["stem"].update(inputs=[]), "'stem' needs an input"),
    (lambda s: top(s)["stem"].update(inputs=["stem"]), "cycles are not possible"),
    (lambda s: swap(s["nodes"], 0, 1), "'stem' uses 'stem_conv', which is not made before"),
    (lambda s: top(s)["stem"].update(name="stem_conv"), "'stem_conv' is used twice"),
    (lambda s: top(s)["stem"].update(name="a.b"), "text without dots or slashes"),
    (lambda s: top(s)["stem"].pop("attributes"), "Each node must have a name"),
    (lambda s: s["nodes"].append("node"), "Each node must have a name"),
    (lambda s: cell(s)["edge12"].update(inputs=["stem"]), "'cell.edge12' uses 'stem'"),
    (lambda s: s["blocks"].pop("reduce2"), "'reduce2' calls a block"),
    (lambda s: s["blocks"].update(cell=[]), "block 'cell' must have inputs, nodes and"),
    (
        lambda s: s["blocks"]["cell"].update(outputs=["node9"]),
        "'cell' must have one output",
    ),
    (lambda s: s["blocks"]["cell"].update(inputs=["node1"] * 2), "two inputs of one name"),
    (
        lambda s: s["blocks"]["cell"].update(inputs=["node1", "other"]),
        "gives 1 values to the block 'cell', which has 2 inputs",
    ),
    (
        lambda s: s["blocks"]["reduce1"]["nodes"].append(call("reduce1")),
        r"'reduce1' calls itself through \['reduce1'\]",
    ),
    (
        lambda s: [
            s["blocks"]["reduce1"]["nodes"].append(call("reduce2")),
            s["blocks"]["reduce2"]["nodes"].append(call("reduce1")),
        ],
        r"'reduce1' calls itself through \['reduce1', 'reduce2'\]",
    ),
    (stem(kernel=0), r"'stem_conv' \(conv\) has kernel 0, which must be a whole number"),
    (stem(kernel=True), "has kernel True, which must be a whole number"),
    (stem(kernel=3.0), "has kernel 3.0, which must be a whole number"),
    (stem(kernel=[3]), r"has kernel \[3\], which must be a whole number"),
    (stem(padding=-1), "has padding -1"),
    (stem(padding="same"), "has padding 'same'"),
    (stem(stride=None), "has stride None"),
    (stem(features=0), "has features 0"),
    (stem(features=10**400), "has features 1000"),
    (stem(bias=1), "has bias 1, which must be true or false"),
    (stem(dilation=2), "has the attribute 'dilation', which is unknown"),
    (lambda s: top(s)["stem_conv"]["attributes"].pop("stride"), "lacks the attribute 'str"),
    (lambda s: top(s)["logits"]["attributes"].clear(), "lacks the attribute 'features'"),
    (stem(groups=2), "cannot split 1 -> 4 channels into 2"),
    (stem(kernel=11), "has a kernel of 11 for a side of 8 padded by 1"),
    (lambda s: top(s)["logits"].update(inputs=["stem"]), "needs one vector"),
    (lambda s: top(s)["head_relu"].update(inputs=["stem", "stem"]), "needs one input"),
    (
        lambda s: cell(s)["edge12"].update(
            op="avg_pool", attributes={"kernel": 2, "stride": 1, "padding": 2}
        ),
        "a padding of 2, more than half of its kernel of 2",
    ),
    (
        lambda s: cell(s)["edge12"].update(op="shift", attributes={"pixels": 8}),
        "by 8 pixels, which leaves nothing of it",
    ),
    (
        lambda s: cell(s)["edge12"].update(op="zero", attributes={"stride": 2}),
        "adds values of different shapes|takes|'stage0_cell0.*needs",
    ),
    (stem(features=2**24), "GiB for .* parameters"),
    (lambda s: s["inputs"]["image"].update(shape=[2**24, 2**24, 1]), "GiB for .* param"),
]


@pytest.mark.parametrize(("change", "message"), FAULTS)
def test_each_fault_is_one_sentence(change, message):
    spec = NB.to_spec(np.zeros(6, int))
    change(spec)
    with pytest.raises(UserError, match=message) as caught:
        build(spec)
    text = str(caught.value)
    assert "\n" not in text
    assert text.endswith(".")
    assert len(text) < 700


def test_memory_is_the_callers_to_choose():
    spec = NB.to_spec(np.zeros(6, int))
    totals = count_totals(spec)
    need = 16 * totals.params + 4 * totals.activations
    check(spec, memory=need)
    with pytest.raises(UserError, match="more than the"):
        check(spec, memory=need - 1)


def test_activations_are_the_sizes_of_all_values():
    """A linear layer and its ReLU, an identity, and the head of 2."""
    spec = Toy(2, 2).to_spec(np.array([1, 0]))
    widths = [n["attributes"]["features"] for n in spec["blocks"]["chain"]["nodes"][:1]]
    assert count_totals(spec).activations == 2 * widths[0] + widths[0] + 2
    assert count_totals(spec).nodes == 4


def nested(levels, node):
    """Blocks of which each calls the one below twice: 2^levels uses of one node."""
    blocks = {"b0": sp.block(["in"], [node], [node["name"]])}
    for i in range(1, levels + 1):
        calls = [
            sp.node("one", "call", ["in"], block=f"b{i - 1}"),
            sp.node("two", "call", ["one"], block=f"b{i - 1}"),
        ]
        blocks[f"b{i}"] = sp.block(["in"], calls, ["two"])
    return {
        "format": sp.FORMAT,
        "space": "test",
        "inputs": {"x": sp.image(4, 4, 2)},
        "outputs": {"y": sp.image(4, 4, 2)},
        "blocks": blocks,
        "nodes": [sp.node("y", "call", ["x"], block=f"b{levels}")],
    }


def test_exponential_specs_are_counted_without_walking_and_refused():
    """2^25 batch norms of 2 channels: counted exactly, at once, and too large to build."""
    norm = sp.node("n", "batch_norm", ["in"])
    assert count_costs(nested(25, norm)).params == 4 * 2**25
    with pytest.raises(UserError, match="has 33554432 operations; at most 100000"):
        check(nested(25, norm))
    with pytest.raises(UserError, match="more than 32 blocks"):
        check(nested(40, norm))


def test_exponential_specs_of_growing_shapes_are_given_up(monkeypatch):
    """Each use sees a larger image, so that nothing counted before can be used again."""
    monkeypatch.setattr("jaxnas.children.count.MOST_VISITS", 300)
    grow = sp.node("n", "zero", ["in"])
    grow.update(op="conv", attributes={"kernel": 1, "stride": 1, "padding": 1})
    with pytest.raises(UserError, match="more than 300 different operations"):
        check(nested(25, grow))


def refusal(spec):
    """The sentence that refuses a spec, empty where it is built."""
    try:
        build(spec)
    except UserError as error:
        return str(error)
    return ""


def test_random_damage_is_refused_in_one_sentence_or_harmless():
    """600 damaged specs: a network whose counts work, or a UserError, nothing else."""
    rng = random.Random(0)
    whole = NB.to_spec(np.array([0, 1, 2, 3, 4, 0]))
    refused = 0
    for _ in range(600):
        spec = damaged(whole, rng)
        text = refusal(spec)
        refused += bool(text)
        assert "\n" not in text
        assert text or count_costs(spec).params > 0
    assert 300 < refused < 600
