"""The command line as a person meets it: what it prints, and how it refuses."""

import json
import os
import signal
import subprocess
import sys

import pytest

from jaxnas.cli import main
from jaxnas.cli.common.options import for_algorithm, make_algorithm, parse_axis
from jaxnas.core.errors import UserError
from jaxnas.registry import make_space

TINY = [
    "--oracle", "toy", "--objective", "score", "--budget", "12", "--seeds", "2",
    "--algorithms", "random", "evolution",
]  # fmt: skip


def run(capsys, *args):
    with pytest.raises(SystemExit) as stop:
        main(list(args))
    streams = capsys.readouterr()
    return stop.value.code or 0, streams.out, streams.err


def test_search_prints_a_table_and_leaves_a_report(capsys, tmp_path):
    code, out, _ = run(capsys, "search", *TINY, "--out", str(tmp_path), "--name", "a")
    assert code == 0
    assert "evolution" in out
    assert "regret" in out
    page = (tmp_path / "a" / "report.html").read_text()
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "<script" not in page
    again, out, err = run(
        capsys, "search", *TINY, "--out", str(tmp_path), "--name", "a", "--quiet"
    )
    assert again == 0
    assert "compile" not in err, "what is finished is not run again"
    code, out, err = run(
        capsys, "search", *TINY, "--out", str(tmp_path), "--name", "a", "--seed0", "1"
    )
    assert code == 2
    assert "seed0: 0 -> 1" in err
    code, out, _ = run(capsys, "report", str(tmp_path / "a"), "--json")
    assert code == 0
    assert json.loads(out)["studies"]


def test_sweep_loops_structural_axes_and_vmaps_numeric_ones(capsys, tmp_path):
    code, out, _ = run(
        capsys, "sweep", "--oracle", "toy", "--objective", "score", "--budget", "12",
        "--algorithm", "evolution", "--seeds", "2", "--out", str(tmp_path), "--name", "s",
        "--grid", "sample=2,15", "population=20,30", "--json",
    )  # fmt: skip
    assert code == 0
    runs = sorted(p.parent.name for p in tmp_path.glob("s/*/results.npz"))
    assert runs == ["evolution-population=20", "evolution-population=30"]
    config = json.loads((tmp_path / "s" / runs[0] / "config.json").read_text())
    assert config["hparams"]["sample"] == [15.0, 2.0], "the preset is setting 0"
    assert config["grid_cells"] == [1, 0]
    events = [json.loads(line) for line in out.splitlines()]
    assert {e["event"] for e in events} >= {"compiled", "progress", "done", "report"}


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (["search", "--oracle", "analog-nasbnch"], "Did you mean 'analog-nasbench'?"),
        (["search", "--objective", "analog_1mnth"], "Did you mean 'analog_1month'?"),
        (["search", "--algorithms", "ppoo"], "Did you mean 'ppo'?"),
        (["search", "--algorithms", "ppo", "ppo"], "once"),
        (["search", "--budget", "20000"], "more than the 15,625"),
        (["search", "--seeds", "0"], "--seeds must be in"),
        (["search", "--seeds", "2000000000"], "choose fewer"),
        (["search", "--set", "ppo.learning_rate=1"], "Unknown setting"),
        (["search", "--set", "dqn.lr=1"], "Unknown algorithm"),
        (["search", "--grid", "ppo.lr=log:0:1:3"], "above zero"),
        (["search", "--grid", "ppo.lr"], "NAME=V1,V2"),
        (["search", "--workers", "0"], "--workers must be in"),
        (["search", "--quiet", "--json"], "either"),
        (["search", "--constraint", "params<"], "params<"),
        (["sweep", "--grid", "lr=a,b"], "needs numbers"),
        (["report", "nowhere"], "nowhere"),
        (["info", "nb202"], "Did you mean 'nb201'?"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(args, text, capsys, tmp_path):
    if args[0] in ("search", "sweep"):
        args = [*args, "--out", str(tmp_path)]
    code, _, err = run(capsys, *args)
    assert code == 2
    assert text in err
    assert "Traceback" not in err
    assert err.count("\n") == 1, err


def test_list_and_info_and_doctor(capsys):
    code, out, _ = run(capsys, "list")
    assert code == 0
    for name in ("nb201", "analog-resnet", "analog-nasbench", "lstm", "ppo", "tokens"):
        assert name in out
    code, out, _ = run(capsys, "info", "analog-nasbench")
    assert code == 0
    for fact in ("15,625", "analog_1month", "icence", "hecksum"):
        assert fact in out
    code, out, _ = run(capsys, "info", "nb201", "--json")
    assert json.loads(out)["architectures"] == "15,625"
    code, out, _ = run(capsys, "info", "analog-resnet")
    for fact in ("analog-resnet-ibm-v1", "387,303,508,800", "variant='ibm'", "pool=8"):
        assert fact in out
    code, out, _ = run(capsys, "doctor")
    assert code == 0
    assert "Everything the main job needs is here." in out


def test_axes_are_read():
    assert parse_axis("lr=log:1e-3:1e-1:3") == ("lr", [0.001, 0.01, 0.1])
    assert parse_axis("x=lin:0:1:3") == ("x", [0.0, 0.5, 1.0])
    assert parse_axis("controller=gru,lstm") == ("controller", ["gru", "lstm"])
    assert for_algorithm(["a.x=1", "y=2", "b.z=3"], "a", ["a", "b"]) == ["x=1", "y=2"]
    chosen = make_algorithm("evolution", make_space("toy"), ["population=7", "sample=3"])
    assert chosen.algo.population == 7
    with pytest.raises(UserError, match="several"):
        make_algorithm("evolution", make_space("toy"), ["population=7,8"])


def test_ctrl_c_leaves_a_message_and_a_checkpoint_to_go_on_from(tmp_path):
    """A real SIGINT to a real process, then the same command again."""
    command = [
        sys.executable, "-m", "jaxnas", "search", "--oracle", "toy", "--objective", "score",
        "--budget", "12", "--seeds", "2", "--algorithms", "random", "evolution",
        "--out", str(tmp_path), "--name", "a", "--json",
    ]  # fmt: skip
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        child.send_signal(signal.SIGINT)
        _, err = child.communicate(timeout=120)
    assert child.returncode == 130, err
    assert "Run the same command again" in err
    assert "Traceback" not in err
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    assert (tmp_path / "a/report.html").exists()
