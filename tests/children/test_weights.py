"""Weights both ways, on disk, and what is refused."""

import json

import numpy as np
import pytest
from networks import random_arrays

from jaxnas.children.build import build
from jaxnas.children.count import arrays as array_shapes
from jaxnas.children.weights import from_arrays, load_network, save_network, to_arrays
from jaxnas.core.errors import UserError
from jaxnas.spaces.nb201 import NB201

NB = NB201(channels=4, cells=1, image=(8, 8, 1))
SPEC = NB.to_spec(np.array([2, 3, 0, 4, 1, 2]))


def test_round_trip_is_exact_in_memory_and_on_disk(tmp_path):
    arrays = random_arrays(SPEC, 0)
    save_network(tmp_path / "net", SPEC, arrays)
    child, variables = load_network(tmp_path / "net")
    assert child == build(SPEC)
    back = to_arrays(variables)
    assert back.keys() == arrays.keys() == array_shapes(SPEC).keys()
    for name, value in arrays.items():
        np.testing.assert_array_equal(back[name], value)
        assert back[name].flags.c_contiguous
        assert back[name].dtype == np.float32


def test_files_are_plain_json_and_uncompressed_npz(tmp_path):
    """Any reader of npz finds torch's names and layout in it."""
    arrays = random_arrays(SPEC, 0)
    save_network(tmp_path, SPEC, arrays)
    assert json.loads((tmp_path / "spec.json").read_text()) == SPEC
    with np.load(tmp_path / "weights.npz", allow_pickle=False) as found:
        assert found["reduce1.conv_a.conv.weight"].shape == (8, 4, 3, 3)
        assert found["logits.weight"].shape == (10, 16)
        assert set(found.files) == set(arrays)
    size = sum(value.nbytes for value in arrays.values())
    assert (tmp_path / "weights.npz").stat().st_size > size


def test_kernels_are_turned_to_the_axes_that_torch_has():
    arrays = random_arrays(SPEC, 0)
    variables = from_arrays(build(SPEC), arrays)
    ours = variables["params"]["reduce1.conv_a.conv"]["kernel"]
    theirs = arrays["reduce1.conv_a.conv.weight"]
    assert ours[0, 2, 3, 7] == theirs[7, 3, 0, 2]
    assert variables["params"]["logits"]["kernel"][5, 2] == arrays["logits.weight"][2, 5]
    var = variables["batch_stats"]["stem"]["var"]
    np.testing.assert_array_equal(var, arrays["stem.running_var"])


def test_counters_of_a_torch_state_are_left_out():
    arrays = random_arrays(SPEC, 0)
    arrays["stem.num_batches_tracked"] = np.array(7)
    from_arrays(build(SPEC), arrays)


def spoil(name, index, value):
    """A change of one number of an array."""

    def change(arrays):
        arrays[name][index] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a.pop("stem.bias"), "lack 'stem.bias', one of 1 missing"),
        (lambda a: a.update(more=a["stem.bias"]), "have 'more', one of 1 arrays"),
        (
            lambda a: a.update({"stem_conv.weight": a["stem_conv.weight"].T}),
            r"'stem_conv.weight' has shape \(3, 3, 1, 4\) of float32; .* \(4, 1, 3, 3\)",
        ),
        (
            lambda a: a.update({"stem.bias": a["stem.bias"].astype(int)}),
            "'stem.bias' has shape .* of int64; the network needs floating point",
        ),
        (spoil("stem.bias", 2, np.nan), "'stem.bias' has a value that is not finite"),
        (spoil("stem.running_var", 0, -1.0), "'stem.running_var' has a negative value"),
    ],
)
def test_wrong_arrays_are_named(tmp_path, change, message):
    arrays = random_arrays(SPEC, 0)
    change(arrays)
    for use in (
        lambda: from_arrays(build(SPEC), arrays),
        lambda: save_network(tmp_path, SPEC, arrays),
    ):
        with pytest.raises(UserError, match=message):
            use()


def test_variables_of_another_module_are_refused():
    with pytest.raises(UserError, match="'embedding' of 'x' in 'params' belongs to no"):
        to_arrays({"params": {"x": {"embedding": np.zeros((2, 2))}}})


def test_damaged_folders_are_refused(tmp_path):
    with pytest.raises(UserError, match="is no saved network"):
        load_network(tmp_path)
    save_network(tmp_path, SPEC, random_arrays(SPEC, 0))
    path = tmp_path / "weights.npz"
    whole = path.read_bytes()
    for data in (b"", b"PK", whole[: len(whole) // 2]):
        path.write_bytes(data)
        with pytest.raises(UserError, match="is no saved network"):
            load_network(tmp_path)
    path.write_bytes(whole)
    (tmp_path / "spec.json").write_text("[1]")
    with pytest.raises(UserError, match="holds no JSON object"):
        load_network(tmp_path)
