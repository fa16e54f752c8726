"""Recomputes what a run recorded from its raw queries, so that nobody has to believe it."""

from typing import NamedTuple

import numpy as np

from jaxnas.report.read import stats
from jaxnas.report.read.compare import Study
from jaxnas.report.read.load import Results, RunData
from jaxnas.report.read.task import Task

TOLERANCE = 1e-5
"""Relative; the runs store float32."""


class Check(NamedTuple):
    """One statement that was recomputed."""

    label: str
    """The run's label."""
    statement: str
    """What has to hold."""
    failures: int
    """Controllers for which it does not."""
    checked: int
    """Controllers looked at."""


def audit(study: Study) -> list[Check]:
    """Returns every check of every run with results; each over *all* controllers."""
    return [c for m in study.methods for c in _audit_run(m.run, m.name, study.task)]


def _audit_run(run: RunData, label: str, task: Task) -> list[Check]:
    results = run.results
    assert results is not None
    wrong = _queries_wrong(results, repeats=_noise(run) == "resample")
    last = stats.carry_forward(results.curve)[:, -1]
    text = "the last point of a curve is the value of the recommended architecture"
    found: list[tuple[str, np.ndarray]] = [
        ("no controller spent more than its budget", results.count > run.config["budget"]),
        ("each query is on record, once and in order", wrong),
        (text, ~_close(last, results.best_true)),
    ]
    if run.config.get("max_proposals"):
        over = results.proposals > run.config["max_proposals"]
        found.append(("no controller exceeded its proposals", over))
    if task.known is not None:
        found.extend(_table_checks(results, run, task))
    return [Check(label, text, int(np.sum(bad)), len(bad)) for text, bad in found]


def _noise(run: RunData) -> str:
    return str((run.config["oracle"].get("options") or {}).get("noise", "none"))


def _close(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.isclose(a, b, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True)


def _queries_wrong(results: Results, *, repeats: bool) -> np.ndarray:
    """Returns which controllers' queries are not ``count`` distinct rows, then padding."""
    tokens = results.tokens
    P, Q, L = tokens.shape
    asked = np.all(tokens >= 0, axis=2)
    wrong = np.any(asked != (np.arange(Q) < results.count[:, None]), axis=1)
    if repeats:
        return wrong
    base = int(tokens.max(initial=0)) + 1
    if base**L < 2**62:
        code = tokens.astype(np.int64) @ (np.int64(base) ** np.arange(L, dtype=np.int64))
    else:
        _, code = np.unique(tokens.reshape(P * Q, L), axis=0, return_inverse=True)
        code = code.reshape(P, Q)
    code = np.where(asked, code, -1 - np.arange(Q))
    ordered = np.sort(code, axis=1)
    return wrong | np.any(ordered[:, 1:] == ordered[:, :-1], axis=1)


def _table_checks(
    results: Results, run: RunData, task: Task
) -> list[tuple[str, np.ndarray]]:
    known = task.known
    assert known is not None
    text = "the table holds the recorded value of the recommended architecture"
    rows = known.rows(results.best_tokens)
    there = np.isfinite(results.best_true)
    looked_up = np.where(there & (rows >= 0), known.value[rows], np.nan)
    found = [(text, ~_close(looked_up, results.best_true))]
    if _noise(run) == "none":
        asked = known.rows(results.tokens)
        value = np.where(asked >= 0, task.direction * known.value[asked], -np.inf)
        value = np.where(np.isnan(value), -np.inf, value)
        best = np.maximum.accumulate(value, axis=1)
        best = np.where(np.isinf(best), np.nan, task.direction * best)
        same = _close(best, stats.carry_forward(results.curve))
        text = "the curve is the best table value of the queries so far"
        found.append((text, ~np.all(same, axis=1)))
    return found
