"""Texts by name or by path, with options behind: ``reviews.csv,length=64,label=stars``."""

import re
from pathlib import Path

from jaxnas.core.errors import UserError, unknown_name
from jaxnas.data.texts.csv_file import SUFFIXES, open_csv
from jaxnas.data.texts.task import OpenedTexts, TextData, TextSource, finish, opened
from jaxnas.data.texts.words import Reading

_OPTION = re.compile(r",([A-Za-z_]+)=([^,]*)$")


def split_reading(name: str) -> tuple[str, Reading]:
    """Returns a name without the options behind it, and how they say to read.

    Raises:
        UserError: an unknown option, one that is there twice, or one that is no number.
    """
    given: dict[str, str] = {}
    while found := _OPTION.search(name):
        option, value = found.groups()
        if option not in Reading._fields:
            raise unknown_name("option of texts:", option, Reading._fields)
        if option in given:
            raise UserError(f"The option {option} of {name!r} stands twice.")
        given[option], name = value, name[: found.start()]
    numbers = ("vocabulary", "length", "seed")
    for option in set(given) & set(numbers):
        if not given[option].isdecimal():
            raise UserError(f"{option}={given[option]} is no whole number.")
    values = {k: int(v) if k in numbers else v for k, v in given.items()}
    return name, Reading(**values)  # pyright: ignore[reportArgumentType]


def is_text(name: str) -> bool:
    """Returns whether a name, options behind it, stands for texts and not for images."""
    from jaxnas import registry

    while found := _OPTION.search(name):
        name = name[: found.start()]
    return name in registry.names("text") or Path(name).suffix.lower() in SUFFIXES


def open_texts(name: str, reading: Reading) -> OpenedTexts:
    """Returns what a name or a path stands for; errors as :func:`load_texts`."""
    from jaxnas import registry

    path = Path(name).expanduser()
    if name not in registry.names("text") and path.suffix.lower() in SUFFIXES:
        return open_csv(path, reading)
    source: TextSource = registry.lookup("text", name)()
    if reading.text or reading.label:
        raise UserError(f"{name!r} has no columns to choose; leave text= and label= out.")
    return opened(*source.read(), name, source.recipe.facts())


def load_texts(name_or_path: str | Path, *, limit: int | None = None) -> TextData:
    """Returns a text task, with fixed splits, as ids of the words of its training split.

    Args:
        name_or_path: a registered name (see ``jaxnas data list``) or a CSV or TSV file in
            UTF-8 with a header, and behind it options of
            :class:`jaxnas.data.texts.words.Reading`, such as
            ``"reviews.csv,label=stars,tokens=characters,length=200"``.
        limit: most texts in each split, with the class shares of the whole; all when None.

    Raises:
        UserError: an unknown name or option, a missing or altered source, or texts or
            labels that cannot be used.
    """
    name, reading = split_reading(str(name_or_path))
    reading.check()
    return finish(str(name_or_path), open_texts(name, reading), reading, limit)
