"""The ``jaxnas`` command: one file a sub-command, errors as one sentence."""

import io
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command line and exits with a code.

    0; 1, the machine's fault; 2, the user's; 3, a search that met no constraint; 130,
    interrupted.
    """
    _replace_what_cannot_be_encoded()
    import tyro

    from jaxnas.cli.common import config_file
    from jaxnas.cli.common.progress import INTERRUPT
    from jaxnas.cli.config import Config
    from jaxnas.cli.data import Data
    from jaxnas.cli.db import Db
    from jaxnas.cli.doctor import Doctor
    from jaxnas.cli.eval import Eval
    from jaxnas.cli.export import Export
    from jaxnas.cli.info import Info
    from jaxnas.cli.latent import Latent
    from jaxnas.cli.listing import List
    from jaxnas.cli.pack import Pack
    from jaxnas.cli.report import Report
    from jaxnas.cli.retrain import Retrain
    from jaxnas.cli.search import Search
    from jaxnas.cli.space import Space
    from jaxnas.cli.study import Study
    from jaxnas.cli.surrogate import Surrogate
    from jaxnas.cli.sweep import Sweep
    from jaxnas.cli.validate import Validate
    from jaxnas.core.errors import JaxnasError
    from jaxnas.core.jax_settings import check_platform, check_settings
    from jaxnas.core.ranges import check_command

    commands = {
        "search": Search,
        "sweep": Sweep,
        "report": Report,
        "eval": Eval,
        "pack": Pack,
        "space": Space,
        "study": Study,
        "latent": Latent,
        "surrogate": Surrogate,
        "data": Data,
        "db": Db,
        "retrain": Retrain,
        "validate": Validate,
        "export": Export,
        "list": List,
        "info": Info,
        "config": Config,
        "doctor": Doctor,
    }
    given = list(sys.argv[1:] if argv is None else argv)
    unreadable = [text for text in given if not _is_text(text)]
    if unreadable:
        print(
            f"jaxnas: {unreadable[0]!a} is no text in the encoding of this system; "
            "rename that file or folder, or set LANG=C.UTF-8.",
            file=sys.stderr,
        )
        sys.exit(2)
    showing = given[:2] == ["config", "show"] and bool(set(given[2:]) - {"-h", "--help"})
    try:
        given = config_file.expanded(given[2:] if showing else given, commands)
    except JaxnasError as error:
        print(f"jaxnas: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    command = tyro.extras.subcommand_cli_from_dict(
        commands,
        prog="jaxnas",
        description=(
            "Reinforcement learning that designs neural networks. Thousands of controllers "
            "search a benchmark in one compiled program; evolution and random search run "
            "beside them under the same budget. Start with: jaxnas search"
        ),
        args=given,
    )
    if showing:
        sys.exit(_show(command, config_file.words(given, commands)))
    try:
        if threading.current_thread() is threading.main_thread():
            INTERRUPT.listen()
        check_command(command)
        if not isinstance(command, Data | Db | List | Info | Doctor | Config):
            check_settings()
        sys.exit(_run(command, check_platform))
    except JaxnasError as error:
        print(f"jaxnas: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print(
            "\njaxnas: interrupted; the last checkpoint stands. Run the same command again "
            "to go on from it.",
            file=sys.stderr,
        )
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(1)


def _show(command: Any, words: Sequence[str]) -> int:
    """Prints the options of a command as a configuration file."""
    import tomli_w

    from jaxnas.cli.common import config_file

    print(tomli_w.dumps(config_file.document(command, words, everything=True)), end="")
    return 0


def _run(command: Any, check_platform: Callable[[], None]) -> int:
    """Runs a command; devices that JAX cannot use are one sentence wherever met."""
    try:
        return command.run()
    except (RuntimeError, AssertionError):  # JAX raises either without its devices
        check_platform()
        raise


def _replace_what_cannot_be_encoded() -> None:
    """Lets the terminal show a question mark for a character that it does not know."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def _is_text(argument: str) -> bool:
    """Returns whether all bytes of an argument could be decoded."""
    return not any("\ud800" <= letter <= "\udfff" for letter in argument)
