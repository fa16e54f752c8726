"""Boosted trees in JAX against a plain walk, and against XGBoost itself."""

import gzip
from functools import partial
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas.core.errors import UserError
from jaxnas.data.formats.xgboost_model import (
    EXPONENTIAL,
    IDENTITY,
    LOGISTIC,
    OBJECTIVES,
    TreeModel,
    read,
)
from jaxnas.surrogates import tree_table
from jaxnas.surrogates.trees import compile_trees, predict

FEATURES = 6
KINDS = ("c", "c", "q", "q", "int", "q")
TASKS = ("", "_kws", "_vww")
SHARED = (
    "vqvae_surrogate_model",
    *(f"xgboost_{m}{t}" for m in ("avm", "std") for t in TASKS),
    *(f"xgboost_ranker{t}" for t in ("_acc", "_kws", "_vww")),
)
PUBLISHED = Path(__file__).parent / "published"
SLOW = ("kws", "vww")  # IBM's models of two further tasks
METHODS = ("table", "walk")
run = jax.jit(predict)


def rows(rng, count, *, categories=True):
    """Rows of six kinds: 7 codes, 40 codes, normal, halves, 0 or 1, large; some missing."""
    unseen = 3 if categories else 0
    columns = [
        rng.integers(0, 7 + unseen, count),
        rng.integers(0, 40 + unseen, count),
        rng.normal(size=count),
        rng.integers(-9, 9, count) / 2,
        rng.integers(0, 2, count),
        1e4 * rng.normal(size=count),
    ]
    x = np.stack(columns, axis=1).astype(np.float32)
    return np.where(rng.random(x.shape) < 0.08, np.float32(np.nan), x)


def random_model(seed, *, trees=20, depth=4, categorical=True, skip=0.2):
    """A model that nobody fitted: random splits of the six features, some leaves early."""
    rng = np.random.default_rng(seed)
    columns = {k: [] for k in ("feature", "threshold", "left", "right", "value", "listed")}
    starts = [0]

    def grow(level):
        node = len(columns["feature"])
        leaf = level == depth or (level and rng.random() < skip)
        feature = -1 if leaf else int(rng.integers(FEATURES))
        split = rows(rng, 1, categories=False)[0, feature]
        codes = categorical and not leaf and KINDS[feature] == "c"
        listed = rng.permutation(7 if feature == 0 else 40)[: rng.integers(0, 8)]
        new = (feature, np.nan_to_num(split), node, node, rng.normal(), listed)
        for column, value in zip(columns.values(), new, strict=True):
            column.append(value)
        columns["listed"][node] = np.sort(listed) if codes else None
        if not leaf:
            columns["left"][node] = grow(level + 1)
            columns["right"][node] = grow(level + 1)
        return node

    for _ in range(trees):
        grow(0)
        starts.append(len(columns["feature"]))
    lists = [np.zeros(0, int) if c is None else c for c in columns["listed"]]
    ends = np.cumsum([len(c) for c in lists])
    feature = np.array(columns["feature"], np.int32)
    is_listed = np.array([c is not None for c in columns["listed"]])
    inner = feature >= 0
    return TreeModel(
        starts=np.array(starts, np.int32),
        feature=feature,
        threshold=np.where(inner & ~is_listed, columns["threshold"], 0).astype(np.float32),
        left=np.array(columns["left"], np.int32),
        right=np.array(columns["right"], np.int32),
        default_left=inner & (rng.random(len(feature)) < 0.5),
        categorical=is_listed,
        span=np.stack([ends - [len(c) for c in lists], ends], 1).astype(np.int32),
        categories=np.concatenate(lists).astype(np.int32),
        value=np.where(inner, 0, columns["value"]).astype(np.float32),
        base_score=0.25,
        objective="reg:squarederror",
        num_feature=FEATURES,
        feature_names=(),
        feature_types=(),
        version=(3, 2, 0),
    )


def walk(model, row, kind=np.float32):
    """The plain truth: one row down every tree, added in float32 in order."""
    total = kind(model.base_score)
    for node in model.starts[:-1]:
        while (f := model.feature[node]) >= 0:
            value = row[f]
            if np.isnan(value):
                left = model.default_left[node]
            elif model.categorical[node]:
                codes = model.categories[slice(*model.span[node])]
                left = not (0 <= value < 2**24 and int(value) in codes)
            else:
                left = value < model.threshold[node]
            node = model.left[node] if left else model.right[node]
        total += model.value[node]
    return total


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("depth", "categorical"),
    [(0, False), (1, True), (2, False), (3, True), (4, True), (5, True), (7, True)],
)
def test_equal_to_a_plain_walk(depth, categorical, method):
    model = random_model(depth, depth=depth, categorical=categorical)
    x = rows(np.random.default_rng(1), 200)
    x[:5] = [[-1] * 6, [-0.5] * 6, [2.0**24] * 6, [1e30] * 6, [-np.inf] * 6]
    x[5:8] = np.array([[np.inf], [-0.0], [0.7]])
    found = run(compile_trees(model, method=method), x)
    np.testing.assert_array_equal(found, [walk(model, row) for row in x])


@pytest.mark.parametrize("method", METHODS)
def test_equal_at_and_next_to_every_threshold(method):
    model = random_model(11, depth=4)
    numeric = (model.feature >= 0) & ~model.categorical
    at = model.threshold[numeric]
    near = [at, np.nextafter(at, -np.inf), np.nextafter(at, np.inf)]
    x = rows(np.random.default_rng(2), len(at) * 3)
    x[np.arange(len(x)), np.tile(model.feature[numeric], 3)] = np.concatenate(near)
    tiny = np.finfo(np.float32).tiny
    x[np.abs(x) < tiny] = 0  # XLA flushes subnormal numbers
    found = run(compile_trees(model, method=method), x)
    np.testing.assert_array_equal(found, [walk(model, row) for row in x])


def test_many_trees_and_wide_groups_take_the_same_sums():
    """More words than are unrolled; and a table so small that no features are joined."""
    model = random_model(3, trees=1_100, depth=2)
    x = rows(np.random.default_rng(3), 20)
    table, nodes = (run(compile_trees(model, method=m), x) for m in METHODS)
    np.testing.assert_array_equal(table, nodes)
    np.testing.assert_array_equal(table, [walk(model, row) for row in x])


def test_any_order_of_adding_is_as_close_to_the_exact_sum():
    model = random_model(12, trees=200)
    model = model._replace(base_score=20.0)
    x = rows(np.random.default_rng(12), 80)
    loose = np.asarray(jax.jit(partial(predict, in_order=False))(compile_trees(model), x))
    shifted = model._replace(value=model.value.astype(np.float64))
    exact = np.array([walk(shifted, row, np.float64) for row in x])
    limit = 1e-6 * np.abs(exact).max()
    np.testing.assert_allclose(loose, exact, rtol=0, atol=limit)
    assert np.any(loose != [walk(model, row) for row in x])


@pytest.mark.parametrize("limit", [0, 1 << 16, 1 << 22])
def test_joining_features_changes_nothing(monkeypatch, limit):
    model = random_model(4)
    x = rows(np.random.default_rng(4), 200)
    plain = run(compile_trees(model), x)
    monkeypatch.setattr(tree_table, "BYTES", limit)
    params = compile_trees(model)
    np.testing.assert_array_equal(run(params, x), plain)
    joined = len(set(params.table.feature.ravel().tolist())) > params.table.feature.shape[0]
    assert joined == (limit > 0)


def test_the_method_is_chosen_by_size():
    assert compile_trees(random_model(5, depth=4)).nodes is None
    deep = random_model(5, trees=4, depth=11, skip=0.0)
    assert compile_trees(deep).table is None
    with pytest.raises(UserError, match="choose 'auto', 'table' or 'walk'"):
        compile_trees(deep, method="fast")


def test_features_nobody_asks_for_are_known_and_do_not_matter():
    model = random_model(6, trees=3, depth=1)
    params = compile_trees(model)
    assert set(np.flatnonzero(params.asked)) == set(model.feature[model.feature >= 0])
    x = rows(np.random.default_rng(6), 50)
    other = np.where(np.asarray(params.asked), x, np.float32(7))
    np.testing.assert_array_equal(run(params, x), run(params, other))


def test_the_wrong_number_of_features_is_refused():
    params = compile_trees(random_model(7))
    with pytest.raises(UserError, match="ask for 6 features and the rows have 5"):
        predict(params, jnp.zeros((2, 5)))


def test_categories_spread_over_too_many_codes_are_refused(monkeypatch):
    monkeypatch.setattr("jaxnas.surrogates.trees.MOST_CATEGORY_WORDS", 3)
    with pytest.raises(UserError, match="number them from 0"):
        compile_trees(random_model(8), method="walk")


@pytest.mark.parametrize("method", METHODS)
def test_batched_one_by_one_and_nested_agree(method):
    params = compile_trees(random_model(9), method=method)
    x = rows(np.random.default_rng(9), 24)
    batch = run(params, x)
    single = jax.jit(jax.vmap(lambda row: predict(params, row[None])[0]))(x)
    nested = jax.jit(jax.vmap(predict, in_axes=(None, 0)))(params, x.reshape(4, 6, 6))
    loop = [run(params, row[None])[0] for row in x]
    for other in (single, nested.ravel(), loop):
        np.testing.assert_array_equal(batch, other)


def test_another_model_of_the_same_shape_does_not_compile_again():
    first = compile_trees(random_model(10), method="walk")
    other = first._replace(
        nodes=first.nodes._replace(value=2 * first.nodes.value), base=2 * first.base
    )
    x = rows(np.random.default_rng(10), 16)
    once = jax.jit(chex.assert_max_traces(predict, n=1))
    np.testing.assert_array_equal(2 * once(first, x), once(other, x))
    once(first, x + 1)


# Against XGBoost.


def fitted(folder, *, depth, categorical, objective, rounds=20, **more):
    """A booster fitted on 1,500 rows, and the file that it was saved to."""
    xgboost = pytest.importorskip("xgboost")
    rng = np.random.default_rng(depth)
    x = rows(rng, 1_500, categories=False)
    known = np.nan_to_num(x)
    y = np.sin(known[:, 2]) + np.isin(known[:, 1], np.arange(0, 40, 3)) + known[:, 3] / 9
    y += 0.3 * (known[:, 0] == 4) - 0.2 * (known[:, 5] > 0)
    if objective in LOGISTIC or objective == "binary:logitraw":
        y = (y > np.median(y)).astype(float)
    if objective in EXPONENTIAL or objective.startswith("rank:"):
        y = np.clip(np.round(y - y.min()), 0, 9) + 1
    if objective == "reg:squaredlogerror":
        y = y - y.min()
    kinds = [k if categorical or k != "c" else "q" for k in KINDS]
    data = xgboost.DMatrix(x, label=y, feature_types=kinds, enable_categorical=True)
    if objective.startswith("rank:"):
        y = (y > 2).astype(float) if objective == "rank:map" else y
        data.set_info(label=y, group=[100] * 15)
    setting = {"max_depth": depth, "objective": objective, "nthread": 1, "seed": 0, **more}
    booster = xgboost.train({"max_cat_to_onehot": 5, **setting}, data, rounds)
    file = folder / "model.json"
    booster.save_model(file)
    return booster, file


def check(booster, file, x, *, exact):
    """Both methods against the booster, to the bit or to 1e-6 of the largest output.

    All rows go through the table, and 1,000, which take as long, down the trees.
    """
    want = booster.inplace_predict(x, validate_features=False)
    assert len(np.unique(want)) > 1
    for method, count in zip(METHODS, (len(x), 1_000), strict=True):
        found = np.asarray(run(compile_trees(read(file), method=method), x[:count]))
        if exact:
            np.testing.assert_array_equal(found, want[:count])
        limit = 1e-6 * np.abs(want).max()
        np.testing.assert_allclose(found, want[:count], rtol=0, atol=limit)


@pytest.mark.parametrize(
    ("depth", "categorical"),
    [(1, True), (2, False), (3, True), (4, True), (5, False), (6, True), (8, True)],
)
def test_parity_with_xgboost_by_depth(tmp_path, depth, categorical):
    booster, file = fitted(
        tmp_path, depth=depth, categorical=categorical, objective="reg:squarederror"
    )
    assert read(file).categorical.any() == categorical
    check(booster, file, rows(np.random.default_rng(0), 10_000), exact=True)


@pytest.mark.parametrize("objective", sorted(set(OBJECTIVES) - {"reg:linear"}))
def test_parity_with_xgboost_by_objective(tmp_path, objective):
    booster, file = fitted(tmp_path, depth=3, categorical=True, objective=objective)
    check(booster, file, rows(np.random.default_rng(0), 2_000), exact=objective in IDENTITY)


def test_the_old_name_of_squared_error_is_known(tmp_path):
    setting = {"depth": 2, "categorical": False, "rounds": 3}
    booster, file = fitted(tmp_path, objective="reg:squarederror", **setting)
    file.write_text(file.read_text().replace("reg:squarederror", "reg:linear"))
    assert read(file).objective == "reg:linear"
    check(booster, file, rows(np.random.default_rng(0), 1_000), exact=True)


@pytest.mark.parametrize(
    "more",
    [
        {"tree_method": "exact", "gamma": 0.5},  # prunes, which leaves deleted nodes
        {"grow_policy": "lossguide", "max_leaves": 40, "max_depth": 0},
        {"num_parallel_tree": 3, "subsample": 0.5},
        {"base_score": 0.75},
    ],
)
def test_parity_with_xgboost_however_trees_were_grown(tmp_path, more):
    setting = {"depth": 6, "categorical": False, "objective": "reg:squarederror"}
    booster, file = fitted(tmp_path, **setting, **more)
    check(booster, file, rows(np.random.default_rng(0), 2_000), exact=True)


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[pytest.mark.slow] if n[-3:] in SLOW else []) for n in SHARED],
)
def test_parity_with_xgboost_on_published_models(shared_folder, name):
    xgboost = pytest.importorskip("xgboost")
    file = shared_folder / f"{name}.json"
    booster = xgboost.Booster()
    booster.load_model(file)
    check(booster, file, published_rows(10_000), exact=True)


def published_rows(count):
    """Rows of the 22 features that IBM's models take; some missing, some between."""
    rng = np.random.default_rng(0)
    most = np.array([129, 7, *[17] * 5, *[6, 6, 13] * 5])
    x = rng.integers(-1, most, (count, 22)).astype(np.float32)
    x[rng.random(x.shape) < 0.05] = np.nan
    x[rng.random(x.shape) < 0.05] += np.float32(0.5)
    x[:, [7, 10, 13, 16, 19]] = np.abs(x[:, [7, 10, 13, 16, 19]])  # categories
    return x


@pytest.mark.parametrize("method", METHODS)
def test_a_stored_model_predicts_what_xgboost_did(method, tmp_path):
    """One of IBM's models and the outputs of XGBoost 3.2.0: in any clone, without it."""
    file = tmp_path / "xgboost_std_kws.json"
    file.write_bytes(gzip.decompress((PUBLISHED / f"{file.name}.gz").read_bytes()))
    with np.load(PUBLISHED / "xgboost_std_kws.npz") as stored:
        want = stored["predictions"]
    found = run(compile_trees(read(file), method=method), published_rows(len(want)))
    assert len(np.unique(want)) > 50
    np.testing.assert_array_equal(found, want)
