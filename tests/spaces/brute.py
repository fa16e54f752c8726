"""Declared spaces by brute force: every way to fill in a document, and whether it holds.

Written from the meaning of a document alone; nothing of the package is used.
"""

import itertools
import random


def architectures(document):
    """Returns all architectures of a document, as dicts like those of ``to_dict``."""
    found = list(_group(document["decisions"], {}, None))
    kept = [one for one in found if not _forbidden(document.get("forbid", ()), one, None)]
    return [{**document.get("fixed", {}), **one} for one in kept]


def _group(items, outer, previous):
    """All ways to fill in the items of one group, in an order that respects conditions."""
    plain = []
    for item in items:
        names = item.get("names", [item.get("name", item.get("repeat"))])
        plain += [(name, item) for name in names]
    order = []
    while len(order) < len(plain):
        done = {name for name, _ in order}
        mine = {name for name, _ in plain}
        for name, item in plain:
            needed = _asked(item) & mine - {name}
            if name not in done and needed <= done:
                order.append((name, item))
                break
    partial = [{}]
    for name, item in order:
        longer = []
        for one in partial:
            seen = {**outer, **one}
            if not _holds(item.get("when"), seen, previous):
                # A group that is not there is an empty list of repetitions.
                longer.append({**one, name: []} if "repeat" in item else one)
            elif "repeat" in item:
                longer += [{**one, name: r} for r in _rounds(item, seen)]
            elif "subset" in item:
                members = _members(item["subset"], outer)
                if not members:
                    longer.append(one)
                for size in range(len(members) + 1):
                    for chosen in itertools.combinations(members, size):
                        if members:
                            longer.append({**one, name: list(chosen)})
            else:
                choices = item["choices"]
                if choices == "earlier":
                    choices = list(range(outer["#round"]))
                longer += [{**one, name: choice} for choice in choices]
        partial = longer
    return partial


def _asked(item):
    """Names that conditions of an item, or inside it, ask about."""
    inner = [_asked(one) for one in item.get("decisions", ())]
    return {n for t in _tables(item.get("when")) for n in t}.union(*inner)


def _members(subset, outer):
    return list(range(1, outer["#round"])) if subset == "earlier" else list(subset)


def _rounds(item, outer):
    """All lists of repetitions."""
    done = []
    growing = [[]]
    for number in range(item["most"] + 1):
        if number >= item.get("least", 1):
            done += growing
        if number == item["most"]:
            break
        longer = []
        for rounds in growing:
            previous = rounds[-1] if rounds else None
            for one in _group(item["decisions"], {**outer, "#round": number + 1}, previous):
                inside = {**outer, **one}
                if not _forbidden(item.get("forbid", ()), inside, previous):
                    longer.append([*rounds, one])
        growing = longer
    return done


def _tables(when):
    return when if isinstance(when, list) else [when] if when else []


def _value(name, seen, previous):
    if name.startswith("previous."):
        return None if previous is None else previous.get(name.removeprefix("previous."))
    if "." in name:
        group, inner = name.split(".", 1)
        stem = group.rstrip("0123456789")
        rounds, number = seen.get(stem, []), int(group[len(stem) :])
        return rounds[number - 1].get(inner) if number <= len(rounds) else None
    return seen.get(name)


def _matches(table, seen, previous):
    for name, values in table.items():
        value = _value(name, seen, previous)
        wanted = values if isinstance(values, list) else [values]
        if value is None or value not in wanted:
            return False
    return True


def _holds(when, seen, previous):
    return when is None or any(_matches(t, seen, previous) for t in _tables(when))


def _forbidden(tables, seen, previous):
    return any(_matches(table, seen, previous) for table in tables)


def random_document(seed):
    """Returns a random document with conditions, a repeat, skips and forbidden parts."""
    rng = random.Random(seed)
    some = lambda: rng.sample(["a", "b", "c", "d"], rng.randint(2, 3))
    first, second = some(), some()
    decisions = [
        {"name": "one", "choices": first},
        {"name": "two", "choices": second, "when": {"one": rng.sample(first, 1)}},
        {
            "name": "three",
            "choices": [1, 2],
            "when": [{"two": second[0]}, {"one": first[-1]}],
        },
    ]
    kinds = some()
    inner = [
        {"name": "kind", "choices": kinds},
        {"name": "size", "choices": [1, 3], "when": {"kind": rng.sample(kinds, 1)}},
    ]
    if rng.random() < 0.5:
        inner.append({"name": "from", "subset": "earlier"})
    elif rng.random() < 0.5:
        inner.append({"name": "source", "choices": "earlier"})
    if rng.random() < 0.5:
        when = {"one": rng.sample(first, 1)[0], "kind": kinds[-1]}
        inner.append({"name": "extra", "choices": ["x", "y"], "when": when})
    repeat = {
        "repeat": "layer",
        "least": rng.randint(0, 2),
        "most": rng.randint(2, 3),
        "decisions": inner,
    }
    if rng.random() < 0.6:
        repeat["forbid"] = [{"kind": kinds[0], "previous.kind": kinds[0]}]
    if rng.random() < 0.4:
        repeat["when"] = {"one": rng.sample(first, 1)[0]}
    decisions.insert(rng.randint(0, 3), repeat)
    rng.shuffle(decisions)
    document = {"name": "random", "decisions": decisions}
    forbid = []
    if rng.random() < 0.7:
        forbid.append({"one": first[0], "layer1.kind": kinds[-1]})
    if rng.random() < 0.7:
        forbid.append({"two": second[-1], "three": 1})
    if rng.random() < 0.5:
        forbid.append({"one": first[:2], "two": second[:1]})
    if forbid:
        document["forbid"] = forbid
    return document
