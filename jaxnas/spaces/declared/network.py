"""Networks of a declared space: its template, filled in with what was chosen.

A template is a list of nodes. A node names an operation of the table, of the file's own
``operations`` or one of its ``blocks``, or a decision, ``"$op"``, whose choice is such a
name; its attributes are numbers or products such as ``"$width * 2"``. Without ``inputs`` a
node takes the value of the one before it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from jaxnas.core.errors import UserError, unknown_name
from jaxnas.core.operations import OPERATIONS
from jaxnas.core.types import Spec
from jaxnas.spaces import spec as sp
from jaxnas.spaces.declared.template import Template

MOST_NODES = 20_000
Names = tuple[str, ...]
Node = dict[str, Any]
Environment = Mapping[str, Any]
"""Values of all names that can be seen at a place; absent decisions are left out."""


def to_spec(
    template: Template, space: Any, values: Mapping[str, Any], sizes: Mapping[str, int]
) -> Spec:
    """Returns the network of named values.

    Args:
        template: of the space.
        space: has ``id``, ``image``, ``words`` and ``num_classes``.
        values: what was chosen, as :func:`jaxnas.spaces.declared.values.to_values` gives.
        sizes: that are not searched, by name.

    Raises:
        UserError: an input that no node makes, or a network without end.
    """
    env = {**template.constants, **sizes, "classes": space.num_classes, **values}
    if template.input == "text":
        env["vocabulary"] = space.words[1]
    writer = _Writer(template, env)
    nodes: list[Node] = []
    start = template.input
    writer.write(template.network, env, nodes, {start: start}, (start,), "")
    if not nodes:
        raise UserError(f"The network of {space.id!r} has no node for {dict(values)}.")
    nodes[-1]["name"] = "logits"
    write = {"image": sp.image_spec, "text": sp.text_spec}[template.input]
    return {**write(space, writer.blocks, nodes), "choices": dict(values)}


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
