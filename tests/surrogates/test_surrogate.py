"""Surrogates as oracles: conformance, files, a published fault, and a search on one."""

import dataclasses
import functools
import json
import shutil

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas.core import tokens as tk
from jaxnas.core.errors import UserError
from jaxnas.core.scalarise import weighted_sum
from jaxnas.core.types import Objective
from jaxnas.data.tables import analognas_csv
from jaxnas.oracles.budget import Budgeted
from jaxnas.oracles.toy import ToyOracle
from jaxnas.registry import make_oracle, make_space
from jaxnas.spaces.toy import Toy
from jaxnas.surrogates import file as sf
from jaxnas.surrogates.ensemble import Ensemble, fit
from jaxnas.surrogates.features import Numeric, make_encoder
from jaxnas.surrogates.open import surrogate
from jaxnas.surrogates.oracle import Surrogate, SurrogateParams, predict_rows
from jaxnas.testing.oracles import (
    SURROGATE_CHECKS,
    check_decisions_show,
    check_features,
    check_single_row_equals_batch,
    untrained_model,
)

SMALL = Ensemble(2, (8,), 20, 16)
ACCURACY = Objective("accuracy", "%", True, "made up for tests")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("models")


@functools.cache
def saved(space, kind):
    return untrained_model(space, kind, (ACCURACY,))


def toy_model():
    return untrained_model(
        make_space("toy"), "graph", ToyOracle(Toy(), "score,layers").objectives
    )


CASES = {
    "nb201, graph": ("nb201", {}, "graph"),
    "analog-resnet, numeric": ("analog-resnet", {"variant": "csv"}, "numeric"),
}


@pytest.fixture(scope="module", params=[*CASES, "trees", "with truth"])
def oracle(request, folder):
    if request.param == "with truth":
        return surrogate(toy_model(), objective="score", truth="toy")
    if request.param == "trees":
        path = folder / "trees.json"
        path.write_text(json.dumps(tree_file()))
        return surrogate(str(path), make_space("analog-resnet"), "1_day_accuracy")
    name, options, kind = CASES[request.param]
    return surrogate(saved(make_space(name, **options), kind))


def tree_file(features=22, objective="reg:squarederror", names=()):
    """Two stumps in XGBoost's JSON, on the number of groups and the first block type."""

    def stump(feature, threshold, left, right):
        return {
            "left_children": [1, -1, -1], "right_children": [2, -1, -1],
            "parents": [2147483647, 0, 0], "split_indices": [feature, 0, 0],
            "split_conditions": [threshold, left, right], "default_left": [0, 0, 0],
            "split_type": [0, 0, 0], "base_weights": [0.0, left, right],
            "categories": [], "categories_nodes": [], "categories_segments": [],
            "categories_sizes": [], "loss_changes": [1.0, 0.0, 0.0],
            "sum_hessian": [2.0, 1.0, 1.0], "id": 0,
            "tree_param": {"num_nodes": "3", "num_feature": str(features),
                           "num_deleted": "0", "size_leaf_vector": "1"},
        }  # fmt: skip

    trees = [stump(1, 3.5, -0.1, 0.1), stump(7, 1.5, -0.02, 0.02)]
    return {
        "version": [3, 0, 5],
        "learner": {
            "attributes": {}, "feature_names": list(names), "feature_types": [],
            "gradient_booster": {
                "name": "gbtree",
                "model": {"trees": trees, "tree_info": [0, 0],
                          "gbtree_model_param": {"num_trees": "2",
                                                 "num_parallel_tree": "1"}},
            },
            "learner_model_param": {"base_score": "8E-1", "num_class": "0",
                                    "num_target": "1", "num_feature": str(features)},
            "objective": {"name": objective},
        },
    }  # fmt: skip


@pytest.mark.parametrize("check", SURROGATE_CHECKS, ids=lambda check: check.__name__)
def test_surrogate_conforms(oracle, check):
    check(oracle)


@dataclasses.dataclass(frozen=True)
class CodedTogether(Surrogate):
    """The original's fault: a category is its rank among the rows at hand."""

    def features(self, tokens):
        table = super().features(tokens)
        smaller = table[None, :, 7] < table[:, None, 7]
        first = jnp.argmax(table[None, :, 7] == table[:, None, 7], axis=1)
        new = first == jnp.arange(len(table))
        return table.at[:, 7].set(jnp.sum(smaller & new[None], axis=1))


def test_a_category_coded_by_rank_is_seen(folder):
    """Alone, every block type of the first group is coded 0: three checks see it."""
    good = surrogate(saved(make_space("analog-resnet", variant="csv"), "numeric"))
    bad = CodedTogether(
        good.encoder, good.config, good.metrics, source=good.source, checksum=good.checksum
    )
    for check in (check_features, check_single_row_equals_batch, check_decisions_show):
        check(good)
        with pytest.raises(AssertionError):
            check(bad)


def test_a_block_type_changes_the_score_of_a_single_row(folder):
    """The regression test of the original's reward, on trees that ask for the type."""
    path = folder / "types.json"
    path.write_text(json.dumps(tree_file()))
    oracle = surrogate(str(path), make_space("analog-resnet", variant="csv"))
    row = np.array([[0, 0, 1, 0, 0, 0, 0, 1, 1, 1] + [0] * 12], np.int32)
    other = row.copy()
    other[0, 7] = 2
    say = jax.jit(oracle.predict)
    params = oracle.params()
    means = [float(say(params, jnp.asarray(t)).mean[0, 0]) for t in (row, other)]
    np.testing.assert_allclose(means, [0.8 - 0.1 - 0.02, 0.8 - 0.1 + 0.02], rtol=1e-6)
    both = np.asarray(say(params, jnp.concatenate([row, other])).mean)[:, 0]
    np.testing.assert_array_equal(both, np.float32(means))


def test_a_file_gives_back_what_was_saved(folder):
    space = make_space("toy")
    path = saved(space, "graph")
    stored = sf.parse(sf.content_of(path), path)
    facts = {"rows": 30, "source": "nothing"}
    again = folder / "again.npz"
    sf.save(
        again, stored._replace(header=dataclasses.replace(stored.header, training=facts))
    )
    header, params, rows = sf.parse(sf.content_of(str(again)), "again")
    assert header.training == facts
    assert dataclasses.replace(header, training={}) == stored.header
    jax.tree.map(np.testing.assert_array_equal, params, stored.params)
    np.testing.assert_array_equal(rows, stored.rows)
    made = surrogate(str(again))
    assert made.space == space
    assert made == surrogate(str(again), space)
    assert hash(made) == hash(surrogate(str(again), space))
    assert made.id != surrogate(path).id
    info = made.info()
    assert info["fit: rows"] == 30
    assert info["metrics"]["accuracy"]["unit"] == "%"
    memory = dataclasses.replace(made, source="", checksum="")
    predicted = predict_rows(memory, SurrogateParams(stored.params), rows)
    np.testing.assert_array_equal(
        predicted.mean, predict_rows(made, made.params(), rows).mean
    )
    with pytest.raises(UserError, match="in memory"):
        memory.params()


def test_shapes_are_those_that_a_fit_gives():
    config = Ensemble(3, (7, 5), 2, 4)
    one = lambda *shape: jax.ShapeDtypeStruct(shape, np.float32)
    made = jax.eval_shape(
        lambda x, y, w: fit(config, jax.random.key(0), x, y, w),
        one(9, 4),
        one(9, 2),
        one(9),
    )
    assert jax.tree.map(lambda leaf: leaf.shape, made) == sf.shapes(config, 4, 2)


def altered(path, **changes):
    """The bytes of a model whose header was edited."""
    with np.load(path) as file:
        arrays = dict(file.items())
    facts = json.loads(arrays["header"].tobytes()) | changes
    arrays["header"] = np.frombuffer(json.dumps(facts).encode(), np.uint8)
    target = path.replace(".npz", "-altered.npz")
    np.savez(target, **arrays)
    return target


def test_what_does_not_fit_is_refused_in_one_sentence(folder):
    space = make_space("nb201")
    path = saved(space, "graph")
    whole = sf.content_of(path)
    broken = folder / "broken.npz"
    nothing = folder / "plain.npz"
    np.savez(nothing, x=np.zeros(3))
    resnet = make_space("analog-resnet")
    trees = folder / "t.json"

    def trees_with(**options):
        trees.write_text(json.dumps(tree_file(**options)))
        return str(trees), resnet

    def bytes_of(content):
        broken.write_bytes(content)
        return (str(broken),)

    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 255
    cases = [
        (lambda: (str(folder / "none.npz"),), "No such file"),
        (lambda: (str(folder),), "cannot be read"),
        (lambda: bytes_of(whole[: len(whole) // 2]), "no intact surrogate"),
        (lambda: bytes_of(bytes(flipped)), "no intact surrogate"),
        (lambda: bytes_of(b"a,b\n1,2\n"), "not an XGBoost model"),
        (lambda: (str(nothing),), "no intact surrogate"),
        (lambda: (altered(path, format="jaxnas-surrogate-v0"),), "has the format"),
        (lambda: (altered(path, checksum="0"),), "no intact surrogate"),
        (lambda: (altered(path, features=["a"]),), "no intact surrogate"),
        (lambda: (altered(path, encoder="graph-v0"),), "'graph-v0'"),
        (lambda: (altered(path, encoder="pixels-v1"),), "Unknown features"),
        (lambda: (altered(path, recipe=None),), "name that space"),
        (lambda: (path, make_space("toy")), "not of 'toy-v1'"),
        (lambda: (path, None, "accuracyy"), "Did you mean 'accuracy'"),
        (lambda: (path, None, "", "toy"), "refused|Unknown|scores|metric"),
        (lambda: trees_with()[:1], "which space"),
        (lambda: (trees_with()[0], space), "0 numeric"),
        (lambda: trees_with(features=20), "asks for 20 features"),
        (lambda: trees_with(names=[f"f{i}" for i in range(22)]), r"\(f0, f1"),
        (lambda: trees_with(objective="rank:unheard"), "rank:unheard"),
    ]
    for make, text in cases:
        with pytest.raises(UserError, match=text) as caught:
            surrogate(*make())
        assert "\n" not in str(caught.value)


def test_a_model_that_changes_under_an_oracle_is_refused(folder):
    path = folder / "moving.npz"
    shutil.copy(toy_model(), path)
    oracle = surrogate(str(path))
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(UserError, match="has changed"):
        oracle.params()


def test_several_outputs_are_several_objectives():
    both = surrogate(toy_model())
    assert [o.name for o in both.objectives] == ["score", "layers"]
    one = both.select("layers")
    assert [o.name for o in one.objectives] == ["layers"]
    tokens = jnp.asarray(tk.enumerate_space(both.space))
    params = both.params()
    whole, part = (np.asarray(jax.jit(o.truth)(params, tokens)) for o in (both, one))
    np.testing.assert_allclose(part[:, 0], whole[:, 1], rtol=1e-6)
    assert jax.jit(one.spread)(params, tokens).shape == (len(tokens), 1)


def test_a_curve_shows_the_truth_of_what_the_surrogate_recommends():
    """The ledger follows predictions and writes down the table's value of the best."""
    oracle = make_oracle("surrogate", model=toy_model(), objective="score", truth="toy")
    table = make_oracle("toy", objective="score")
    tokens = jnp.asarray(tk.enumerate_space(oracle.space)[5:25])
    budget = Budgeted(oracle, weighted_sum(oracle.objectives), 20, 20)
    params = oracle.params()
    state = budget.init(jax.random.key(0), params)
    lanes = (jnp.zeros(20, jnp.int32), jnp.ones(20, bool))
    state, answer = jax.jit(budget.evaluate)(
        jax.random.key(1), params, state, tokens, *lanes
    )
    predicted = np.asarray(answer.objectives)[:, 0]
    true = np.asarray(table.truth(table.params(), tokens))[:, 0]
    leader = [int(np.argmax(predicted[: i + 1])) for i in range(20)]
    np.testing.assert_allclose(state.ledger.curve, true[leader])
    assert not np.allclose(predicted, true)


@chex.assert_max_traces(n=1)
def pipeline(oracle, key, x, y, tokens):
    """Fits and scores: what a search on a fresh surrogate does for each seed."""
    params = fit(oracle.config, key, x, y, jnp.ones(len(x)))
    lanes = (jnp.zeros(len(tokens), jnp.int32), jnp.ones(len(tokens), bool))
    _, answer = oracle.evaluate(key, SurrogateParams(params), (), tokens, *lanes)
    return answer.objectives


def test_models_in_memory_are_fitted_and_asked_in_one_vmap():
    space = make_space("toy")
    encoder = make_encoder("one-hot", space)
    oracle = Surrogate(encoder, SMALL, (ACCURACY,))
    assert hash(oracle) == hash(Surrogate(encoder, SMALL, (ACCURACY,)))
    tokens = jnp.asarray(tk.enumerate_space(space))
    x = jax.vmap(encoder)(tokens)
    y = jax.random.normal(jax.random.key(0), (3, len(x), 1))
    keys = jax.random.split(jax.random.key(1), 3)
    run = jax.jit(jax.vmap(functools.partial(pipeline, oracle), (0, None, 0, None)))
    wide = np.asarray(run(keys, x, y, tokens))
    run(keys, x, y + 1, tokens)
    assert wide.shape == (3, len(tokens), 1)
    assert len(np.unique(wide)) > len(tokens)


def test_categories_of_the_published_model_count_as_in_its_training(shared_folder):
    """As its authors trained it the error is 0.0372; one type code aside it is larger.

    0.0372 is the root of 0.8 * 0.0331^2 + 0.2 * 0.0504^2, its errors on their split.
    """
    space = make_space("analog-resnet", variant="csv")
    table = analognas_csv.read(shared_folder / "dataset_cifar10_v1.csv")
    tokens = space.tokens_from_features(table.features)
    oracle = surrogate(str(shared_folder / "vqvae_surrogate_model.json"), space)
    plain = dataclasses.replace(oracle, encoder=Numeric(space))
    labels = table.targets["1_day_accuracy"]
    errors = [
        np.sqrt(np.mean((predict_rows(o, o.params(), tokens).mean[:, 0] - labels) ** 2))
        for o in (oracle, plain)
    ]
    np.testing.assert_allclose(errors[0], 0.0372, atol=2e-4)
    assert errors[1] > errors[0] + 1e-4
