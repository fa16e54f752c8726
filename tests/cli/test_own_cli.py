"""A stranger's space, function and table on the command line."""

import random

import pytest

from jaxnas.analog import convertible
from jaxnas.cli import main

SPACE = """
name: mine
decisions:
  - {name: op, choices: [conv, max_pool]}
  - {name: kernel, choices: [1, 3], when: {op: conv}}
  - {name: width, choices: [2, 4]}
network:
  - {op: $op, kernel: $kernel, features: $width, when: {op: conv}}
  - {op: $op, kernel: 3, when: {op: max_pool}}
  - {op: global_avg_pool}
  - {op: linear, features: $classes}
"""
SMALL = ["--budget", "6", "--seeds", "2", "--algorithms", "random", "evolution", "--quiet"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text(SPACE)
    return tmp_path


def run(capsys, *args):
    with pytest.raises(SystemExit) as stop:
        main(list(args))
    streams = capsys.readouterr()
    return stop.value.code or 0, streams.out, streams.err


def test_space_check_says_what_it_is_and_passes_the_suite(capsys, here):
    code, out, _ = run(capsys, "space", "check", "mine.yaml", "--image", "8", "8", "1")
    assert code == 0
    assert "architectures  6" in out
    for words in ("op: ", "its network: ", "logits: 10", "14 of 14 checks passed",
                  "can go to: analog, aihwkit, torch, onnx"):  # fmt: skip
        assert words in out


def test_space_check_warns_and_refuses(capsys, here):
    (here / "far.yaml").write_text(SPACE + "forbid:\n  - {op: conv}\n")
    code, out, _ = run(capsys, "space", "check", "far.yaml", "--quick")
    assert code == 0
    assert "warning: The decision 'kernel' can never be reached." in out
    (here / "bad.yaml").write_text(SPACE.replace("kernel: 3", "kernl: 3"))
    code, out, err = run(capsys, "space", "check", "bad.yaml")
    assert code == 2
    assert "bad.yaml, line 9: Unknown key 'kernl'. Did you mean 'kernel'" in err


def test_space_check_names_what_a_target_cannot_take(capsys, here, monkeypatch):
    placed = convertible.Placement("", "all of it", {"aihwkit": "it has no such pooling"})
    monkeypatch.setitem(convertible.TABLE, "max_pool", placed)
    code, out, _ = run(capsys, "space", "check", "chain", "--quick")
    assert code == 0
    assert "on analog tiles: conv, depthwise_conv, linear" in out
    assert "not to aihwkit: max_pool, put there by type = 'max_pool': it has no" in out


def test_a_shipped_space_is_copied_changed_and_checked(capsys, here):
    assert run(capsys, "space", "write", "vocab", "v.toml")[0] == 0
    code, _, err = run(capsys, "space", "write", "vocab", "v.toml")
    assert code == 2
    assert "--force" in err
    code, _, err = run(capsys, "space", "write", "nb201", "n.toml")
    assert code == 2
    assert "written in Python" in err
    text = (here / "v.toml").read_text()
    assert "most = 6" in text
    (here / "v.toml").write_text(text.replace("most = 6", "most = 2"))
    code, out, _ = run(capsys, "space", "check", "v.toml", "--quick")
    assert code == 0
    assert "160,400" in out  # 400 + 400^2


def test_a_csv_to_a_report_with_exact_regret_in_one_command(capsys, here):
    rng = random.Random(0)
    lines = ["depth,op,width,acc,ms"]
    for _ in range(500):
        depth, op, width = rng.randint(1, 9), rng.choice("abc"), rng.choice([16, 32])
        lines.append(f"{depth},{op},{width},{depth / 10 + rng.gauss(0, 0.01):.4f},{depth}")
    (here / "results.csv").write_text("\n".join(lines))
    code, out, err = run(
        capsys, "search", "--oracle", "table", "--objective", "acc",
        "--oracle-set", "file=results.csv", "metrics=ms", "minimise=ms", *SMALL,
    )  # fmt: skip
    assert code == 0, err
    assert "known optimum" in out
    page = (here / "runs" / "table-acc" / "report.html").read_text()
    assert "regret" in page
    assert "depth 9" in page


def test_a_function_in_a_file_over_a_space_in_a_file(capsys, here):
    (here / "train.py").write_text("def score(a):\n    return a.get('kernel', 0)\n")
    code, out, err = run(
        capsys, "search", "--oracle", "function", "--space", "mine.yaml",
        "--oracle-set", "source=train.py:score", "--executor", "serial", *SMALL,
    )  # fmt: skip
    assert code == 0, err
    assert "op conv, kernel 3" in out


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["--oracle", "table", "--oracle-set", "file=none.csv"], "cannot be read"),
        (["--oracle", "table"], "needs the option 'file'"),
        (["--oracle", "function", "--oracle-set", "source=a.py:f"], "name one, such as"),
        (["--oracle", "cost", "--space", "none.yaml"], "cannot be read"),
        (["--oracle", "child", "--space", "bare.yaml"], "names no operations"),
    ],
)
def test_refused_with_code_2(capsys, here, given, words):
    (here / "bare.yaml").write_text(
        "name: b\ndecisions: [{name: a, choices: [1, 2, 3, 4, 5, 6]}]\n"
    )
    code, _, err = run(capsys, "search", *given, *SMALL)
    assert code == 2
    assert words in err
