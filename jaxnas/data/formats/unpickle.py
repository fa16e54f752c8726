"""Reading other people's pickles without running other people's code.

A pickle is a program. This reader lets it build plain containers, numbers and strings, and
instances of classes that the caller lists by name, which are replaced by empty stand-ins;
the module they name is never imported. Everything else is refused before it is called.
"""

import io
import pickle
from collections.abc import Collection, Mapping
from typing import Any

from jaxnas.core.errors import UserError


class _ForbiddenError(Exception):
    """A pickle asked for something that is not on the list."""


class _Restricted(pickle.Unpickler):
    """An unpickler whose only globals are those it was given."""

    def __init__(
        self, content: bytes, stand_ins: Mapping[tuple[str, str], Any], encoding: str
    ):
        super().__init__(io.BytesIO(content), encoding=encoding)
        self._stand_ins = stand_ins

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        """Returns the stand-in for a listed class and refuses every other global."""
        try:
            return self._stand_ins[module_name, global_name]
        except KeyError:
            raise _ForbiddenError(f"{module_name}.{global_name}") from None


def loads(content: bytes, name: str, allowed: Collection[tuple[str, str]] = ()) -> Any:
    """Returns a pickled object, listed classes as bags; errors as :func:`loads_with`."""
    # made anew for each file, so that no file can change what another one gets
    inert = {key: type(key[1], (), {}) for key in allowed}
    return loads_with(content, name, inert)


def loads_with(
    content: bytes,
    name: str,
    stand_ins: Mapping[tuple[str, str], Any],
    encoding: str = "ASCII",
) -> Any:
    """Returns the object in a pickle whose globals are replaced by ours.

    ``stand_ins`` maps ``(module, name)`` to what the pickle gets; it may call it with
    anything, so each must be safe for any arguments. ``encoding`` is that of the strings
    of Python 2; ``"bytes"`` leaves them bytes.

    Raises:
        UserError: the pickle names anything else, or cannot be read.
    """
    try:
        return _Restricted(content, stand_ins, encoding).load()
    except _ForbiddenError as error:
        raise UserError(
            f"The file {name} tries to use {error}, which a data file has no reason to do; "
            "it was not loaded."
        ) from error
    except Exception as error:  # a damaged pickle can raise almost anything
        raise UserError(
            f"The file {name} is not a readable pickle ({type(error).__name__}); reinstall "
            "the package that it belongs to."
        ) from error
