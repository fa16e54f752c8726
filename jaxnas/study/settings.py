"""What a study was made with, as plain data, and how it is made again."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxnas import registry
from jaxnas.core.errors import UserError, unknown_name
from jaxnas.core.space import SearchSpace
from jaxnas.spaces.declare import declare


def directions(given: bool | str | Mapping[str, bool | str]) -> dict[str, bool]:
    """Returns whether more is better, by the names of the objectives."""
    table = given if isinstance(given, Mapping) else {"score": given}
    if not table:
        raise UserError("A study needs at least one objective.")
    found = {}
    for name, up in table.items():
        words = {"maximise": True, "maximize": True, "minimise": False, "minimize": False}
        if isinstance(up, str) and up not in words:
            raise unknown_name(f"direction of {name!r}:", up, words)
        found[str(name)] = words[up] if isinstance(up, str) else bool(up)
    return found


def make(space: SearchSpace | str | Path | Mapping[str, Any]) -> SearchSpace:
    """Returns the space of a document, of a name or a file, or itself."""
    if isinstance(space, Mapping):
        return declare(space)
    return registry.make_space(str(space)) if isinstance(space, str | Path) else space


def recipe_of(space: Any) -> list[Any]:
    """Returns name, options and id of a space, which make it again."""
    made = make(space)
    name, options = registry.recipe(made) or (None, {})
    return [name, options, made.id]


def remade(recipe: Sequence[Any]) -> SearchSpace:
    """Returns the space of a recipe.

    Raises:
        UserError: it was never registered, or is another one now.
    """
    name, options, wanted = recipe
    if name is None:
        raise UserError(
            f"The space {wanted!r} of this study was built in Python; pass it: "
            "Study(space=..., path=...)."
        )
    made = registry.make_space(name, **options)
    if made.id != wanted:
        raise UserError(f"The space of this study was {wanted!r} and is {made.id!r} now.")
    return made


def check_same(given: Mapping[str, Any], settings: Mapping[str, Any], path: Any) -> None:
    """Refuses to go on with something else than the file was made with."""
    for name, value in given.items():
        if value is None:
            continue
        stored, told = settings[name], value
        if name == "space":
            stored, told = stored[2], told[2]
        if stored != told:
            raise UserError(
                f"The study {path or 'in memory'} has {name} {stored!r}, not {told!r}; "
                "leave it out, or name another file."
            )
