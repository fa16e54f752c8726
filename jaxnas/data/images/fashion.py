"""Fashion-MNIST from the Debian package, and two small tasks made of it.

All keep the published test split apart. ``fashion-confusable`` are the four classes that a
logistic regression on 3,000 images confuses most with each other (of all sets of four, the
one with the most confusions): T-shirt, pullover, coat and shirt.
"""

from collections.abc import Mapping

import numpy as np

from jaxnas.core.errors import UserError
from jaxnas.data.formats.idx import parse
from jaxnas.data.images.task import Packaged, pack
from jaxnas.data.recipes import Arrays, Recipe
from jaxnas.data.splits import Splits, block_sums, first_rows, three

CLASSES = (
    "T-shirt/top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker",
    "bag", "ankle boot",
)  # fmt: skip
CONFUSABLE = (0, 2, 4, 6)
"""T-shirt/top, pullover, coat, shirt."""
SUBSET = (6_000, 2_000, 2_000)
"""Training, validation and test images of the two small tasks."""
_SHA256 = {
    "train-images-idx3": "b0564c3eedabfbf835052cff8503ea422014ce006caf5b757f851416ee8300c7",
    "train-labels-idx1": "0ae29f65d86684f32d1b9c85147786c547b9c6aebcaf235f0400a0cce308b056",
    "t10k-images-idx3": "cc1d090a38ace84dfa1aa66e3ada7c336ef481a96936906477e6dd344da56eaa",
    "t10k-labels-idx1": "8d3605d196f4be44669e46906da9733c8131fef761fdbfec72c424d5222f1a05",
}
FILES = tuple((f"{name}-ubyte.gz", sha256) for name, sha256 in _SHA256.items())


def whole(contents: Mapping[str, bytes]) -> Splits:
    """Returns 50,000 / 10,000 / 10,000 ``uint8[n, 28, 28, 1]``; UserError on bad IDX."""
    parts = [parse(contents[file], file) for file, _ in FILES]
    if [p.shape[1:] for p in parts] != [(28, 28), (), (28, 28), ()]:
        raise UserError("The Fashion-MNIST files do not hold images of 28 x 28 and labels.")
    train = parts[0][..., None], parts[1].astype(np.int32)
    test = parts[2][..., None], parts[3].astype(np.int32)
    return three(train, None, test)


def convert(contents: Mapping[str, bytes]) -> Arrays:
    """Returns the splits of :func:`whole`."""
    return pack(whole(contents))


def convert_8x8(contents: Mapping[str, bytes]) -> Arrays:
    """Returns a subset, padded to 32 x 32 and summed by 4 x 4: ``uint16`` in [0, 4080]."""
    return pack(_small(whole(contents), tuple(range(10)), 8))


def convert_confusable(contents: Mapping[str, bytes]) -> Arrays:
    """Returns a subset of four classes, summed by 2 x 2: ``uint16`` in [0, 1020]."""
    return pack(_small(whole(contents), CONFUSABLE, 14))


def _small(splits: Splits, classes: tuple[int, ...], size: int) -> Splits:
    parts = []
    for limit, (name, (x, y)) in zip(SUBSET, splits.pairs().items()):
        chosen = np.isin(y, classes)
        x, y = x[chosen], np.searchsorted(classes, y[chosen]).astype(np.int32)
        rows = first_rows(y, limit, len(classes), name)
        parts.append((block_sums(x[rows], size)[0].astype(np.uint16), y[rows]))
    return three(*parts)


def _recipe(name: str, convert: object, content_sha256: str) -> Recipe:
    return Recipe(
        name=f"fashion-{name}",
        distribution="dataset-fashion-mnist",
        release="0.0~git20200523.55506a9-1",
        files=FILES,
        content_sha256=content_sha256,
        convert=convert,  # pyright: ignore[reportArgumentType]
        install="apt-get install dataset-fashion-mnist",
        licence="MIT",
        citation="Xiao, Rasul and Vollgraf, Fashion-MNIST, arXiv:1708.07747",
        homepage="https://github.com/zalandoresearch/fashion-mnist",
        folder="/usr/share/datasets/fashion-mnist",
        variable="JAXNAS_FASHION_MNIST",
    )


RECIPE = _recipe(
    "mnist", convert, "ce3cb4c53ec8db62baa0e7a308103dcf6d809b1b7e4cd7b419af2cbded11b763"
)
RECIPE_8X8 = _recipe(
    "8x8", convert_8x8, "d3ded66ac00dcf2ea1ae7dcf1192036ecb3a7b30a28760ffd88d8a63437de2a0"
)
RECIPE_CONFUSABLE = _recipe(
    "confusable",
    convert_confusable,
    "e23fabb121d823deb2e7979ecf980f46da0ef2cd6a5db8781f27d3cf02fc04bd",
)


class FashionMnist(Packaged):
    """Fashion-MNIST, 28x28: ten kinds of clothing, 70,000 images."""

    recipe = RECIPE
    classes = CLASSES
    top = 255
    note = "published test split; validation is one sixth of the published training split"


class Fashion8x8(Packaged):
    """Fashion-MNIST reduced to 8x8, a subset of 10,000 images."""

    recipe = RECIPE_8X8
    classes = CLASSES
    top = 255 * 16
    note = "6,000 / 2,000 / 2,000 of fashion-mnist's own splits, stratified"


class FashionConfusable(Packaged):
    """T-shirt, pullover, coat and shirt of Fashion-MNIST at 14x14, 10,000 images."""

    recipe = RECIPE_CONFUSABLE
    classes = tuple(CLASSES[c] for c in CONFUSABLE)
    top = 255 * 4
    note = "6,000 / 2,000 / 2,000 of fashion-mnist's own splits, stratified"
