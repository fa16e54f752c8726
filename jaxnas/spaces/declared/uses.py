"""Every operation that the networks of a declared space can have, without making one."""

from collections.abc import Iterator, Mapping, Sequence, Set
from typing import Any

from jaxnas.spaces.declared.template import Template

NETWORK = "its network"
"""What puts an operation there that no decision is asked for."""
Choices = Mapping[str, Set[Any]]
"""What a decision can be, by the last part of its name."""


def operations(template: Template, choices: Choices) -> dict[str, str]:
    """Returns the operations by name, and the first choice that puts each there.

    Args:
        template: of the space.
        choices: values that some architecture has; a part of the network that asks for
            another one is left out.

    Returns:
        ``{"conv": "its network", "attention_edge": "connectivity = 'attention'"}``.
    """
    fixed = {name: {value} for name, value in template.constants.items()}
    return _Walk(template, {**fixed, **choices}).found()


class _Walk:
    """Visits every node, each named operation and block once."""

    def __init__(self, template: Template, choices: Choices) -> None:
        self.template, self.choices = template, choices
        self.seen: dict[str, str] = {}
        """Operations, and the names of those and of the blocks that the file declares."""

    def found(self) -> dict[str, str]:
        self.nodes(self.template.network, NETWORK)
        own = {*self.template.operations, *self.template.blocks}
        return {op: where for op, where in self.seen.items() if op not in own}

    def nodes(self, nodes: Sequence[Any], where: str) -> None:
        for item in nodes:
            here = self.reached(item.get("when"), where)
            if here is None:
                continue
            if "repeat" in item:
                self.joins(item, here)
            if "nodes" in item:
                self.nodes(item["nodes"], here)
            elif "op" in item:
                for op, chosen in self.chosen(item["op"], here):
                    self.operation(op, chosen)

    def joins(self, item: Mapping[str, Any], where: str) -> None:
        """Visits what joins several sources of a repetition, and the ends of all."""
        if "from" in item:
            self.operation(item.get("join", "concat"), where)
        if "leaves" in item:
            self.operation(item["leaves"], where)

    def chosen(self, op: str, where: str) -> Iterator[tuple[str, str]]:
        """Yields the operations that ``"$name"`` can be, or the one that is named."""
        if not op.startswith("$"):
            yield op, where
            return
        name = op[1:]
        for choice in sorted(self.choices.get(name, ()), key=str):
            yield str(choice), f"{name} = {str(choice)!r}"

    def operation(self, op: str, where: str) -> None:
        if op in self.seen:
            return
        self.seen[op] = where
        if op in self.template.operations:
            self.nodes(self.template.operations[op], where)
        elif op in self.template.blocks:
            self.nodes(self.template.blocks[op]["nodes"], where)

    def reached(self, when: Any, where: str) -> str | None:
        """Returns what puts a node there, or None where nothing can."""
        tables = when if isinstance(when, list) else [when] if when is not None else []
        for table in tables:
            if all(self.possible(name, values) for name, values in table.items()):
                parts = (
                    " or ".join(f"{name} = {value!r}" for value in self.possible(name, v))
                    for name, v in table.items()
                )
                return " and ".join(parts)
        return None if tables else where

    def possible(self, name: str, values: Any) -> list[Any]:
        wanted = values if isinstance(values, list) else [values]
        return [value for value in wanted if value in self.choices.get(name, ())]
