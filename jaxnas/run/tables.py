"""What a finished run found, for others to read: ``results.csv`` and ``results.json``.

Both hold the best distinct architectures by name; every query is in ``results.npz``. Of
several objectives ``front.csv`` has the form of ``results.csv``.
"""

import csv
import io
import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from jaxnas.core.naming import decision_names, decision_values, to_dict
from jaxnas.core.space import SearchSpace

BEST = 20
"""Architectures of ``results.json``."""


def as_csv(
    space: SearchSpace, objectives: list[str], archive: Mapping[str, np.ndarray]
) -> bytes:
    """Returns a row for each architecture of an archive, in its order, no failures.

    One column a decision, blank where it has no value, and one an objective: what
    :func:`jaxnas.table_oracle` reads.
    """
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, lineterminator="\n")
    values = decision_values(space)
    writer.writerow([*decision_names(space), *objectives])
    for tokens, measured in zip(archive["tokens"], archive["objectives"], strict=True):
        if np.isfinite(measured).all():
            named = [values[t][int(token)] for t, token in enumerate(tokens)]
            plain = ["" if value is None else value for value in named]
            writer.writerow([*plain, *(f"{number:.9g}" for number in measured)])
    return stream.getvalue().encode()


def halved_csv(
    space: SearchSpace, objectives: list[str], rows: Iterable[Mapping[str, Any]]
) -> bytes:
    """Returns a row for each evaluation of a search by brackets, cheap ones included.

    The decisions, ``fidelity`` (0 the full one), ``effort`` as a share of a full one, what
    was observed (blank where it failed) and the ``seconds``.
    """
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, lineterminator="\n")
    values = decision_values(space)
    extra = ("fidelity", "effort", *objectives, "seconds")
    writer.writerow([*decision_names(space), *extra])
    for row in rows:
        named = [values[t][int(token)] for t, token in enumerate(row["tokens"])]
        plain = ["" if value is None else value for value in named]
        seen = [f"{x:.9g}" if np.isfinite(x) else "" for x in row["objectives"]]
        effort, seconds = (f"{row[name]:.6g}" for name in ("effort", "seconds"))
        writer.writerow([*plain, row["fidelity"], effort, *seen, seconds])
    return stream.getvalue().encode()


def as_json(
    config: Mapping[str, Any],
    space: SearchSpace,
    archive: Mapping[str, np.ndarray],
    arrays: Mapping[str, np.ndarray],
    halving: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Returns the best architectures and how the controllers of each setting did.

    ``mean`` and ``sd`` are over controllers, of the true value of what each recommends.
    ``halving`` is what a search by brackets evaluated and saved.
    """
    names = [objective["name"] for objective in config["objectives"]]
    best = [
        {
            "tokens": [int(token) for token in tokens],
            "architecture": to_dict(space, tokens),
            **{name: float(v) for name, v in zip(names, measured, strict=True)},
        }
        for tokens, measured in zip(archive["tokens"], archive["objectives"], strict=True)
        if np.isfinite(measured).all()
    ][:BEST]
    settings = []
    for number in np.unique(arrays["setting"]):
        rows = arrays["setting"] == number
        found = arrays["best_true"][rows].astype(float)
        found = found[np.isfinite(found)]
        spread = float(np.std(found, ddof=1)) if len(found) > 1 else math.nan
        settings.append(
            {
                "setting": int(number),
                "hparams": {n: c[int(number)] for n, c in config["hparams"].items()},
                "controllers": int(rows.sum()),
                "mean": float(found.mean()) if len(found) else None,
                "sd": None if math.isnan(spread) else spread,
                "queries": int(arrays["count"][rows].sum()),
            }
        )
    return {
        "label": config["label"],
        "space": config["space"],
        "oracle": config["oracle"]["id"],
        "objectives": config["objectives"],
        "best": best,
        "settings": settings,
        **({} if halving is None else {"halving": dict(halving)}),
    }
