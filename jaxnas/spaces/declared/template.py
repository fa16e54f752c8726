"""Templates of networks, read from a document and checked before anything is made."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from jaxnas.core.errors import unknown_name
from jaxnas.core.operations import OPERATIONS
from jaxnas.spaces.declared.decisions import Item, Layout, Repeat
from jaxnas.spaces.declared.document import Place, Source

NODE = ("name", "op", "inputs", "when", "times")
GROUP = ("name", "nodes", "when", "times")
REPEATED = ("name", "repeat", "nodes", "when", "from", "join", "leaves", "empty")
INPUTS = ("image", "text")
BLOCK = ("inputs", "nodes", "output")


class Template(NamedTuple):
    """The parts of a document that say how an architecture becomes a network."""

    network: list[Any]
    operations: dict[str, list[Any]]
    blocks: dict[str, dict[str, Any]]
    input: str
    """Kind and name of what networks read: ``"image"`` or ``"text"``."""
    constants: dict[str, Any]
    """Fixed decisions and default sizes, by name."""


def read_template(source: Source, layout: Layout) -> Template | None:
    """Returns the template of a document, or None where it has no network.

    Raises:
        UserError: something malformed or unknown, with its line.
    """
    document = source.document
    if "network" not in document:
        return None
    tables = {name: document.get(name, {}) for name in ("operations", "blocks")}
    for name, table in tables.items():
        if not isinstance(table, dict):
            raise source.error((name,), f"'{name}' is a table of names.")
    operations = {
        name: given if isinstance(given, list) else [given]
        for name, given in tables["operations"].items()
    }
    constants = {**document.get("sizes", {}), **document.get("fixed", {})}
    kind = document.get("input", INPUTS[0])
    if kind not in INPUTS:
        raise source.error(("input",), f"'input' is one of {', '.join(INPUTS)}.")
    template = Template(document["network"], operations, tables["blocks"], kind, constants)
    _Checker(source, template, layout).check()
    return template


class _Checker:
    """Refuses what a template cannot mean, before any architecture is made of it."""

    def __init__(self, source: Source, template: Template, layout: Layout) -> None:
        self.source, self.template, self.layout = source, template, layout

    def check(self) -> None:
        """Checks operations, blocks and the network.

        Raises:
            UserError: the first thing that is wrong, with its line.
        """
        source, template, items = self.source, self.template, self.layout.items
        constants = {name: [value] for name, value in template.constants.items()}
        given = ("classes", "vocabulary") if template.input == "text" else ("classes",)
        top = {**constants, **{name: [1] for name in given}, **self._names(items)}
        everywhere = {**top, **self._names(items, deep=True)}
        for name, parts in template.operations.items():
            place: Place = ("operations", name)
            if name in OPERATIONS or name in template.blocks:
                raise source.error(
                    place, f"{name!r} is an operation or a block already; rename it."
                )
            whole = isinstance(source.document["operations"][name], list)
            self._nodes(parts, place, everywhere, items, single=not whole)
        for name, part in template.blocks.items():
            place = ("blocks", name)
            source.keys(place, part, BLOCK)
            self._nodes(part.get("nodes"), (*place, "nodes"), top, items)
        self._nodes(template.network, ("network",), top, items)

    def _names(self, items: Sequence[Item], deep: bool = False) -> dict[str, list[Any]]:
        """Returns the possible values of each name; of groups none, unless ``deep``."""
        found: dict[str, list[Any]] = {}
        for item in items:
            if isinstance(item, Repeat):
                found.setdefault(item.name, [])
                for inner in item.rounds if deep else ():
                    for name, values in self._names(inner, deep).items():
                        known = found.setdefault(name, [])
                        known += [value for value in values if value not in known]
            else:
                slots = self.layout.slots
                choices = slots[item.slots[0]].choices if item.slots else ()
                found[item.name] = list(item.members or choices)
        return found

    def _nodes(
        self,
        nodes: Any,
        place: Place,
        names: Mapping[str, Any],
        items: Sequence[Item],
        single: bool = False,
    ) -> None:
        if not isinstance(nodes, list) or not nodes:
            raise self.source.error(place, "a list of nodes is needed here.")
        for i, node in enumerate(nodes):
            here = place if single else (*place, i)
            if not isinstance(node, dict):
                raise self.source.error(here, f"a node is a table, not {node!r}.")
            if "repeat" in node:
                self._repeat(node, here, names, items)
            elif "nodes" in node:
                self.source.keys(here, node, GROUP)
                self._nodes(node["nodes"], (*here, "nodes"), names, items)
            else:
                self._one(node, here, names)
            self._when(node.get("when"), (*here, "when"), names)

    def _repeat(
        self, node: dict[str, Any], place: Place, names: Mapping[str, Any], items: Any
    ) -> None:
        self.source.keys(place, node, REPEATED)
        groups = {item.name: item for item in items if isinstance(item, Repeat)}
        name = node["repeat"]
        if name not in groups:
            text = str(unknown_name("repeat", str(name), groups))
            raise self.source.error((*place, "repeat"), text)
        inner = [item for one in groups[name].rounds for item in one]
        own = {**names, **self._names(inner)}
        if "from" in node and node["from"] not in own:
            text = str(unknown_name("decision", str(node["from"]), own))
            raise self.source.error((*place, "from"), text)
        for key in ("join", "leaves"):
            if key in node and node[key] not in OPERATIONS:
                text = str(unknown_name("operation", str(node[key]), OPERATIONS))
                raise self.source.error((*place, key), text)
        if node.get("empty", "input") not in ("input", "previous"):
            raise self.source.error((*place, "empty"), "choose 'input' or 'previous'.")
        self._nodes(node.get("nodes"), (*place, "nodes"), own, inner)

    def _one(self, node: dict[str, Any], place: Place, names: Mapping[str, Any]) -> None:
        """Checks a node of one operation, whichever a decision may make of it."""
        if not isinstance(node.get("op"), str):
            raise self.source.error(
                place, "a node needs 'op', 'repeat' or 'nodes'; this one has none."
            )
        ops = list(self._ops(node["op"], (*place, "op"), names))
        taken = {
            key for op in ops
            for key in OPERATIONS.get(op, {})
            if op not in self.template.operations and op not in self.template.blocks
        }  # fmt: skip
        self.source.keys(place, node, (*NODE, *sorted(taken)))
        for key, value in node.items():
            if key not in ("name", "op", "inputs", "when"):
                self._reference(value, (*place, key), names)
        inputs = node.get("inputs", [])
        if not isinstance(inputs, list) or not all(isinstance(n, str) for n in inputs):
            raise self.source.error((*place, "inputs"), "'inputs' is a list of names.")

    def _ops(self, op: str, place: Place, names: Mapping[str, Any]) -> Iterator[str]:
        self._reference(op, place, names)
        known = [*self.template.operations, *self.template.blocks, *OPERATIONS]
        choices = names[op[1:]] if op.startswith("$") else [op]
        for choice in choices:
            if choice not in known:
                text = str(unknown_name("operation", str(choice), known))
                raise self.source.error(place, text)
            yield choice

    def _reference(self, value: Any, place: Place, names: Mapping[str, Any]) -> None:
        if not (isinstance(value, str) and value.startswith("$")):
            return
        for part in (p.strip() for p in value.split("*")):
            if part.startswith("$") and part[1:] not in names:
                text = str(unknown_name("name", part[1:], names))
                raise self.source.error(place, text)
            if not part.startswith("$") and not part.isdigit():
                raise self.source.error(
                    place, f"{value!r} is no product of names and whole numbers."
                )

    def _when(self, when: Any, place: Place, names: Mapping[str, Any]) -> None:
        tables = when if isinstance(when, list) else [when] if when is not None else []
        for table in tables:
            if not isinstance(table, dict):
                raise self.source.error(place, "a condition is a table of names.")
            for name in table:
                if name not in names:
                    text = str(unknown_name("name", str(name), names))
                    raise self.source.error((*place, name), text)
