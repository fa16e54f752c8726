"""Run directories for the report's tests, made once."""

import pytest
import report_demo


@pytest.fixture(scope="session")
def toy_runs(tmp_path_factory):
    """Four methods on the toy space: a grid of three settings for the policy."""
    root = tmp_path_factory.mktemp("toy")
    grid = {"lr": [0.1, 0.3], "entropy": [0.0, 0.03]}
    same = {"oracle_name": "toy", "budget": 12, "seeds": 6}
    report_demo.make_run(root / "random", "random", **same)
    report_demo.make_run(root / "evolution", "evolution", **same)
    report_demo.make_run(root / "ppo", "ppo", grid=grid, **same)
    return root


@pytest.fixture(scope="session")
def analog_runs(tmp_path_factory):
    """The main job in miniature: 8 seeds, 40 queries, a 2 x 2 grid."""
    root = tmp_path_factory.mktemp("analog")
    grid = {"lr": [0.1, 0.5], "entropy": [0.0, 0.03]}
    same = {"options": {"objective": "analog_1month"}, "budget": 40, "seeds": 8}
    for method in ("random", "evolution"):
        report_demo.make_run(root / method, method, **same)
    for method in ("ppo", "reinforce"):
        report_demo.make_run(root / method, method, grid=grid, **same)
    return root
