"""What the table is known to hold: optimum, class means, fronts, names of operations."""

import dataclasses
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnas
from jaxnas.report.read import anatomy, architectures, compare, load, stats, task
from jaxnas.report.say import text


@pytest.fixture(scope="module")
def study(analog_runs):
    return compare.studies(load.load(analog_runs))[0]


def test_the_month_column_has_its_published_landmarks(study):
    known = study.task.known
    assert known.optimum == pytest.approx(90.00, abs=0.005)
    assert tuple(known.members[known.best_row]) == (2, 2, 0, 4, 2, 1)
    assert len(np.unique(known.classes.label)) == 5390
    assert known.classes.size[known.best_row] == 65
    assert known.classes.mean[known.best_row] == pytest.approx(88.04, abs=0.005)
    assert np.max(known.classes.mean) == pytest.approx(89.67, abs=0.005)
    floor, large = compare.class_floors(study)
    assert floor == pytest.approx(1.63, abs=0.005)
    sizes = known.classes.size >= 4
    best_large = np.max(known.classes.mean[sizes])
    assert large == pytest.approx(best_large - known.classes.mean[known.best_row])
    # 1.06 among the top tenth in another selection of "top"; same order, not luck
    assert compare.resolution(study) == pytest.approx(1.1, abs=0.1)


def test_rows_find_every_member_and_refuse_strangers(study):
    known = study.task.known
    some = known.members[[0, 77, 15624]].reshape(3, 1, 6)
    np.testing.assert_array_equal(known.rows(some), [[0], [77], [15624]])
    strangers = np.array([[-1] * 6, [5, 0, 0, 0, 0, 0]])
    np.testing.assert_array_equal(known.rows(strangers), [-1, -1])


def test_rows_in_a_space_with_illegal_architectures(toy_runs):
    known = compare.studies(load.load(toy_runs))[0].task.known
    np.testing.assert_array_equal(known.rows(known.members), np.arange(len(known.members)))
    assert known.rows(np.array([1, 1, 0, 0])) == -1  # a layer after its own kind


def test_classes_follow_from_canonical_where_a_space_does_not_number_them(toy_runs):
    study = compare.studies(load.load(toy_runs))[0]
    space, known = study.task.space, study.task.known
    text = [
        str(row)
        for row in np.asarray(jax.vmap(space.canonical)(jnp.asarray(known.members)))
    ]
    same = np.array(text)[:, None] == np.array(text)[None, :]
    label = known.classes.label
    np.testing.assert_array_equal(same, label[:, None] == label[None, :])


def test_the_exact_front_has_seven_networks(study):
    front = architectures.front_of(study)
    assert front.names == ("digital", "analog_1month")
    points = np.stack([front.x[front.rows], front.y[front.rows]], axis=1)
    assert len(points) == 7
    np.testing.assert_allclose(
        points[[0, -1]], [[94.07, 86.44], [93.47, 90.00]], atol=0.005
    )


def test_the_best_architectures_are_distinct_and_sorted_by_true_value(study):
    top = architectures.top_found(study)
    values = [t.value for t in top]
    assert len({tuple(t.tokens) for t in top}) == len(top) == 10
    assert values == sorted(values, reverse=True)
    every = np.concatenate([m.results.tokens.reshape(-1, 6) for m in study.methods])
    rows = study.task.known.rows(every)
    assert values[0] == np.max(study.task.known.value[rows[rows >= 0]])
    first = top[0]
    assert len(first.metrics) == 13
    assert set(first.spread) == {m for m in first.metrics if m.count("_")}
    mine = study.methods[0]
    asked = study.task.known.rows(mine.results.tokens[mine.keep])
    row = study.task.known.rows(first.tokens)
    assert first.found[0] == np.mean(np.any(asked == row, axis=1))


def test_drift_families_are_sorted_by_time(study):
    families = task.drift_families(study.task.known.columns)
    assert set(families) == {"analog", "noisy"}
    assert [s for s, _ in families["analog"]] == [60, 3600, 86400, 2592000]


def test_operations_and_edges_are_named_from_the_spec():
    space = jaxnas.make_space("nb201")
    tokens, edges = anatomy.vocabulary(space, 5, 6)
    assert tokens == ["skip", "none", "conv 3x3", "conv 1x1", "pool 3x3"]
    assert edges == ["1→2", "1→3", "1→4", "2→3", "2→4", "3→4"]
    words = anatomy.describe(space, np.array([2, 1, 0, 1, 2, 1]))
    assert words == "1→2 conv 3x3, 1→4 skip, 2→4 conv 3x3"
    toy = jaxnas.make_space("toy")
    assert anatomy.vocabulary(toy, 3, 4) == (["0", "1", "2"], ["1", "2", "3", "4"])
    assert anatomy.describe(toy, np.array([2, 0, 0, 1])).startswith("linear 8 → relu")
    macro = jaxnas.make_space("analog-resnet")
    assert anatomy.vocabulary(macro, 16, 22)[1][:3] == ["out_channel0", "M", "R1"]
    row = np.zeros(22, np.int32)
    row[[2, 7, 8, 9]] = 3, 2, 1, 4
    words = "out_channel0 8, M 1, R1 3, convblock1 2, widenfact1 0.5, B1 4"
    assert anatomy.describe(macro, row) == words


def test_token_shares_and_late_queries(study):
    tokens = np.array([[0, 1], [1, 1], [-1, -1]])
    np.testing.assert_allclose(architectures.token_shares(tokens, 2), [[0.5, 0], [0.5, 1]])
    method = next(m for m in study.methods if m.name == "random")
    late = architectures.late_queries(method, 40)
    assert late.shape == (8 * 8, 6)  # the last fifth of 40 queries of 8 controllers
    np.testing.assert_array_equal(late[:8], method.results.tokens[0, 32:40])


def test_the_caveats_are_those_that_the_oracle_states(study):
    said = text.caveats(study)
    assert said.startswith("The table holds one training of each of its 15,625")
    assert said.endswith(jaxnas.make_oracle("analog-nasbench").info()["caveats"])
    joined = dataclasses.replace(study.task, info={"part": study.task.info})
    assert text.caveats(dataclasses.replace(study, task=joined)) == said
    silent = dataclasses.replace(study.task, info={})
    assert text.caveats(dataclasses.replace(study, task=silent)) == ""


def test_a_constraint_limits_the_known_optimum(analog_runs, tmp_path):
    run = shutil.copytree(analog_runs / "random", tmp_path / "random")
    config = json.loads((run / "config.json").read_text())
    options = {"objective": "analog_1month", "constraints": ["digital<=93"]}
    name = jaxnas.make_oracle("analog-nasbench", **options).id
    config["oracle"] = {"name": "analog-nasbench", "id": name, "options": options}
    config["weights"] = [2.0]  # must not show: the curve is in natural units
    (run / "config.json").write_text(json.dumps(config))
    known = task.make_task(load.read_run(run)).known
    allowed = known.columns["digital"] <= 93
    np.testing.assert_array_equal(np.isfinite(known.value), allowed)
    best = np.max(known.columns["analog_1month"][allowed])
    assert known.optimum == pytest.approx(best, rel=1e-6)
    study = compare.studies(load.load(run))[0]
    rival = np.max(known.columns["digital"][allowed])
    assert f"({rival:.2f} %) ranks" in text.digital_rank(study)
    assert f"of {allowed.sum():,} on" in text.digital_rank(study)


def test_an_unknown_oracle_leaves_no_optimum_but_a_reason(toy_runs, tmp_path):
    run = shutil.copytree(toy_runs / "random", tmp_path / "random")
    config = json.loads((run / "config.json").read_text())
    config["oracle"] = {"name": "somebody-elses", "id": "x-v1", "options": {}}
    (run / "config.json").write_text(json.dumps(config))
    unknown = task.make_task(load.read_run(run))
    assert unknown.known is None
    assert "Unknown oracle 'somebody-elses'" in unknown.why
    config["oracle"] = {"name": "toy", "id": "toy-v0", "options": {}}
    (run / "config.json").write_text(json.dumps(config))
    assert "were toy-v0 in the run" in task.make_task(load.read_run(run)).why


def test_regret_of_the_optimum_is_zero_in_both_directions():
    assert stats.regret(np.array([2.0]), 2.0)[0] == 0
    assert stats.regret(np.array([5.0]), 2.0, maximise=False)[0] == 3
