"""The audit holds on honest runs and sees each way of tampering with one."""

import shutil

import numpy as np
import pytest

from jaxnas.report.read import audit, compare, load


def _failures(root):
    checks = audit.audit(compare.studies(load.load(root))[0])
    assert len(checks) == 6
    return {check.statement: check.failures for check in checks if check.failures}


def test_honest_runs_pass(toy_runs):
    checks = audit.audit(compare.studies(load.load(toy_runs))[0])
    assert [c for c in checks if c.failures] == []
    assert sum(c.checked for c in checks) == 6 * (6 + 6 + 24)


def _better_curve(a):
    a["curve"][3, -1] += 0.5
    a["best_true"][3] += 0.5


def _repeat(a):
    a["tokens"][2, 5] = a["tokens"][2, 4]


def _gap(a):
    a["tokens"][2, 5] = -1


def _early(a):
    a["curve"][1, 0] = a["curve"][1, -1] + 1e-3


def _overspend(a):
    a["count"][0] = 13


TAMPERING = {
    "the table holds the recorded value of the recommended architecture": _better_curve,
    "the curve is the best table value of the queries so far": _early,
    "each query is on record, once and in order": _repeat,
    "each query is on record, once and in order ": _gap,
    "no controller spent more than its budget": _overspend,
    "no controller exceeded its proposals": lambda a: a["proposals"].__setitem__(0, 25),
    "the last point of a curve is the value of the recommended architecture": (
        lambda a: a["best_true"].__setitem__(0, 1.0)
    ),
}


@pytest.mark.parametrize("statement", TAMPERING)
def test_tampering_is_seen(toy_runs, tmp_path, statement):
    run = shutil.copytree(toy_runs / "random", tmp_path / "random")
    with np.load(run / "results.npz") as file:
        arrays = {name: file[name].copy() for name in file.files}
    TAMPERING[statement](arrays)
    np.savez(run / "results.npz", **arrays)
    assert _failures(run)[statement.strip()] == 1
