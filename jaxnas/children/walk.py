"""The one walk over a spec that every target shares.

A target is a function of (operation, attributes, inputs, path). The walk knows ``call`` and
nothing else, so the parameters that are counted are the parameters that are built.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from jaxnas.core.errors import UserError
from jaxnas.core.types import Spec

DEPTH = 32  # blocks that may call each other one inside the other

Visit = Callable[[str, Mapping[str, Any], tuple[Any, ...], str], Any]
"""(operation, attributes, values of the inputs, path) -> value of the node."""
Descend = Callable[[], Any]
Blocks = tuple[str, ...]
Call = Callable[[str, tuple[Any, ...], str, Descend], Any]
"""(block, values of its inputs, path, what walks through it) -> value of the block."""


def through(block: str, inputs: tuple[Any, ...], path: str, descend: Descend) -> Any:
    """Returns the value of a block by walking through it: the plain :data:`Call`."""
    return descend()


def walk(
    spec: Spec, values: Mapping[str, Any], visit: Visit, call: Call = through
) -> dict[str, Any]:
    """Returns the value of every top-level name, by visiting all nodes in order.

    Args:
        spec: the network; see ``docs/decisions/0005-spec.md``.
        values: of the inputs, by name.
        visit: makes the value of a node; the path joins node names by dots, such as
            ``stage0_cell0.edge12``, and is what the node's parameters are called.
        call: what to do at a block, for a target that can reuse what it knows of one.

    Raises:
        UserError: a value that no node makes, a block that is missing, is given another
            number of inputs, has not one output, or calls itself; the text names the node.
    """
    return _Walk(spec, visit, call).nodes(spec["nodes"], dict(values), "", ())


class _Walk(NamedTuple):
    """What all steps of a walk share; ``inside`` names the blocks around a step."""

    spec: Spec
    visit: Visit
    call: Call

    def nodes(
        self, nodes: Sequence[Any], values: dict[str, Any], prefix: str, inside: Blocks
    ) -> dict[str, Any]:
        for item in nodes:
            path = f"{prefix}{item['name']}"
            for name in item["inputs"]:
                if name not in values:
                    raise UserError(
                        f"The node {path!r} uses {name!r}, which no node makes before it."
                    )
            inputs = tuple(values[name] for name in item["inputs"])
            op, attributes = item["op"], item["attributes"]
            if op != "call":
                values[item["name"]] = self.visit(op, attributes, inputs, path)
                continue
            block = attributes["block"]
            descend = self.descent(block, inputs, path, inside)
            values[item["name"]] = self.call(block, inputs, path, descend)
        return values

    def descent(
        self, name: str, inputs: tuple[Any, ...], path: str, inside: Blocks
    ) -> Descend:
        """Returns what walks through one use of a block and gives its only output."""
        if name not in self.spec["blocks"]:
            raise UserError(
                f"The node {path!r} calls the block {name!r}, which is missing."
            )
        if name in inside:
            raise UserError(f"The node {path!r} calls the block {name!r} inside itself.")
        if len(inside) == DEPTH:
            raise UserError(f"The node {path!r} lies inside more than {DEPTH} blocks.")
        block = self.spec["blocks"][name]
        if len(block["inputs"]) != len(inputs) or len(block["outputs"]) != 1:
            raise UserError(
                f"The node {path!r} gives {len(inputs)} values to the block {name!r}, "
                f"which has {len(block['inputs'])} inputs and {len(block['outputs'])} "
                "outputs; as many inputs and one output are needed."
            )
        values = dict(zip(block["inputs"], inputs, strict=True))

        def descend() -> Any:
            around = (*inside, name)
            made = self.nodes(block["nodes"], values, f"{path}.", around)
            (output,) = block["outputs"]
            if output not in made:
                raise UserError(f"The block {name!r} has no value {output!r} to give back.")
            return made[output]

        return descend
