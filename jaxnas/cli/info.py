"""``jaxnas info NAME``: the facts about one oracle, space, algorithm or controller."""

import dataclasses
import inspect
import json
from dataclasses import dataclass
from typing import Annotated, Any

import tyro
from rich.table import Table

from jaxnas import registry
from jaxnas.cli.common.console import console, headed, pairs
from jaxnas.core import tokens as tk
from jaxnas.core.errors import unknown_name
from jaxnas.core.oracle import Described, capability


@dataclass(frozen=True)
class Info:
    """Shows an oracle's or a space's size, metrics, ranges, source and checksum."""

    name: Annotated[str, tyro.conf.Positional]
    """What to describe, for example analog-nasbench, nb201 or ppo."""
    json: bool = False
    """Print JSON instead of a table."""

    def run(self) -> int:
        """Prints the facts."""
        facts = describe(self.name)
        if self.json:
            print(json.dumps(facts, indent=1, default=str))
            return 0
        metrics = facts.pop("metrics", None)
        console().print(pairs({name: _short(value) for name, value in facts.items()}))
        if metrics:
            console().print(_metric_table(metrics))
        return 0


def describe(name: str) -> dict[str, Any]:
    """Returns the facts about a registered name, whatever its kind.

    Raises:
        UserError: nothing has that name.
    """
    kinds = [kind for kind in registry.TABLES if name in registry.names(kind)]
    if not kinds:
        known = [n for kind in registry.TABLES for n in registry.names(kind)]
        raise unknown_name("name", name, dict.fromkeys(known))
    facts: dict[str, Any] = {"name": name}
    for kind in kinds:
        facts["kind"] = f"{facts['kind']}, {kind}" if "kind" in facts else kind
        facts["what"] = registry.describe(kind, name)
        if kind == "space":
            facts |= _space(name)
        elif kind == "oracle":
            facts |= _oracle(name)
        else:
            facts |= {"options": _options(kind, name)}
    return facts


def _oracle(name: str) -> dict[str, Any]:
    """Returns what an oracle says of itself; one for any space is shown on nb201.

    One that needs more than a space, such as a model file, shows its options.
    """
    parameters = registry.settable("oracle", name)
    if any(p.default is p.empty for p in parameters.values() if p.name != "space"):
        return {"options": _options("oracle", name)}
    needs_space = "space" in parameters and parameters["space"].default is inspect._empty
    space = registry.make_space("nb201") if needs_space else None
    oracle = registry.make_oracle(name, space=space)
    described = capability(oracle, Described)
    if described is not None:
        return described.info()
    return {
        "id": oracle.id,
        "space": oracle.space.id,
        "options": _options("oracle", name),
        "metrics": {
            o.name: {"unit": o.unit, "meaning": o.meaning} for o in oracle.objectives
        },
    }


def _space(name: str) -> dict[str, Any]:
    space = registry.make_space(name)
    size = tk.count(space)
    return {
        "id": space.id,
        "tokens": space.length,
        "values per token": space.vocab,
        "architectures": "unknown" if size is None else f"{size:,}",
        "options": _options("space", name),
    }


def _options(kind: str, name: str) -> str:
    parameters = registry.settable(kind, name).values()
    shown = [
        p.name if p.default is p.empty else f"{p.name}={p.default!r}"
        for p in parameters
        if not isinstance(p.default, dataclasses.Field)
    ]
    return ", ".join(shown) or "none"


def _metric_table(metrics: Any) -> Table:
    if not isinstance(metrics, dict):
        metrics = {m["name"]: m for m in metrics}
    rows = [(n, {k: v for k, v in f.items() if k != "better"}) for n, f in metrics.items()]
    columns = [c for c in rows[0][1] if c != "name"]
    table = headed("Metrics", ("metric", *columns))
    for name, facts in rows:
        table.add_row(name, *(_short(facts.get(c)) for c in columns))
    return table


def _short(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, tuple | list):
        return ", ".join(map(str, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)
