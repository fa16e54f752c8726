"""Labelled architectures for ``jaxnas surrogate``: from an oracle, or from a table."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int

from jaxnas import registry
from jaxnas.core import tokens as tk
from jaxnas.core.errors import UserError, unknown_name
from jaxnas.core.oracle import Enumerated, Oracle, capability
from jaxnas.core.rng import root_key
from jaxnas.core.space import SearchSpace
from jaxnas.core.types import Objective

MIN_LABELS = 10
"""Fewest labels of a fit, and fewest rows that it must leave for its evaluation."""
HELD_OUT = 2000
"""Further architectures asked for the evaluation where a space is too large to list."""


@runtime_checkable
class FromFeatures(Protocol):
    """A space whose architectures can be read from rows of their published features."""

    def tokens_from_features(self, features: np.ndarray) -> Int[np.ndarray, "n L"]:
        """Returns the tokens of each row of features, ``[n, F]``."""
        ...


@dataclass(frozen=True)
class Labels:
    """Architectures and their measured values, in natural units."""

    space: SearchSpace
    objectives: tuple[Objective, ...]
    tokens: Int[np.ndarray, "n L"]
    values: Float[np.ndarray, "n K"]
    source: str
    """Id of the oracle, or name of the table."""
    notice: str = ""
    """What a reader must know before trusting the numbers."""

    def split(self, seed: int, labels: int) -> tuple["Labels", "Labels"]:
        """Returns the rows that are labelled and the rows that are held out.

        Raises:
            UserError: too few labels, or too many for the rows that there are.
        """
        count = len(self.tokens)
        if not MIN_LABELS <= labels <= count - MIN_LABELS:
            raise UserError(
                f"--labels must be between {MIN_LABELS} and {count - MIN_LABELS:,} of the "
                f"{count:,} rows, so that some are held out, got {labels:,}."
            )
        order = np.random.default_rng(seed).permutation(count)
        return self._rows(order[:labels]), self._rows(order[labels:])

    def without(self, seen: Int[np.ndarray, "m L"]) -> "Labels":
        """Returns the rows whose architecture is not among those seen."""
        known = {row.tobytes() for row in np.ascontiguousarray(seen, np.int32)}
        rows = np.ascontiguousarray(self.tokens, np.int32)
        return self._rows(np.array([row.tobytes() not in known for row in rows], bool))

    def check(self) -> None:
        """Refuses rows that nothing can be compared with.

        Raises:
            UserError: too few of them, or values that are not finite.
        """
        broken = int((~np.isfinite(self.values)).any(axis=1).sum())
        if broken:
            raise UserError(
                f"{broken} of the {len(self.values):,} held-out labels of {self.source} "
                "are NaN or infinite; leave those rows out."
            )
        if len(self.values) < MIN_LABELS:
            raise UserError(
                f"Only {len(self.values)} rows of {self.source} are held out; at least "
                f"{MIN_LABELS} are needed."
            )

    def _rows(self, which: np.ndarray) -> "Labels":
        return replace(self, tokens=self.tokens[which], values=self.values[which])


def read_csv(path: Path, space: SearchSpace | None, objective: str | None) -> Labels:
    """Returns the rows of an analog-resnet table; all its targets when none is named.

    Raises:
        UserError: no such table, another space, or an unknown target.
    """
    from jaxnas.data.tables import analognas_csv
    from jaxnas.surrogates.open import ANALOG_RESNET

    space = registry.make_space("analog-resnet", variant="csv") if space is None else space
    if not isinstance(space, FromFeatures):
        raise UserError(f"A --csv holds analog-resnet architectures, not {space.id!r}.")
    table = analognas_csv.read(path)
    names = objective.split(",") if objective else list(table.targets)
    for name in names:
        if name not in table.targets:
            raise unknown_name("target of the table:", name, table.targets)
    return Labels(
        space=space,
        objectives=tuple(ANALOG_RESNET[name] for name in names),
        tokens=space.tokens_from_features(table.features),
        values=np.stack([table.targets[name] for name in names], axis=1),
        source=path.name,
        notice=table.notice,
    )


def read_store(
    path: Path, space: SearchSpace | None, objective: str | None, match: str
) -> Labels:
    """Returns what a store holds of one oracle, the mean where there are several seeds.

    Raises:
        UserError: no space or objective is named, the store holds no such evaluation, or
            those of several oracles or data sets, or of another space.
    """
    from jaxnas.data.store.evaluations import Query, Store
    from jaxnas.oracles.analog import METRICS

    if space is None or not objective:
        raise UserError("Labels of a --store need --space and --objective.")
    names = objective.split(",")
    with Store(path, write=False) as store:
        held = store.metric_names()
        for name in names:
            if name not in held:
                raise unknown_name(f"metric of {path}:", name, held)
        found = list(store.rows(Query(oracle=match, fidelity=0, failed=False)))
    found = [r for r in found if set(names) <= set(r.metrics)]
    sources = sorted({(r.key.oracle, r.key.checksum) for r in found})
    if len(sources) != 1:
        held = "; ".join(dict.fromkeys(oracle for oracle, _ in sources)) or "none"
        raise UserError(
            f"The evaluations of {path} must be of one oracle on one data set, and are of "
            f"{len(sources)} ({held}); choose with --match PART_OF_THE_ID."
        )
    by_tokens: dict[tuple[int, ...], list[list[float]]] = {}
    for record in found:
        if record.key.digest != tk.digest_host(space, np.asarray(record.tokens)):
            raise UserError(
                f"The evaluations of {path} are not of {space.id!r}; name their --space."
            )
        row = [record.metrics[name] for name in names]
        by_tokens.setdefault(record.tokens, []).append(row)
    return Labels(
        space=space,
        objectives=tuple(METRICS.get(n, Objective(n, "unit of the store")) for n in names),
        tokens=np.array(list(by_tokens), np.int32),
        values=np.array([np.mean(rows, axis=0) for rows in by_tokens.values()]),
        source=sources[0][0],
    )


def read_measured(name: str, space: SearchSpace | None, objective: str | None) -> Labels:
    """Returns networks that we measured; one month on chips when no metric is named.

    Raises:
        UserError: an unknown name or metric, another space, or a damaged file.
    """
    from jaxnas.surrogates import resnets

    if name != resnets.NAME:
        raise unknown_name("set of measured networks:", name, (resnets.NAME,))
    space = resnets.measured_space() if space is None else space
    if space.id != resnets.measured_space().id:
        raise UserError(
            f"The networks of {name!r} are of {resnets.measured_space().id!r}, not of "
            f"{space.id!r}."
        )
    tokens, values, objectives = resnets.measurements(objective or "analog_1month")
    return Labels(space, objectives, tokens, values, name)


def read_oracle(
    name: str, space: SearchSpace | None, objective: str, seed: int, labels: int
) -> Labels:
    """Returns every row of a table, or enough random rows of a larger space.

    Raises:
        UserError: an unknown oracle or objective, or a space that it does not score.
    """
    oracle = registry.make_oracle(name, space=space, objective=objective)
    size, table = tk.count(oracle.space), capability(oracle, Enumerated)
    if table is not None and size is not None and size <= tk.ENUMERABLE:
        tokens = tk.enumerate_space(oracle.space)
        columns = table.columns()
        values = np.stack([columns[o.name] for o in oracle.objectives], axis=1)
    else:
        tokens = _draw(oracle.space, seed, labels + HELD_OUT)
        values = _ask(oracle, tokens, seed)
    return Labels(oracle.space, oracle.objectives, tokens, values, oracle.id)


def _draw(space: SearchSpace, seed: int, count: int) -> Int[np.ndarray, "n L"]:
    """Returns distinct random architectures, at most ``count``."""
    import jax

    keys = jax.random.split(root_key(seed), count)
    rows = jax.jit(jax.vmap(lambda key: tk.sample(key, space)))(keys)
    return np.unique(np.asarray(rows), axis=0)


def _ask(
    oracle: Oracle, tokens: Int[np.ndarray, "n L"], seed: int
) -> Float[np.ndarray, "n K"]:
    """Returns what an oracle measures of architectures, NaN where it fails."""
    import jax
    import jax.numpy as jnp

    key, params = root_key(seed), oracle.params()
    ask: Any = jax.jit(oracle.evaluate) if oracle.traced else oracle.evaluate
    convert: Any = jnp.asarray if oracle.traced else np.asarray
    fidelity, active = np.zeros(len(tokens), np.int32), np.ones(len(tokens), bool)
    lanes = map(convert, (tokens, fidelity, active))
    _, answer = ask(key, params, oracle.init(key, params), *lanes)
    return np.asarray(answer.objectives, np.float64)
