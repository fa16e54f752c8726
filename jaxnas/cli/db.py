"""``jaxnas db top | query | export | merge``: what the evaluation store holds."""

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, cast

import tyro

from jaxnas.cli.common.console import console, headed
from jaxnas.cli.common.evaluating import STORE
from jaxnas.core.errors import UserError, unknown_name
from jaxnas.core.ranges import FROM_ZERO
from jaxnas.data.store.evaluations import Query, Record, Store
from jaxnas.data.store.rows import Limit, as_dict

SHOWN = 8
"""Letters of a digest in a table."""


@dataclass(frozen=True)
class Filters:
    """Which evaluations; every option narrows the choice."""

    oracle: str = ""
    """Part of the oracle's id."""
    metric: tuple[str, ...] = ()
    """Limits such as "digits_accuracy>=0.9"."""
    digest: str = ""
    """First letters of the architecture's digest."""
    checksum: str = ""
    """First letters of the data's checksum."""
    fidelity: int | None = None
    """Only this fidelity."""
    seed: int | None = None
    """Only this seed."""
    status: Literal["all", "ok", "failed"] = "all"
    """Succeeded ones, failed ones, or both."""
    RANGES: ClassVar = {"fidelity": FROM_ZERO}

    def query(self, store: Store, **more: Any) -> Query:
        """Returns the filters as a query; every value is bound, none becomes SQL.

        Raises:
            UserError: an unreadable limit, or a metric that no row has.
        """
        limits = tuple(read_limit(text) for text in self.metric)
        names = [name for name, _, _ in limits]
        check_metrics(store, [*names, *([more["order"]] if more.get("order") else [])])
        return Query(
            oracle=self.oracle, digest=self.digest, checksum=self.checksum,
            fidelity=self.fidelity, seed=self.seed, limits=limits,
            failed=None if self.status == "all" else self.status == "failed", **more,
        )  # fmt: skip


def read_limit(text: str) -> Limit:
    """Returns the metric, the direction and the bound of a limit.

    Raises:
        UserError: a text of another form.
    """
    found = re.fullmatch(r"\s*(.+?)\s*(<=|>=)\s*(\S+)\s*", text)
    try:
        if found is None or math.isnan(float(found[3])):
            raise ValueError(text)
        return found[1], cast(Literal["<=", ">="], found[2]), float(found[3])
    except ValueError as error:
        raise UserError(
            f'{text!r} is not a limit; write one such as "digits_accuracy>=0.9".'
        ) from error


def check_metrics(store: Store, names: Sequence[str]) -> None:
    """Raises a UserError with the nearest name where no row of a store has a metric."""
    known = store.metric_names() if names else []
    if names and not known:
        raise UserError(f"{store.path} holds no evaluation yet; run a search first.")
    for name in names:
        if name not in known:
            raise unknown_name(f"metric of {store.path}:", name, known)


@dataclass(frozen=True)
class Top:
    """Shows the best evaluations by one metric."""

    metric: Annotated[str, tyro.conf.Positional]
    """Metric to sort by."""
    k: int = 10
    """How many."""
    minimise: bool = False
    """The smallest are best."""
    store: Path = Path("runs") / STORE
    """The store; it is opened read-only."""
    filters: Annotated[Filters, tyro.conf.arg(name="")] = field(default_factory=Filters)
    json: bool = False
    """Print JSON instead of a table."""

    def run(self) -> int:
        """Prints the rows."""
        with Store(self.store, write=False) as store:
            query = self.filters.query(store, order=self.metric)
            best = store.top(self.metric, self.k, maximise=not self.minimise, query=query)
            show(best, self.json, f"best {self.metric} of {len(store):,} evaluations")
        return 0


@dataclass(frozen=True)
class Find:
    """Shows the evaluations that pass some filters, oldest first."""

    store: Path = Path("runs") / STORE
    """The store; it is opened read-only."""
    filters: Annotated[Filters, tyro.conf.arg(name="")] = field(default_factory=Filters)
    limit: int = 20
    """Rows shown at most."""
    json: bool = False
    """Print JSON, with learning curves, instead of a table."""

    def run(self) -> int:
        """Prints the rows."""
        with Store(self.store, write=False) as store:
            found = list(store.rows(self.filters.query(store, limit=self.limit)))
            show(found, self.json, f"{len(found):,} of {len(store):,} evaluations")
        return 0


@dataclass(frozen=True)
class Export:
    """Writes evaluations to a table that other programs read."""

    out: Annotated[Path, tyro.conf.Positional]
    """File to write, ending in .csv or .json."""
    store: Path = Path("runs") / STORE
    """The store; it is opened read-only."""
    filters: Annotated[Filters, tyro.conf.arg(name="")] = field(default_factory=Filters)

    def run(self) -> int:
        """Writes the file."""
        with Store(self.store, write=False) as store:
            written = store.export(self.out, self.filters.query(store))
        print(f"{written:,} evaluations written to {self.out}")
        return 0


@dataclass(frozen=True)
class Merge:
    """Adds the evaluations of other stores to one store; what is there stays."""

    sources: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Stores to read."""
    store: Path = Path("runs") / STORE
    """Store to add to; made when absent."""
    json: bool = False
    """Print JSON."""

    def run(self) -> int:
        """Merges one store after the other."""
        if not self.sources:
            raise UserError("Name at least one store to merge.")
        for source in self.sources:
            Store(source, write=False).close()
        with Store(self.store) as store:
            for source in self.sources:
                done = store.merge(source)
                if self.json:
                    print(json.dumps({"source": str(source), **done._asdict()}))
                    continue
                print(
                    f"{source}: {done.added:,} added, {done.known:,} known, "
                    f"{done.conflicts:,} measured otherwise (not taken over)"
                )
        return 0


@dataclass(frozen=True)
class Db:
    """Looks into the store of evaluations, joins stores, and exports them."""

    command: tyro.conf.OmitSubcommandPrefixes[
        Annotated[Top, tyro.conf.subcommand("top")]
        | Annotated[Find, tyro.conf.subcommand("query")]
        | Annotated[Export, tyro.conf.subcommand("export")]
        | Annotated[Merge, tyro.conf.subcommand("merge")]
    ]

    def run(self) -> int:
        """Runs the sub-command."""
        return self.command.run()


def show(records: Sequence[Record], as_json: bool, title: str) -> None:
    """Prints rows, as JSON or as a table with a column for each metric."""
    if as_json:
        print(json.dumps([as_dict(record) for record in records], indent=1))
        return
    metrics = list(dict.fromkeys(name for r in records for name in sorted(r.metrics)))
    failed = any(record.status for record in records)
    last = ("oracle", "fidelity", "seed", "seconds", *["failure"] * failed)
    table = headed(title, ("digest", "tokens", *metrics, *last))
    for record in records:
        key, values = record.key, [record.metrics.get(name) for name in metrics]
        row = [key.digest[:SHOWN], " ".join(map(str, record.tokens))]
        row += ["" if value is None else f"{value:.6g}" for value in values]
        row += [key.oracle, str(key.fidelity), str(key.seed), f"{record.seconds:.3g}"]
        table.add_row(*row, *[record.message] * failed)
    console().print(table)
