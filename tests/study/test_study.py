"""Ask and tell: order, repeats, strangers, failures, files, pins, what it finds."""

import math
import pickle

import numpy as np
import pytest

import jaxnas
from jaxnas.core.errors import UserError

DOCUMENT = {
    "name": "mine",
    "decisions": [
        {"name": "op", "choices": ["conv", "pool"]},
        {"name": "kernel", "choices": [1, 3, 5], "when": {"op": "conv"}},
        {"name": "width", "choices": [8, 16, 32]},
    ],
}
SPACE = jaxnas.declare(DOCUMENT)


def worth(architecture):
    return architecture.get("kernel", 0) * 10 + architecture["width"]


def drive(study, batches, size):
    for _ in range(batches):
        trials = study.ask(size)
        study.tell(trials, [worth(t.architecture) for t in trials])


LONG = [pytest.param(name, marks=pytest.mark.slow) for name in ("reinforce", "a2c")]


@pytest.mark.parametrize("algorithm", ["random", "evolution", "ppo", *LONG])
def test_every_architecture_is_given_out_once(algorithm):
    """Each of the 12 once, whatever the batch of the method; then a sentence."""
    study = jaxnas.Study(space=SPACE, algorithm=algorithm)
    seen = []
    for size in (1, 5, 2, 10):
        trials = study.ask(size)
        seen += [t.tokens for t in trials]
        study.tell(trials, [worth(t.architecture) for t in trials])
    assert len(seen) == len(set(seen)) == SPACE.count() == 12
    with pytest.raises(UserError, match="Every architecture"):
        study.ask()
    assert study.best.architecture == {"op": "conv", "kernel": 5, "width": 32}
    assert study.best.values == {"score": 82.0}


def test_more_may_be_asked_than_was_told():
    study = jaxnas.Study(space="nb201", algorithm="ppo", batch=4)
    trials = study.ask(10)
    assert len({t.tokens for t in trials}) == 10
    assert all(t.values is None for t in trials)
    study.tell(trials[::-1], [float(i) for i in range(10)])
    assert study.best == study.trials[trials[0].id - 1]


@pytest.mark.slow
def test_the_methods_learn():
    """Evolution in the hands of a study beats random draws, mean of 5 seeds."""
    oracle = jaxnas.make_oracle("analog-nasbench", objective="digital")
    column = oracle.columns()["digital"]
    found = {}
    for algorithm in ("evolution", "random"):
        best = []
        for seed in range(5):
            options = {"population": 20, "sample": 10} if algorithm == "evolution" else {}
            study = jaxnas.Study(
                space="nb201", algorithm=algorithm, seed=seed, directions=True, **options
            )
            for _ in range(100):
                (trial,) = study.ask()
                row = int(np.array(trial.tokens) @ 5 ** np.arange(5, -1, -1))
                study.tell(trial, column[row])
            best.append(study.best.values["score"])
        found[algorithm] = np.mean(best)
    assert found["evolution"] > found["random"]


def test_the_same_seed_asks_the_same_and_a_file_goes_on(tmp_path):
    memory = jaxnas.Study(space=SPACE, algorithm="reinforce", seed=3, batch=2)
    first = jaxnas.Study(
        space=SPACE, algorithm="reinforce", seed=3, batch=2, path=tmp_path / "s.sqlite"
    )
    drive(memory, 4, 2)
    drive(first, 2, 2)
    first.close()
    again = jaxnas.Study.load(tmp_path / "s.sqlite")
    drive(again, 2, 2)
    assert [t.tokens for t in again.trials] == [t.tokens for t in memory.trials]
    other = jaxnas.Study(space=SPACE, algorithm="reinforce", seed=4, batch=2)
    drive(other, 4, 2)
    assert [t.tokens for t in other.trials] != [t.tokens for t in memory.trials]


@pytest.mark.parametrize("name", [None, "s.sqlite"])
def test_a_study_can_be_pickled(tmp_path, name):
    """As Ray does; in memory the copy has a life of its own."""
    path = None if name is None else tmp_path / name
    study = jaxnas.Study(space=SPACE, algorithm="ppo", batch=2, path=path)
    drive(study, 2, 2)
    copy = pickle.loads(pickle.dumps(study))
    assert copy.trials == study.trials
    drive(copy, 2, 2)
    assert (len(copy), len(study)) == ((8, 4) if name is None else (8, 8))


def test_what_is_told_twice_is_told_once_and_never_otherwise():
    study = jaxnas.Study(space=SPACE)
    (trial,) = study.ask()
    for what in (trial, trial.id, list(trial.tokens), trial.architecture):
        study.tell(what, 1.0)
    assert len(study) == 1
    with pytest.raises(UserError, match="has one value"):
        study.tell(trial, 2.0)
    (failed,) = study.ask()
    study.tell(failed, math.nan)
    study.tell(failed, None)
    with pytest.raises(UserError, match="has one value"):
        study.tell(failed, 2.0)


def test_strangers_are_data_and_own_guesses_come_first():
    study = jaxnas.Study(space=SPACE)
    known = {"op": "conv", "kernel": 5, "width": 32}
    study.tell(known, 82.0)
    assert study.best.origin == "told"
    guess = {"op": "pool", "width": 16}
    study.enqueue(guess, known)
    first, *rest = study.ask(11)
    assert (first.architecture, first.origin) == (guess, "enqueued")
    assert known not in [t.architecture for t in rest]
    assert study.find(guess).id == first.id
    assert jaxnas.Study(space=SPACE).find(guess) is None


def test_failures_never_win_and_the_front_is_exact():
    study = jaxnas.Study(space=SPACE, directions={"a": True, "b": "minimise"})
    rng = np.random.default_rng(0)
    trials = study.ask(12)
    values = [{"a": float(a), "b": float(b)} for a, b in rng.integers(0, 5, (12, 2))]
    values[4] = {"a": 9.0, "b": math.nan}
    study.tell(trials, values)
    good = [v for i, v in enumerate(values) if i != 4]
    wanted = [
        v for v in good
        if not any(
            o["a"] >= v["a"] and o["b"] <= v["b"] and (o["a"] > v["a"] or o["b"] < v["b"])
            for o in good
        )
    ]  # fmt: skip
    order = lambda v: (-v["a"], v["b"])
    assert sorted((t.values for t in study.front), key=order) == sorted(wanted, key=order)
    assert study.best.values == max(good, key=lambda v: v["a"] - v["b"])


def test_importance_finds_the_decision_that_matters():
    study = jaxnas.Study(space="nb201", algorithm="random")
    trials = study.ask(150)
    study.tell(trials, [float(t.tokens[2] == 3) + 0.01 * t.tokens[0] for t in trials])
    shares = study.importance()
    assert next(iter(shares)) == "edge14"
    assert shares["edge14"] > 0.9
    assert sum(shares.values()) == pytest.approx(1)
    with pytest.raises(UserError, match="needs 10 architectures"):
        jaxnas.Study(space="nb201").importance()


@pytest.mark.parametrize(
    ("space", "pins"),
    [
        ("nb201", {"edge12": "nor_conv_3x3", "edge34": "none"}),
        ("hierarchical", {"depth": 3, "cell_in_mid": "motif2"}),
        ("toy", {"layer2": 4}),
    ],
)
def test_pinned_decisions_stay(space, pins):
    study = jaxnas.Study(space=space, algorithm="evolution", pins=pins)
    trials = study.ask(6)
    for trial in trials:
        assert {name: trial.architecture[name] for name in pins} == pins
    base = jaxnas.make_space(space)
    study.space.to_spec(np.array(trials[0].tokens))
    assert study.space.id == base.id
    assert study.space.count() < base.count()


def test_pins_that_cannot_be():
    for space, pins, words in [
        ("nb201", {"edge15": "none"}, "Unknown decision"),
        ("nb201", {"edge12": "conv"}, "Unknown value"),
        ("hierarchical", {"depth": 1, "top_in_mid": "cell"}, "no architecture"),
        ("analog-resnet", {"M": 2}, "cannot be pinned"),
    ]:
        with pytest.raises(UserError, match=words):
            jaxnas.Study(space=space, pins=pins)
    study = jaxnas.Study(space=SPACE, pins={"op": "pool"})
    with pytest.raises(UserError, match=r"cannot be"):
        study.tell({"op": "conv", "kernel": 1, "width": 8}, 1.0)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"space": None}, "needs a space"),
        ({"algorithm": "evolutoin"}, "Did you mean 'evolution'"),
        ({"populatoin": 3}, "Did you mean 'population'"),
        ({"directions": {"a": "up"}}, "direction of 'a'"),
        ({"directions": {}}, "at least one objective"),
    ],
)
def test_studies_that_cannot_be(options, words):
    with pytest.raises(UserError, match=words):
        jaxnas.Study(**{"space": SPACE, **options})


@pytest.mark.parametrize(
    ("what", "value", "words"),
    [
        (99, 1.0, "no trial 99"),
        ({"op": "conv", "width": 8}, 1.0, "'kernel' cannot be no value"),
        ([0, 0], 1.0, "is no architecture"),
        ([0, 9, 0], 1.0, "is no architecture"),
        (1, {"scoer": 1.0}, "Did you mean 'score'"),
        (1, {}, "lack the objective"),
        (1, "good", "no numbers"),
        ([1, 1], [1.0], "1 values were told for 2"),
    ],
)
def test_tellings_that_cannot_be(what, value, words):
    study = jaxnas.Study(space=SPACE)
    study.ask()
    with pytest.raises(UserError, match=words):
        study.tell(what, value)
    assert study.trials[0].values is None


def test_files_that_cannot_be(tmp_path):
    path = tmp_path / "s.sqlite"
    with pytest.raises(UserError, match="no study at"):
        jaxnas.Study.load(path)
    jaxnas.Study(space=SPACE, path=path, seed=1).close()
    for options, words in [
        ({"seed": 2}, "has seed 1, not 2"),
        ({"space": "nb201"}, "has space"),
        ({"algorithm": "ppo"}, "has algorithm"),
    ]:
        with pytest.raises(UserError, match=words):
            jaxnas.Study(path=path, **options)
    path.write_bytes(b"junk" * 1000)
    with pytest.raises(UserError, match=r"The study .* is damaged"):
        jaxnas.Study.load(path)
    with pytest.raises(UserError, match="cannot be opened"):
        jaxnas.Study(space=SPACE, path=tmp_path / "none" / "s.sqlite")


def test_a_space_built_in_python_is_asked_for(tmp_path):
    from jaxnas.spaces.toy import Toy

    path = tmp_path / "s.sqlite"
    study = jaxnas.Study(space=Toy(7, 3), path=path)
    study.ask()
    study.close()
    with pytest.raises(UserError, match="built in Python; pass it"):
        jaxnas.Study.load(path)
    assert len(jaxnas.Study(space=Toy(7, 3), path=path)) == 1


@pytest.mark.parametrize(
    "options", [{"algorithm": "evolutoin"}, {"pins": {"op": "cnv"}}, {"sample": -1.0}]
)
def test_what_cannot_be_asked_leaves_no_file(tmp_path, options):
    path = tmp_path / "s.sqlite"
    with pytest.raises(UserError):
        jaxnas.Study(space=SPACE, path=path, **options)
    assert not path.exists()
    assert jaxnas.Study(space=SPACE, path=path).ask()


def test_an_ask_that_is_interrupted_is_as_if_it_had_not_been(tmp_path, monkeypatch):
    """The file forgets the steps, and the algorithm in memory must forget them too."""
    study = jaxnas.Study(space=SPACE, algorithm="reinforce", batch=2, path=tmp_path / "s")
    calm = jaxnas.Study(space=SPACE, algorithm="reinforce", batch=2)
    real, calls = study._file.hand_out, []

    def interrupted(number):
        calls.append(number)
        if len(calls) == 5:
            raise KeyboardInterrupt
        real(number)

    monkeypatch.setattr(study._file, "hand_out", interrupted)
    with pytest.raises(KeyboardInterrupt):
        study.ask(8)
    assert len(study) == 0
    for _ in range(2):
        drive(study, 2, 2)
        drive(calm, 2, 2)
    assert [t.tokens for t in study.trials] == [t.tokens for t in calm.trials]


def test_repetitions_count_together_and_names_keep_their_numbers():
    from jaxnas.study.study import _kind

    names = ["conv3", "layer2.conv3", "layer12.conv5", "stage1.layer2.from[1]"]
    assert list(map(_kind, names)) == [
        "conv3", "layer.conv3", "layer.conv5", "stage.layer.from",
    ]  # fmt: skip
