"""The ``jaxnas`` command: one file a sub-command, errors as one sentence."""

import sys
import threading
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command line; exits 0, 1 (the machine's fault), 2 (the user's) or 130."""
    import tyro

    from jaxnas.cli.common.progress import INTERRUPT
    from jaxnas.cli.data import Data
    from jaxnas.cli.db import Db
    from jaxnas.cli.doctor import Doctor
    from jaxnas.cli.export import Export
    from jaxnas.cli.info import Info
    from jaxnas.cli.latent import Latent
    from jaxnas.cli.listing import List
    from jaxnas.cli.report import Report
    from jaxnas.cli.search import Search
    from jaxnas.cli.surrogate import Surrogate
    from jaxnas.cli.sweep import Sweep
    from jaxnas.cli.validate import Validate
    from jaxnas.core.errors import JaxnasError

    commands = {
        "search": Search,
        "sweep": Sweep,
        "report": Report,
        "latent": Latent,
        "surrogate": Surrogate,
        "data": Data,
        "db": Db,
        "validate": Validate,
        "export": Export,
        "list": List,
        "info": Info,
        "doctor": Doctor,
    }
    command = tyro.extras.subcommand_cli_from_dict(
        commands,
        prog="jaxnas",
        description=(
            "Reinforcement learning that designs neural networks. Thousands of controllers "
            "search a benchmark in one compiled program; evolution and random search run "
            "beside them under the same budget. Start with: jaxnas search"
        ),
        args=list(argv) if argv is not None else None,
    )
    try:
        if threading.current_thread() is threading.main_thread():
            INTERRUPT.listen()
        sys.exit(command.run())
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
