"""Space files: TOML, YAML or JSON to a plain dict and back, with the line of every key."""

import functools
import json
import tomllib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from jaxnas.core.errors import UserError, unknown_name

Document = dict[str, Any]
Place = tuple[str | int, ...]
"""Where something stands in a document: keys and list indices from the top."""
FindLines = Callable[[], Mapping[Place, int]]
SUFFIXES = (".toml", ".yaml", ".yml", ".json")
LARGEST = 2**18
"""Most bytes of a space file."""


class Source:
    """A document and where its parts stand, for messages.

    Args:
        document: what was read.
        name: of the file; empty for a document that was given as a dict.
        find_lines: gives the line of each place that has one, from 1; asked once, and
            only where there is something to say.
    """

    def __init__(
        self,
        document: Document,
        name: str = "",
        find_lines: FindLines = dict,
    ) -> None:
        self.document, self.name, self._find_lines = document, name, find_lines

    @functools.cached_property
    def lines(self) -> Mapping[Place, int]:
        """Line of each place, from 1."""
        return self._find_lines()

    def at(self, place: Place) -> str:
        """Returns the place for a message: ``space.toml, line 12`` or its keys."""
        known = place
        while known and known not in self.lines:
            known = known[:-1]
        if known in self.lines:
            return f"{self.name}, line {self.lines[known]}"
        path = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in place)
        return (self.name or "the space") + (f" at {path.lstrip('.')}" if path else "")

    def error(self, place: Place, text: str) -> UserError:
        """Returns the error of what stands at a place."""
        return UserError(f"{self.at(place)}: {text}")

    def keys(self, place: Place, table: Any, known: Iterable[str]) -> dict[str, Any]:
        """Returns a table after refusing keys that are not known.

        Raises:
            UserError: no table, or an unknown key; the text has the line and the nearest.
        """
        if not isinstance(table, dict):
            raise self.error(place, f"a table of keys is needed here, not {table!r}.")
        for key in table:
            if key not in (names := list(known)):
                raise self.error((*place, key), str(unknown_name("key", str(key), names)))
        return table


def read(path: str | Path) -> Source:
    """Returns the document of a space file, by its suffix.

    Raises:
        UserError: no such file, another suffix, or text that is not of that format.
    """
    path = Path(path)
    if path.suffix not in SUFFIXES:
        raise UserError(
            f"{path} is no space file; its name must end in {', '.join(SUFFIXES)}."
        )
    try:
        data = path.read_bytes()
        if len(data) > LARGEST:
            raise UserError(f"{path} is larger than {LARGEST} bytes; no space file is.")
        text = data.decode("utf-8")
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not text in UTF-8.") from error
    parse = {".toml": _toml, ".json": _json}.get(path.suffix, _yaml)
    document, find_lines = parse(text, path.name)
    if not isinstance(document, dict):
        raise UserError(f"{path} holds no table of keys such as 'name' and 'decisions'.")
    return Source(document, path.name, find_lines)


def _json(text: str, name: str) -> tuple[Any, FindLines]:
    try:
        return json.loads(text), dict
    except (ValueError, RecursionError) as error:
        raise UserError(f"{name} is not JSON: {error}.") from error


def _toml(text: str, name: str) -> tuple[Any, FindLines]:
    try:
        document = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise UserError(f"{name} is not TOML: {error}.") from error
    return document, lambda: _TomlLines(text).found


class _TomlLines:
    """Lines of the places of a TOML text; the parser of the standard library has none.

    A place first stands where the shortest beginning of the text that parses has it, in the
    lines after the beginning that parsed before; there it is looked for by its name.
    """

    def __init__(self, text: str) -> None:
        self.found: dict[Place, int] = {}
        self.text = text.splitlines()
        start = 0
        for end in range(1, len(self.text) + 1):
            try:
                part = tomllib.loads("\n".join(self.text[:end]))
            except tomllib.TOMLDecodeError:
                continue
            self._note(part, (), start, end)
            start = end

    def _note(self, value: Any, place: Place, start: int, end: int) -> None:
        if place and place not in self.found:
            self.found[place] = self._line(place, start, end)
        items = value.items() if isinstance(value, dict) else ()
        items = enumerate(value) if isinstance(value, list) else items
        for key, inner in items:
            self._note(inner, (*place, key), start, end)

    def _line(self, place: Place, start: int, end: int) -> int:
        """Returns the first line of a statement with a key, after the line of its table."""
        key = place[-1]
        first = max(start + 1, self.found.get(place[:-1], 0))
        if isinstance(key, str):
            for number in range(first, end + 1):
                if key in self.text[number - 1]:
                    return number
        return first


class _Loader(yaml.SafeLoader):
    """Safe YAML that refuses a key that stands twice."""


def _yaml(text: str, name: str) -> tuple[Any, FindLines]:
    lines: dict[Place, int] = {}
    try:
        root = yaml.compose(text, Loader=_Loader)
        if root is not None:
            _note(root, (), lines, name, 0)
        document = yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        mark = getattr(error, "problem_mark", None)
        where = f"{name}, line {mark.line + 1}" if mark else name
        reason = getattr(error, "problem", None) or "it cannot be parsed"
        raise UserError(f"{where}: this is not YAML: {reason}.") from error
    return document, lambda: lines


def _note(
    node: yaml.Node, place: Place, lines: dict[Place, int], name: str, depth: int
) -> None:
    """Notes the line of every place below a node; refuses doubles and endless nesting."""
    lines.setdefault(place, node.start_mark.line + 1)
    if depth > 32 or len(lines) > 50_000:
        raise UserError(f"{name} is nested too deep or repeats an anchor without end.")
    if isinstance(node, yaml.SequenceNode):
        for i, inner in enumerate(node.value):
            _note(inner, (*place, i), lines, name, depth + 1)
    elif isinstance(node, yaml.MappingNode):
        seen = set()
        for key, inner in node.value:
            here = (*place, key.value)
            lines[here] = key.start_mark.line + 1
            if key.value in seen:
                raise UserError(f"{name}, line {lines[here]}: {key.value!r} stands twice.")
            seen.add(key.value)
            _note(inner, here, lines, name, depth + 1)


def canonical(document: Document) -> str:
    """Returns a document as JSON with sorted keys: what equality means.

    Raises:
        UserError: something that JSON cannot hold, such as a date or NaN.
    """
    try:
        return json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise UserError(
            "A space holds tables, lists, texts, finite numbers and truth values only: "
            f"{error}."
        ) from error


ORDER = (
    "format", "name", "names", "version", "description", "repeat", "least", "most", "op",
    "choices", "subset", "kernel", "kernel_width", "stride", "features", "inputs", "when",
    "fixed", "sizes", "decisions", "forbid", "operations", "blocks", "input",
)  # fmt: skip
"""Keys that stand first in a file, in this order; others follow by name."""


def _ordered(value: Any) -> Any:
    """Returns a document with the keys of every table in an order to read."""
    if isinstance(value, list):
        return [_ordered(item) for item in value]
    if not isinstance(value, dict):
        return value
    rank = {key: i for i, key in enumerate(ORDER)}
    keys = sorted(value, key=lambda key: (rank.get(key, len(ORDER)), key))
    return {key: _ordered(value[key]) for key in keys}


def write(document: Document, path: str | Path) -> None:
    """Writes a document as a file in the format of its suffix; reading gives it back.

    Raises:
        UserError: another suffix, or a folder that cannot be written.
    """
    path, document = Path(path), _ordered(document)
    if path.suffix == ".toml":
        import tomli_w

        text = tomli_w.dumps(document)
    elif path.suffix in (".yaml", ".yml"):
        text = yaml.safe_dump(document, sort_keys=False, allow_unicode=True)
    elif path.suffix == ".json":
        text = json.dumps(document, indent=1)
    else:
        raise UserError(f"Cannot write {path}; its name must end in {', '.join(SUFFIXES)}.")
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}.") from error
