"""Ranges of numbers, written as intervals such as ``"(0, 1]"``, and what checks them.

A class states those of its fields in ``RANGES``, names to intervals. A seed has
:data:`SEED` anywhere, and any other whole number of a command :data:`COUNT` where nothing
else is stated.
"""

import dataclasses
import numbers
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxnas.core.errors import UserError

COUNT = "[1, 2147483647]"
"""Of what is counted: a positive 32-bit integer."""
FROM_ZERO = "[0, 2147483647]"
SEED = "[0, 4294967295]"
"""JAX keeps 32 bits of a seed; larger ones would be another run's."""
HPARAMS = {
    "lr": "[0, 1]",
    "entropy": "[0, inf)",
    "temperature": "(0, inf)",
    "gamma": "[0, 1]",
    "gae_lambda": "[0, 1]",
    "clip": "(0, 1]",
    "value_weight": "[0, inf)",
    "reward_decay": "[0, 1]",
    "max_grad_norm": "(0, inf)",
    "kappa": "[0, inf)",
    "starts": COUNT,
    "sample": COUNT,
    "weight_decay": "[0, 10]",
    "commitment": "[0, inf)",
    "divergence": "[0, inf)",
    "score": "[0, inf)",
    "jitter": "[0, inf)",
    "ema": "[0, 1)",
    "revive": "[0, 1]",
    "dropout": "[0, 1)",
    "mse": "[0, inf)",
    "nll": "[0, inf)",
    "rank": "[0, inf)",
}
"""Hyperparameters that more than one record of ours has mean the same in each."""


def check(name: str, value: Any, interval: str) -> None:
    """Raises a UserError unless every number of ``value`` lies in the interval; NaN never.

    ``value`` is a number, or any nesting of arrays and sequences of numbers. Brackets of
    the interval include an end, parentheses do not; ends may be ``inf``.
    """
    low, high = map(float, interval[1:-1].split(","))
    for number in np.ravel(np.asarray(value, dtype=object)):
        above = number >= low if interval[0] == "[" else number > low
        below = number <= high if interval[-1] == "]" else number < high
        if not (above and below):
            raise UserError(f"{name} must be in {interval}, got {number}.")


def check_hparams(
    hparams: type | object, values: Mapping[str, Any], prefix: str = ""
) -> None:
    """Raises a UserError where a value is outside the range that its record states.

    ``hparams`` is a record or its class, ``values`` are numbers or sequences by name, and
    ``prefix``, such as ``"ppo."``, stands before the names in the sentence.
    """
    for name, interval in getattr(hparams, "RANGES", {}).items():
        if values.get(name) is not None:
            check(prefix + name, values[name], interval)


def check_command(command: Any) -> None:
    """Raises a UserError where a number of a dataclass of options is out of its range."""
    for field in dataclasses.fields(command):
        value = getattr(command, field.name)
        if dataclasses.is_dataclass(value):
            check_command(value)
        elif interval := interval_of(type(command), field.name, value):
            check("--" + field.name.replace("_", "-"), value, interval)


def interval_of(owner: type, name: str, value: Any) -> str | None:
    """Returns the range of a command's option, or None where it is no number."""
    stated = getattr(owner, "RANGES", {}).get(name)
    first = value[0] if isinstance(value, tuple) and value else value
    if not isinstance(first, int | float) or isinstance(first, bool):
        return None
    usual = SEED if name in ("seed", "seed0") else COUNT
    return stated or (usual if isinstance(first, int) else "(-inf, inf)")


def check_option(what: str, kind: Any, value: Any) -> None:
    """Raises a UserError where an option's value is not of the type that its maker states.

    ``kind`` is the annotation; other than ``int``, ``float`` and ``bool``, with or without
    ``None``, everything passes. ``what`` is the option, for the sentence.
    """
    kind = kind if isinstance(kind, str) else getattr(kind, "__name__", str(kind))
    kind, _, optional = str(kind).partition(" | ")
    if optional not in ("", "None") or (optional and value is None):
        return
    number = isinstance(value, numbers.Real) and not isinstance(value, bool | np.bool_)
    if kind == "int":
        if not number or not isinstance(value, numbers.Integral):
            raise UserError(f"{what} must be a whole number, got {value!r}.")
        interval = SEED if "'seed'" in what else "[-2147483648, 2147483647]"
        check(what, value, interval)
    elif kind == "float":
        if not number:
            raise UserError(f"{what} must be a number, got {value!r}.")
        check(what, value, "(-inf, inf)")
    elif kind == "bool" and not isinstance(value, bool | np.bool_):
        raise UserError(f"{what} must be true or false, got {value!r}.")
