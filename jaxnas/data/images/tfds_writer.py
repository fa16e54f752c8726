"""Writing our image tasks as data sets of tensorflow-datasets, without TensorFlow."""

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from jaxnas.core.errors import UserError
from jaxnas.data.images.sources import open_images
from jaxnas.data.images.task import Opened
from jaxnas.data.images.tfds import data_dir, dataset_name, import_tfds, open_tfds

VERSION = "1.0.0"


def prepare(name: str, folder: Path | None = None) -> Path:
    """Returns the folder where an image task now lies as array_record files, read back.

    Images of 8 bits with white at 255 become PNG, others ``features.Tensor``. A data set
    that is there already is checked and left as it is. ``name`` is as for ``load_images``.

    Raises:
        UserError: the task cannot be read, or what was read back differs from it.
    """
    tfds = import_tfds()
    opened = open_images(name)
    folder = folder or data_dir()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _quiet(tfds):
            builder = _builder(tfds, name, opened, folder)
            builder.download_and_prepare()
    except OSError as error:
        raise UserError(f"{folder} cannot be written ({error.strerror}).") from error
    path = Path(str(builder.data_path))
    back = open_tfds(str(path))
    equal = back.top == opened.top and back.classes == opened.classes
    for a, b in zip(opened.splits, back.splits):
        equal = equal and a.dtype == b.dtype and np.array_equal(a, b)
    if not equal:
        raise UserError(
            f"What lies in {path} is not the task {name!r}; delete that folder and prepare "
            "it again."
        )
    return path


def _builder(tfds: Any, name: str, opened: Opened, folder: Path) -> Any:
    shape = opened.splits.x_train.shape[1:]
    dtype = opened.splits.x_train.dtype
    stored_as = dataset_name(name)
    as_png = dtype == np.uint8 and opened.top == 255 and shape[2] in (1, 3)

    class Task(tfds.core.GeneratorBasedBuilder):
        """One image task with its three splits."""

        VERSION = tfds.core.Version(VERSION)
        name = stored_as

        def _info(self) -> Any:
            kinds = tfds.features
            raw = kinds.Tensor(shape=shape, dtype=dtype)
            image = kinds.Image(shape=shape) if as_png else raw
            label = kinds.ClassLabel(names=list(opened.classes))
            return tfds.core.DatasetInfo(
                builder=self,
                description=f"The image task {name}; splits: {opened.note}.",
                features=kinds.FeaturesDict({"image": image, "label": label}),
                supervised_keys=("image", "label"),
                homepage=opened.facts.get("homepage"),
                citation=opened.facts.get("citation"),
                license=opened.facts.get("licence"),
                metadata=tfds.core.MetadataDict(jaxnas_top=opened.top),
            )

        def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
            del dl_manager  # nothing is downloaded
            pairs = opened.splits.pairs()
            return {split: self._generate_examples(*pair) for split, pair in pairs.items()}

        def _generate_examples(
            self, x: np.ndarray, y: np.ndarray
        ) -> Iterator[tuple[int, dict[str, Any]]]:
            for i, (image, label) in enumerate(zip(x, y)):
                yield i, {"image": _png(image) if as_png else image, "label": int(label)}

    return Task(data_dir=str(folder), file_format="array_record")


def _png(image: np.ndarray) -> bytes:
    file = io.BytesIO()
    grey = image.shape[2] == 1
    Image.fromarray(image[..., 0] if grey else image).save(file, "PNG")
    return file.getvalue()


@contextlib.contextmanager
def _quiet(tfds: Any) -> Iterator[None]:
    """Keeps prints and progress bars away, and our builders out of the list of names."""
    tfds.disable_progress_bar()
    silence = contextlib.redirect_stdout(io.StringIO())
    try:
        with silence, tfds.core.registered.skip_registration():
            yield
    finally:
        tfds.enable_progress_bar()
