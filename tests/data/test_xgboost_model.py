"""Reading XGBoost files: what they say, and that bad ones are refused in one sentence."""

import copy
import json

import numpy as np
import pytest

from jaxnas.core.errors import UserError
from jaxnas.data.formats.xgboost_model import OBJECTIVES, parse, read


def stump(**changes):
    """A file's document with one tree: feature 1 below 2.5 gives 10, otherwise 20."""
    tree = {
        "left_children": [1, -1, -1],
        "right_children": [2, -1, -1],
        "split_indices": [1, 0, 0],
        "split_conditions": [2.5, 10.0, 20.0],
        "default_left": [1, 0, 0],
        "split_type": [0, 0, 0],
        "categories": [],
        "categories_nodes": [],
        "categories_segments": [],
        "categories_sizes": [],
        "tree_param": {"size_leaf_vector": "1"},
    } | changes
    return {
        "learner": {
            "feature_names": [],
            "feature_types": [],
            "gradient_booster": {
                "name": "gbtree",
                "model": {"tree_info": [0], "trees": [tree]},
            },
            "learner_model_param": {
                "base_score": "5E-1",
                "num_class": "0",
                "num_feature": "3",
                "num_target": "1",
            },
            "objective": {"name": "reg:squarederror"},
        },
        "version": [2, 0, 3],
    }


def load(document):
    return parse(json.dumps(document).encode(), "m.json")


def test_fields_of_a_stump():
    model = load(stump())
    assert model.num_trees == 1
    assert model.feature.tolist() == [1, -1, -1]
    assert model.threshold.tolist() == [2.5, 0, 0]
    assert model.left.tolist() == [1, 1, 2]
    assert model.right.tolist() == [2, 1, 2]
    assert model.default_left.tolist() == [True, False, False]
    assert model.value.tolist() == [0, 10, 20]
    assert (model.base_score, model.num_feature, model.version) == (0.5, 3, (2, 0, 3))


def test_categories_of_a_node():
    model = load(
        stump(
            split_type=[1, 0, 0],
            split_conditions=[float("nan"), 10.0, 20.0],  # what XGBoost 2 writes
            categories=[4, 0, 2],
            categories_nodes=[0],
            categories_segments=[1],
            categories_sizes=[2],
        )
    )
    assert model.categorical.tolist() == [True, False, False]
    assert model.categories[slice(*model.span[0])].tolist() == [0, 2]


@pytest.mark.parametrize("stored", ["[8.5E-1]", "8.5E-1", 0.85, [0.85]])
def test_base_score_in_each_of_its_forms(stored):
    document = stump()
    document["learner"]["learner_model_param"]["base_score"] = stored
    assert load(document).base_score == np.float32(0.85)


BAD_TREES = {
    "cycle": {"left_children": [1, 0, -1], "right_children": [2, 2, -1]},
    "itself": {"left_children": [0, -1, -1]},
    "outside": {"right_children": [3, -1, -1]},
    "huge child": {"right_children": [2**31, -1, -1]},
    "two parents": {"right_children": [1, -1, -1]},
    "one child": {"right_children": [-1, -1, -1]},
    "lengths": {"split_conditions": [1.0]},
    "feature beyond": {"split_indices": [3, 0, 0]},
    "negative feature": {"split_indices": [-1, 0, 0]},
    "infinite leaf": {"split_conditions": [2.5, 1e39, 20.0]},
    "nan threshold": {"split_conditions": [float("nan"), 10.0, 20.0]},
    "words": {"split_conditions": ["a", "b", "c"]},
    "nested": {"split_indices": [[1], [0], [0]]},
    "ragged": {"split_indices": [[1], 0, 0]},
    "fraction": {"left_children": [1.5, -1, -1]},
    "no categories": {"split_type": [1, 0, 0]},
    "category beyond": {
        "split_type": [1, 0, 0],
        "categories": [1 << 24],
        "categories_nodes": [0],
        "categories_segments": [0],
        "categories_sizes": [1],
    },
    "segment beyond": {
        "split_type": [1, 0, 0],
        "categories": [1],
        "categories_nodes": [0],
        "categories_segments": [0],
        "categories_sizes": [2],
    },
}


@pytest.mark.parametrize("change", BAD_TREES.values(), ids=BAD_TREES)
def test_a_broken_tree_is_refused(change):
    with pytest.raises(UserError, match=r"m\.json is not a usable XGBoost model"):
        load(stump(**change))


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("objective", "name"), "multi:softprob", "unknown here; use one of reg:squared"),
        (("objective", "name"), None, "'None', whose output transform is unknown"),
        (("gradient_booster", "name"), "dart", "only 'gbtree' is supported"),
        (("gradient_booster", "name"), "gblinear", "only 'gbtree' is supported"),
        (("learner_model_param", "num_class"), "3", "predicts 3 values a row"),
        (("learner_model_param", "num_target"), "2", "predicts 2 values a row"),
        (("learner_model_param", "num_feature"), "-1", "no trees or no features"),
        (("learner_model_param", "base_score"), "[NaN]", "its base score is"),
        (("learner_model_param", "base_score"), "[1, 2]", "its base score is"),
        (("feature_names",), ["a"], "names or types"),
        (("gradient_booster", "model", "trees"), [], "no trees"),
        (("gradient_booster", "model", "trees"), 7, "another type than XGBoost"),
        (("gradient_booster", "model"), None, "another type than XGBoost"),
        (("gradient_booster",), {}, "it has no 'name'"),
    ],
)
def test_an_unsupported_model_is_refused(path, value, said):
    document = copy.deepcopy(stump())
    *way, last = ("learner", *path)
    place = document
    for step in way:
        place = place[step]
    place[last] = value
    with pytest.raises(UserError, match=said.replace("(", r"\(")):
        load(document)


def test_vector_leaves_are_refused():
    with pytest.raises(UserError, match="leaves that hold vectors"):
        load(stump(tree_param={"size_leaf_vector": "3"}))


def test_the_base_score_of_a_logistic_model_is_a_probability():
    document = stump()
    document["learner"]["objective"]["name"] = "binary:logistic"
    document["learner"]["learner_model_param"]["base_score"] = "[1.5]"
    with pytest.raises(UserError, match="base score"):
        load(document)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is not an XGBoost model"),
        (b"\x80\x04\x95", "is not an XGBoost model"),
        (b"PK\x03\x04", "is not an XGBoost model"),
        (b"[1, 2]", "has no 'learner'"),
        (b'{"a": 1}', "has no 'learner'"),
        (b'{"learner": {"a"', "damaged or cut short"),
        (b'{"learner": 3}', "not a usable XGBoost model"),
        (b'{"learner":' + b"[" * 100_000, "damaged or cut short"),
        (b'{"learner": ' + b"9" * 10_000 + b"}", "damaged or cut short"),
        (b"binf" + bytes(200), "old binary format"),
        (bytes(136) + b"\x10" + bytes(7) + b"reg:squarederror", "old binary format"),
    ],
)
def test_a_file_that_is_no_model_is_refused(content, said):
    with pytest.raises(UserError, match=said):
        parse(content, "m")


def test_every_truncation_is_refused():
    content = json.dumps(stump()).encode()
    for length in range(0, len(content) - 1, 7):
        with pytest.raises(UserError):
            parse(content[:length], "m")


def test_random_damage_never_escapes_as_anything_but_a_user_error():
    rng = np.random.default_rng(0)
    intact = np.frombuffer(json.dumps(stump()).encode(), np.uint8)
    refused = 0
    for _ in range(500):
        damaged = intact.copy()
        damaged[rng.integers(len(intact), size=3)] = rng.integers(256, size=3)
        try:
            parse(damaged.tobytes(), "m")
        except UserError:
            refused += 1
    assert refused > 100


def test_ubjson_is_refused_with_the_way_out():
    content = b"{L\x00\x00\x00\x00\x00\x00\x00\x07learner{"
    with pytest.raises(UserError, match=r"UBJSON.*save_model\('model\.json'\)"):
        parse(content, "m.ubj")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match="cannot be read: No such file"):
        read(tmp_path / "absent.json")
    with pytest.raises(UserError, match="cannot be read"):
        read(tmp_path)


@pytest.mark.parametrize(
    "start",
    [b"binf" + bytes.fromhex("79495b3f16"), b"bs64", bytes(136) + b"\x0a" + bytes(7)],
    ids=["binf", "base64", "bare"],
)
def test_the_old_binary_format_is_refused_with_the_way_out(tmp_path, start):
    """The first bytes of IBM's ``xgboost_ranker_acc.bst``, and the two other beginnings."""
    said = r"old binary format.*xgboost-cpu==3\.0\.5.*save_model"
    (tmp_path / "model.bst").write_bytes(start + b"reg:linear" + bytes(200))
    with pytest.raises(UserError, match=said):
        read(tmp_path / "model.bst")


def test_objectives_are_listed_once():
    assert len(set(OBJECTIVES)) == len(OBJECTIVES)
