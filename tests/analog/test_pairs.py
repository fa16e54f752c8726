"""Which torch and aihwkit fit which Python, and what is said where they do not."""

import re
import sys
import tomllib
from pathlib import Path

import pytest

from jaxnas.analog.bridge import jobs
from jaxnas.analog.bridge.pairs import PAIRS, install_for, mismatch, pair_for
from jaxnas.cli import doctor


def test_each_python_has_the_pair_that_pyproject_pins():
    """The extra's markers, evaluated for each Python by the packaging rules."""
    markers = pytest.importorskip("packaging.requirements")
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    wanted = tomllib.loads(text)["project"]["optional-dependencies"]["analog"]
    parsed = [markers.Requirement(line) for line in wanted]
    for (major, minor), pair in PAIRS.items():
        here = {"python_version": f"{major}.{minor}"}
        kept = {r.name: str(r.specifier) for r in parsed if r.marker.evaluate(here)}
        assert kept == {"torch": f"=={pair.torch}", "aihwkit": f"=={pair.aihwkit}"}
    assert not [r for r in parsed if r.marker.evaluate({"python_version": "3.14"})]


def test_the_runner_that_stands_alone_names_the_same_versions():
    """It cannot import the table, since it runs without this package."""
    text = jobs.RUNNER.read_text()
    for pair in PAIRS.values():
        assert f"torch=={pair.torch} aihwkit=={pair.aihwkit}" in text


def test_the_command_is_that_of_the_interpreter():
    assert "aihwkit==1.1.0" in install_for((3, 11))
    assert "torch==2.13.0" in install_for((3, 11))
    for python in ((3, 12), (3, 13)):
        assert re.search(r"torch==2\.14\.\d .*aihwkit==1\.2\.0$", install_for(python))
    assert install_for() == jobs.INSTALL
    assert pair_for((3, 15)) is None
    assert install_for((3, 15)).startswith("use Python 3.11, 3.12, 3.13 ")


@pytest.mark.parametrize(
    ("python", "torch", "aihwkit", "words"),
    [
        ((3, 11), "2.13.0+cpu", "1.1.0", None),
        ((3, 13), "2.14.0", "1.2.1", None),
        ((3, 11), "2.14.0", "1.1.0", "torch 2.14.0 is not the one for aihwkit 1.1.0"),
        ((3, 11), "2.13.0", "1.2.0", "aihwkit 1.2.0 is not the line for Python 3.11"),
        ((3, 12), "2.14.1", "1.1.0", "aihwkit 1.1.0 is not the line for Python 3.12"),
        ((3, 15), "2.14.1", "1.2.0", "no pair of torch and aihwkit is known"),
    ],
)
def test_what_does_not_fit_is_named(python, torch, aihwkit, words):
    found = mismatch(python, torch, aihwkit)
    assert found is None if words is None else words in str(found)


def test_doctor_says_where_a_pair_runs_and_is_not_a_known_one(tmp_path, monkeypatch):
    """An interpreter whose probe succeeds with the wrong torch."""
    version = f"{sys.version_info[0]}.{sys.version_info[1]}.0"
    line = f'{{"ok": true, "python": "{version}", "torch": "2.1.0", "aihwkit": "1.0.0"}}'
    odd = tmp_path / "python"
    odd.write_text(f"#!/bin/sh\necho '{line}'\n")
    odd.chmod(0o755)
    found = jobs.probe(str(odd))
    assert found.ok
    assert "aihwkit 1.0.0 is not the line" in found.doubt
    monkeypatch.setattr(doctor, "_version", lambda package: "1.0.0")
    monkeypatch.setattr(jobs, "probe", lambda: found)
    ((_, said, mend, broken),) = doctor._analog()
    assert "(they ran, but aihwkit 1.0.0 is not the line" in said
    assert (mend, broken) == (jobs.INSTALL, False)
