"""Oracles from functions: three lines, forms of architectures, failures, files, time."""

import time

import numpy as np
import pytest

import jaxnas
from jaxnas.core.errors import ContractError, UserError
from jaxnas.registry import make_oracle
from jaxnas.run.host.executor import Evaluate, Failure, Request
from jaxnas.testing.oracles import ask

SPACE = jaxnas.declare(
    {
        "name": "mine",
        "decisions": [
            {"name": "op", "choices": ["conv", "pool"]},
            {"name": "kernel", "choices": [1, 3, 5], "when": {"op": "conv"}},
        ],
        "fixed": {"width": 7},
    }
)
CONV3 = SPACE.from_dict({"op": "conv", "kernel": 3})
POOL = SPACE.from_dict({"op": "pool"})
BOTH = np.stack([CONV3, POOL])


def evaluate_one(oracle, tokens):
    """What a run gets for one architecture."""
    return Evaluate(oracle)(Request("k", tokens, 0))


def test_own_function_over_own_space_in_eight_lines():
    program = """
import jaxnas
space = jaxnas.declare({"name": "mine", "decisions": [
    {"name": "depth", "choices": [1, 2, 3]}, {"name": "width", "choices": [8, 16]}]})
oracle = jaxnas.oracle(lambda a: a["depth"] * a["width"], space)
algo = jaxnas.make_algorithm("random", space=space)
found = jaxnas.search(algo, oracle, budget=6)
best = found.best(1)[0]
"""
    assert len(program.strip().splitlines()) <= 8
    names = {}
    exec(program, names)
    assert names["best"]["score"] == 48
    assert names["best"]["architecture"] == {"depth": 3, "width": 16}


def test_forms_of_an_architecture():
    seen = []
    take = lambda given: seen.append(given) or 1.0
    for takes in ("dict", "tokens", "spec"):
        ask(jaxnas.oracle(take, SPACE, takes=takes), CONV3[None])
    assert seen[0] == {"op": "conv", "kernel": 3, "width": 7}
    np.testing.assert_array_equal(seen[1], CONV3)
    assert seen[2]["choices"] == seen[0]


def test_dicts_of_numbers_and_nan():
    function = lambda a: {"acc": a.get("kernel", np.nan), "ms": 2.0, "note": 3}
    oracle = jaxnas.oracle(function, SPACE, maximise={"acc": True, "ms": False})
    assert [(o.name, o.maximise) for o in oracle.objectives] == [
        ("acc", True),
        ("ms", False),
    ]
    found = ask(oracle, BOTH)
    assert found.status.tolist() == [jaxnas.OK, jaxnas.FAILED]
    assert found.objectives[0].tolist() == [3.0, 2.0]
    assert np.isnan(found.objectives[1]).all()


@pytest.mark.parametrize("error", [KeyError("width"), ValueError("bad"), TypeError("no")])
def test_what_a_function_raises_is_a_failed_evaluation(error):
    def function(a):
        raise error

    outcome = evaluate_one(jaxnas.oracle(function, SPACE), CONV3)
    assert isinstance(outcome, Failure)
    assert not outcome.broken
    assert type(error).__name__ in outcome.message


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ((1, 2), "a tuple of 2"),
        ([1], "a list of 1"),
        (None, "gave None"),
        ("0.9", "gave '0.9'"),
        ({"acc": 1}, "maximise={'acc': True}"),
        (object(), "no number"),
        (np.ones(3), r"shape \(3,\)"),
    ],
)
def test_what_is_no_number_ends_the_run_in_a_sentence(value, words):
    oracle = jaxnas.oracle(lambda a: value, SPACE)
    with pytest.raises(ContractError, match=words):
        ask(oracle, CONV3[None])
    outcome = evaluate_one(oracle, CONV3)
    assert isinstance(outcome, Failure)
    assert outcome.broken
    algo = jaxnas.make_algorithm("random", space=SPACE)
    with pytest.raises(UserError, match=words):
        jaxnas.search(algo, oracle, budget=2)


def forever(a):
    while a["op"] == "conv":
        time.sleep(0.001)
    return 1.0


def test_a_function_that_takes_forever_is_a_failure():
    oracle = jaxnas.oracle(forever, SPACE, timeout=0.2)
    start = time.monotonic()
    outcome = evaluate_one(oracle, CONV3)
    assert isinstance(outcome, Failure)
    assert "no answer within 0.2 s" in outcome.message
    assert time.monotonic() - start < 5
    assert evaluate_one(oracle, POOL).objectives.tolist() == [1.0]


def test_all_but_one_failing_still_gives_the_one():
    oracle = jaxnas.oracle(lambda a: 1.0 if a["op"] == "pool" else 1 / 0, SPACE)
    algo = jaxnas.make_algorithm("random", space=SPACE)
    found = jaxnas.search(algo, oracle, budget=4, seeds=2)
    assert found.best(5) == [
        {"tokens": tuple(POOL.tolist()), "architecture": {"op": "pool", "width": 7},
         "score": 1.0}
    ]  # fmt: skip


def test_a_function_in_a_file(tmp_path):
    (tmp_path / "helper.py").write_text("SCALE = 10\n")
    path = tmp_path / "train.py"
    path.write_text(
        "from helper import SCALE\n"
        "def score(a):\n    return {'acc': SCALE * a.get('kernel', 0), 'ms': 1}\n"
    )
    options = {"source": f"{path}:score", "objective": "acc,ms", "minimise": "ms"}
    oracle = make_oracle("function", space=SPACE, **options)
    assert [(o.name, o.maximise) for o in oracle.objectives] == [
        ("acc", True),
        ("ms", False),
    ]
    assert ask(oracle, BOTH).objectives.tolist() == [[30.0, 1.0], [0.0, 1.0]]
    first = oracle.id
    path.write_text(path.read_text() + "\n# changed\n")
    assert make_oracle("function", space=SPACE, **options).id != first


@pytest.mark.parametrize(
    ("text", "source", "words"),
    [
        ("x = 1\n", "train.py", "names no function"),
        ("def scores(a): return 1\n", "train.py:score", "Did you mean 'scores'"),
        ("1 / 0\n", "train.py:score", "cannot be run: ZeroDivisionError"),
        (None, "train.py:score", "cannot be read"),
    ],
)
def test_files_that_hold_no_function(tmp_path, text, source, words):
    if text is not None:
        (tmp_path / "train.py").write_text(text)
    with pytest.raises(UserError, match=words):
        make_oracle("function", space=SPACE, source=str(tmp_path / source))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"takes": "graph"}, "Unknown form"),
        ({"traced": True, "takes": "dict"}, "takes tokens"),
        ({"timeout": -1.0}, "above 0"),
        ({"maximise": {}}, "at least one objective"),
    ],
)
def test_options_that_cannot_be(options, words):
    with pytest.raises(UserError, match=words):
        jaxnas.oracle(lambda a: 1.0, SPACE, **options)
