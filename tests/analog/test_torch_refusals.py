"""What the torch file reads, and what it refuses in one sentence."""

import random

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from networks import damaged, random_arrays  # noqa: E402

from jaxnas.analog.bridge import torch_net as tn  # noqa: E402
from jaxnas.spaces import spec as sp  # noqa: E402
from jaxnas.spaces.nb201 import NB201  # noqa: E402

NB = NB201(channels=4, cells=1, image=(8, 8, 1))


def test_npz_files_are_read_as_numpy_reads_them(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {
        "a": rng.normal(size=(3, 4, 2)).astype(np.float32),
        "turned": rng.normal(size=(3, 4, 2)).astype(np.float32).T,
        "wide": rng.normal(size=5),
        "half": rng.normal(size=(2, 2)).astype(np.float16),
        "scalar": np.float32(3.0),
        "empty": np.zeros((0, 3), np.float32),
    }
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "w.npz", **arrays)
        found = tn.read_npz(tmp_path / "w.npz")
        assert found.keys() == arrays.keys()
        for name, value in arrays.items():
            np.testing.assert_array_equal(found[name].numpy(), value.astype(np.float32))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a.pop("stem.bias"), "lacks the array 'stem.bias'"),
        (lambda a: a.update(more=a["stem.bias"]), "has the array 'more', which"),
        (
            lambda a: a.update({"stem.bias": a["stem.bias"][:2]}),
            r"'stem.bias' in .* has shape \[2\] instead of \[4\]",
        ),
        (
            lambda a: a.update({"stem.bias": a["stem.bias"].astype(int)}),
            "type '<i8' is not floating point",
        ),
    ],
)
def test_wrong_weights_are_named(tmp_path, change, message):
    spec = NB.to_spec(np.zeros(6, int))
    arrays = random_arrays(spec, 0)
    change(arrays)
    np.savez(tmp_path / "w.npz", **arrays)
    with pytest.raises(tn.NetError, match=message):
        tn.load_weights(tn.TorchNet(spec), tmp_path / "w.npz")


def test_damaged_files_are_refused(tmp_path):
    path = tmp_path / "w.npz"
    with pytest.raises(tn.NetError, match="cannot be read as weights: No such file"):
        tn.read_npz(path)
    np.savez(path, a=np.arange(1000.0))
    whole = path.read_bytes()
    np.savez_compressed(path, a=np.arange(1000.0))
    packed = bytearray(path.read_bytes())
    packed[60:90] = bytes(30)
    header = whole.replace(b"'shape'", b"'shade'")
    damaged = (b"", b"PK", whole[: len(whole) // 2], bytes(packed), header)
    for data in (*damaged, whole.replace(b"NUMPY", b"NUMPI")):
        path.write_bytes(data)
        with pytest.raises(
            tn.NetError, match=r"read as weights: it is damaged or no \.npz"
        ):
            tn.read_npz(path)
    (tmp_path / "spec.json").write_text("{")
    with pytest.raises(tn.NetError, match="cannot be read as a spec"):
        tn.read_spec(tmp_path / "spec.json")


def edited(change):
    """A spec of nb201 with one change, its nodes by name at hand."""
    spec = NB.to_spec(np.zeros(6, int))
    change(spec, {node["name"]: node for node in spec["nodes"]})
    return spec


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda s, n: n["stem"].update(op="magic"),
            "torch backend lacks the operation 'magic'",
        ),
        (
            lambda s, n: n["stem"].update(inputs=["x"]),
            "'stem' uses 'x', which no node makes",
        ),
        (lambda s, n: n["stem"].update(inputs=[]), r"'stem' \(batch_norm\) has no input"),
        (lambda s, n: s["blocks"].pop("cell"), "block 'cell', which is missing"),
        (
            lambda s, n: s["outputs"]["logits"].update(shape=[7]),
            r"shape \(10,\), not \(7,\)",
        ),
        (lambda s, n: n["logits"].update(inputs=["stem"]), r"\(linear\) needs one vector"),
        (lambda s, n: s["inputs"]["image"].update(shape=[1, 1, 1]), "has a kernel of 2"),
        (lambda s, n: n["stem_conv"]["attributes"].update(groups=3), "cannot split 1 -> 4"),
        (lambda s, n: n["stem_conv"]["attributes"].update(dilation=2), "has 'dilation'"),
        (lambda s, n: n["stem_conv"]["attributes"].pop("kernel"), "lacks 'kernel'"),
        (lambda s, n: n["stem_conv"]["attributes"].update(stride=0), "has stride 0"),
        (lambda s, n: n["stem_conv"]["attributes"].update(kernel="3"), "has kernel '3'"),
        (lambda s, n: n["stem_conv"].update(name="half"), "cannot call a node 'half'"),
        (lambda s, n: s.pop("outputs"), "The spec is malformed"),
        (lambda s, n: s.update(format="onnx"), "no spec of format 'jaxnas-spec-1'"),
        (
            lambda s, n: s["blocks"]["reduce1"]["nodes"].insert(
                0, sp.node("again", "call", ["in"], block="reduce1")
            ),
            "'reduce1.again' calls the block 'reduce1', which is missing, calls itself",
        ),
    ],
)
def test_specs_that_cannot_work_name_the_node(change, message):
    with pytest.raises(tn.NetError, match=message) as caught:
        tn.TorchNet(edited(change))
    assert "\n" not in str(caught.value)


def test_random_damage_is_refused_in_one_sentence_or_harmless():
    """1,000 damaged specs: a network, or a NetError, nothing else."""
    rng, refused = random.Random(1), 0
    whole = NB.to_spec(np.array([0, 1, 2, 3, 4, 0]))
    for _ in range(1000):
        text = refusal(damaged(whole, rng))
        refused += bool(text)
        assert "\n" not in text
    assert 300 < refused < 1000


def refusal(spec):
    """The sentence that refuses a spec, empty where it is built."""
    try:
        tn.TorchNet(spec)
    except tn.NetError as error:
        return str(error)
    return ""


def test_wrong_batches_are_refused():
    net = tn.TorchNet(NB.to_spec(np.zeros(6, int)))
    with pytest.raises(tn.NetError, match=r"batches of \(1, 8, 8\), not \[\(8, 8, 1\)\]"):
        net(torch.zeros(2, 8, 8, 1))
