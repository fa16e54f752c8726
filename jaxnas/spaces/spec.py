"""Helpers for writing a spec; its form is described in docs/decisions/0005-spec.md."""

import dataclasses
from typing import Any

from jaxnas.core.errors import UserError, unknown_name
from jaxnas.core.types import Spec

FORMAT = "jaxnas-spec-1"
CHOICES = "jaxnas-choices-1"
"""Format of what a space without networks gives; nothing can build it."""


def node(name: str, op: str, inputs: list[str], **attributes: Any) -> dict[str, Any]:
    """Returns one node: a named use of an operation on the values of earlier nodes."""
    return {"name": name, "op": op, "inputs": inputs, "attributes": attributes}


def block(
    inputs: list[str], nodes: list[dict[str, Any]], outputs: list[str]
) -> dict[str, Any]:
    """Returns a sub-network, used by nodes with ``op="call"`` as often as they like."""
    return {"inputs": inputs, "nodes": nodes, "outputs": outputs}


def image(height: int, width: int, channels: int) -> dict[str, Any]:
    """Returns the type of a batch of images, channels last, the batch axis left out."""
    return {"kind": "image", "shape": [height, width, channels]}


def vector(features: int) -> dict[str, Any]:
    """Returns the type of a batch of feature vectors, the batch axis left out."""
    return {"kind": "vector", "shape": [features]}


def text(length: int, vocabulary: int) -> dict[str, Any]:
    """Returns the type of a batch of texts: ids of words, whole numbers as float32."""
    return {"kind": "text", "shape": [length], "vocabulary": vocabulary}


def image_spec(space: Any, blocks: dict[str, Any], nodes: list[dict[str, Any]]) -> Spec:
    """Returns the spec of a network from ``image`` to ``logits`` of a space for images."""
    return network_spec(space, {"image": image(*space.image)}, blocks, nodes)


def text_spec(space: Any, blocks: dict[str, Any], nodes: list[dict[str, Any]]) -> Spec:
    """Returns the spec of a network from ``text`` to ``logits`` of a space for texts."""
    return network_spec(space, {"text": text(*space.words)}, blocks, nodes)


def network_spec(
    space: Any, inputs: dict[str, Any], blocks: dict[str, Any], nodes: list[dict[str, Any]]
) -> Spec:
    """Returns the spec of a network from ``inputs`` to ``logits``."""
    return {
        "format": FORMAT,
        "space": space.id,
        "inputs": inputs,
        "outputs": {"logits": vector(space.num_classes)},
        "blocks": blocks,
        "nodes": nodes,
    }


def choices(space: Any, values: dict[str, Any]) -> Spec:
    """Returns what was decided in a space without networks."""
    return {"format": CHOICES, "space": space.id, "choices": values}


def body(spec: Spec, space: str, name: str) -> dict[str, dict[str, Any]]:
    """Returns the nodes of block ``name`` by their names, for ``from_spec``.

    Raises:
        UserError: the spec has another form, belongs to another space, or lacks the block.
    """
    if spec.get("format") != FORMAT or spec.get("space") != space:
        raise UserError(
            f"This spec is {spec.get('format')!r} of space {spec.get('space')!r}; "
            f"{FORMAT!r} of space {space!r} is needed."
        )
    if name not in spec.get("blocks", {}):
        raise UserError(f"This spec of space {space!r} has no block {name!r}.")
    return {item["name"]: item for item in spec["blocks"][name]["nodes"]}


def resized(
    space: Any, names: tuple[str, ...], image: Any, num_classes: int, size: dict[str, int]
) -> Any:
    """Returns a space, a frozen dataclass, with other images and some sizes replaced.

    Args:
        space: has the fields ``image`` and ``num_classes``.
        names: fields that may be replaced.
        image: height, width, channels.
        num_classes: of the data set.
        size: new values by field.

    Raises:
        UserError: a size that the space does not have, or refuses.
    """
    for name in size:
        if name not in names:
            raise unknown_name(f"size of {space.id!r}:", name, names)
    return dataclasses.replace(space, image=tuple(image), num_classes=num_classes, **size)
