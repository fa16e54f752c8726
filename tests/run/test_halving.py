"""Brackets: sizes as published, promotions as a plain loop makes them, nothing twice."""

import csv
import json

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

import jaxnas
from jaxnas.core.errors import UserError
from jaxnas.core.rng import root_key
from jaxnas.core.types import FAILED, PARTIAL, Evaluation, Proposal
from jaxnas.oracles.budget import budgeted
from jaxnas.report.say import halving_section
from jaxnas.run import population, waves
from jaxnas.run.halving import (
    RIDGE,
    WARM,
    Bracket,
    Halving,
    brackets,
    chances,
    hyperband,
    survivors,
)  # fmt: skip
from jaxnas.testing.fakes import FakeChild

KEY = root_key(0)
SPACE = jaxnas.make_space("toy")
AMOUNTS = (1, 3, 9)
PLAIN = Halving()


class Graded(FakeChild):
    """The fake child with three fidelities, each another number."""

    num_fidelities = 3

    def effort(self, tokens, fidelity):
        """Shares of a full evaluation."""
        return (1.0, 1 / 9, 1 / 3)[fidelity]


def value(architecture, amount):
    """Depends on the amount so that the order of a pair may turn; less is often better."""
    return float(hash((tuple(architecture.values()), amount)) % 1000) + 500 / amount


def oracle(function=value, **options):
    return jaxnas.oracle(function, SPACE, fidelities=AMOUNTS, **options)


def search(algorithm="random", halving=PLAIN, batch=9, **options):
    asked = options.pop("asked", None) or oracle()
    algo = jaxnas.make_algorithm(algorithm, space=SPACE, batch=batch)
    given = {"budget": 27, "seeds": 2, **options}
    return jaxnas.search(algo, asked, halving=halving, **given)


def test_brackets_are_those_of_the_paper():
    """JMLR 18 (2018), Table 1: R = 81 and eta = 3."""
    made = hyperband(5, 3.0)
    assert [size for _, size in made] == [81, 34, 15, 8, 5]
    table = [[survivors(size, 3.0, i) for i in range(5 - start)] for start, size in made]
    assert table == [[81, 27, 9, 3, 1], [34, 11, 3, 1], [15, 5, 1], [8, 2], [5]]
    assert Halving("hyperband").lanes(5) == 81 + 34 + 15 + 8 + 5
    # eta = 2, R = 8: as the documentation of mlr3hyperband prints it
    assert [size for _, size in hyperband(4, 2.0)] == [8, 6, 4, 4]


def test_lanes_are_cut_into_brackets():
    assert brackets(Halving(), 3, 20) == (Bracket(0, 20, 0),)
    found = brackets(Halving("hyperband"), 3, 20)
    assert [tuple(b) for b in found] == [(0, 9, 0), (9, 14, 1), (14, 17, 2), (17, 20, 0)]
    assert survivors(0, 3.0, 1) == 0
    assert survivors(2, 3.0, 2) == 1


def by_hand(rows, first, stop, start):
    """Fully evaluated architectures of a bracket, by a plain loop over the fidelities."""
    left = [tuple(row) for row in rows[first:stop]]
    entered = len(left)
    name = lambda t: dict(zip(SPACE.decision_names, values(t), strict=True))
    values = lambda t: [SPACE.decision_values[i][token] for i, token in enumerate(t)]
    for rung in range(start, 2):
        order = sorted(left, key=lambda t: -value(name(t), float(AMOUNTS[rung])))
        left = order[: max(1, entered // 3 ** (rung + 1 - start))]
    return {t: value(name(t), 9.0) for t in left}


@pytest.mark.parametrize("kind", ["successive", "hyperband"])
def test_promotions_are_those_of_a_plain_loop(kind):
    halving = Halving(kind)
    lanes = halving.lanes(3)
    found = search(halving=halving, batch=lanes, budget=2 * lanes)
    for tokens, objectives in zip(found.arrays["tokens"], found.arrays["objectives"]):
        expected = {}
        for begin in (0, lanes):
            for bracket in brackets(halving, 3, lanes):
                expected |= by_hand(tokens[begin : begin + lanes], *bracket)
        got = {
            tuple(row): value[0]
            for row, value in zip(tokens.tolist(), objectives.tolist())
            if np.isfinite(value[0])
        }
        assert got == pytest.approx(expected)


def test_a_cheap_value_never_wins_and_never_enters_the_archive():
    found = search(seeds=4)
    for one in found.best(100):
        exact = value(one["architecture"], 9.0)
        assert one["score"] == pytest.approx(exact)
    ends = found.curve[:, -1]
    best = np.nanmax(found.arrays["objectives"][..., 0], axis=1)
    np.testing.assert_array_equal(ends, best)


def test_repeats_get_what_was_said_before_and_are_not_promoted():
    """Evolution with a small population repeats itself; the oracle hears nothing twice."""
    heard = []

    def counted(architecture, amount):
        heard.append((tuple(architecture.values()), amount))
        return value(architecture, amount)

    found = search("evolution", asked=oracle(counted), budget=36, seeds=3)
    assert len(heard) == len(set(heard)) == found.evaluations["evaluations"]
    assert (found.arrays["proposals"] > found.arrays["count"]).any()
    saved = found.evaluations["halving"]
    counts = [rung["evaluations"] for rung in saved["rungs"]]
    amounts = [amount for _, amount in heard]
    assert counts == [amounts.count(a) for a in AMOUNTS]
    spent = sum(amounts) / 9
    assert saved["equivalents"] == pytest.approx(spent)
    assert saved["saved"] == pytest.approx(saved["architectures"] - spent)
    assert saved["architectures"] == len({architecture for architecture, _ in heard})


def test_failed_evaluations_are_not_promoted():
    def fails(architecture, amount):
        if sum(architecture.values()) % 8:
            return float("nan")
        return value(architecture, amount)

    heard = []

    def recorded(architecture, amount):
        heard.append((sum(architecture.values()) % 8 == 0, amount))
        return fails(architecture, amount)

    found = search(asked=oracle(recorded))
    assert {amount for good, amount in heard if not good} == {1.0}
    assert {amount for good, amount in heard if good} == {1.0, 3.0, 9.0}
    assert found.evaluations["failed"] > 0


def test_an_algorithm_learns_from_what_was_stopped():
    """``tell`` gives it the cheap reward as one that succeeded; the ledger holds NaN."""
    bounded = budgeted(oracle(), 4)
    state = bounded.init(KEY, ())
    tokens = jnp.asarray([[0, 0, 0, 0], [1, 0, 0, 0], [2, 0, 0, 0]], jnp.int32)
    on, zero = jnp.ones(3, bool), jnp.zeros(3, jnp.float32)
    ledger, admission = bounded.admit(state.ledger, tokens, on)
    status = jnp.asarray([PARTIAL, 0, FAILED], jnp.int32)
    values = jnp.asarray([[9.0], [5.0], [np.nan]], jnp.float32)
    told = {}

    class Listener(type(jaxnas.make_algorithm("random", space=SPACE))):
        def tell(self, key, state, proposal, evaluation):
            told["seen"] = evaluation
            return state

    proposal = Proposal(tokens, jnp.zeros(3, jnp.int32), on)
    found = Evaluation(values, zero, zero, status, zero * np.nan)
    answered = (proposal, admission, found)
    state = state._replace(ledger=ledger)
    _, after = population.tell(Listener(SPACE), bounded, KEY, (), (), state, answered)
    assert told["seen"].status.tolist() == [0, 0, FAILED]
    assert told["seen"].reward.tolist()[:2] == [9.0, 5.0]
    assert float(after.ledger.best_reading) == 5.0
    assert after.ledger.best_tokens.tolist() == [1, 0, 0, 0]
    np.testing.assert_array_equal(
        after.ledger.objectives[:3, 0], np.asarray([np.nan, 5.0, np.nan], np.float32)
    )


@pytest.mark.parametrize("algorithm", ["random", "evolution"])
def test_interrupted_and_resumed_is_bit_identical(algorithm, tmp_path, monkeypatch):
    monkeypatch.setattr(waves, "CHECKPOINT_EVERY_S", 0.0)
    options = {"budget": 36, "max_proposals": 90}
    whole = search(algorithm, **options)
    seen = []

    def interrupt(event):
        seen.append(event)
        if sum(e["event"] == "progress" for e in seen) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        search(algorithm, out=tmp_path / "a", callbacks=[interrupt], **options)
    again = search(algorithm, out=tmp_path / "a", **options)
    for name in whole.arrays:
        np.testing.assert_array_equal(whole.arrays[name], again.arrays[name], err_msg=name)
    assert whole.evaluations["halving"] == again.evaluations["halving"]
    shown = search(algorithm, out=tmp_path / "a", **options)
    assert shown.evaluations["halving"] == whole.evaluations["halving"]
    with pytest.raises(UserError, match="halving"):
        search(algorithm, out=tmp_path / "a", halving=Halving(eta=2.5), **options)


def test_stored_evaluations_are_found_at_every_fidelity(tmp_path):
    options = {"asked": Graded(), "store": tmp_path / "store.sqlite", "out": tmp_path / "a"}
    first = search(**options)
    again = search(**{**options, "out": tmp_path / "b"})
    assert first.evaluations["made"] == first.evaluations["evaluations"]
    assert again.evaluations["found"] == again.evaluations["evaluations"]
    np.testing.assert_array_equal(first.curve, again.curve)
    saved = first.evaluations["halving"]
    assert saved["seconds"] == pytest.approx(0.25 * first.evaluations["evaluations"])
    whole = 0.25 * saved["architectures"]
    assert saved["saved_seconds"] == pytest.approx(whole - saved["seconds"])
    told = json.loads((tmp_path / "a" / "results.json").read_text())["halving"]
    assert told == saved
    with open(tmp_path / "a" / "rungs.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == first.evaluations["evaluations"]
    assert {row["fidelity"] for row in rows} == {"0", "1", "2"}


def test_the_report_says_what_was_saved(tmp_path):
    from jaxnas.report.read.compare import studies
    from jaxnas.report.read.load import load

    found = search(out=tmp_path / "a")
    (study,) = studies(load(tmp_path / "a"))
    table = halving_section.table(study)
    assert table is not None
    (row,) = table.rows
    assert f"{found.evaluations['halving']['saved']:.1f}" in row
    search(halving=None, out=tmp_path / "b")
    (study,) = studies(load(tmp_path / "b"))
    assert halving_section.table(study) is None


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"asked": jaxnas.make_oracle("toy", space=SPACE)}, "one way only"),
        ({"asked": jaxnas.oracle(lambda a: 1.0, SPACE)}, "no cheaper fidelities"),
        ({"batch": 8}, "batch=9"),
        ({"budget": 8}, "less than one bracket of 9"),
        ({"halving": Halving("hyperband"), "batch": 9}, "batch=17"),
    ],
)
def test_what_cannot_be_halved_is_refused(options, word):
    with pytest.raises(UserError, match=word):
        search(**options)


def test_wrong_settings_are_refused():
    with pytest.raises(UserError, match="eta must be in"):
        Halving(eta=1.5)
    with pytest.raises(UserError, match="hyperband"):
        Halving("hyperbands")
    for wrong in ((3, 1), (0, 1), (1, float("inf"))):
        with pytest.raises(UserError, match="rising finite amounts"):
            jaxnas.oracle(value, SPACE, fidelities=wrong)
    with pytest.raises(UserError, match="not traced"):
        jaxnas.oracle(value, SPACE, fidelities=(1, 2), traced=True)


def test_chances_are_those_of_a_regression_that_leaves_rows_out():
    """Against scikit-learn's ridge regression, refitted without each row."""
    from sklearn.linear_model import Ridge

    rng = np.random.default_rng(0)
    finished = rng.normal(size=(12, 3)) @ np.array([[1, 2, 3], [0, 1, 1], [0, 0, 0.5]])
    begun, best = rng.normal(size=(5, 2)), 2.0
    x, y = finished[:, :2], finished[:, 2]
    standard = lambda rows: (rows - x.mean(0)) / x.std(0)
    ridge = lambda: Ridge(alpha=RIDGE * len(x))
    errors = []
    for i in range(len(x)):
        kept = np.arange(len(x)) != i
        fitted = ridge().fit(standard(x)[kept], y[kept])
        errors.append(y[i] - fitted.predict(standard(x[i : i + 1]))[0])
    mean = ridge().fit(standard(x), y).predict(standard(begun))
    expected = scipy.stats.norm.sf(best, mean, np.sqrt(np.mean(np.square(errors))))
    np.testing.assert_allclose(chances(finished, begun, best), expected, rtol=1e-6)


def test_extrapolation_stops_the_hopeless_and_keeps_the_best():
    """Cheap values are the full ones less a constant: only what may win is finished."""
    heard = []

    def score(architecture, amount):
        heard.append((tuple(architecture.values()), amount))
        return float(sum(architecture.values())) - 5 / amount

    cut = search(halving=Halving("extrapolated"), batch=1, asked=oracle(score), seeds=1)
    counts = [r["evaluations"] for r in cut.evaluations["halving"]["rungs"]]
    assert counts[0] == 27
    assert counts[2] < 20
    assert len(heard) == len(set(heard)) == sum(counts)
    whole = search(halving=None, batch=1, asked=oracle(score), seeds=1)
    assert cut.curve[0, -1] == whole.curve[0, -1]
    full = [a for a, amount in heard if amount == AMOUNTS[-1]]
    assert full[:WARM] == list(dict.fromkeys(a for a, _ in heard))[:WARM]


def test_a_fidelity_that_says_nothing_stops_little():
    """Noise at the cheap fidelities: chances are those of a draw, 1 in n and more."""
    rng = np.random.default_rng(1)
    finished = rng.normal(size=(20, 3))
    known = chances(finished, rng.normal(size=(200, 2)), float(finished[:, 2].mean()))
    assert 0.35 < known.mean() < 0.65
