"""The oracle of a function in a Python file, for the command line and for workers."""

import functools
import hashlib
import importlib.util
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxnas.core.errors import UserError, unknown_name
from jaxnas.core.space import SearchSpace
from jaxnas.oracles.function import FunctionOracle, oracle


@dataclass(frozen=True)
class FileFunction:
    """A function of a Python file, found again in any process."""

    path: str
    name: str
    checksum: str

    def __call__(self, architecture: Any, *amount: float) -> Any:
        """Returns what the function gives, of some amount where it has fidelities."""
        return _loaded(self.path, self.checksum, self.name)(architecture, *amount)


def from_file(
    source: str,
    space: SearchSpace,
    objective: str | Sequence[str] = "score",
    minimise: str | Sequence[str] = "",
    traced: bool = False,
    takes: str = "",
    timeout: float | None = None,
    fidelities: str | int | float | Sequence[int | float] = "",
) -> FunctionOracle:
    """A function of yours in a Python file, such as source=train.py:score.

    Args:
        source: path of the file, a colon, and the name of the function in it.
        space: of the architectures.
        objective: names of the numbers that it gives, with commas.
        minimise: those of which less is better.
        traced: whether it may be compiled.
        takes: ``dict``, ``tokens`` or ``spec``; see :func:`oracle`.
        timeout: seconds after which a call is a failed evaluation.
        fidelities: rising amounts with commas, such as ``1,3,9``, the last the full one;
            the function then takes one as its second argument.

    Raises:
        UserError: no such file or function, or a file that cannot be run.
    """
    path, colon, name = source.rpartition(":")
    if not colon or not name.isidentifier():
        raise UserError(f"{source!r} names no function; write it as FILE.py:FUNCTION.")
    try:
        checksum = hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from error
    _loaded(path, checksum, name)
    split = lambda text: text.split(",") if isinstance(text, str) else list(text)
    less = [part.strip() for part in split(minimise) if part.strip()]
    names = [part.strip() for part in split(objective) if part.strip()]
    for one in less:
        if one not in names:
            raise unknown_name("objective to minimise:", one, names)
    up = {one: one not in less for one in names}
    label = f"{Path(path).stem}.{name}-v1-{checksum[:8]}"
    function = FileFunction(path, name, checksum)
    if isinstance(fidelities, int | float):  # one number on a command line
        fidelities = (fidelities,)
    try:
        amounts = [float(part) for part in split(fidelities) if part]
    except ValueError as error:
        raise UserError(
            f"Cannot read the fidelities {fidelities!r}; write numbers with commas."
        ) from error
    return oracle(
        function, space, up, traced, takes or None, label, timeout, fidelities=amounts
    )


@functools.lru_cache(maxsize=8)
def _loaded(path: str, checksum: str, name: str) -> Callable[[Any], Any]:
    """Returns a function of a file, whose folder may be imported from, as for a script."""
    folder = str(Path(path).resolve().parent)
    if folder not in sys.path:
        sys.path.append(folder)
    module_name = f"jaxnas_user_{checksum[:16]}"
    found = importlib.util.spec_from_file_location(module_name, path)
    if found is None or found.loader is None:
        raise UserError(f"{path} is no Python file; its name must end in .py.")
    module = importlib.util.module_from_spec(found)
    sys.modules[module_name] = module
    try:
        found.loader.exec_module(module)
    except Exception as error:
        raise UserError(
            f"{path} cannot be run: {type(error).__name__}: {error}."
        ) from error
    function = getattr(module, name, None)
    if not callable(function):
        known = [n for n, v in vars(module).items() if callable(v) and n[0] != "_"]
        raise unknown_name(f"function of {path}:", name, known)
    return function
