"""Refusal of specs that no network can be made of, each in one sentence.

For specs that come from a file or from a stranger; the spaces write correct ones.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from jaxnas.children.count import count_totals
from jaxnas.children.ops import lookup
from jaxnas.core.errors import UserError
from jaxnas.core.operations import Attribute
from jaxnas.core.space import SearchSpace
from jaxnas.core.types import Spec

FORMAT = "jaxnas-spec-1"
LARGEST = 2**24  # largest number that an attribute or a side of a shape may be
MEMORY = 2**33  # bytes that a network may need unless the caller says otherwise, 8 GiB
MOST_NODES = 100_000  # operations of a network, each block counted as often as it is used
LEAST_WORDS = 3
"""Of a vocabulary: padding, unknown words, and one that is known."""
_PARTS = ("format", "inputs", "outputs", "blocks", "nodes")
_RANKS = {"image": 3, "vector": 1, "text": 1}


def check(
    spec: Spec, memory: int = MEMORY, lack: str = "which the operation table lacks"
) -> None:
    """Refuses a spec that cannot work; returns nothing.

    Checked, in this order: it is JSON of format ``jaxnas-spec-1``; inputs and outputs have
    types; names are unique and without dots; nodes stand after what they use; operations
    are known and their attributes are numbers within range, none unknown; blocks exist and
    do not call themselves; all shapes work and end in the declared ones; the size is one
    that a machine can hold.

    Args:
        spec: as parsed from JSON.
        memory: bytes allowed for weights, gradients and two moments (16 a parameter) and
            the activations of one input (4 a number).
        lack: how to call an operation that is not there.

    Raises:
        UserError: one sentence that names the node and what is wrong.
    """
    _check_form(spec)
    _check_types(spec, "inputs")
    _check_types(spec, "outputs")
    for name, block in spec["blocks"].items():
        _check_block(spec, name, block, lack)
    _check_nodes(spec, spec["nodes"], list(spec["inputs"]), "", lack)
    _check_recursion(spec)
    totals = count_totals(spec)
    if totals.nodes > MOST_NODES:
        raise UserError(
            f"The network has {totals.nodes} operations; at most {MOST_NODES} can be built."
        )
    need = 16 * totals.params + 4 * totals.activations
    if need > memory:
        raise UserError(
            f"The network needs about {need / 2**30:.3g} GiB for {totals.params} "
            f"parameters and one input's {totals.activations} activations, more than the "
            f"{memory / 2**30:.3g} GiB allowed; make it smaller."
        )


def check_space(space: SearchSpace) -> None:
    """Refuses a space whose architectures are no networks: ``has_network`` is False.

    Raises:
        UserError: one sentence that says what to do.
    """
    if not getattr(space, "has_network", True):
        raise UserError(
            f"The space {space.id!r} names no operations, so that no network can be built; "
            "add a network to its file (docs/spaces.md), or score it with a table or a "
            "function of your own."
        )


def _check_form(spec: Any) -> None:
    if not isinstance(spec, dict) or not set(_PARTS) <= set(spec):
        raise UserError(f"A spec is a JSON object with the parts {', '.join(_PARTS)}.")
    if spec["format"] != FORMAT:
        raise UserError(f"This spec is {spec['format']!r}; {FORMAT!r} is needed.")
    try:
        json.dumps(spec, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise UserError(
            "The spec cannot be written as JSON; it may hold only objects, lists, texts, "
            "finite numbers, truth values and nulls."
        ) from error
    for part in ("inputs", "outputs", "blocks"):
        if not isinstance(spec[part], dict):
            raise UserError(f"The {part} of the spec must be an object of names.")
    if not spec["inputs"] or not spec["outputs"]:
        raise UserError("The spec needs at least one input and one output.")


def _check_types(spec: Spec, part: str) -> None:
    for name, kind in spec[part].items():
        good = isinstance(kind, dict) and kind.get("kind") in list(_RANKS)
        shape = kind.get("shape") if good else None
        good = isinstance(shape, list) and len(shape) == _RANKS[kind["kind"]]
        if good and kind["kind"] == "text":
            good = part == "inputs" and _whole(kind.get("vocabulary"), LEAST_WORDS)
        if not good or not all(_whole(side, 1) for side in shape or []):
            raise UserError(
                f"{name!r} of the {part} must be an image with shape [height, width, "
                "channels], a vector with shape [features] or, as an input, a text with "
                f"shape [words] and a vocabulary of {LEAST_WORDS} or more, in whole "
                f"numbers from 1 to {LARGEST}, not {kind!r}."
            )


def _check_block(spec: Spec, name: str, block: Any, lack: str) -> None:
    good = isinstance(block, dict) and {"inputs", "nodes", "outputs"} <= set(block)
    if not good or not all(_names(block[part]) for part in ("inputs", "outputs")):
        raise UserError(f"The block {name!r} must have inputs, nodes and outputs.")
    if len(set(block["inputs"])) != len(block["inputs"]):
        raise UserError(f"The block {name!r} has two inputs of one name.")
    made = _check_nodes(spec, block["nodes"], block["inputs"], f"{name}.", lack)
    if len(block["outputs"]) != 1 or block["outputs"][0] not in made:
        raise UserError(
            f"The block {name!r} must have one output, a value that it makes; it has "
            f"{block['outputs']}."
        )


def _check_nodes(
    spec: Spec, nodes: Any, inputs: Sequence[str], prefix: str, lack: str
) -> set[str]:
    """Refuses malformed nodes and returns the names of all values."""
    if not isinstance(nodes, list):
        raise UserError(f"The nodes of {prefix[:-1] or 'the spec'!r} must be a list.")
    for item in nodes:
        _check_node(spec, item, prefix, lack)
    later = {item["name"] for item in nodes}
    made = set(inputs)
    for item in nodes:
        path = prefix + item["name"]
        for name in item["inputs"]:
            if name not in made and name in later:
                raise UserError(
                    f"The node {path!r} uses {name!r}, which is not made before it; nodes "
                    "must stand in the order of computation, and cycles are not possible."
                )
            if name not in made:
                raise UserError(f"The node {path!r} uses {name!r}, which no node makes.")
        if item["name"] in made:
            raise UserError(f"The name {path!r} is used twice.")
        made.add(item["name"])
    return made


def _check_node(spec: Spec, item: Any, prefix: str, lack: str) -> None:
    good = isinstance(item, dict) and {"name", "op", "inputs", "attributes"} <= set(item)
    if not good or not _names([item["name"], item["op"]]) or not _names(item["inputs"]):
        raise UserError(
            "Each node must have a name (text without dots or slashes), an op, inputs (a "
            f"list of names) and attributes; this one has not: {str(item)[:200]}."
        )
    path, attributes = prefix + item["name"], item["attributes"]
    if not item["inputs"] or not isinstance(attributes, dict):
        raise UserError(f"The node {path!r} needs an input, and attributes by name.")
    if item["op"] == "call":
        if list(attributes) != ["block"] or attributes["block"] not in list(spec["blocks"]):
            raise UserError(
                f"The node {path!r} calls a block by the attributes {attributes}, which "
                "must name one that the spec has."
            )
        return
    known = lookup(item["op"], path, lack).attributes
    _check_attributes(path, item["op"], attributes, known)


def _check_attributes(
    path: str, op: str, given: Mapping[str, Any], known: Mapping[str, Attribute]
) -> None:
    for name, value in given.items():
        if name not in known:
            raise UserError(
                f"The node {path!r} ({op}) has the attribute {name!r}, which is unknown; "
                f"known are {', '.join(known) or 'none'}."
            )
        kind = known[name]
        good, allowed = _allowed(value, kind)
        if not good and not (value is None and kind.optional):
            raise UserError(
                f"The node {path!r} ({op}) has {name} {value!r}, which must be {allowed}."
            )
    for name, kind in known.items():
        if name not in given and not kind.optional:
            raise UserError(f"The node {path!r} ({op}) lacks the attribute {name!r}.")


def _allowed(value: Any, kind: Attribute) -> tuple[bool, str]:
    """Returns whether a value is one of an attribute's, and which those are."""
    if kind.flag:
        return isinstance(value, bool), "true or false"
    if kind.share:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return number and 0 <= value < 1, "a number from 0 to below 1"
    return _whole(value, kind.least), f"a whole number from {kind.least} to {LARGEST}"


def _check_recursion(spec: Spec) -> None:
    """Refuses blocks that reach themselves through calls, also where nothing uses them."""
    calls = {
        name: {n["attributes"]["block"] for n in block["nodes"] if n["op"] == "call"}
        for name, block in spec["blocks"].items()
    }
    while calls:
        done = [name for name, inner in calls.items() if not inner & set(calls)]
        if not done:
            raise UserError(
                f"The block {min(calls)!r} calls itself through {sorted(calls)}."
            )
        for name in done:
            del calls[name]


def _whole(value: Any, least: int) -> bool:
    """Whether a value is a whole number within range; true and false are not."""
    whole = isinstance(value, int) and not isinstance(value, bool)
    return whole and least <= value <= LARGEST


def _names(values: Any) -> bool:
    """Whether these are names: text that can be a part of a path."""
    return isinstance(values, list) and all(
        isinstance(v, str) and v and not set(v) & set("./\0") for v in values
    )
