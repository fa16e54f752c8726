"""The sentences of reports on a matrix of runs: each has its condition."""

import dataclasses
import io
import re

import numpy as np
import pytest
import report_demo
from rich.console import Console

from jaxnas import report
from jaxnas.report.draw import plots
from jaxnas.report.read.stats import Interval
from jaxnas.report.say import tables, text

METHODS = ("random", "evolution", "ppo")
# name -> what is asked of the toy oracle, of which methods, and how often
CASES = {
    "known": {},
    "unknown": {"known": False},
    "one method": {"methods": ("random",)},
    "one seed": {"seeds": 1},
    "two seeds": {"seeds": 2},
    "one method, one seed": {"methods": ("ppo",), "seeds": 1},
    "tie": {"budget": 41, "methods": ("random", "evolution"), "cap": 100},
    "less is better": {"options": {"objective": "layers"}},
    "two objectives": {"options": {"objective": "score,layers"}},
    "two objectives, unknown": {"options": {"objective": "score,layers"}, "known": False},
    "constrained": {"options": {"constraints": ["layers<=2"]}},
    "constrained, unknown": {"options": {"constraints": ["layers<=2"]}, "known": False},
    "two objectives, constrained": {
        "options": {"objective": "score,layers", "constraints": ["layers<=3"]}
    },
    "rarely feasible": {"options": {"constraints": ["layers<=1"]}, "budget": 3, "cap": 16},
    "infeasible": {"options": {"constraints": ["layers<=-1"]}},
    "infeasible, unknown": {"options": {"constraints": ["layers<=-1"]}, "known": False},
    "noise": {"options": {"noise": "stored"}},
    "failures": {"known": False, "failing": True},
    "failures, one query": {"known": False, "failing": True, "budget": 1, "cap": 16},
}
FORBIDDEN = {
    r"\bnan\b|\binf\b": "a number that is none",
    r"n/a (points|%|layers)|by n/a|of n/a|is n/a|n/a \(": "a sentence about nothing",
    r"by 0\.00 |difference -?0\.00 |0\.00 points ahead": "a tie as a difference",
    r"\(, |, \)|\(\)|  [^ ]|: \.|\bNone\b|\{|\}": "a hole in a sentence",
}


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """What each report says: everything, and its lead with its remarks; its tables."""
    root, made = tmp_path_factory.mktemp("matrix"), {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plots, "render", lambda figure, salt: (b"<svg/>", b"png"))
        for name, case in CASES.items():
            case = {"seeds": 4, "budget": 12, "methods": METHODS, **case}
            for method in case.pop("methods"):
                report_demo.make_run(
                    root / name / method, method, oracle_name="toy", **case
                )
            made[name] = report.build(root / name, root / name / "report")
    return made


def _said(built):
    (chapter,) = built.chapters
    return " ".join([chapter.lead, *chapter.verdicts, *chapter.warnings])


def _terminal(built):
    out = io.StringIO()
    built.print(Console(file=out, width=400))
    return out.getvalue()


def _all(built):
    return built.md_path.read_text() + _terminal(built)


@pytest.mark.parametrize("name", CASES)
def test_no_sentence_is_without_its_condition(pages, name):
    prose = re.sub(r"^\|.*$", "", pages[name].md_path.read_text(), flags=re.MULTILINE)
    prose = re.sub(r"```.*?```", "", prose, flags=re.DOTALL) + _said(pages[name])
    for pattern, what in FORBIDDEN.items():
        found = re.search(f".*({pattern}).*", prose)
        assert found is None, f"{what}: {found[0]}"


@pytest.mark.parametrize("name", CASES)
def test_only_a_known_optimum_is_spoken_of(pages, name):
    built = pages[name]
    known = built.chapters[0].study.task.known is not None
    assert known == ("unknown" not in name and "fail" not in name and name != "infeasible")
    words = re.sub(r"Regret is not given.*|\]\([^)]*\)", "", _all(built))
    assert ("known optimum" in words) == known
    assert ("Regret: to" in words) == known
    assert bool(re.search(r"[Rr]egret", words)) == known


@pytest.mark.parametrize("name", CASES)
def test_every_objective_and_constraint_is_shown(pages, name):
    built, case = pages[name], CASES[name].get("options", {})
    names = case.get("objective", "score").split(",")
    asked = len(names) > 1 or "constraints" in case
    table = tables.asked_table(built.chapters[0].study)
    assert (table is not None) == asked
    for shown in (built.md_path.read_text(), _terminal(built)):
        assert ("What was asked for" in shown) == asked
    if table is not None:
        columns = " ".join(table.columns)
        assert all(f"mean {objective} (" in columns for objective in names)
        assert ("layers (<= " in columns) == ("constraints" in case)
        assert ("queries that meet them" in columns) == ("constraints" in case)
    for row in built.summary()["studies"][0]["methods"]:
        assert set(names) <= set(row["recommended"])
        assert (row["feasible"] is None) == ("constraints" not in case)


def test_methods_are_named_only_where_there_are_several(pages):
    for name in CASES:
        said, alone = _said(pages[name]), len(pages[name].chapters[0].study.methods) == 1
        assert alone == ("nothing else ran" in said)
        assert not alone or "ahead" not in said


def test_one_seed_is_never_compared_by_an_interval(pages):
    for name in CASES:
        lone = min(
            np.isfinite(m.final).sum() for m in pages[name].chapters[0].study.methods
        )
        assert ("n = 1: no interval" in _said(pages[name])) == (lone == 1)
    assert "n = 1" in _all(pages["one seed"])
    assert "Student-t interval, n = 1" not in _all(pages["one seed"])


def test_a_tie_is_a_tie(pages):
    said = _said(pages["tie"])
    assert "tie at a mean score of 10.75 points (the same for all 4" in said
    assert "apart" not in said
    assert "no spread" in _all(pages["tie"])
    for name in CASES:
        methods = pages[name].chapters[0].study.methods
        means = [np.nanmean(m.final) for m in methods if np.isfinite(m.final).any()]
        assert ("tie at" in _said(pages[name])) == (means[:1] == means[1:2] != [])


def test_what_nothing_met_is_named(pages):
    for name in ("infeasible", "infeasible, unknown"):
        built = pages[name]
        said = _said(built)
        assert "nothing met layers <= -1" in said
        assert "4 of 4 controllers of ppo found nothing that meets layers <= -1" in said
        assert "success" not in said
        assert not built.chapters[0].top
        assert not re.search("ahead|best|beats|tell|interval", said)
        assert "0 %" in _all(built)
        assert "nothing found" in _all(built)
    why = "none of all 41 architectures meets layers <= -1 (layers is 0 to 4)"
    assert why in _said(pages["infeasible"])
    assert "41 arch" not in _said(pages["infeasible, unknown"])


def test_a_constraint_that_some_missed_is_named_beside_who_did(pages):
    built = pages["rarely feasible"]
    (chapter,) = built.chapters
    without = {m.name: int(np.isnan(m.final).sum()) for m in chapter.study.methods}
    assert sum(without.values()) > 0
    for method, count in without.items():
        words = f"{count} of 4 controllers of {method} found nothing that meets layers <= 1"
        assert (words in _said(built)) == (count > 0)
    assert "under layers <= 1, " in chapter.lead


def test_constraint_values_are_those_of_what_is_recommended(pages):
    (chapter,) = pages["constrained"].chapters
    for row, method in zip(
        pages["constrained"].summary()["studies"][0]["methods"],
        chapter.study.methods,
        strict=True,
    ):
        layers = np.sum(method.results.best_tokens > 0, axis=1)
        assert layers.max() <= 2
        assert row["recommended"]["layers"] == pytest.approx(layers.mean())
        met = np.sum(method.results.tokens > 0, axis=2) <= 2
        assert row["feasible"] == pytest.approx(met.mean())
    assert "not recorded" in _all(pages["constrained, unknown"])


def test_failed_evaluations_are_named_as_such(pages):
    for name in CASES:
        said = _said(pages[name])
        assert ("successful evaluation" in said) == (name == "failures, one query")


def test_values_are_true_only_where_the_truth_is_known(pages):
    for name in CASES:
        words = pages[name].md_path.read_text()
        hidden = "unknown" in name or "fail" in name
        assert ("true value" in words) != hidden
        assert ("measured value" in words) == hidden


@pytest.mark.parametrize(
    ("gap", "wanted"),
    [
        (Interval(0.3, 0.1, 0.5, 4), "0.30 points (95 % interval 0.10 to 0.50)"),
        (Interval(-0.3, -0.5, -0.1, 4), "0.30 points (95 % interval 0.10 to 0.50)"),
        (Interval(0.3, -0.1, 0.7, 4), "0.30 points (95 % interval -0.10 to 0.70)"),
        (Interval(0.0012, 0.001, 0.0014, 4),
         "0.0012 points (95 % interval 0.0010 to 0.0014)"),
        (Interval(0.3, np.nan, np.nan, 1), "0.30 points (n = 1: no interval)"),
        (Interval(0.3, np.nan, np.nan, 4), "0.30 points (neither varies: no test)"),
    ],
)  # fmt: skip
def test_a_difference_says_how_sure_it_is(pages, gap, wanted):
    assert text._size(pages["known"].chapters[0].study, gap) == wanted


def test_predictions_say_how_far_they_can_be_relied_on(pages):
    study = pages["unknown"].chapters[0].study
    (objective,) = study.task.objectives
    predicted = dataclasses.replace(objective, predicted=True)
    facts = {"held out: score": "tau 0.73", "held out, best tenth: score": "tau 0.03"}
    task = dataclasses.replace(
        study.task, objective=predicted, objectives=(predicted,),
        info=facts | {"held out: layers": "tau 0.99"},
    )  # fmt: skip
    said = " ".join(text.warnings(dataclasses.replace(study, task=task), []))
    assert "nothing was measured" in said
    assert "held out: score tau 0.73; held out, best tenth: score tau 0.03." in said
    assert "0.99" not in said
    assert "nothing was measured" not in " ".join(text.warnings(study, []))


def test_controllers_of_one_latent_model_are_one_unit(pages):
    study = pages["known"].chapters[0].study
    for latent in (False, True):
        methods = []
        for method in study.methods:
            kept = {"path": np.zeros((4, 2, 3))} if latent and method.learns else {}
            results = dataclasses.replace(method.results, kept=kept)
            run = dataclasses.replace(method.run, results=results)
            methods.append(dataclasses.replace(method, run=run))
        again = dataclasses.replace(study, methods=tuple(methods))
        for compact in (False, True):
            table = tables.main_table(again, compact=compact)
            counts = {row[0]: row[-1] for row in table.rows}
            assert counts["ppo"] == ("4 on 1 latent model" if latent else "4")
            assert counts["random"] == "4"
            assert ("All controllers of PPO share one latent model" in table.note) == latent
        (verdict,) = text.verdicts(again)
        assert ("the one latent model that its controllers share" in verdict) == latent
