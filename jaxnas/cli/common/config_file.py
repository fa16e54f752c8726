"""``--config FILE.toml`` of every command, and the options of a command as such a file."""

import dataclasses
import tomllib
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxnas import registry
from jaxnas.core.errors import UserError, unknown_name

FORMAT = "jaxnas-config-1"
MOMENTARY = ("fresh", "quiet", "json", "coordinator", "process", "processes")
"""Options that say how a command is run this time and not what it does."""


def expanded(args: Sequence[str], commands: Mapping[str, Any]) -> list[str]:
    """Returns arguments with the options of ``--config FILE`` behind them.

    An option that is given as an argument as well is the argument's.

    Args:
        args: of the command line.
        commands: command classes by name.

    Raises:
        UserError: no such file, no TOML, a newer format, another command, or an unknown
            option; the text has the nearest.
    """
    args, path = _without_config(args)
    if path is None or not args or args[0] not in commands:
        return args
    document = _read(path)
    leaf, names = _leaf(args, commands)
    command = " ".join(names)
    wanted = document.pop("command", command)
    if wanted != command:
        raise UserError(f"{path} is a configuration of {wanted!r}, not of {command!r}.")
    known = options(leaf)
    flags = [arg.split("=")[0][2:] for arg in args if arg.startswith("--")]
    given = {flag.removeprefix("no-") for flag in flags}
    added: list[str] = []
    for key, value in document.items():
        plain = key.replace("_", "-")
        if plain not in known:
            raise unknown_name(f"option in {path}:", key, known)
        if plain not in given and plain.replace("-", "_") not in given:
            if plain == "space" and isinstance(value, str):
                value = _beside(value, path)
            added += _arguments(plain, value, path)
    return [*args, *added]


def _without_config(args: Sequence[str]) -> tuple[list[str], Path | None]:
    found: Path | None = None
    left: list[str] = []
    waiting = False
    for arg in args:
        if waiting:
            found, waiting = Path(arg), False
        elif arg == "--config":
            waiting = True
        elif arg.startswith("--config="):
            found = Path(arg.removeprefix("--config="))
        else:
            left.append(arg)
    if waiting:
        raise UserError("--config needs a file.")
    return left, found


def _read(path: Path) -> dict[str, Any]:
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not TOML: {error}.") from error
    form = document.pop("format", FORMAT)
    if form != FORMAT:
        raise UserError(
            f"{path} has the format {form!r}, and this jaxnas knows {FORMAT!r}; upgrade "
            "jaxnas."
        )
    return document


def _leaf(args: Sequence[str], commands: Mapping[str, Any]) -> tuple[Any, list[str]]:
    """Returns the class that takes the options, and the words that lead to it."""
    owner, names = commands[args[0]], [args[0]]
    for arg in args[1:]:
        inner = _subcommands(owner)
        if arg not in inner:
            break
        owner = inner[arg]
        names.append(arg)
    return owner, names


def words(args: Sequence[str], commands: Mapping[str, Any]) -> list[str]:
    """Returns the words of a command line that name its command."""
    return _leaf(args, commands)[1]


def _subcommands(owner: Any) -> dict[str, Any]:
    """Returns the classes behind the words of a command's union, none where it has none."""
    hint = typing.get_type_hints(owner, include_extras=True).get("command")
    found: dict[str, Any] = {}
    stack = [hint]
    while stack:
        item = stack.pop()
        for meta in getattr(item, "__metadata__", ()):
            name = getattr(meta, "name", None)
            inner = typing.get_args(item)[0]
            if isinstance(name, str) and dataclasses.is_dataclass(inner):
                found[name] = inner
        stack += [part for part in typing.get_args(item) if part is not item]
    return found


def options(owner: Any) -> dict[str, str]:
    """Returns the names of a command's options, with the fields that hold them."""
    hints = typing.get_type_hints(owner, include_extras=True)
    found: dict[str, str] = {}
    for field in dataclasses.fields(owner):
        hint = hints[field.name]
        plain = typing.get_args(hint)[0] if hasattr(hint, "__metadata__") else hint
        if dataclasses.is_dataclass(plain):
            found |= options(plain)
        elif field.name != "command" and "Positional" not in str(hint):
            found[field.name.replace("_", "-")] = field.name
    return found


def _arguments(name: str, value: Any, path: Path) -> list[str]:
    flag = f"--{name}"
    if isinstance(value, bool):
        return [flag if value else f"--no-{name}"]
    if isinstance(value, dict):
        return [flag, *(f"{key}={_text(one)}" for key, one in value.items())]
    if isinstance(value, list):
        return [flag, *map(_text, value)] if value else []
    if isinstance(value, str | int | float):
        return [flag, _text(value)]
    raise UserError(f"The option {name!r} in {path} cannot be {value!r}.")


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _beside(value: str, path: Path) -> str:
    """Returns a space file that stands beside the configuration, where it is none here."""
    near = path.parent / value
    there = value.endswith(registry.SPACE_FILES) and not Path(value).exists()
    return str(near) if there and near.exists() else value


def document(
    command: Any, names: Sequence[str], everything: bool = False
) -> dict[str, Any]:
    """Returns the options of a command as a configuration.

    Args:
        command: the parsed options.
        names: the words of the command.
        everything: also how it is run this time.
    """
    made: dict[str, Any] = {"format": FORMAT, "command": " ".join(names)}
    return made | _values(command, everything)


def _values(command: Any, everything: bool) -> dict[str, Any]:
    hints = typing.get_type_hints(type(command), include_extras=True)
    found: dict[str, Any] = {}
    for field in dataclasses.fields(command):
        value = getattr(command, field.name)
        if dataclasses.is_dataclass(value):
            found |= _values(value, everything)
        elif value is None or value == () or "Positional" in str(hints[field.name]):
            continue
        elif everything or field.name not in MOMENTARY:
            found[field.name.replace("_", "-")] = _plain(value)
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    return str(value) if isinstance(value, Path) else value


def save(command: Any, name: str, folder: Path, space: str | None) -> None:
    """Writes ``config.toml`` into a run directory, and its space file beside it.

    Raises:
        UserError: the folder cannot be written.
    """
    import tomli_w

    made = document(command, [name])
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if space is not None and space.endswith(registry.SPACE_FILES):
            copy = folder / f"space{Path(space).suffix}"
            if copy.resolve() != Path(space).resolve():
                copy.write_bytes(Path(space).read_bytes())
            made["space"] = copy.name
        (folder / "config.toml").write_text(tomli_w.dumps(made), encoding="utf-8")
    except OSError as error:
        raise UserError(f"{folder} cannot be written: {error.strerror}.") from error
