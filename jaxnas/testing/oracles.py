"""What every oracle must do, as checks that raise ``AssertionError``.

``ORACLE_CHECKS`` lists them; each takes an oracle, traced or host. Lanes are random valid
architectures of its space, always ``BATCH`` of them, so that few programs are compiled.
``SURROGATE_CHECKS`` lists what a fitted model must do beyond that.
"""

import functools
import inspect
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from jaxnas.core import oracle as kinds
from jaxnas.core import tokens as tk
from jaxnas.core.constraints import Limiting
from jaxnas.core.oracle import Oracle, Predictor, capability, required
from jaxnas.core.space import SearchSpace
from jaxnas.core.types import FAILED, OK, SKIPPED, Evaluation, Objective
from jaxnas.registry import lookup, make_oracle, make_space, recipe
from jaxnas.surrogates.ensemble import GRID, Ensemble, EnsembleParams
from jaxnas.surrogates.features import make_encoder
from jaxnas.surrogates.file import Header, Model, save, shapes
from jaxnas.testing import expect
from jaxnas.testing.spaces import _masks, enumerable, samples
from jaxnas.testing.tiny import TinyNets

BATCH = 6
ROUNDING = 1e-6
"""How far, relative to its size, a prediction may depend on the rest of the batch."""
SMALL = {
    "epochs": 1, "begin": 1, "limit": 80, "hwa_epochs": 1, "draws": 2, "chip_images": 20,
}  # fmt: skip
"""Options that make an oracle that trains networks cheap."""
GROWTH = {"stages": 1, "steps": 2, "levels": 2, "depth": 2, "channels": 2}
"""Options of a small space of growths."""


def example(name: str) -> Oracle:
    """Returns a registered oracle with its defaults, on the toy space if it needs one.

    One that reads a table or a Python file gets a small one, written for it. One that needs
    a model file gets :func:`untrained_model`; one that trains networks gets few images, one
    epoch and the small networks of :class:`jaxnas.testing.tiny.TinyNets`, or a small growth
    where its own space is one.
    """
    wanted = inspect.signature(lookup("oracle", name)).parameters
    needs_space = "space" in wanted and wanted["space"].default is inspect.Parameter.empty
    if "data" in wanted and "epochs" in wanted:
        small: dict[str, Any] = {k: v for k, v in SMALL.items() if k in wanted}
        space = TinyNets() if needs_space else make_space("grown", **GROWTH)
        return make_oracle(name, space=space, **small)
    if "model" in wanted:
        metrics = make_oracle("toy").objectives
        return make_oracle(name, model=untrained_model(make_space("toy"), "graph", metrics))
    if "file" in wanted:
        return make_oracle(name, file=small_table(), objective="score")
    if "source" in wanted:
        path = Path(tempfile.mkdtemp(prefix="jaxnas-")) / "score.py"
        path.write_text("def score(layers):\n    return sum(layers.values())\n")
        return make_oracle(name, space=make_space("toy"), source=f"{path}:score")
    return make_oracle(name, space=make_space("toy") if needs_space else None)


@functools.cache
def small_table() -> str:
    """Returns the path of a table of 24 rows, one of them a failure and one twice."""
    path = Path(tempfile.mkdtemp(prefix="jaxnas-")) / "results.csv"
    lines = [f"{d},{op},{d + len(op) / 8}" for d in range(8) for op in ("a", "bb", "ccc")]
    lines[5] = "1,ccc,"
    path.write_text("\n".join(["depth,op,score", *lines, "0,a,0.5"]))
    return str(path)


@functools.cache
def untrained_model(
    space: SearchSpace, kind: str, objectives: tuple[Objective, ...]
) -> str:
    """Returns the path of a small ensemble with random weights: the checks need no more."""
    config, encoder = Ensemble(2, (8,)), make_encoder(kind, space)
    rows = samples(space)
    x = jax.jit(jax.vmap(encoder))(rows)
    draw, outputs = np.random.default_rng(0), len(objectives)
    wanted: Any = shapes(config, x.shape[1], outputs)
    random = lambda *shape: jnp.asarray(draw.normal(size=shape), jnp.float32)
    params = EnsembleParams(
        kernels=tuple(random(*shape) / shape[1] ** 0.5 for shape in wanted.kernels),
        biases=tuple(random(*shape) for shape in wanted.biases),
        x_mean=x.mean(axis=0),
        x_scale=x.std(axis=0) + 1,
        x_low=x.min(axis=0),
        x_high=x.max(axis=0),
        knots=jnp.repeat(80 + 5 * jnp.asarray(GRID)[:, None], outputs, axis=1),
        widen=jnp.ones(outputs, jnp.float32),
        limit=jnp.ones(outputs, jnp.float32),
    )
    header = Header(space.id, encoder.id, encoder.names, objectives, config, recipe(space))
    path = Path(tempfile.mkdtemp(prefix="jaxnas-")) / "surrogate.npz"
    save(path, Model(header, params, np.asarray(rows)))
    return str(path)


@functools.lru_cache(maxsize=64)
def _evaluator(oracle: Oracle) -> Callable[..., Any]:
    return jax.jit(oracle.evaluate) if oracle.traced else oracle.evaluate


def ask(
    oracle: Oracle, tokens: np.ndarray, active: np.ndarray | None = None, seed: int = 0
) -> Evaluation:
    """Returns a fresh controller's evaluation, in numpy; a measured cost is its sign."""
    key, lanes = jax.random.key(seed), len(tokens)
    params = oracle.params()
    state = oracle.init(jax.random.key(seed + 1), params)
    convert = jnp.asarray if oracle.traced else np.asarray
    active = np.ones(lanes, bool) if active is None else active
    batch = [convert(leaf) for leaf in (tokens, np.zeros(lanes, np.int32), active)]
    _, evaluation = _evaluator(oracle)(key, params, state, *batch)
    found, timed = _map(np.asarray, evaluation), capability(oracle, kinds.Measuring)
    return found._replace(cost=np.sign(found.cost)) if timed else found


def _map(function: Callable[..., Any], *evaluations: Evaluation) -> Evaluation:
    """Returns an evaluation made field by field."""
    return jax.tree.map(function, *evaluations)


def lanes_of(oracle: Oracle, seed: int = 0, batch: int = BATCH) -> np.ndarray:
    """Returns random architectures of an oracle's space."""
    return np.asarray(samples(oracle.space, seed))[:batch]


def _same(oracle: Oracle, first: Evaluation, second: Evaluation) -> None:
    """Asserts that two evaluations are identical, NaN for NaN; a model's up to rounding."""
    for name, a, b in zip(Evaluation._fields, first, second, strict=True):
        if capability(oracle, Predictor) and name == "objectives":
            _close(a, b, name)
        else:
            expect.same(a, b, f"{name} must not depend on the rest of the batch")


def _close(a: Any, b: Any, name: str) -> None:
    """Asserts that numbers agree to ``ROUNDING``, NaN for NaN."""
    size = np.nanmax(np.abs(a), initial=0)
    np.testing.assert_allclose(a, b, ROUNDING, ROUNDING * size, err_msg=name)


def check_static_argument(oracle: Oracle) -> None:
    """An oracle is hashable, has a versioned id and distinct objectives with units."""
    expect.static(oracle, Oracle)
    names = [item.name for item in oracle.objectives]
    assert names, "objectives is empty; name at least one"
    assert len(set(names)) == len(names), f"objectives repeat a name: {names}"
    for item in oracle.objectives:
        assert item.unit, f"the objective {item.name!r} has no unit; give it one"
        assert item.meaning, f"the objective {item.name!r} has no meaning; say it in words"


def check_record(oracle: Oracle) -> None:
    """An evaluation has the declared shapes and types; a bare oracle gives no reward."""
    evaluation = ask(oracle, lanes_of(oracle))
    limits = capability(oracle, Limiting)
    wide = {"objectives": len(oracle.objectives)}
    wide |= {} if limits is None else {"limited": len(limits.bounds)}
    for name, leaf in evaluation._asdict().items():
        if leaf is None and name not in wide:
            continue
        shape = (BATCH, wide[name]) if name in wide else (BATCH,)
        dtype = np.int32 if name == "status" else np.float32
        expect.shaped(f"evaluation.{name}", leaf, shape, dtype)
    unset = np.isnan(evaluation.reward)
    expect.every(unset, "evaluation.reward must be NaN: the budget fills it")
    for name in ("violation", "cost"):
        positive = getattr(evaluation, name) >= 0
        expect.every(positive, f"evaluation.{name} must be 0 or more, and no NaN")


def check_batch_equals_loop(oracle: Oracle) -> None:
    """A batch and its lanes one by one give the same numbers."""
    tokens = lanes_of(oracle)
    whole = ask(oracle, tokens)
    parts = [ask(oracle, tokens[i : i + 1]) for i in range(BATCH)]
    _same(oracle, whole, _map(lambda *lanes: np.concatenate(lanes), *parts))


def check_permutation(oracle: Oracle) -> None:
    """Permuting the lanes permutes the answers."""
    tokens, order = lanes_of(oracle), np.roll(np.arange(BATCH), 2)
    whole = ask(oracle, tokens)
    _same(oracle, ask(oracle, tokens[order]), _map(lambda leaf: leaf[order], whole))


def check_finite_or_flagged(oracle: Oracle) -> None:
    """Scores are finite exactly where the status is OK."""
    evaluation = ask(oracle, lanes_of(oracle, 1))
    ok = evaluation.status == OK
    finite, lost = np.isfinite(evaluation.objectives), np.isnan(evaluation.objectives)
    expect.every(finite[ok], "objectives must be finite where status is OK")
    expect.every(lost[~ok], "objectives must be NaN where status is not OK")
    known = np.isin(evaluation.status, (OK, FAILED, SKIPPED))
    expect.every(known, "status must be OK (0), FAILED (1) or SKIPPED (2)")


def check_same_key_same_score(oracle: Oracle) -> None:
    """The same keys give the same numbers, and repeats in a batch agree."""
    tokens = np.repeat(lanes_of(oracle, 2, BATCH // 2), 2, axis=0)
    first = ask(oracle, tokens)
    _same(oracle, first, ask(oracle, tokens))
    _same(oracle, _map(lambda leaf: leaf[::2], first), _map(lambda leaf: leaf[1::2], first))


def check_inactive_skipped(oracle: Oracle) -> None:
    """Inactive lanes are SKIPPED with NaN, cost nothing, and do not change the others."""
    tokens = lanes_of(oracle)
    active = np.arange(BATCH) % 2 == 0
    part, whole = ask(oracle, tokens, active), ask(oracle, tokens)
    off = [leaf[~active] for leaf in (part.status, part.objectives, part.cost)]
    expect.every(off[0] == SKIPPED, "status must be SKIPPED in inactive lanes")
    expect.every(np.isnan(off[1]), "objectives must be NaN in inactive lanes")
    expect.every(off[2] == 0, "cost must be 0 in inactive lanes")
    both = [_map(lambda leaf: leaf[active], each) for each in (part, whole)]
    _same(oracle, *both)


def check_truth(oracle: Oracle) -> None:
    """The truth is what was measured (a model's is finite), the spread is not negative."""
    known, predicts = capability(oracle, kinds.Truthful), capability(oracle, Predictor)
    if known is None:
        return
    tokens, params = jnp.asarray(lanes_of(oracle)), oracle.params()
    compiled = jax.jit if predicts else lambda function: function
    truth = np.asarray(compiled(known.truth)(params, tokens))
    expect.shaped("truth", truth, (BATCH, len(oracle.objectives)))
    if predicts:
        expect.every(np.isfinite(truth), "the truth behind a model must be finite")
    else:
        text = "truth must be what evaluate measures, bit for bit"
        expect.same(truth, ask(oracle, np.asarray(tokens)).objectives, text)
    if uncertain := capability(oracle, kinds.Uncertain):
        spread = np.asarray(compiled(uncertain.spread)(params, tokens))
        expect.shaped("spread", spread, truth.shape)
        expect.every(spread >= 0, "spread must be 0 or more; 0 where it is not known")


def check_columns(oracle: Oracle) -> None:
    """Columns list the space in order and agree with ``evaluate``, or a model's truth."""
    table = capability(oracle, kinds.Enumerated)
    if table is None or not enumerable(oracle.space):
        return
    members, columns = tk.enumerate_space(oracle.space), table.columns()
    rows = np.linspace(0, len(members) - 1, BATCH).astype(int)
    measured = ask(oracle, members[rows]).objectives
    if capability(oracle, Predictor):
        chosen, params = jnp.asarray(members[rows]), oracle.params()
        measured = np.asarray(required(oracle, kinds.Truthful).truth(params, chosen))
    for place, objective in enumerate(oracle.objectives):
        column = columns[objective.name]
        text = f"columns()[{objective.name!r}]"
        expect.shaped(text, column, (len(members),))
        text += " must list what evaluate measures, in the order of enumerate_space"
        np.testing.assert_allclose(measured[:, place], column[rows], 1e-6, err_msg=text)


ORACLE_CHECKS: tuple[Callable[[Oracle], None], ...] = (
    check_static_argument, check_record, check_batch_equals_loop, check_permutation,
    check_finite_or_flagged, check_same_key_same_score, check_inactive_skipped, check_truth,
    check_columns,
)  # fmt: skip
"""Every check of an oracle."""


def _alone(oracle: Predictor) -> Callable[[np.ndarray], np.ndarray]:
    """Returns a function that codes architectures one at a time, as a search asks them."""
    code = jax.jit(oracle.features)
    return lambda rows: np.stack([np.asarray(code(row[None]))[0] for row in rows])


def _single_changes(oracle: Oracle, tokens: np.ndarray) -> list[np.ndarray]:
    """Returns, for each place, up to two changes that are another architecture by canon.

    The lowest and the highest other token that is legal there; what it makes illegal
    behind it is repaired.
    """
    space = oracle.space
    place, token = np.repeat(np.arange(space.length), 2), np.zeros(2 * space.length, int)
    legal = np.array(_masks(space, tokens[None]))[0]
    legal[np.arange(space.length), tokens] = False
    for t, row in enumerate(legal):
        others = np.flatnonzero(row)
        token[2 * t : 2 * t + 2] = others[[0, -1]] if len(others) else tokens[t]
    changed = np.repeat(tokens[None], len(place), axis=0)
    changed[np.arange(len(place)), place] = token
    fixed, canon = _repaired(space, jnp.asarray(np.concatenate([tokens[None], changed])))
    other = (np.asarray(canon) != np.asarray(canon[0])).any(axis=1)
    return list(np.asarray(fixed)[other])


@functools.partial(jax.jit, static_argnums=0)
def _repaired(
    space: SearchSpace, tokens: Int[Array, "B L"]
) -> tuple[Int[Array, "B L"], Int[Array, "B L"]]:
    keys = jax.random.split(jax.random.key(3), tokens.shape[0])
    fixed = jax.vmap(lambda key, row: tk.repair(key, space, row))(keys, tokens)
    return fixed, jax.vmap(space.canonical)(fixed)


def check_features(oracle: Oracle) -> None:
    """A row's features are finite, and the same alone as in a batch."""
    model = required(oracle, Predictor)
    tokens = lanes_of(oracle)
    batch = np.asarray(jax.jit(model.features)(jnp.asarray(tokens)))
    expect.shaped("features", batch, (BATCH, *batch.shape[1:]))
    expect.every(np.isfinite(batch), "features must be finite")
    text = "a row's features must be the same alone and in a batch: code rows one by one"
    expect.same(_alone(model)(tokens), batch, text)


def check_single_row_equals_batch(oracle: Oracle) -> None:
    """Mean and spreads of a row asked alone are those of the row in a batch."""
    model = required(oracle, Predictor)
    tokens, params = jnp.asarray(lanes_of(oracle)), oracle.params()
    say = jax.jit(model.predict)
    batch = say(params, tokens)
    singles = [say(params, tokens[i : i + 1]) for i in range(BATCH)]
    for name in ("mean", "epistemic", "aleatoric"):
        alone = np.concatenate([getattr(single, name) for single in singles])
        whole = np.asarray(getattr(batch, name))
        size = np.abs(np.asarray(batch.mean)).max()
        np.testing.assert_allclose(alone, whole, ROUNDING, ROUNDING * size, err_msg=name)


def check_decisions_show(oracle: Oracle) -> None:
    """A change of any decision that is not redundant changes what the model sees.

    Rows are coded one at a time, the way a search asks. The original's surrogate coded
    categories by their order within the rows at hand: alone, every category was the first.
    """
    model = required(oracle, Predictor)
    code = _alone(model)
    for tokens in lanes_of(oracle):
        changes = _single_changes(oracle, tokens)
        seen = code(np.stack([tokens, *changes]))
        pairs = zip(changes, seen[1:], strict=True)
        blind = [row for row, x in pairs if (x == seen[0]).all()]
        assert not blind, f"{tokens} and {blind[0]} look the same to {oracle.id}"


def check_predictions(oracle: Oracle) -> None:
    """Predictions are finite, their spreads finite and not negative."""
    model = required(oracle, Predictor)
    predicted = jax.jit(model.predict)(oracle.params(), jnp.asarray(lanes_of(oracle, 1)))
    for name in ("mean", "epistemic", "aleatoric"):
        found = np.asarray(getattr(predicted, name))
        expect.every(np.isfinite(found), f"the predicted {name} must be finite")
        positive = (found >= 0) | (name == "mean")
        expect.every(positive, f"the predicted {name} spread must be 0 or more")
    expect.shaped("extrapolates", predicted.extrapolates, (BATCH,))


SURROGATE_CHECKS: tuple[Callable[[Oracle], None], ...] = (
    *ORACLE_CHECKS,
    check_features,
    check_single_row_equals_batch,
    check_decisions_show,
    check_predictions,
)
"""Every check of a surrogate."""
