"""10,000 silhouettes of ten animals, 28 x 28, from the package ``animal-mnist``.

The package holds two gzipped pickles of arrays. They are read by the restricted unpickler,
without importing the package, whose import needs TensorFlow. 284 images occur twice, with
one label each: both copies fall into one split.
"""

import gzip
from collections.abc import Mapping

import numpy as np

from jaxnas.core.errors import UserError
from jaxnas.data.formats.pickled_array import read_array
from jaxnas.data.images.task import Packaged, pack
from jaxnas.data.recipes import Arrays, Recipe
from jaxnas.data.splits import three

_FOLDER = "animal_mnist/data/Animal_MNIST"
IMAGES = f"{_FOLDER}/animal_data_version_3.gz"
LABELS = f"{_FOLDER}/animal_label_version_3.gz"
COUNT = 10_000


def convert(contents: Mapping[str, bytes]) -> Arrays:
    """Returns ``uint8[n, 28, 28, 1]`` in [0, 255], ``int32[n]``; UserError on bad files."""
    x = read_array(_plain(contents, IMAGES), IMAGES, "u1", (COUNT, 28, 28))
    y = read_array(_plain(contents, LABELS), LABELS, "<i8", (COUNT,))
    return pack(three((x[..., None], y.astype(np.int32))))


def _plain(contents: Mapping[str, bytes], file: str) -> bytes:
    try:
        return gzip.decompress(contents[file])
    except (OSError, EOFError) as error:
        raise UserError(f"The file {file} is not a readable gzip file.") from error


RECIPE = Recipe(
    name="animals",
    distribution="animal-mnist",
    release="0.4",
    files=(
        (IMAGES, "68a30346781a0984f839463a4615d2decb899d1ce65091bb92586311754a34ce"),
        (LABELS, "dec8dba7c469830989fbab46825021a08a38470753a512f27ada847eced97b57"),
    ),
    content_sha256="0a6a7e25a026393ba8b575786b627261584178fe7f3266a47ef2dee3d26460d0",
    convert=convert,
    install="pip install --no-deps animal-mnist==0.4",
    licence="MIT",
    citation="Mohammadi, Animal-MNIST 0.4, PyPI, 2025",
    homepage="https://pypi.org/project/animal-mnist/0.4/",
)


class Animals(Packaged):
    """Silhouettes of ten animals, 28x28, 10,000 images."""

    recipe = RECIPE
    classes = (
        "bear", "bird", "cat", "cow", "dog", "elephant", "giraffe", "horse", "sheep",
        "zebra",
    )  # fmt: skip
    top = 255
    note = "60 / 20 / 20 of the distinct images, stratified, by content and seed 0"
