"""Everything that a document says, worked out once for each text."""

import hashlib
import json
from typing import NamedTuple

from jaxnas.core.errors import UserError, unknown_name
from jaxnas.core.space import Value
from jaxnas.spaces.declared import document as doc
from jaxnas.spaces.declared.counting import Counts, count
from jaxnas.spaces.declared.decisions import Layout, spread
from jaxnas.spaces.declared.tables import Tables, make_tables
from jaxnas.spaces.declared.template import Template, read_template

FORMAT, VERSION = "jaxnas-space-1", 1
TOP = (
    "format", "name", "version", "description", "decisions", "forbid", "fixed", "sizes",
    "operations", "blocks", "network", "input",
)  # fmt: skip
Pins = tuple[tuple[str, Value], ...]


class Compiled(NamedTuple):
    """Everything that a document says, worked out once."""

    document: doc.Document
    layout: Layout
    counts: Counts
    tables: Tables
    template: Template | None
    id: str


_READY: dict[tuple[str, Pins], Compiled] = {}


def compile_source(source: doc.Source) -> str:
    """Returns the text of a document after compiling it where its lines are known.

    Raises:
        UserError: what is wrong with it, with its line.
    """
    text = doc.canonical(source.document)
    if (text, ()) not in _READY:
        _READY[text, ()] = _compile(source, ())
    return text


def compiled(text: str, pins: Pins) -> Compiled:
    """Returns what a document says, from its text; once for each.

    Raises:
        UserError: what is wrong with it, with its place.
    """
    if (text, pins) not in _READY:
        try:
            document = json.loads(text)
        except ValueError as error:
            raise UserError("The text of a declared space is no JSON.") from error
        _READY[text, pins] = _compile(doc.Source(document), pins)
    return _READY[text, pins]


def _compile(source: doc.Source, pins: Pins) -> Compiled:
    document = source.keys((), source.document, TOP)
    name, version = document.get("name"), document.get("version", VERSION)
    if not isinstance(name, str) or not name.replace("-", "a").replace("_", "a").isalnum():
        raise source.error(("name",), "a space needs a 'name' of letters, digits, - and _.")
    if document.get("format", FORMAT) != FORMAT:
        raise source.error(
            ("format",),
            f"this file has the format {document['format']!r}, and this jaxnas knows "
            f"{FORMAT!r}; upgrade jaxnas, or leave the line out.",
        )
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise source.error(("version",), "'version' is a whole number from 1.")
    _check_constants(source)
    layout = spread(source)
    template = read_template(source, layout)
    _pin(layout, pins)
    counts = count(layout)
    meant = {k: v for k, v in document.items() if k not in ("description", "format")}
    digest = hashlib.sha256(doc.canonical(meant).encode()).hexdigest()[:8]
    tables = make_tables(layout, counts)
    made = f"{name}-v{version}-{digest}"
    return Compiled(document, layout, counts, tables, template, made)


def _pin(layout: Layout, pins: Pins) -> None:
    """Forbids every other token of a pinned decision, *absent* too."""
    slots = {slot.name: i for i, slot in enumerate(layout.slots)}
    for name, value in pins:
        if name not in slots:
            raise unknown_name("decision", name, slots)
        slot = layout.slots[slots[name]]
        token = slot.token(value)
        if token is None:
            raise unknown_name(f"value of {name!r}:", str(value), map(str, slot.choices))
        others = frozenset(range(slot.size)) - {token}
        if others:
            layout.forbidden.append(((slots[name], others),))


def _check_constants(source: doc.Source) -> None:
    decided = source.document.get("decisions")
    names = [d.get("name", d.get("repeat")) for d in decided or () if isinstance(d, dict)]
    for part in ("fixed", "sizes"):
        table = source.document.get(part, {})
        if not isinstance(table, dict):
            raise source.error((part,), f"'{part}' is a table of names.")
        for name, value in table.items():
            whole = isinstance(value, int) and not isinstance(value, bool) and value >= 1
            if part == "sizes" and not whole:
                raise source.error(
                    (part, name), f"a size is a whole number from 1, not {value!r}."
                )
            if not isinstance(value, str | int | float | bool):
                raise source.error((part, name), f"{value!r} is no text or number.")
            if name in names:
                raise source.error((part, str(name)), f"{name!r} is a decision already.")
