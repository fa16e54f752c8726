"""Run directories made by plain numpy, so that the report is tested without the run layer.

Every method here is a few lines over the true table: random search, a simple evolution and
a tabular policy gradient that can collapse. Nothing is shared with the product's code.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

import jaxnas
from jaxnas.core import tokens as tk
from jaxnas.core.oracle import Enumerated, required


class Ledger:
    """Books the queries of ``P`` controllers over the rows of a table."""

    def __init__(
        self,
        value: np.ndarray,
        count: int,
        budget: int,
        cap: int,
        noise: float = 0.0,
        seed: int = 0,
    ) -> None:
        rng = np.random.default_rng(seed)
        self.readings = value + noise * rng.normal(size=(count, len(value)))
        self.value, self.budget, self.cap = value, budget, cap
        self.seen = np.zeros((count, len(value)), bool)
        self.count = np.zeros(count, int)
        self.proposals = np.zeros(count, int)
        self.rows = np.full((count, budget), -1)

    @property
    def open(self) -> np.ndarray:
        return (self.count < self.budget) & (self.proposals < self.cap)

    def ask(self, rows: np.ndarray) -> np.ndarray:
        """Books one row for each controller that is still open and returns its value."""
        p = np.flatnonzero(self.open)
        self.proposals[p] += 1
        fresh = p[~self.seen[p, rows[p]]]
        self.rows[fresh, self.count[fresh]] = rows[fresh]
        self.seen[fresh, rows[fresh]] = True
        self.count[fresh] += 1
        return self.readings[np.arange(len(rows)), rows]

    def arrays(
        self,
        members: np.ndarray,
        measured: np.ndarray,
        violation: np.ndarray,
        noisy: bool,
    ) -> dict[str, np.ndarray]:
        """``measured [n, M]`` is NaN where an evaluation fails; ``violation [n]``."""
        there, P = self.rows >= 0, np.arange(len(self.rows))
        meets = np.isfinite(measured).all(axis=1) & (violation <= 0)
        reading = np.where(
            there & meets[self.rows], self.readings[P[:, None], self.rows], -np.inf
        )
        ahead = np.maximum.accumulate(reading, axis=1)
        new = np.where(reading == ahead, np.arange(reading.shape[1]), 0)
        choice = np.take_along_axis(self.rows, np.maximum.accumulate(new, axis=1), axis=1)
        found = np.isfinite(ahead)
        curve = np.where(there & found, self.value[choice], np.nan)
        best = np.where(found[:, -1], choice[:, -1], 0)
        tokens = np.where(there[..., None], members[self.rows], -1)
        seen = np.where(there[..., None], measured[self.rows], np.nan)
        if noisy:
            seen = (
                seen
                + (self.readings[P[:, None], self.rows] - self.value[self.rows])[..., None]
            )
        return {
            "count": self.count,
            "proposals": self.proposals,
            "curve": curve.astype(np.float32),
            "tokens": tokens.astype(np.int16),
            "objectives": seen.astype(np.float32),
            "violation": np.where(there, violation[self.rows], np.nan).astype(np.float32),
            "best_tokens": members[best].astype(np.int32),
            "best_true": np.where(found[:, -1], self.value[best], np.nan).astype(
                np.float32
            ),
        }


def random_search(rng, ledger, members):
    P, n = ledger.seen.shape
    order = np.argsort(rng.random((P, n)), axis=1)[:, : ledger.budget]
    for q in range(order.shape[1]):
        ledger.ask(order[:, q])
    return {}


def _lookup(members):
    base = int(members.max()) + 1
    weight = base ** np.arange(members.shape[1] - 1, -1, -1)
    codes = members @ weight

    def row_of(tokens):
        code = tokens @ weight
        at = np.minimum(np.searchsorted(codes, code), len(codes) - 1)
        return np.where(codes[at] == code, at, -1)

    return row_of


def evolution(rng, ledger, members, population=20, sample=10):
    P, n = ledger.seen.shape
    L, V = members.shape[1], int(members.max()) + 1
    row_of = _lookup(members)
    pool = rng.integers(0, n, (P, population))
    score = np.stack([ledger.ask(pool[:, i]) for i in range(population)], axis=1)
    step, every = 0, np.arange(P)
    while ledger.open.any():
        picks = np.argsort(rng.random((P, population)), axis=1)[:, :sample]
        parent = picks[every, np.argmax(score[every[:, None], picks], axis=1)]
        child = members[pool[every, parent]].copy()
        place = rng.integers(0, L, P)
        child[every, place] = (child[every, place] + rng.integers(1, V, P)) % V
        rows = row_of(child)
        rows = np.where(rows < 0, rng.integers(0, n, P), rows)
        slot = step % population
        score[:, slot], pool[:, slot] = ledger.ask(rows), rows
        step += 1
    return {}


def policy_gradient(rng, ledger, members, lr, entropy, batch=8, speed=1.0):
    """A tabular softmax policy with a moving baseline; logs what a real one logs."""
    P, n = ledger.seen.shape
    L, V = members.shape[1], int(members.max()) + 1
    row_of, every = _lookup(members), np.arange(P)
    logits, baseline = np.zeros((P, L, V)), np.zeros(P)
    mean, var = np.zeros_like(logits), np.zeros_like(logits)
    logs: dict[str, list] = {"entropy": [], "unique": [], "collapsed": [], "queries": []}
    updates = ledger.cap // batch
    spread = ledger.value.std()
    for u in range(updates):
        frozen = ~ledger.open
        prob = np.exp(logits - logits.max(axis=2, keepdims=True))
        prob /= prob.sum(axis=2, keepdims=True)
        plog = np.log(prob + 1e-12)
        H = -(prob * plog).sum(axis=2)
        grad = -entropy[:, None, None] * prob * (plog + H[..., None]) * spread
        rows_seen = []
        for _ in range(batch):
            cdf = prob.cumsum(axis=2)
            tokens = (rng.random((P, L, 1)) > cdf).sum(axis=2).clip(max=V - 1)
            rows = row_of(tokens)
            rows = np.where(rows < 0, rng.integers(0, n, P), rows)
            reward = ledger.ask(rows)
            rows_seen.append(rows)
            baseline = np.where(u == 0, reward, 0.95 * baseline + 0.05 * reward)
            hot = np.eye(V)[members[rows]]
            grad += (reward - baseline)[:, None, None] * (hot - prob) / batch
        mean, var = 0.9 * mean + 0.1 * grad, 0.99 * var + 0.01 * grad**2
        rate = speed * lr[:, None, None]
        logits += (
            rate
            * (mean / (1 - 0.9 ** (u + 1)))
            / (np.sqrt(var / (1 - 0.99 ** (u + 1))) + 1e-8)
        )
        distinct = np.sort(np.stack(rows_seen, axis=1), axis=1)
        unique = 1 - (distinct[:, 1:] == distinct[:, :-1]).sum(axis=1) / batch
        level = H.mean(axis=1)
        low = (level < 0.1) | (unique <= 0.25)
        for name, x in (
            ("entropy", level),
            ("unique", unique),
            ("collapsed", low),
            ("queries", ledger.count),
        ):
            logs[name].append(np.where(frozen, np.nan, x))
    del every
    return {f"metric_{k}": np.stack(v, axis=1).astype(np.float32) for k, v in logs.items()}


GRID = {"lr": [0.01, 0.03, 0.1, 0.3], "entropy": [0.0, 0.01, 0.03, 0.1]}
PRESET = {"lr": 0.1, "entropy": 0.03}
IDS = {
    "random": "random-v1",
    "evolution": "regularized-evolution-v1",
    "ppo": "ppo-v1",
    "reinforce": "reinforce-v1",
}


def settings_of(grid: dict[str, list[float]], preset: dict[str, float]):
    """The preset first, then every other cell, as the run layer lays them out."""
    names = list(grid)
    mesh = np.meshgrid(*grid.values(), indexing="ij")
    cells = np.stack([m.ravel() for m in mesh], axis=1)
    rows = [[preset[n] for n in names]]
    where = []
    for cell in cells.tolist():
        if cell not in rows:
            rows.append(cell)
        where.append(rows.index(cell))
    return {n: [r[i] for r in rows] for i, n in enumerate(names)}, where


def make_run(
    path: Path,
    method: str,
    *,
    oracle_name: str = "analog-nasbench",
    options: dict[str, Any] | None = None,
    label: str | None = None,
    seeds: int = 16,
    budget: int = 60,
    cap: int = 2,
    grid: dict[str, list[float]] | None = None,
    seed: int = 0,
    finished: bool = True,
    known: bool = True,
    failing: bool = False,
) -> Path:
    """Writes one run directory and returns its path.

    ``known=False`` is an oracle built in Python; ``failing`` one whose evaluations fail for
    two architectures in three.
    """
    options = dict(options or {})
    oracle = jaxnas.make_oracle(oracle_name, **options)
    space = oracle.space
    members = np.asarray(tk.enumerate_space(space)).astype(np.int64)
    objectives, table = oracle.objectives, required(oracle, Enumerated).columns()
    columns = {n: c.astype(np.float32).astype(float) for n, c in table.items()}
    measured = np.stack([columns[o.name] for o in objectives], axis=1)
    signs = np.array([1 if o.maximise else -1 for o in objectives])
    sign = signs[0] if len(signs) == 1 else 1
    value = sign * (measured @ signs)
    violation = np.zeros(len(value))
    for text in options.get("constraints", ()):
        metric, bound = text.split("<=")
        violation += np.maximum(columns[metric] - float(bound), 0)
    if failing:
        measured[np.arange(len(value)) % 3 > 0] = np.nan
    noisy = "noise" in options
    rng = np.random.default_rng([seed, *method.encode()])
    hparams, cells = ({}, []) if not grid else settings_of(grid, PRESET)
    if method in ("ppo", "reinforce") and not grid:
        hparams = {name: [v] for name, v in PRESET.items()}
    G = len(hparams["lr"]) if hparams else 1
    P = G * seeds
    setting = np.repeat(np.arange(G), seeds)
    ledger = Ledger(sign * value, P, budget, cap * budget, 0.25 * noisy, seed)
    if method in ("ppo", "reinforce"):
        lr, bonus = (np.asarray(hparams[n])[setting] for n in ("lr", "entropy"))
        speed = 1.0 if method == "ppo" else 0.6
        logs = policy_gradient(rng, ledger, members, lr, bonus, speed=speed)
    else:
        logs = {"random": random_search, "evolution": evolution}[method](
            rng, ledger, members
        )
    arrays = ledger.arrays(members, measured, violation, noisy)
    for name in ("curve", "best_true"):
        arrays[name] = sign * arrays[name]
    arrays |= {"controller": np.arange(P), "setting": setting, "seed": np.arange(P) % seeds}
    every = np.unique(ledger.rows[ledger.rows >= 0])
    every = every[np.isfinite(measured[every]).all(axis=1) & (violation[every] <= 0)]
    best = every[np.argsort(-sign * value[every], kind="stable")][:256]
    config = {
        "format": 1,
        "label": label or method,
        "algorithm": {"id": IDS[method], "fields": {"batch": 8}},
        "oracle": {
            "name": oracle_name if known else None,
            "id": oracle.id,
            "options": options,
        },
        "space": space.id,
        "space_name": "nb201" if oracle_name == "analog-nasbench" else "toy",
        "space_options": {},
        "objectives": [o.__dict__ for o in objectives],
        "weights": [1.0] * len(objectives),
        "hparams": hparams,
        "preset": 0,
        "grid": grid or {},
        "grid_cells": cells,
        "seeds": seeds,
        "seed0": seed,
        "controllers": P,
        "budget": budget,
        "max_proposals": cap * budget,
        "chunk": 10,
        "width": 8,
    }
    rows = [
        {
            "label": config["label"],
            "update": u,
            "proposals": 8.0 * u,
            "queries": min(8.0 * u, budget),
            "queries_per_s": 1.0e6,
            "wall_s": 0.1 * u,
        }
        for u in (10, 20)
    ]
    write(path, config, provenance(finished), rows)
    if finished:
        np.savez(path / "results.npz", **arrays, **logs)
        np.savez(path / "archive.npz", tokens=members[best], objectives=measured[best])
    return path


def provenance(finished: bool) -> dict[str, Any]:
    made = {
        "command": "jaxnas search --oracle analog-nasbench --algorithms ppo --name demo",
        "jaxnas": "0.1.0",
        "jax": "0.10.2",
        "python": "3.11.9",
        "numpy": "2.4.6",
        "os": "Linux",
        "platform": "cpu",
        "device_kind": "cpu",
        "layout": "blocked, 2 blocks of 8 controllers on 2 devices",
        "memory": "7.1 GB free, of the host",
        "peak_memory": "0.61 GB of this process",
        "processes": 2,
        "device": "2 x cpu",
        "cpu_count": 2,
        "git": "abc1234",
        "data": {"analog-nasbench": "9ea92f01718a722d"},
        "started": "2025-01-01T10:00:00+00:00",
        "compile_s": 9.25,
        "run_s": 61.5,
    }
    if finished:
        made["finished"] = "2025-01-01T10:02:00+00:00"
    return made


def write(path: Path, config: dict, made: dict, rows: list[dict]) -> None:
    """Writes the three text files of a run directory."""
    path.mkdir(parents=True, exist_ok=True)
    (path / "config.json").write_text(json.dumps(config))
    (path / "provenance.json").write_text(json.dumps(made))
    (path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def make_demo(
    root: Path, *, seeds: int = 64, budget: int = 500, options: dict | None = None
) -> Path:
    """Writes the four runs of the main job at full size: 64 seeds, 500 queries."""
    options = options or {"objective": "analog_1month"}
    same = {"budget": budget, "options": options}
    make_run(root / "random", "random", seeds=seeds, **same)
    make_run(root / "evolution", "evolution", seeds=seeds, **same)
    make_run(root / "ppo", "ppo", seeds=seeds, grid=GRID, **same)
    make_run(root / "reinforce", "reinforce", seeds=seeds, grid=GRID, **same)
    return root


if __name__ == "__main__":
    import sys

    make_demo(Path(sys.argv[1]), seeds=int(sys.argv[2]))
