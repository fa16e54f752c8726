"""Searches that nothing satisfies: what is proven, how near the best came, exit codes."""

import dataclasses
import json
import warnings

import numpy as np
import pytest

import jaxnas
from jaxnas.cli import main
from jaxnas.core import tokens as tk
from jaxnas.core.errors import UserError
from jaxnas.run import feasibility as fs
from jaxnas.testing.fakes import OnHost

SPACE = jaxnas.make_space("toy")
SIZE = len(tk.enumerate_space(SPACE))
TOY = jaxnas.make_oracle("toy", space=SPACE)
COLUMNS = jaxnas.make_oracle("toy", space=SPACE, constraints=("flops<=80",)).columns()


def limited(*constraints):
    return jaxnas.make_oracle("toy", space=SPACE, constraints=constraints)


def search(oracle, **options):
    algo = jaxnas.make_algorithm("random", space=SPACE, batch=2)
    options = {"budget": 10, "seeds": 2, "callbacks": [lambda event: None], **options}
    return jaxnas.search(algo, oracle, **options)


def brute(*constraints):
    """Whether any architecture meets them, from the columns."""
    met = np.ones(SIZE, bool)
    for text in constraints:
        name, sign, bound = text.partition(">=" if ">=" in text else "<=")
        value, bound = COLUMNS[name], float(bound)
        met &= value >= bound if sign == ">=" else value <= bound
    return met.any()


SETS = [
    ("layers<=-1",), ("layers<=0",), ("layers>=5",), ("layers<=1", "flops<=80"),
    ("layers>=4", "layers<=3"), ("layers>=2", "flops<=0"), ("score>=8", "layers<=0"),
    ("layers<=2", "layers>=1", "flops<=80"), ("score>=1e6", "layers<=4"),
]  # fmt: skip


@pytest.mark.parametrize("constraints", SETS, ids=" ".join)
def test_a_proof_is_there_exactly_where_nothing_meets_them(constraints):
    oracle = limited(*constraints)
    assert (fs.impossible(oracle) == "") == brute(*constraints)
    found, total = fs.possible(oracle)
    assert total == SIZE
    assert (found > 0) == brute(*constraints)


def test_a_proof_names_the_smallest_sets():
    alone = fs.impossible(limited("layers<=4", "layers<=-1"))
    assert "meets layers <= -1 (layers is 0 to 4)" in alone
    assert "layers <= 4" not in alone
    pair = fs.impossible(limited("flops<=1e9", "layers>=4", "layers<=3"))
    assert "layers >= 4 and layers <= 3, which exclude each other" in pair
    assert "(layers is at least 4 where layers >= 4)" in pair
    assert "flops" not in pair
    both = fs.impossible(limited("layers<=-1", "flops>=1e9"))
    assert "layers <= -1 (" in both
    assert "; nor flops >= 1,000,000,000 (" in both


def test_nothing_is_proven_of_what_is_not_listed():
    hidden = dataclasses.replace(OnHost(limited("layers<=-1")))
    assert fs.impossible(hidden) != "", "wrappers are seen through"
    large = jaxnas.make_space("toy", length=20, vocab=4)
    huge = jaxnas.make_oracle("toy", space=large, constraints=("layers<=-1",))
    assert fs.impossible(huge) == ""
    assert fs.possible(huge) is None
    assert fs.impossible(TOY) == ""
    values = {"objectives": np.ones((1, 2, 1)), "violation": np.array([[3.0, 2.0]])}
    arrays = values | {"limited": np.array([[[2.0], [1.0]]])}
    said = fs.sentence(huge, arrays)
    assert "layers <= -1: the nearest had layers 1 (200 % over)" in said
    assert said.endswith("whether any architecture does is not known.")


def test_a_table_with_gaps_proves_only_what_it_holds(tmp_path):
    """A failed row meets nothing; NaN in a limited column is no value."""
    rows = ["t0,t1,acc,ms", "0,0,5,1", "0,1,6,2", "1,0,7,nan", "1,1,inf,9"]
    (tmp_path / "r.csv").write_text("\n".join(rows) + "\n")
    make = lambda limit: jaxnas.make_oracle(
        "table", file=str(tmp_path / "r.csv"), objective="acc", metrics="ms",
        constraints=(limit,),
    )  # fmt: skip
    assert fs.impossible(make("ms<=1")) == ""
    assert "ms is 1 to 9" in fs.impossible(make("ms<=0.5"))


def test_a_search_says_how_near_it_came_and_whether_it_was_possible():
    with pytest.warns(RuntimeWarning) as told:
        none = search(limited("layers<=-1"), callbacks=())
    texts = [str(one.message) for one in told]
    assert "The search will recommend nothing, since none of all" in texts[0]
    assert texts[1] == none.infeasible
    assert "meets layers <= -1: the nearest had layers " in none.infeasible
    assert "it is impossible: none of all" in none.infeasible
    assert none.best(3) == []
    rare = search(limited("layers<=0"), budget=2, seeds=1, seed0=3)
    assert "layers <= 0: the nearest had layers " in rare.infeasible
    assert f"; 1 of all {SIZE} architectures do, so search longer" in rare.infeasible


def test_the_nearest_is_the_one_of_least_violation():
    found = search(limited("layers<=-1", "flops<=1"))
    violation, values = found.arrays["violation"], found.arrays["limited"]
    best = np.unravel_index(np.nanargmin(violation), violation.shape)
    layers, flops = values[best]
    assert f"layers {layers:g} (" in found.infeasible
    assert f"flops {flops:,.6g} (" in found.infeasible


def test_what_found_something_says_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert search(limited("layers<=2"), callbacks=()).infeasible is None
        assert search(TOY, callbacks=()).infeasible is None


def test_a_host_oracle_is_not_asked_in_vain(tmp_path):
    out = tmp_path / "a"
    with pytest.raises(UserError, match="No query was made, since none of all") as caught:
        search(OnHost(limited("layers<=-1")), out=out)
    assert "relax" in str(caught.value)
    assert not out.exists()


def test_a_finished_run_still_says_so(tmp_path):
    first = search(limited("layers<=-1"), out=tmp_path / "a")
    again = jaxnas.load_result(tmp_path / "a")
    assert again.infeasible == first.infeasible
    summary = json.loads((tmp_path / "a/results.json").read_text())
    assert summary["infeasible"] == first.infeasible


def command(capsys, tmp_path, *more):
    args = ["search", "--oracle", "toy", "--budget", "8", "--seeds", "2", "--out"]
    args += [str(tmp_path), "--name", "x", "--algorithms", "random", "evolution", *more]
    with pytest.raises(SystemExit) as stop:
        main(args)
    streams = capsys.readouterr()
    return stop.value.code or 0, streams.out, streams.err


@pytest.mark.parametrize(
    "mode", [["--quiet"], ["--json"], []], ids=["quiet", "json", "auto"]
)
def test_the_command_ends_with_code_3_and_one_sentence(mode, capsys, tmp_path):
    code, out, err = command(capsys, tmp_path, "--constraint", "layers<=-1", *mode)
    assert code == 3
    assert "Nothing that was queried meets layers <= -1: the nearest had" in err
    assert "will recommend nothing" in (out if mode == ["--json"] else err)
    assert "Traceback" not in err
    assert (tmp_path / "x/random/results.npz").exists()
    assert (tmp_path / "x/report.html").exists()
    page = (tmp_path / "x/report.md").read_text()
    assert "(the nearest had layers " in page


def test_code_0_where_one_method_found_something(capsys, tmp_path):
    code, _, err = command(capsys, tmp_path, "--constraint", "layers<=3", "--quiet")
    assert code == 0
    assert "Nothing" not in err
    found = {"text": "a", "violation": 1.0}
    assert fs.nearest_of([found, None]) == ""
    assert fs.nearest_of([found, {"text": "b", "violation": 0.5}]) == "b"
    assert fs.nearest_of([]) == ""


def test_every_constraint_has_its_share_in_the_report(capsys, tmp_path):
    limits = ("--constraint", "layers<=3", "flops<=80")
    code, out, _ = command(capsys, tmp_path, *limits, "--json")
    assert code == 0
    (study,) = json.loads(out.splitlines()[-1])["studies"]
    for row in study["methods"]:
        assert set(row["met"]) == {"layers <= 3", "flops <= 80"}
        assert row["feasible"] <= min(row["met"].values())
    assert "queries with layers &lt;= 3" in (tmp_path / "x/report.md").read_text()


def test_where_every_evaluation_failed_no_constraint_is_blamed():
    space = jaxnas.declare(
        {"name": "s", "decisions": [{"name": "a", "choices": [1, 2, 3]}]}
    )
    oracle = jaxnas.oracle(lambda a: float("nan"), space)
    algo = jaxnas.make_algorithm("random", space=space)
    assert jaxnas.search(algo, oracle, budget=3).infeasible is None
