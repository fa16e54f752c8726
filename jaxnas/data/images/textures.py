"""Patches of ten photographs that scikit-image ships: which photograph is this?

A photograph is cut into patches of 16 x 16 that share no pixel, in grey. Those of its left
half are for training, the next sixth of the width is for validation, the rest for testing:
what is tested lies apart from what was learned. The same number of patches is taken from
each photograph, those with the lowest keys.
"""

import io
from collections.abc import Mapping

import numpy as np
from PIL import Image

from jaxnas.data.images.task import Packaged, pack
from jaxnas.data.recipes import Arrays, Recipe
from jaxnas.data.splits import Splits, drop_shared, keys

NAMES = (
    "astronaut", "brick", "camera", "chelsea", "coffee", "coins", "grass", "gravel", "ihc",
    "moon",
)  # fmt: skip
SIDE = 16
PER_CLASS = (210, 70, 140)
"""Patches of each photograph in the three splits; the smallest photograph sets them."""


def convert(contents: Mapping[str, bytes]) -> Arrays:
    """Returns the splits, ``uint8[n, 16, 16, 1]`` in [0, 255] and ``int32[n]``."""
    images = [Image.open(io.BytesIO(contents[_path(name)])) for name in NAMES]
    parts = [patches(grey(np.asarray(image))) for image in images]
    arrays = []
    for split, count in enumerate(PER_CLASS):
        x = np.concatenate([part[split] for part in parts])
        y = np.repeat(np.arange(len(NAMES)), [len(part[split]) for part in parts])
        order = np.lexsort((y, keys(x)))
        x, y = x[order], y[order].astype(np.int32)
        taken = [np.flatnonzero(y == c)[:count] for c in range(len(NAMES))]
        rows = np.sort(np.concatenate(taken))
        arrays += [x[rows], y[rows]]
    return pack(drop_shared(Splits(*arrays)))


def grey(image: np.ndarray) -> np.ndarray:
    """Returns ``uint8[H, W]``: the luma of BT.601 of an RGB image, rounded."""
    if image.ndim == 2:
        return image
    luma = image[..., :3].astype(np.int64) @ np.array([299, 587, 114])
    return ((luma + 500) // 1000).astype(np.uint8)


def patches(image: np.ndarray) -> list[np.ndarray]:
    """Returns the patches ``uint8[n, 16, 16, 1]`` of the three splits of one image."""
    rows, columns = (n // SIDE for n in image.shape)
    cut = image[: rows * SIDE, : columns * SIDE].reshape(rows, SIDE, columns, SIDE)
    grid = cut.transpose(2, 0, 1, 3)[..., None]  # columns first
    half = columns // 2
    third = half + (columns - half) // 3
    bands = (grid[:half], grid[half:third], grid[third:])
    return [band.reshape(-1, SIDE, SIDE, 1) for band in bands]


def _path(name: str) -> str:
    return f"skimage/data/{name}.png"


SHA256 = (
    "88431cd9653ccd539741b555fb0a46b61558b301d4110412b5bc28b5e3ea6cb5",
    "7966caf324f6ba843118d98f7a07746d22f6a343430add0233eca5f6eaaa8fcf",
    "b0793d2adda0fa6ae899c03989482bff9a42d3d5690fc7e3648f2795d730c23a",
    "596aa1e7cb875eb79f437e310381d26b338a81c2da23439704a73c4651e8c4bb",
    "cc02f8ca188b167c775a7101b5d767d1e71792cf762c33d6fa15a4599b5a8de7",
    "f8d773fc9cfa6f4d8e5942dc34d0a0788fcaed2a4fefbbed0aef5398d7ef4cba",
    "b6b6022426b38936c43a4ac09635cd78af074e90f42ffa8227ac8b7452d39f89",
    "c48615b451bf1e606fbd72c0aa9f8cc0f068ab7111ef7d93bb9b0f2586440c12",
    "f8dd1aa387ddd1f49d8ad13b50921b237df8e9b262606d258770687b0ef93cef",
    "78739619d11f7eb9c165bb5d2efd4772cee557812ec847532dbb1d92ef71f577",
)
RECIPE = Recipe(
    name="textures",
    distribution="scikit-image",
    release="0.26.0",
    files=tuple((_path(name), sha256) for name, sha256 in zip(NAMES, SHA256)),
    content_sha256="87ab75edd7886ed5fada24c899795f67937036df98771e6a049fbd940d751d0c",
    convert=convert,
    install='pip install "jaxnas[images]"',
    licence="CC0, public domain or no known restrictions, by photograph",
    citation="van der Walt et al., scikit-image, PeerJ 2:e453, 2014",
    homepage="https://scikit-image.org/docs/stable/api/skimage.data.html",
)


class Textures(Packaged):
    """Grey 16x16 patches of ten photographs, held-out patches from another part."""

    recipe = RECIPE
    classes = NAMES
    top = 255
    note = "left half of each photograph / its next sixth / its right third"
