"""Decisions of a declared space, spread out over the token positions that hold them.

A *slot* is one token: a decision, in one repetition of the group that it stands in. Token
``k`` is the ``k``-th choice; a slot that can be without a value has one token more, the
last, which is *absent*, and in the first decision of an optional repetition *stop*.
"""

import heapq
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from jaxnas.core.errors import unknown_name
from jaxnas.spaces.declared.document import Place, Source

Value = str | int | float | bool
Terms = tuple[tuple[int, frozenset[int]], ...]
"""Slots and the tokens of each; true where all of them hold one of theirs."""

NEVER: Terms = ((-1, frozenset()),)
"""A condition that never holds."""
MOST_SLOTS, MOST_CHOICES = 1024, 1024
DECISION = ("name", "names", "choices", "subset", "when")
REPEAT = ("repeat", "most", "least", "decisions", "when", "forbid")
EARLIER = "earlier"


@dataclass(frozen=True)
class Slot:
    """One token position."""

    name: str
    """Unique, such as ``layer2.kernel``."""
    kind: str
    """The same for all repetitions, such as ``layer.kernel``."""
    choices: tuple[Value, ...]
    absent: bool  # whether there is one token more, for no value
    when: tuple[Terms, ...]  # it has a value where one of these holds; () is always
    stops: bool = False  # whether absent may be chosen where a value could be

    @property
    def size(self) -> int:
        """Number of tokens that it can have."""
        return len(self.choices) + self.absent

    def token(self, value: Any) -> int | None:
        """Returns the token of a value, or None."""
        for token, choice in enumerate(self.choices):
            if choice == value and isinstance(choice, bool) == isinstance(value, bool):
                return token
        return None


@dataclass(frozen=True)
class Decision:
    """A decision, where its slots are; one slot a member where it chooses a subset."""

    name: str
    slots: tuple[int, ...]
    members: tuple[Value, ...] | None = None
    earlier: bool = False  # whether its values are numbers of earlier repetitions


@dataclass(frozen=True)
class Repeat:
    """A group of decisions, once for each repetition."""

    name: str
    rounds: tuple[tuple["Item", ...], ...]


Item = Decision | Repeat


@dataclass
class Layout:
    """All slots in order, what is forbidden, and the items that they belong to."""

    slots: list[Slot] = field(default_factory=list)
    forbidden: list[Terms] = field(default_factory=list)
    items: tuple[Item, ...] = ()


@dataclass
class _Scope:
    """Names that can be seen at a place, innermost first."""

    prefix: str  # of slot names
    kind: str
    inner: dict[str, int] = field(default_factory=dict)
    outer: "_Scope | None" = None
    previous: "_Scope | None" = None  # the same group, one repetition earlier
    round: int = 0

    def find(self, name: str) -> int | None:
        """Returns the slot of a name, searching outwards."""
        found = self.inner.get(name)
        return self.outer.find(name) if found is None and self.outer else found

    def names(self) -> list[str]:
        """Returns all names that can be used here."""
        return [*self.inner, *(self.outer.names() if self.outer else ())]


def spread(source: Source) -> Layout:
    """Returns the slots of a document.

    Raises:
        UserError: something malformed; the text has its line or its place.
    """
    document = source.document
    builder = _Builder(source, Layout())
    scope = _Scope("", "")
    items = builder.group(document.get("decisions"), ("decisions",), scope, ())
    builder.layout.items = items
    builder.forbid(document.get("forbid", []), ("forbid",), scope)
    if not builder.layout.slots:
        raise source.error(("decisions",), "a space needs at least one decision.")
    return builder.layout


class _Builder:
    """Walks the items of a document and writes slots."""

    def __init__(self, source: Source, layout: Layout) -> None:
        self.source, self.layout = source, layout

    def group(
        self,
        items: Any,
        place: Place,
        scope: _Scope,
        given: tuple[Terms, ...],
        stops: bool = False,
    ) -> tuple[Item, ...]:
        """Writes the items of one scope, those that others depend on first.

        Args:
            items: as they stand in the document.
            place: of the list.
            scope: of their names.
            given: when the scope is there at all.
            stops: whether its first decision may be to stop.
        """
        if not isinstance(items, list) or not items:
            raise self.source.error(place, "a list of at least one decision is needed.")
        plain = list(self._named(items, place))
        made: list[Item] = []
        for index in self._order(plain):
            item, here = plain[index]
            if "repeat" in item:
                made.append(self._repeat(item, here, scope, given))
            else:
                made.append(self._decision(item, here, scope, given, stops and not made))
            if stops and len(made) == 1:
                given = (self._present(self._first(made[0], item, here)),)
        return tuple(made)

    def _first(self, made: Item, item: Mapping[str, Any], place: Place) -> int:
        """Returns the slot that says whether an optional repetition is there."""
        if isinstance(made, Decision) and made.members is None and "when" not in item:
            return made.slots[0]
        raise self.source.error(
            place,
            "the first decision of an optional repetition also says whether to stop, so it "
            "needs 'choices' and no 'when'.",
        )

    def _named(
        self, items: list[Any], place: Place
    ) -> Iterator[tuple[dict[str, Any], Place]]:
        """Yields items with one name each, after checking their keys."""
        seen: dict[str, Place] = {}
        for i, item in enumerate(items):
            here = (*place, i)
            known = REPEAT if isinstance(item, dict) and "repeat" in item else DECISION
            item = self.source.keys(here, item, known)
            label = "repeat" if "repeat" in item else "name"
            names = item.get("names", [item.get(label)])
            if not isinstance(names, list) or ("names" in item and "name" in item):
                raise self.source.error(here, "'names' is a list, in place of 'name'.")
            for name in names:
                good = isinstance(name, str) and name.replace("-", "_").isidentifier()
                if not good or name in (EARLIER, "previous", "in"):
                    raise self.source.error(
                        here,
                        f"{name!r} cannot name a decision; a name is made of letters, "
                        "digits, - and _, begins with a letter, and is not one of "
                        "'earlier', 'previous' and 'in'.",
                    )
                if name in seen:
                    first = self.source.at(seen[name])
                    raise self.source.error(
                        here, f"two decisions are called {name!r}; the first is at {first}."
                    )
                seen[name] = here
                yield {**item, label: name}, here

    def _order(self, items: Sequence[tuple[dict[str, Any], Place]]) -> list[int]:
        """Returns the items in the order of the file, those that are asked about first."""
        names = {
            item.get("repeat", item.get("name")): i for i, (item, _) in enumerate(items)
        }
        waits = {
            i: {names[n] for n in _asked(item) if n in names and names[n] != i}
            for i, (item, _) in enumerate(items)
        }
        ready = [i for i, wanted in waits.items() if not wanted]
        order: list[int] = []
        while ready:
            done = heapq.heappop(ready)
            order.append(done)
            for i, wanted in waits.items():
                if done in wanted:
                    wanted.remove(done)
                    if not wanted:
                        heapq.heappush(ready, i)
        if len(order) < len(items):
            stuck = [n for n, i in names.items() if i not in order]
            raise self.source.error(
                items[names[stuck[0]]][1],
                f"the conditions of {', '.join(map(repr, stuck))} depend on each other in "
                "a cycle, so that none can be decided first.",
            )
        return order

    def _decision(
        self,
        item: dict[str, Any],
        place: Place,
        scope: _Scope,
        given: tuple[Terms, ...],
        stops: bool,
    ) -> Decision:
        name, when = item["name"], item.get("when")
        conditions = self._conditions(when, (*place, "when"), scope, given)
        if ("choices" in item) == ("subset" in item):
            raise self.source.error(place, f"{name!r} needs either 'choices' or 'subset'.")
        if "choices" in item:
            choices = self._choices(item["choices"], (*place, "choices"), scope)
            slot = self._write(name, choices, conditions, scope, place, stops=stops)
            scope.inner[name] = slot
            return Decision(name, (slot,), None, item["choices"] == EARLIER)
        members = self._choices(item["subset"], (*place, "subset"), scope)
        if item["subset"] == EARLIER:
            members = members[1:]
        slots = tuple(
            self._write(f"{name}[{member}]", (False, True), conditions, scope, place, name)
            for member in members
        )
        return Decision(name, slots, members, item["subset"] == EARLIER)

    def _write(
        self,
        name: str,
        choices: tuple[Value, ...],
        when: tuple[Terms, ...],
        scope: _Scope,
        place: Place,
        kind: str = "",
        stops: bool = False,
    ) -> int:
        slots = self.layout.slots
        full = scope.prefix + name
        if any(slot.name == full for slot in slots):
            raise self.source.error(
                place, f"two decisions come to be called {full!r}; rename one."
            )
        kind, absent = scope.kind + (kind or name), stops or bool(when)
        slots.append(Slot(full, kind, choices, absent, when, stops))
        if len(slots) > MOST_SLOTS:
            raise self.source.error(
                place, f"the space has more than {MOST_SLOTS} decisions in all."
            )
        return len(slots) - 1

    def _choices(self, choices: Any, place: Place, scope: _Scope) -> tuple[Value, ...]:
        if choices == EARLIER:
            if not scope.round:
                raise self.source.error(
                    place, "'earlier' means earlier repetitions, and this is in no repeat."
                )
            return tuple(range(scope.round))
        if not isinstance(choices, list) or not choices:
            raise self.source.error(
                place, f"a list of at least one choice is needed, not {choices!r}."
            )
        for i, choice in enumerate(choices):
            if not isinstance(choice, str | int | float | bool):
                raise self.source.error(
                    (*place, i),
                    f"a choice is a text, a number or a truth value, not {choice!r}; give "
                    "what it stands for under 'operations'.",
                )
            twice = [c for c in choices[:i] if c == choice and type(c) is type(choice)]
            if twice:
                raise self.source.error((*place, i), f"the choice {choice!r} stands twice.")
        if len(choices) > MOST_CHOICES:
            raise self.source.error(place, f"at most {MOST_CHOICES} choices are possible.")
        return tuple(choices)

    def _repeat(
        self, item: dict[str, Any], place: Place, scope: _Scope, given: tuple[Terms, ...]
    ) -> Repeat:
        name, most, least = item["repeat"], item.get("most", 0), item.get("least", 1)
        whole = type(most) is int and type(least) is int
        if not whole or not (0 <= least <= most and 1 <= most <= MOST_SLOTS):
            raise self.source.error(
                place,
                f"{name!r} needs 'most', a whole number from 1 to {MOST_SLOTS}, and "
                f"'least' from 0 to it; got most = {most!r}, least = {least!r}.",
            )
        conditions = self._conditions(item.get("when"), (*place, "when"), scope, given)
        rounds: list[tuple[Item, ...]] = []
        previous: _Scope | None = None
        start = -1
        for i in range(1, most + 1):
            prefix, kind = f"{scope.prefix}{name}{i}.", f"{scope.kind}{name}."
            inside = _Scope(prefix, kind, {}, scope, previous, i)
            optional = i > least
            if optional and i > 1:  # there only where the one before it is
                conditions = (self._present(start),)
            start = len(self.layout.slots)
            inner = (*place, "decisions")
            rounds.append(
                self.group(item.get("decisions"), inner, inside, conditions, optional)
            )
            self.forbid(item.get("forbid", []), (*place, "forbid"), inside)
            previous = inside
        return Repeat(name, tuple(rounds))

    def _present(self, slot: int) -> Terms:
        """Returns the terms that hold where a slot has a value."""
        return ((slot, frozenset(range(len(self.layout.slots[slot].choices)))),)

    def _conditions(
        self, when: Any, place: Place, scope: _Scope, given: tuple[Terms, ...]
    ) -> tuple[Terms, ...]:
        """Returns when a decision has a value: one of its own, and what its group needs."""
        own = self._terms(when, place, scope)
        if not own:
            return given
        inside = set(scope.inner.values())
        full: list[Terms] = []
        for terms in own:
            # A value in the same repetition says already that the repetition is there.
            implied = any(slot in inside for slot, _ in terms)
            full += [terms] if implied or not given else [terms + g for g in given]
        return tuple(full)

    def _terms(self, when: Any, place: Place, scope: _Scope) -> list[Terms]:
        """Returns the alternatives of a condition, each a conjunction."""
        if when is None:
            return []
        tables = when if isinstance(when, list) else [when]
        if not tables or not all(isinstance(t, dict) and t for t in tables):
            raise self.source.error(
                place, "a condition is a table such as { op = 'conv' }, or a list of them."
            )
        found = []
        for table in tables:
            terms = self._conjunction(table, place, scope)
            if terms is not None:
                found.append(terms)
        return found or [NEVER]  # "previous" in a first repetition

    def _conjunction(
        self, table: Mapping[str, Any], place: Place, scope: _Scope
    ) -> Terms | None:
        terms = []
        for name, values in table.items():
            slot = self._find(str(name), (*place, name), scope)
            if slot is None:
                return None
            wanted = values if isinstance(values, list) else [values]
            terms.append((slot, self._tokens(slot, wanted, (*place, name))))
        return tuple(terms)

    def _tokens(self, slot: int, values: list[Any], place: Place) -> frozenset[int]:
        known = self.layout.slots[slot]
        tokens = [known.token(value) for value in values]
        for value, token in zip(values, tokens, strict=True):
            if token is None:
                what = f"value of {known.name!r}:"
                wrong = unknown_name(what, str(value), map(str, known.choices))
                raise self.source.error(place, str(wrong))
        return frozenset(token for token in tokens if token is not None)

    def _find(self, name: str, place: Place, scope: _Scope) -> int | None:
        """Returns a slot by its name; None for the previous of a first repetition."""
        head, dot, rest = name.partition(".")
        if head == "previous" and dot:
            if not scope.round:
                raise self.source.error(place, f"{name!r} is used outside of any repeat.")
            if scope.previous is None:
                return None
            found, names = scope.previous.inner.get(rest), list(scope.previous.inner)
        else:
            found, names = scope.find(name), scope.names()
            if found is None:
                full = {slot.name: i for i, slot in enumerate(self.layout.slots)}
                found, names = full.get(name), [*names, *full]
        if found is None:
            text = str(unknown_name("decision", name, names[:64]))
            raise self.source.error(place, text)
        return found

    def forbid(self, tables: Any, place: Place, scope: _Scope) -> None:
        """Notes combinations that must not be; each names decisions and values."""
        if not isinstance(tables, list):
            raise self.source.error(place, "'forbid' is a list of tables.")
        for i, table in enumerate(tables):
            here = (*place, i)
            if not isinstance(table, dict) or not table:
                raise self.source.error(
                    here, "a forbidden combination is a table such as { op = 'conv' }."
                )
            terms = self._conjunction(table, here, scope)
            if terms is not None:
                self.layout.forbidden.append(terms)


def _asked(item: Mapping[str, Any]) -> set[str]:
    """Returns the names that the conditions of an item ask about; of groups, theirs."""
    when = item.get("when")
    tables = when if isinstance(when, list) else [when]
    found = {str(name) for t in tables if isinstance(t, dict) for name in t}
    found |= {name.partition(".")[0].rstrip("0123456789") for name in found if "." in name}
    inner = item.get("decisions") if "repeat" in item else None
    for part in inner if isinstance(inner, list) else ():
        found |= _asked(part) if isinstance(part, dict) else set()
    return found
