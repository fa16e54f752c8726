"""The page as a whole: what it says, that it stands alone, and that it cannot be abused."""

import copy
import html.parser
import io
import itertools
import json
import re
import shutil
import time
import xml.etree.ElementTree

import matplotlib as mpl
import numpy as np
import pytest
import report_demo
from rich.console import Console

from jaxnas import report
from jaxnas.core.errors import UserError
from jaxnas.report.draw import plots
from jaxnas.report.read import compare, load, stats
from jaxnas.report.render import document
from jaxnas.report.say import cells, figures, tables, text

HOSTILE = '<script>alert("x")</script> | $a_b^c$ `& "\\'


@pytest.fixture(scope="module")
def built(analog_runs, tmp_path_factory):
    return report.build(analog_runs, tmp_path_factory.mktemp("report"))


@pytest.fixture
def no_ink(monkeypatch):
    """Leaves figures undrawn where only their existence matters: most of a build's time."""
    monkeypatch.setattr(plots, "render", lambda figure, salt: (b"<svg/>", b"png"))


class Page(html.parser.HTMLParser):
    """Collects tags, checks that they nest."""

    VOID = frozenset({"meta", "img", "br"})

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.text = [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] != ["style"]:
            self.text.append(data)


def test_the_page_stands_alone(built):
    source = built.html_path.read_text()
    page = Page(source)
    names = [tag for tag, _ in page.tags]
    assert "script" not in names
    assert "link" not in names
    for _, attrs in page.tags:
        for name in ("src", "href"):
            assert attrs.get(name, "#").startswith(("#", "data:image/svg+xml;base64,"))
        assert not any(name.startswith("on") for name in attrs)
    style = source[source.index("<style>") : source.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style
    images = [attrs for tag, attrs in page.tags if tag == "img"]
    assert len(images) == 9
    assert all(len(image["alt"]) > 30 for image in images)
    anchors = {attrs["id"] for _, attrs in page.tags if "id" in attrs}
    links = {attrs["href"][1:] for tag, attrs in page.tags if tag == "a"}
    assert links <= anchors


def test_figures_lie_beside_the_markdown(built):
    markdown = built.md_path.read_text()
    named = re.findall(r"\]\((figures/[^)]+)\)", markdown)
    assert len(named) == 9
    assert all((built.md_path.parent / name).is_file() for name in named)
    assert len(built.figures) == 18
    for path in built.figures:
        start = path.read_bytes()[:200]
        assert b"<?xml" in start if path.suffix == ".svg" else start[:4] == b"\x89PNG"
    lines = markdown.splitlines()
    for head, rule in itertools.pairwise(lines):
        if re.fullmatch(r"\|( :?--:? \|)+", rule):
            assert head.count("|") == rule.count("|")


def test_the_page_says_where_and_how_it_ran(built):
    shown = built.md_path.read_text()
    for name, value in (
        ("layout", "blocked, 2 blocks of 8 controllers on 2 devices"),
        ("platform", "cpu"),
        ("device kind", "cpu"),
        ("processes", "2"),
        ("device memory", "7.1 GB free, of the host"),
        ("peak memory", "0.61 GB of this process"),
        ("compile time", "9.2 s"),
    ):
        assert f"| {name} | {value} |" in shown


def test_the_main_table_is_what_the_arrays_say(built, analog_runs):
    study = built.chapters[0].study
    table = tables.main_table(study)
    best = study.task.known.optimum
    for method in study.methods:
        with np.load(analog_runs / method.name / "results.npz") as file:
            preset = file["setting"] == 0
            values = file["best_true"][preset].astype(float)
            spent = np.mean(file["count"][preset] >= 40)
        row = next(r for r in table.rows if r[0].split(" ")[0] == method.name)
        half = stats.student_t(7.0) * values.std(ddof=1) / np.sqrt(8)
        assert row[1] == "40"
        assert row[2] == f"{values.mean():.2f}"
        assert row[3] == f"{values.mean() - half:.2f} to {values.mean() + half:.2f}"
        assert row[4] == f"{best - values.mean():.2f}"
        assert row[7] == text.percent(spent)
        assert row[8] == "8"
    assert [r[0] for r in table.rows if "(preset)" in r[0]]
    assert table.rows[-1][:3] == ("known optimum", "15,625", "90.00")
    assert table.rows[-1][5] == "1.63"
    means = [stats.mean_interval(m.final).value for m in study.methods]
    assert means == sorted(means, reverse=True)


def test_the_terminal_form_fits_eighty_columns_and_json_holds_the_numbers(built):
    out = io.StringIO()
    built.print(Console(file=out, width=80))
    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    assert any("known optimum" in line for line in lines)
    assert built.chapters[0].lead.split()[0] in out.getvalue()
    summary = json.loads(json.dumps(built.summary()))["studies"][0]
    assert summary["optimum"] == pytest.approx(90.0)
    assert {m["method"] for m in summary["methods"]} == {
        "random",
        "evolution",
        "ppo",
        "reinforce",
    }
    assert all(m["n"] == 8 for m in summary["methods"])


def test_the_same_runs_give_the_same_bytes(toy_runs):
    drawn = []
    for _ in range(2):
        study = compare.studies(load.load(toy_runs))[0]
        with plots.style():
            drawn.append(figures.draw_regret(study))
    assert drawn[0] == drawn[1]
    assert len(drawn[0].svg) > 10_000


def test_drawing_leaves_matplotlibs_settings_alone(built):
    del built
    before = dict(mpl.rcParams)
    with plots.style():
        assert mpl.rcParams["font.size"] == 8.5
    assert dict(mpl.rcParams) == before


def test_hostile_text_is_shown_and_never_run(tmp_path):
    run = report_demo.make_run(
        tmp_path / "run", "ppo", oracle_name="toy", label=HOSTILE, seeds=2, budget=8,
        grid={"lr": [0.1, 0.3]} | {"entropy": [0.03]},
    )  # fmt: skip
    made = json.loads((run / "provenance.json").read_text())
    made |= {"command": f"jaxnas {HOSTILE}", "device": HOSTILE}
    (run / "provenance.json").write_text(json.dumps(made))
    built = report.build(run, tmp_path / "out")
    page = Page(built.html_path.read_text())
    assert "script" not in [tag for tag, _ in page.tags]
    assert HOSTILE in "".join(page.text)
    markdown = built.md_path.read_text()
    assert "<script>" not in markdown.replace(f"jaxnas {HOSTILE}", "")
    assert "\\|" in markdown


@pytest.mark.parametrize("table", ["fashion-cells", "digits-cells"])
def test_labels_come_from_the_data(tmp_path, monkeypatch, table):
    words = []

    def read(figure, salt):
        del salt
        words.extend(text_.get_text() for text_ in figure.findobj(mpl.text.Text))
        return b"<svg/>", b"png"

    monkeypatch.setattr(plots, "render", read)
    run = report_demo.make_run(
        tmp_path / "run", "random", oracle_name=table, seeds=2, budget=8,
        options={"objective": "analog_1day"},
    )  # fmt: skip
    built = report.build(run, tmp_path / "out")
    drift = next(d for d in built.chapters[0].drawings if d.name == "drift")
    assert "analog and digital (%)" in words
    assert "1 month" in words
    name = {"fashion-cells": "Fashion-MNIST", "digits-cells": "scikit-learn digits"}[table]
    assert name in drift.caption
    assert "CIFAR" not in " ".join(words) + built.md_path.read_text()


NOT_ENCODABLE = (
    "name\udce9 \x1b[31m\x07\n# research \u7814\u7a76 \U0001f9ea \u202e_x_ ~~y~~"
)


def test_what_cannot_be_encoded_or_drawn_never_stops_a_report(tmp_path):
    run = report_demo.make_run(
        tmp_path / "runs\udce9", "random", oracle_name="toy", label=NOT_ENCODABLE, seeds=2,
        budget=8, known=False,
    )  # fmt: skip
    for name in ("provenance", "config"):
        path = run / f"{name}.json"
        made = json.loads(path.read_text()) | {"command": f"jaxnas {NOT_ENCODABLE}"}
        if name == "config":
            made["objectives"][0] |= {"meaning": NOT_ENCODABLE, "unit": NOT_ENCODABLE}
        path.write_text(json.dumps(made))
    built = report.build(run, tmp_path / "r\udce9port")
    page, markdown = (
        path.read_bytes().decode("utf-8") for path in (built.html_path, built.md_path)
    )
    for text_ in (page, markdown):
        assert "research \u7814\u7a76 \U0001f9ea" in text_
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202e]", text_)
    assert "name\\udce9 \\x1b[31m" in page
    Page(page)
    for path in built.figures:
        assert path.stat().st_size > 1000
        if path.suffix == ".svg":
            xml.etree.ElementTree.fromstring(path.read_bytes())
    out = io.StringIO()
    built.print(Console(file=out, width=120, force_terminal=True, no_color=True))
    assert "\x1b[31m" not in out.getvalue()
    json.dumps(built.summary())


@pytest.mark.parametrize(
    ("plain", "escaped"),
    [
        ("# heading", "\\# heading"), ("- item", "\\- item"), ("1. item", "1\\. item"),
        ("_x_ a_b", "\\_x\\_ a_b"), ("~~x~~ $y$", "\\~\\~x\\~\\~ \\$y\\$"),
        ("[a](b) <i> *c*", "\\[a\\](b) &lt;i&gt; \\*c\\*"), ("1.5 x", "1.5 x"),
        ("a\n# b", "a # b"),
    ],
)  # fmt: skip
def test_markdown_shows_text_as_it_is(plain, escaped):
    assert cells.escape_markdown(plain) == escaped


def _chapters(*paths):
    return [document.chapter(s) for s in compare.studies(load.load(paths))]


def test_two_questions_make_two_chapters(toy_runs, tmp_path, no_ink):
    report_demo.make_run(
        tmp_path / "cheap", "random", oracle_name="toy", options={"objective": "layers"},
        seeds=4, budget=6,
    )  # fmt: skip
    built = report.build([toy_runs, tmp_path / "cheap"], tmp_path / "out")
    assert [c.title for c in built.chapters] == [
        "Searching toy for score",
        "Searching toy for layers",
    ]
    Page(built.html_path.read_text())
    folders = {p.parent.name for p in built.figures}
    assert folders == {"1-searching-toy-for-score", "2-searching-toy-for-layers"}
    cheap = built.chapters[1].study
    assert cheap.task.known.optimum == 0.0  # fewest layers: less is better
    assert cheap.task.direction == -1.0
    assert stats.mean_interval(cheap.methods[0].final).value >= 0


def test_a_run_without_its_oracle_still_makes_a_report(toy_runs, tmp_path, no_ink):
    root = shutil.copytree(toy_runs, tmp_path / "runs")
    for path in root.glob("*/config.json"):
        config = json.loads(path.read_text())
        config["oracle"] = {"name": None, "id": "mine", "options": {}}
        config["space_name"] = None
        path.write_text(json.dumps(config))
    (chapter,) = _chapters(root)
    table = tables.main_table(chapter.study)
    assert not any("regret" in name for name in table.columns)
    assert "was built in Python" in table.note
    assert chapter.top[0].value == max(t.value for t in chapter.top)
    assert "regret" in {d.name for d in chapter.drawings}


def test_an_unfinished_run_is_marked_and_not_judged(toy_runs, tmp_path, no_ink):
    root = shutil.copytree(toy_runs, tmp_path / "runs")
    (root / "evolution" / "results.npz").unlink()
    made = json.loads((root / "ppo" / "provenance.json").read_text())
    (root / "ppo" / "provenance.json").write_text(json.dumps({**made, "finished": None}))
    (chapter,) = _chapters(root)
    study = chapter.study
    assert [r.label for r in study.pending] == ["evolution"]
    assert "evolution has not finished after 12 queries" in " ".join(chapter.warnings)
    assert "ppo has not finished; its row is not compared" in " ".join(chapter.warnings)
    assert "nothing else ran" in chapter.lead
    assert any("unfinished" in row[0] for row in tables.main_table(study).rows)
    for name in ("random", "ppo"):
        (root / name / "results.npz").unlink()
    with pytest.raises(UserError, match="has not finished yet"):
        _chapters(root)


def test_a_bare_sweep_is_pooled_and_never_its_best_setting(tmp_path, no_ink):
    run = report_demo.make_run(
        tmp_path / "sweep", "ppo", oracle_name="toy", seeds=3, budget=8,
        grid={"lr": [0.1, 0.3], "entropy": [0.03]},
    )  # fmt: skip
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(config | {"preset": None}))
    (chapter,) = _chapters(run)
    (method,) = chapter.study.methods
    assert method.note == "all 2 settings"
    assert len(method.final) == 6
    assert [len(s) for s in method.strata] == [3, 3]
    assert "surface-ppo" in {d.name for d in chapter.drawings}


def test_three_swept_axes_give_marginal_panels(toy_runs, tmp_path, no_ink):
    run = shutil.copytree(toy_runs / "ppo", tmp_path / "ppo")
    config = json.loads((run / "config.json").read_text())
    config["grid"]["clip"] = [0.1, 0.2]
    config["hparams"]["clip"] = [0.1, 0.2, 0.1, 0.2]
    (run / "config.json").write_text(json.dumps(config))
    (chapter,) = _chapters(run)
    surface = next(d for d in chapter.drawings if d.name == "surface-ppo")
    assert "Grey: every setting" in surface.caption


def test_different_budgets_are_compared_at_the_smallest(toy_runs, tmp_path, no_ink):
    report_demo.make_run(tmp_path / "short", "random", oracle_name="toy", seeds=4, budget=5)
    (chapter,) = _chapters(toy_runs / "evolution", tmp_path / "short")
    study = chapter.study
    assert study.budget == 5
    assert "Budgets differ" in tables.main_table(study).note
    long = next(m for m in study.methods if m.name == "evolution")
    value = study.task.known.value[long.rows]  # recommended after 5 queries, not after 12
    np.testing.assert_allclose(value, long.final, rtol=1e-6)


def test_equal_labels_are_told_apart_by_their_folders(toy_runs, tmp_path, no_ink):
    other = shutil.copytree(toy_runs / "random", tmp_path / "again" / "random")
    (chapter,) = _chapters(toy_runs / "random", other)
    names = {m.name for m in chapter.study.methods}
    assert "random (again/random)" in names
    assert len(names) == 2


def test_one_seed_and_failed_evaluations_do_not_break_a_report(toy_runs, tmp_path, no_ink):
    run = shutil.copytree(toy_runs / "random", tmp_path / "random")
    with np.load(run / "results.npz") as file:
        arrays = {name: file[name].copy() for name in file.files}
    arrays["curve"][0] = np.nan  # never a success
    arrays["best_true"][0] = np.nan
    arrays["curve"][1, :3] = np.nan  # the first three evaluations failed
    np.savez(run / "results.npz", **arrays)
    lone = report_demo.make_run(
        tmp_path / "lone", "evolution", oracle_name="toy", seeds=1, budget=12
    )
    (chapter,) = _chapters(run, lone)
    rows = {r[0]: r for r in tables.main_table(chapter.study).rows}
    assert rows["random"][-1] == "5 of 6"
    assert rows["evolution"][3] == "none: n = 1"
    assert "1 of 6 controllers of random never had" in " ".join(chapter.warnings)
    assert "does not hold" in " ".join(chapter.warnings)  # the audit saw the forgery


def test_the_headline_says_plainly_who_won(toy_runs, no_ink):
    study = compare.studies(load.load(toy_runs))[0]
    by_name = {m.name: m for m in study.methods}

    def with_values(**values):
        methods = []
        for name, x in values.items():
            method = copy.copy(by_name[name])
            object.__setattr__(method, "curve", np.asarray(x, float)[:, None])
            methods.append(method)
        methods.sort(key=lambda m: -m.final.mean())
        return compare.Study(study.task, 12, tuple(methods), ())

    noise = np.linspace(-0.01, 0.01, 6)
    clear = with_values(random=1 + noise, evolution=3 + noise, ppo=2 + noise)
    assert "regularised evolution is best" in text.headline(clear)
    assert "ahead of PPO by 1.00 points" in text.headline(clear)
    (verdict,) = text.verdicts(clear)
    assert verdict.startswith("PPO loses to regularised evolution by 1.00 points (95 %")
    assert "beats random search by 1.00 points" in verdict
    tie = with_values(random=2 + noise, ppo=2.001 + noise)
    assert "PPO and random search cannot be told apart" in text.headline(tie)
    assert "cannot be told from random search" in text.verdicts(tie)[0]


@pytest.mark.parametrize(
    ("share", "words"),
    [(0.0, "0 %"), (0.001, "<1 %"), (0.5, "50 %"), (0.999, ">99 %"), (1.0, "100 %")],
)
def test_a_percentage_never_rounds_to_a_false_extreme(share, words):
    assert text.percent(share) == words


def test_numbers_are_written_for_people():
    assert text.number(-0.001) == "0.00"
    assert text.number(-0.5) == "-0.50"
    assert text.number(157306.0) == "157,306"
    assert text.number(19579530.0) == "19.58 M"
    assert text.number(float("nan")) == "n/a"


def test_an_unwritable_place_is_refused(toy_runs, tmp_path, no_ink):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="No report can be written"):
        report.build(toy_runs / "random", tmp_path / "file" / "out")


@pytest.mark.slow
def test_the_full_size_report_is_quick(tmp_path):
    report_demo.make_demo(tmp_path / "runs", seeds=64, budget=500)
    start = time.process_time()
    report.build(tmp_path / "runs", tmp_path / "out")
    # about 11 s with the run-time type checks of the tests on; the limit is 20 s
    assert time.process_time() - start < 30
    assert (tmp_path / "out" / "report.html").stat().st_size < 3e6
