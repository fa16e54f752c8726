"""Several objectives in a report: attainment against moocore, hypervolumes, both panels."""

import json

import moocore
import numpy as np
import pytest

import jaxnas
from jaxnas import report
from jaxnas.report.read.compare import studies
from jaxnas.report.read.fronts import attained, trade_of
from jaxnas.report.read.load import load
from jaxnas.report.say import fronts_section


@pytest.mark.parametrize("share", [0.25, 0.5, 0.75])
def test_attainment_surfaces_are_those_of_moocore(share):
    rng = np.random.default_rng(0)
    fronts = [np.round(rng.normal(size=(rng.integers(1, 9), 2)), 1) for _ in range(8)]
    x, y = attained(fronts, [share])
    ours = np.stack([x, y[0]], axis=1)
    ours = np.unique(ours[np.isfinite(ours[:, 1])], axis=0)
    corners = moocore.is_nondominated(ours, maximise=True)
    sets = np.repeat(np.arange(8), [len(front) for front in fronts])
    wanted = moocore.eaf(-np.concatenate(fronts), sets, percentiles=[100 * share])
    wanted = np.unique(-wanted[:, :2], axis=0)
    np.testing.assert_allclose(ours[corners], wanted)


def searched(root, objective, **options):
    oracle = jaxnas.make_oracle("analog-nasbench", objective=objective, **options)
    for name in ("nsga2", "random"):
        algo = jaxnas.make_algorithm(name, space=oracle.space)
        jaxnas.search(algo, oracle, budget=30, seeds=4, out=root / name, label=name)
    return root


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    return searched(tmp_path_factory.mktemp("two"), "digital,analog_1month")


def test_hypervolumes_are_those_of_what_was_queried(two):
    (study,) = studies(load(two))
    trade = trade_of(study, (50.0, 80.0))
    columns = jaxnas.make_oracle("analog-nasbench").columns()
    table = np.stack([columns["digital"], columns["analog_1month"]], axis=1)
    volume = lambda rows: moocore.hypervolume(rows, ref=[50, 80], maximise=True)
    assert trade.total == pytest.approx(volume(table), rel=1e-4)
    assert len(trade.exact) == 7
    for method, volumes in zip(study.methods, trade.volumes, strict=True):
        wanted = [volume(v) for v in method.results.objectives]
        np.testing.assert_allclose(volumes[:, -1], wanted, rtol=1e-3, atol=1e-3)


def test_the_page_has_figures_tables_and_the_reference(two, tmp_path):
    built = report.build(two, tmp_path, (50.0, 80.0))
    page = built.md_path.read_text()
    assert (tmp_path / "figures" / "fronts.svg").exists()
    assert (tmp_path / "figures" / "hypervolume.svg").exists()
    assert "reference that was given: digital 50.00, analog_1month 80.00" in page
    assert "The front of everything found" in page
    summary = json.loads(json.dumps(built.summary()))["studies"][0]
    assert summary["reference"] == [50.0, 80.0]
    assert 0 < summary["hypervolume"]["random"] < summary["hypervolume_exact"]
    with pytest.raises(jaxnas.UserError, match="each of digital, analog_1month, got 50"):
        report.build(two, tmp_path, (50.0,))


def test_three_objectives_under_a_constraint(tmp_path):
    root = searched(tmp_path, "digital,params,energy", constraints=("params<=6e5",))
    (study,) = studies(load(root))
    trade = trade_of(study)
    assert (trade.values[:, 1] <= 6e5).all()
    assert (trade.limited["params"] <= 6e5).all()
    volumes = fronts_section.volume_table(study, trade)
    assert "feasible queries" in volumes.columns
    assert "params (<= 6e5)" in fronts_section.found_table(study, trade).columns
    built = report.build(root, tmp_path / "page")
    assert "Every pair of objectives" in built.md_path.read_text()
    assert "worst value of each objective on any front" in built.md_path.read_text()
