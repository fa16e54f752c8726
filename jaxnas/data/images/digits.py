"""The digits of scikit-learn: 1,797 handwritten digits of 8 x 8 pixels, 17 grey levels.

The package's file is read without importing the package.
"""

from collections.abc import Mapping

from jaxnas.data.formats.csv_rows import read_rows
from jaxnas.data.images.splits import Splits, three
from jaxnas.data.images.task import pack, unpack
from jaxnas.data.recipes import Arrays, Recipe

FILE = "sklearn/datasets/data/digits.csv.gz"


def convert(contents: Mapping[str, bytes]) -> Arrays:
    """Returns the splits, ``uint8[n, 8, 8, 1]`` in [0, 16] and ``int32[n]``.

    Raises:
        UserError: the file does not hold 65 numbers a row.
    """
    return pack(three(read_rows(contents[FILE], FILE, 8)))


RECIPE = Recipe(
    name="digits",
    distribution="scikit-learn",
    release="1.9.1",
    files=((FILE, "09f66e6debdee2cd2b5ae59e0d6abbb73fc2b0e0185d2e1957e9ebb51e23aa22"),),
    content_sha256="7c7fcfabe0b4fd7e62c7b939f69c2c9b6b5e3ac74758f5eca5e22689354a79e5",
    convert=convert,
    install="pip install scikit-learn",
    licence="CC BY 4.0 (UCI repository); the package is BSD-3-Clause",
    citation="Alpaydin and Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998",
    homepage="https://archive.ics.uci.edu/dataset/80",
)


class Digits:
    """Handwritten digits, 8x8, 1,797 images: the embedded default."""

    recipe = RECIPE
    classes = tuple("0123456789")
    top = 16
    note = "60 / 20 / 20, stratified, by content and seed 0"

    def read(self) -> Splits:
        """Returns 60 % train, 20 % validation, 20 % test, stratified.

        Raises:
            UserError: the package is missing, damaged or altered.
        """
        return unpack(RECIPE)
