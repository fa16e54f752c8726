"""Small real images with fixed splits: what a child network is trained and evaluated on."""

from pathlib import Path

from jaxnas.data.images.task import ImageData, ImageSource, Opened, finish

IMAGE_TASKS = (
    "digits", "mnist-5k", "animals", "textures", "fashion-confusable", "fashion-8x8",
)  # fmt: skip
"""The task set: small real image tasks of different hardness, each with fixed splits."""


def load_images(
    name_or_path: str | Path, *, size: int | None = None, limit: int | None = None
) -> ImageData:
    """Returns an image task, verified, with fixed splits and without shared images.

    Args:
        name_or_path: a registered name (see ``jaxnas data list``); an ``.npz`` file with X
            and y or a folder of IDX files (see :func:`jaxnas.data.images.files.open_path`);
            or ``tfds:NAME``, a data set that tensorflow-datasets has prepared.
        size: pixels a side; images are padded with zeros to the next multiple and averaged
            in blocks, exactly. As they are when None. Images of which two splits hold the
            same are then dropped from the earlier split.
        limit: most images in each split, with the class shares of the whole; a larger
            limit holds every image of a smaller one. All when None.

    Raises:
        UserError: an unknown name, a missing or altered source, images or labels that
            cannot be used, or a size or limit that cannot be had.
    """
    return finish(str(name_or_path), open_images(name_or_path), size, limit)


def open_images(name_or_path: str | Path) -> Opened:
    """Returns what a name or a path stands for; arguments and errors as above."""
    from jaxnas import registry

    name = str(name_or_path)
    if name.startswith("tfds:"):
        from jaxnas.data.images.tfds import open_tfds

        return open_tfds(name.removeprefix("tfds:"))
    known = registry.names("image")
    path = Path(name_or_path).expanduser()
    if name not in known and (path.suffix == ".npz" or "/" in name or path.exists()):
        from jaxnas.data.images.files import open_path

        return open_path(path)
    source: ImageSource = registry.lookup("image", name)()
    top, facts = float(source.top), source.recipe.facts()
    return Opened(source.read(), top, source.classes, source.note, facts)
