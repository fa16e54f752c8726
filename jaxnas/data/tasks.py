"""Tasks of either kind: images or texts by name, and a space's networks for them."""

from pathlib import Path

from jaxnas.core.errors import UserError
from jaxnas.core.space import Imaged, SearchSpace, Textual
from jaxnas.data.images.sources import load_images
from jaxnas.data.images.task import ImageData
from jaxnas.data.texts.sources import is_text, load_texts
from jaxnas.data.texts.task import TextData

Task = ImageData | TextData


def load_task(name_or_path: str | Path, *, limit: int | None = None) -> Task:
    """Returns texts where the name is one of texts or a CSV file, and images else.

    Raises:
        UserError: as :func:`jaxnas.load_images` and :func:`jaxnas.load_texts`.
    """
    load = load_texts if is_text(str(name_or_path)) else load_images
    return load(name_or_path, limit=limit)


def noun(data: Task) -> str:
    """Returns what a task is of: ``"image"`` or ``"text"``."""
    return "text" if isinstance(data, TextData) else "image"


def check_pixels(data: Task, **asked: bool) -> None:
    """Refuses what is done to pixels, by name, where a task is of texts.

    Raises:
        UserError: the first that is asked for.
    """
    for name in (name for name, wanted in asked.items() if wanted):
        if noun(data) == "text":
            raise UserError(
                f"{name} changes the pixels of images, and {data.name!r} holds texts; "
                f"leave {name} out."
            )


def built_for(space: SearchSpace, data: Task, **size: int) -> SearchSpace:
    """Returns a space whose networks take the inputs of a task and have its classes.

    Args:
        space: any.
        data: the task.
        **size: sizes of the networks that are not searched, by name.

    Raises:
        UserError: an unknown size, or networks that cannot take such inputs.
    """
    if isinstance(data, TextData) and isinstance(space, Textual):
        length, vocabulary = data.x_train.shape[1], len(data.vocabulary)
        return space.for_texts(length, vocabulary, data.num_classes, **size)
    if isinstance(data, ImageData) and isinstance(space, Imaged):
        height, width, channels = data.x_train.shape[1:]
        return space.for_images((height, width, channels), data.num_classes, **size)
    raise UserError(
        f"The networks of {space.id!r} cannot be built for {noun(data)}s; use a space "
        f"such as {'text-chain' if noun(data) == 'text' else 'nb201'}."
    )
