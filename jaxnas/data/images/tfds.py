"""Image sets of tensorflow-datasets, without TensorFlow.

What is read is a data set that was *prepared* as array_record files; they have random
access and need no TensorFlow. Nothing is downloaded here. Our own tasks are prepared by
:func:`prepare`; a stock data set has to be prepared once where TensorFlow is installed.
"""

import difflib
import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np

from jaxnas.core.errors import UserError
from jaxnas.data.images.files import usable
from jaxnas.data.images.task import Opened
from jaxnas.data.splits import Pair

INSTALL = 'pip install "jaxnas[tfds]"'
NAMES = {n: n for n in ("train", "validation", "test")} | {"valid": "validation"}
"""Splits of a data set -> ours; any other split is left alone."""


def import_tfds() -> Any:
    """Returns the module; UserError where it or the reader of its files is missing."""
    try:
        import array_record  # noqa: F401
        import importlib_resources  # noqa: F401
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise UserError(
            f"A tfds: data set needs {error.name}, which is not installed; run: {INSTALL}"
        ) from error
    return tfds


def data_dir() -> Path:
    """Returns where prepared data sets lie: TFDS_DATA_DIR, else the user's own folder."""
    own = os.environ.get("TFDS_DATA_DIR")
    return Path(own).expanduser() if own else Path.home() / "tensorflow_datasets"


def dataset_name(name: str) -> str:
    """Returns the name of one of our tasks in tensorflow-datasets' own spelling."""
    return "jaxnas_" + re.sub("[^a-z0-9]+", "_", Path(name).stem.lower()).strip("_")


def open_tfds(name: str, folder: Path | None = None) -> Opened:
    """Returns the images of a prepared data set.

    Args:
        name: ``NAME``, ``NAME/CONFIG`` or ``NAME:VERSION`` under ``folder``, or the path of
            the folder of one version.
        folder: where data sets lie; :func:`data_dir` when None.

    Raises:
        UserError: tensorflow-datasets is not installed, the data set is unknown, was not
            prepared or not as array_record, or holds no images of one shape with classes.
    """
    tfds = import_tfds()
    path = _find(tfds, name, folder or data_dir())
    try:
        builder = tfds.builder_from_directory(str(path))
    except Exception as error:  # the reader of a foreign folder can raise almost anything
        raise UserError(
            f"The folder {path} is not a readable tensorflow-datasets data set "
            f"({type(error).__name__}); prepare it again."
        ) from error
    kind = builder.info.file_format
    if kind is None or kind.value != "array_record":
        raise UserError(
            f"The data set in {path} was prepared as {kind and kind.value}, which only "
            f"TensorFlow reads; {_route(name)}"
        )
    image, label = _features(builder, name)
    pairs = {}
    for split in builder.info.splits:
        if split in NAMES:
            pairs[NAMES[split]] = _rows(builder, split, image, label, name)
    if "train" not in pairs:
        raise UserError(
            f"The data set {name} has the splits {', '.join(builder.info.splits)}, and "
            "none of them is 'train'."
        )
    opened = usable(pairs, f"tfds:{name}", _top(path))
    classes = tuple(builder.info.features[label].names or opened.classes)
    if len(classes) != len(opened.classes):
        raise UserError(
            f"The data set {name} names {len(classes)} classes but shows "
            f"{len(opened.classes)} of them."
        )
    facts = {
        "source": f"tensorflow-datasets {builder.info.full_name}, {path}",
        "licence": builder.info.redistribution_info.license or "not stated",
        "citation": builder.info.citation or "not stated",
        "homepage": builder.info.homepage or "not stated",
    }
    return opened._replace(classes=classes, facts=facts)


def _find(tfds: Any, name: str, folder: Path) -> Path:
    given = Path(name).expanduser()
    if (given / "dataset_info.json").is_file():
        return given
    if given.is_absolute():
        raise UserError(
            f"The folder {given} holds no dataset_info.json; name the folder of one "
            "version of a prepared data set."
        )
    stem, _, version = name.partition(":")
    found = [
        info.parent
        for info in (folder / stem).glob("*/dataset_info.json")
        if version in ("", info.parent.name)
    ]
    if found:
        numbers = lambda p: [int(n) if n.isdigit() else -1 for n in p.name.split(".")]
        return max(found, key=numbers)
    first = stem.split("/")[0]
    known = tfds.list_builders(with_community_datasets=False)
    if first in known or (folder / first).is_dir():
        raise UserError(f"Data set {name!r} is not prepared under {folder}; {_route(stem)}")
    if first.startswith("jaxnas_"):
        raise UserError(
            f"The data set {name!r} is not prepared under {folder}; run: jaxnas data "
            "prepare NAME --to tfds, with a NAME of jaxnas data list."
        )
    near = difflib.get_close_matches(first, known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"nothing of it is under {folder}."
    raise UserError(f"tensorflow-datasets knows no data set {first!r}; {hint}")


def _route(name: str) -> str:
    return (
        "where TensorFlow is installed, run once "
        f"tfds.builder({name!r}, file_format='array_record').download_and_prepare(), copy "
        "the data set's folder, and name its place by TFDS_DATA_DIR."
    )


def _features(builder: Any, name: str) -> tuple[str, str]:
    features = builder.info.features
    if builder.info.supervised_keys and len(builder.info.supervised_keys) == 2:
        image, label = builder.info.supervised_keys
    else:
        images = [k for k, f in features.items() if len(f.shape or ()) == 3]
        labels = [k for k, f in features.items() if hasattr(f, "num_classes")]
        image = images[0] if len(images) == 1 else ""
        label = labels[0] if len(labels) == 1 else ""
    good = image in features and label in features
    if not good or not hasattr(features[label], "num_classes"):
        raise UserError(
            f"The data set {name} has the features {', '.join(features)}, of which not "
            "exactly one is an image and one a class."
        )
    return image, label


def _rows(builder: Any, split: str, image: str, label: str, name: str) -> Pair:
    try:
        rows = builder.as_data_source(split)
        pairs = [(np.asarray(e[image]), int(e[label])) for e in rows]
    except ImportError as error:
        raise UserError(
            f"Reading the data set {name} needs {error.name}, which is not installed; "
            "store its images as PNG or as features.Tensor."
        ) from error
    except Exception as error:  # damaged record files raise almost anything
        raise UserError(
            f"The {split} split of {name} cannot be read ({type(error).__name__}: "
            f"{str(error).partition(chr(10))[0]}); prepare it again."
        ) from error
    shapes = {x.shape for x, _ in pairs}
    if len(shapes) != 1:
        raise UserError(
            f"The {split} split of {name} holds images of {len(shapes)} shapes; bring them "
            "to one before preparing it."
        )
    return np.stack([x for x, _ in pairs]), np.array([y for _, y in pairs], np.int32)


def _top(path: Path) -> float | None:
    file = path / "metadata.json"
    if not file.is_file():
        return None
    try:
        stored = json.loads(file.read_text())
    except ValueError as error:
        raise UserError(f"The file {file} is damaged; prepare the set again.") from error
    return float(stored["jaxnas_top"]) if "jaxnas_top" in stored else None
