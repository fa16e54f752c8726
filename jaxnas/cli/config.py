"""``jaxnas config show COMMAND ...``: what a command line and its file come to."""

from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from jaxnas.core.errors import UserError


@dataclass(frozen=True)
class Config:
    """Prints the options of any command as a file, which --config FILE.toml takes back.

    Example: jaxnas config show search --config search.toml --budget 50
    """

    action: Annotated[Literal["show"], tyro.conf.Positional]
    """A command and its options follow."""

    def run(self) -> int:
        """Says how it is used; with a command behind it, the front door prints it."""
        raise UserError(
            "Name a command with its options: jaxnas config show search --config FILE.toml"
        )
