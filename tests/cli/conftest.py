"""What the tests of several commands share."""

import pytest

from jaxnas.cli import main


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """A small search of AnalogNAS-Bench."""
    root = tmp_path_factory.mktemp("runs")
    args = ["search", "--algorithms", "random", "--objective", "analog_1month"]
    args += ["--budget", "10", "--seeds", "1", "--quiet", "--out", str(root)]
    with pytest.raises(SystemExit) as stop:
        main([*args, "--name", "bench"])
    assert not stop.value.code
    return root / "bench"
