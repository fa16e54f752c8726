"""Small real images with fixed splits: what a child network is trained and evaluated on."""

from pathlib import Path
from typing import Any

from jaxnas.core.errors import UserError
from jaxnas.data.images.task import ImageData, ImageSource, Opened, finish

IMAGE_TASKS = (
    "digits", "mnist-5k", "animals", "textures", "fashion-confusable", "fashion-8x8",
)  # fmt: skip
"""The task set: small real image tasks of different hardness, each with fixed splits."""


CIFAR_PAGE = "https://www.cs.toronto.edu/~kriz/cifar.html"
CIFAR = {
    "cifar10": (10, ("cifar-10-binary.tar.gz", "cifar-10-python.tar.gz")),
    "cifar100": (100, ("cifar-100-binary.tar.gz", "cifar-100-python.tar.gz")),
}
"""Classes and archives of the data sets that only their authors may ship."""


def load_images(
    name_or_path: str | Path, *, size: int | None = None, limit: int | None = None
) -> ImageData:
    """Returns an image task, verified, with fixed splits and without shared images.

    Args:
        name_or_path: a registered name (see ``jaxnas data list``); an ``.npz`` file with X
            and y, CIFAR's archives, or a folder of IDX files (see
            :func:`jaxnas.data.images.files.open_path`); a folder with a folder of pictures
            for each class (:mod:`jaxnas.data.images.folder`); or ``tfds:NAME``, a data set
            that tensorflow-datasets has prepared. ``NAME,size=16`` is the same as a size.
        size: pixels a side; images are padded with zeros to the next multiple and averaged
            in blocks, exactly; pictures of a folder are cut to their middle square. As they
            are when None. Images of which two splits hold the same are then dropped from
            the earlier split.
        limit: most images in each split, with the class shares of the whole; a larger
            limit holds every image of a smaller one. All when None.

    Raises:
        UserError: an unknown name, a missing or altered source, images or labels that
            cannot be used, or a size or limit that cannot be had.
    """
    name, asked = split_size(str(name_or_path))
    size = asked if size is None else size
    return finish(name, open_images(name, size), size, limit)


def make_images(name: str, path: str | Path | None = None, **options: Any) -> ImageData:
    """Returns an image task by name, ``make_images("cifar10", path="cifar-10.tar.gz")``.

    Args:
        name: a registered name, or ``cifar10`` or ``cifar100`` with the path of an archive
            that their authors ship, binary or python, or of what it unpacks to.
        path: of the archive.
        **options: ``size`` and ``limit``, as :func:`load_images` takes them.

    Raises:
        UserError: as :func:`load_images`; a CIFAR without a path, or another one.
    """
    if name not in CIFAR:
        return load_images(name if path is None else path, **options)
    if path is None:
        raise UserError(
            f"{name} is read from its own archive, which cannot be shipped: fetch one of "
            f"{' or '.join(CIFAR[name][1])} from {CIFAR_PAGE} and give its path."
        )
    made = load_images(path, **options)
    if made.num_classes > CIFAR[name][0] or made.x_train.shape[3] != 3:
        raise UserError(
            f"{path} has {made.num_classes} classes and is not {name}, which has "
            f"{CIFAR[name][0]}."
        )
    return made


def split_size(name: str) -> tuple[str, int | None]:
    """Returns a name without ``,size=N`` behind it, and the size."""
    plain, comma, text = name.rpartition(",size=")
    if not comma:
        return name, None
    if not text.isdigit():
        raise UserError(f"The size in {name!r} is no whole number.")
    return plain, int(text)


def open_images(name_or_path: str | Path, size: int | None = None) -> Opened:
    """Returns what a name or a path stands for; arguments and errors as above."""
    from jaxnas import registry

    name = str(name_or_path)
    if name.startswith("tfds:"):
        from jaxnas.data.images.tfds import open_tfds

        return open_tfds(name.removeprefix("tfds:"))
    known = registry.names("image")
    path = Path(name_or_path).expanduser()
    if name not in known and path.is_dir():
        from jaxnas.data.images import folder

        if folder.looks_like(path):
            return folder.open_folder(path, size)
    if name not in known and (path.suffix == ".npz" or "/" in name or path.exists()):
        from jaxnas.data.images.files import open_path

        return open_path(path)
    source: ImageSource = registry.lookup("image", name)()
    top, facts = float(source.top), source.recipe.facts()
    return Opened(source.read(), top, source.classes, source.note, facts)
