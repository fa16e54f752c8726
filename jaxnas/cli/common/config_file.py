"""``--config FILE.toml`` of every command, and the options of a command as such a file."""

import contextlib
import dataclasses
import tomllib
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxnas import registry
from jaxnas.core.errors import UserError, unknown_name
from jaxnas.core.files import LATENT, replacing

FORMAT = "jaxnas-config-1"
FILE = "config.toml"
"""The options of a run, in its directory."""
MOMENTARY = (
    "fresh", "resume", "quiet", "json", "coordinator", "process", "processes",
)  # fmt: skip
"""Options that say how a command is run this time and not what it does."""


RESUMED = {
    "budget", "max-proposals", "workers", "executor", "store", "timeout", "tensorboard",
    "wandb", "help",
}  # fmt: skip
"""Options that a resumed run may have otherwise than before, beside momentary ones."""
COPIES = ("space", "latent")
"""Options whose file is copied beside the configuration of a run."""


def expanded(args: Sequence[str], commands: Mapping[str, Any]) -> list[str]:
    """Returns arguments with the options of ``--config FILE`` behind them.

    An option that is given as an argument as well is the argument's. ``--resume RUN`` is
    the configuration that RUN holds, with its own directory.

    Args:
        args: of the command line.
        commands: command classes by name.

    Raises:
        UserError: no such file, no TOML, a newer format, another command, or an unknown
            option; the text has the nearest.
    """
    args, path = _without_config(args)
    if not args or args[0] not in commands:
        return args
    leaf, names = _leaf(args, commands)
    if "resume" in options(leaf) and (run := _value(args, "--resume")) is not None:
        if path is not None:
            raise UserError("--resume RUN has its own configuration; leave --config out.")
        path = _of_run(run, args)
        args += ["--out", str(run.absolute().parent)]
    if path is None:
        return args
    document = _read(path)
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
            if plain in COPIES and isinstance(value, str):
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


def _value(args: Sequence[str], flag: str) -> Path | None:
    """Returns the path behind a flag, which stays among the arguments."""
    for arg, after in zip(args, [*args[1:], None], strict=True):
        if arg == flag and after is not None:
            return Path(after)
        if arg.startswith(f"{flag}="):
            return Path(arg.partition("=")[2])
    return None


def _of_run(run: Path, args: Sequence[str]) -> Path:
    """Returns the configuration that a run directory holds.

    Raises:
        UserError: there is none, or an argument that would make it another run.
    """
    if run.suffix == ".zip" and run.is_file():
        raise UserError(f"{run} is a packed run; unzip it and resume the folder.")
    if not (run / FILE).is_file():
        if (run / "config.json").is_file():
            raise UserError(
                f"{run} is one method of a search; resume the folder that holds it: "
                f"--resume {run.absolute().parent}"
            )
        raise UserError(
            f"{run} holds no {FILE}: it is no directory of a search, or of one made before "
            "runs had it; repeat the command that made it."
        )
    allowed = RESUMED | set(MOMENTARY) - {"fresh"}
    for arg in args:
        name = arg.split("=")[0].removeprefix("--").replace("_", "-")
        if arg.startswith("--") and name.removeprefix("no-") not in allowed:
            raise UserError(
                f"--resume goes on with the options in {run / FILE}; leave --{name} out, "
                "or start another run with it."
            )
    return run / FILE


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
    """Returns the copy that stands beside the configuration, where it is that."""
    near = path.parent / value
    copied = value.endswith(registry.SPACE_FILES) or value == LATENT
    return str(near) if copied and not Path(value).exists() and near.exists() else value


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


@contextlib.contextmanager
def recorded(
    command: Any, name: str, folder: Path, space: str | None = None
) -> Iterator[None]:
    """Writes ``config.toml`` into a run directory, and its space file beside it.

    As a context around the run: where that is refused or fails before it has begun, what
    was there before comes back.

    Raises:
        UserError: the folder cannot be written.
    """
    names = [FILE, *(f"space{ending}" for ending in registry.SPACE_FILES)]
    paths = [folder / name for name in names]
    before = {path: path.read_bytes() if path.is_file() else None for path in paths}
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    _save(command, name, folder, space)
    try:
        yield
    except Exception as error:
        begun = any(folder.glob("*/config.json"))
        if begun and not isinstance(error, UserError):
            raise
        for path, content in before.items():
            if content is not None:
                path.write_bytes(content)
            elif not begun:
                path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # not empty: something else is there
            for path in made:
                path.rmdir()
        raise


def _save(command: Any, name: str, folder: Path, space: str | None) -> None:
    import tomli_w

    made = document(command, [name])
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if space is not None and space.endswith(registry.SPACE_FILES):
            copy = folder / f"space{Path(space).suffix}"
            if copy.resolve() != Path(space).resolve():
                copy.write_bytes(Path(space).read_bytes())
            made["space"] = copy.name
        if (folder / LATENT).exists():
            made["latent"] = LATENT
        with replacing(folder / FILE) as file:
            file.write(tomli_w.dumps(made).encode())
    except OSError as error:
        raise UserError(f"{folder} cannot be written: {error.strerror}.") from error
