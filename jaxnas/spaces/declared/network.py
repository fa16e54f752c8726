"""Networks of a declared space: its template, filled in with what was chosen.

A template is a list of nodes. A node names an operation of the table, of the file's own
``operations`` or one of its ``blocks``, or a decision, ``"$op"``, whose choice is such a
name; its attributes are numbers or products such as ``"$width * 2"``. Without ``inputs`` a
node takes the value of the one before it.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from jaxnas.core.errors import UserError, unknown_name
from jaxnas.core.operations import OPERATIONS
from jaxnas.core.types import Spec
from jaxnas.spaces import spec as sp
from jaxnas.spaces.declared.decisions import Item, Layout, Repeat
from jaxnas.spaces.declared.document import Place, Source

NODE = ("name", "op", "inputs", "when", "times")
GROUP = ("name", "nodes", "when", "times")
REPEATED = ("name", "repeat", "nodes", "when", "from", "join", "leaves", "empty")
BLOCK = ("inputs", "nodes", "output")
MOST_NODES = 20_000
Names = tuple[str, ...]
Node = dict[str, Any]
Environment = Mapping[str, Any]
"""Values of all names that can be seen at a place; absent decisions are left out."""


class Template(NamedTuple):
    """The parts of a document that say how an architecture becomes a network."""

    network: list[Any]
    operations: dict[str, list[Any]]
    blocks: dict[str, dict[str, Any]]
    input: str
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
    template = Template(
        document["network"], operations, tables["blocks"], "image", constants
    )
    _Checker(source, template, layout).check()
    return template


def to_spec(
    template: Template, space: Any, values: Mapping[str, Any], sizes: Mapping[str, int]
) -> Spec:
    """Returns the network of named values.

    Args:
        template: of the space.
        space: has ``id``, ``image`` and ``num_classes``.
        values: what was chosen, as :func:`jaxnas.spaces.declared.values.to_values` gives.
        sizes: that are not searched, by name.

    Raises:
        UserError: an input that no node makes, or a network without end.
    """
    env = {**template.constants, **sizes, "classes": space.num_classes, **values}
    writer = _Writer(template, env)
    nodes: list[Node] = []
    start = template.input
    writer.write(template.network, env, nodes, {start: start}, (start,), "")
    if not nodes:
        raise UserError(f"The network of {space.id!r} has no node for {dict(values)}.")
    nodes[-1]["name"] = "logits"
    return {**sp.image_spec(space, writer.blocks, nodes), "choices": dict(values)}


class _Writer:
    """Writes the nodes of a spec.

    Its methods share these arguments:
        env: what can be referred to.
        out: nodes written so far.
        known: names that inputs may use -> names of values.
        last: values that the next node takes by itself.
        prefix: of the names that are written.
    """

    def __init__(self, template: Template, env: Environment) -> None:
        self.template, self.env = template, env
        self.blocks: dict[str, Any] = {}
        self.count = 0

    def write(
        self,
        templates: Sequence[Any],
        env: Environment,
        out: list[Node],
        known: dict[str, str],
        last: Names,
        prefix: str,
    ) -> Names:
        """Appends the nodes of a list and returns the name of the last value."""
        for item in templates:
            if not _holds(item.get("when"), env):
                continue
            if "repeat" in item:
                last = self._repeat(item, env, out, known, last, prefix)
            else:
                for i in range(times := _number(item.get("times", 1), env)):
                    if "nodes" in item:
                        label = f"{item.get('name', 'group')}{i + 1 if times > 1 else ''}"
                        inner, own = {**known, "in": last[0]}, f"{prefix}{label}_"
                        last = self.write(item["nodes"], env, out, inner, last, own)
                    else:
                        last = self._node(item, env, out, known, last, prefix)
            if "name" in item:
                known[item["name"]] = last[0]
        return last

    def _node(
        self,
        item: Mapping[str, Any],
        env: Environment,
        out: list[Node],
        known: dict[str, str],
        last: Names,
        prefix: str,
    ) -> Names:
        op = _value(item["op"], env)
        if op is None:  # a decision that has no value here
            return last
        inputs = tuple(self._input(n, known) for n in item.get("inputs", ())) or last
        label = str(item.get("name", op))
        if op in self.template.operations:
            parts = self.template.operations[op]
            inner = {"in": inputs[0]} | {f"in{i}": v for i, v in enumerate(inputs, 1)}
            if len(parts) > 1 or not {"nodes", "repeat", "times"}.isdisjoint(parts[0]):
                own = self._free(prefix + label, out) + "_"
                return self.write(parts, env, out, inner, inputs, own)
            if not _holds(parts[0].get("when"), env):
                return inputs
            one = {**parts[0], "name": label}
            return self._node(one, env, out, inner, inputs, prefix)
        name = self._free(prefix + label, out)
        if op in self.template.blocks:
            self._block(op)
            out.append(sp.node(name, "call", list(inputs), block=op))
        else:
            out.append(sp.node(name, op, list(inputs), **_attributes(op, item, env)))
        self.count += 1
        if self.count > MOST_NODES:
            raise UserError(f"The network has more than {MOST_NODES} nodes.")
        return (name,)

    def _free(self, name: str, out: Sequence[Node]) -> str:
        """Returns a name that no node has yet."""
        taken = {self.template.input, *(node["name"] for node in out)}
        names = (f"{name}{i or ''}" for i in (0, *range(2, MOST_NODES + 3)))
        return next(n for n in names if n not in taken)

    def _input(self, name: str, known: Mapping[str, str]) -> str:
        if name not in known:
            raise unknown_name("input", name, known)
        return known[name]

    def _block(self, name: str) -> None:
        if name in self.blocks:
            return
        self.blocks[name] = {}  # stands before what it calls, and ends a recursion
        part = self.template.blocks[name]
        inputs = list(part.get("inputs", ["in"]))
        nodes: list[Node] = []
        known = {value: value for value in inputs}
        (last,) = self.write(part["nodes"], self.env, nodes, known, (inputs[0],), "")
        output = self._input(part["output"], known) if "output" in part else last
        if output in inputs:
            nodes.append(sp.node("out", "identity", [output]))
            output = "out"
        self.blocks[name] = sp.block(inputs, nodes, [output])

    def _repeat(
        self,
        item: Mapping[str, Any],
        env: Environment,
        out: list[Node],
        known: dict[str, str],
        last: Names,
        prefix: str,
    ) -> Names:
        """Writes the nodes of every repetition that is there."""
        name, made, used = item["repeat"], [last[0]], {last[0]}
        label = f"{prefix}{item.get('name', name)}"
        for i, values in enumerate(env.get(name, ()), 1):
            source = made[-1]
            if "from" in item:
                picked = values.get(item["from"], [])
                chosen = picked if isinstance(picked, list) else [picked]
                empty = made[-1] if item.get("empty") == "previous" else made[0]
                sources = [made[j] for j in chosen] or [empty]
                used |= set(sources)
                source = self._joined(
                    item.get("join", "concat"), sources, f"{label}{i}_in", out
                )
            inner, own = {**known, "in": source}, {**env, **values}
            (source,) = self.write(
                item["nodes"], own, out, inner, (source,), f"{label}{i}_"
            )
            made.append(source)
        ends = [value for value in made if value not in used] if "leaves" in item else []
        if len(ends) > 1:
            return (self._joined(item["leaves"], ends, f"{label}_leaves", out),)
        return (made[-1],)

    def _joined(self, op: str, sources: list[str], name: str, out: list[Node]) -> str:
        """Returns the value of one source, or of several put together."""
        if len(sources) == 1:
            return sources[0]
        name = self._free(name, out)
        out.append(sp.node(name, op, sources))
        return name


def _attributes(op: str, item: Mapping[str, Any], env: Environment) -> dict[str, Any]:
    """Returns the attributes that an operation takes of those that a node has.

    A window has stride 1 and keeps the size of what it slides over, if not told otherwise.
    """
    taken = OPERATIONS.get(op, {})
    found = {k: _value(v, env) for k, v in item.items() if k in taken}
    found = {k: v for k, v in found.items() if v is not None}
    if "kernel" in taken and "kernel" in found:
        found.setdefault("stride", 1)
        found.setdefault("padding", (int(found["kernel"]) - 1) // 2)
    if "kernel_width" in found:
        found.setdefault("padding_width", (int(found["kernel_width"]) - 1) // 2)
    return found


def _holds(when: Any, env: Environment) -> bool:
    if when is None:
        return True
    tables = when if isinstance(when, list) else [when]
    return any(
        all(
            env.get(name) in (values if isinstance(values, list) else [values])
            for name, values in table.items()
        )
        for table in tables
    )


def _value(value: Any, env: Environment) -> Any:
    """Returns a value, ``"$name"`` or ``"$name * 2"`` replaced; None where it is absent."""
    if not (isinstance(value, str) and value.startswith("$")):
        return value
    factors = [part.strip() for part in value.split("*")]
    found = [env.get(f[1:]) if f.startswith("$") else int(f) for f in factors]
    if len(found) == 1 or None in found:
        return found[0] if len(found) == 1 else None
    product = 1
    for factor in found:
        product *= int(factor)  # pyright: ignore[reportArgumentType]
    return product


def _number(value: Any, env: Environment) -> int:
    found = _value(value, env)
    return int(found) if found is not None else 0


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
        top = {**constants, "classes": [1], **self._names(items)}
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
