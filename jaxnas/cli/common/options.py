"""Reads what people type: grids, settings and names of runs."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxnas import registry
from jaxnas.core.algorithm import Algorithm
from jaxnas.core.errors import UserError, unknown_name
from jaxnas.core.ranges import check_hparams
from jaxnas.core.space import SearchSpace
from jaxnas.run.config import hparam_names
from jaxnas.run.contracts import check_algorithm


def parse_value(text: str) -> bool | int | float | str:
    """Returns a number or a truth value where the text is one, else the text."""
    lowered = text.lower()
    if lowered in ("true", "false"):
        return lowered == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def parse_options(items: Sequence[str]) -> dict[str, Any]:
    """Returns ``NAME=VALUE`` items as options; a value is a number where it reads as one.

    Raises:
        UserError: an item of another form, or one named twice.
    """
    found: dict[str, Any] = {}
    for item in items:
        name, equals, value = item.partition("=")
        if not equals or not name or name in found:
            raise UserError(f"Cannot read the option {item!r}; write each NAME=VALUE once.")
        found[name] = parse_value(value)
    return found


def numbers(option: str, texts: Sequence[str]) -> tuple[float, ...] | None:
    """Returns numbers that commas or blanks separate, ``50,80``; None where there are none.

    Raises:
        UserError: one of them is no finite number.
    """
    parts = [part for text in texts for part in text.split(",")]
    try:
        found = tuple(map(float, parts))
        if not np.isfinite(found).all():
            raise ValueError(texts)
    except ValueError as error:
        raise UserError(
            f"{option} needs finite numbers such as 50,80, got {','.join(parts)}."
        ) from error
    return found or None


def parse_axis(text: str) -> tuple[str, list[Any]]:
    """Returns the name and the values of ``NAME=V1,V2,...`` or ``NAME=log:LOW:HIGH:N``.

    Raises:
        UserError: the text has another form.
    """
    name, equals, values = text.partition("=")
    if not equals or not name or not values:
        raise UserError(
            f"Cannot read the axis {text!r}; write NAME=V1,V2 or NAME=log:LOW:HIGH:N."
        )
    kind, *bounds = values.split(":")
    if kind not in ("log", "lin"):
        return name, [parse_value(v) for v in values.split(",")]
    try:
        low, high, number = float(bounds[0]), float(bounds[1]), int(bounds[2])
        if len(bounds) != 3 or number < 1 or (kind == "log" and min(low, high) <= 0):
            raise ValueError
    except (IndexError, ValueError) as error:
        raise UserError(
            f"Cannot read the axis {text!r}; write NAME={kind}:LOW:HIGH:N with N >= 1"
            + (" and bounds above zero." if kind == "log" else ".")
        ) from error
    spaced = np.geomspace if kind == "log" else np.linspace
    return name, [float(f"{v:.6g}") for v in spaced(low, high, number)]


def for_algorithm(items: Sequence[str], algorithm: str, others: Sequence[str]) -> list[str]:
    """Returns the items meant for one algorithm, ``ppo.lr=...``, without the prefix.

    An item without a prefix is meant for every algorithm.

    Raises:
        UserError: a prefix names no algorithm of the run.
    """
    mine = []
    for item in items:
        name = item.partition("=")[0]
        prefix, dot, _ = name.partition(".")
        if not dot:
            mine.append(item)
            continue
        if prefix not in others:
            raise unknown_name("algorithm in an option:", prefix, others)
        if prefix == algorithm:
            mine.append(item.partition(".")[2])
    return mine


@dataclasses.dataclass(frozen=True)
class Chosen:
    """An algorithm as asked for on the command line."""

    name: str
    algo: Algorithm
    hparams: dict[str, float]
    """Hyperparameters set to another value than the preset's."""


def _number(name: str, value: Any) -> float:
    if isinstance(value, str):
        raise UserError(f"The setting {name!r} needs a number, got {value!r}.")
    return float(value)


def make_algorithm(
    name: str,
    space: SearchSpace,
    settings: Sequence[str],
    options: Mapping[str, Any] | None = None,
) -> Chosen:
    """Returns an algorithm with ``NAME=VALUE`` settings, structural or numeric.

    Raises:
        UserError: an unknown algorithm or setting, or a value that it refuses.
    """
    structural = registry.settable("algorithm", name).keys() - {"space", "rounds"}
    fields: dict[str, Any] = dict(options or {})
    numeric: dict[str, float] = {}
    for item in settings:
        key, values = parse_axis(item)
        if len(values) != 1:
            raise UserError(f"{item!r} sets one value; use --grid for several.")
        if key in structural:
            fields[key] = values[0]
        else:
            numeric[key] = _number(key, values[0])
    algo = registry.make_algorithm(name, space=space, **fields)
    check_algorithm(algo)
    names = hparam_names(algo)
    for key in numeric:
        if key not in names:
            raise unknown_name(f"setting of {name!r}:", key, [*structural, *names])
    check_hparams(algo.default_hparams(), numeric, f"{name}.")
    return Chosen(name, algo, numeric)
