"""What repetitions take from earlier ones, as edges of a graph."""

from collections.abc import Iterator

from jaxnas.spaces.declared.decisions import Decision, Item, Repeat


def skips(items: tuple[Item, ...]) -> Iterator[tuple[int, int, int, int]]:
    """Yields (slot, token, source node, target node) of decisions over earlier rounds."""
    for item in items:
        if not isinstance(item, Repeat):
            continue
        nodes = [_first(inner) + 1 for inner in item.rounds]
        for target, inner in zip(nodes, item.rounds, strict=True):
            for one in inner:
                if not (isinstance(one, Decision) and one.earlier):
                    continue
                if one.members is None:
                    earlier = nodes[: nodes.index(target)]
                    for token, source in enumerate(earlier, 1):
                        yield one.slots[0], token, source, target
                else:
                    for slot, member in zip(one.slots, one.members, strict=True):
                        yield slot, 1, nodes[int(member) - 1], target
            yield from skips(inner)


def _first(items: tuple[Item, ...]) -> int:
    """Returns the first slot of a repetition."""
    for item in items:
        slots = item.slots if isinstance(item, Decision) else (_first(item.rounds[0]),)
        if slots:
            return slots[0]
    raise AssertionError("a repetition has a slot")
