"""``jaxnas data list | info | prepare | hardness``: what children learn."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro
from rich.table import Table

from jaxnas import registry
from jaxnas.cli.common.console import console, headed, pairs
from jaxnas.core.errors import UserError
from jaxnas.data import recipes
from jaxnas.data.images.sources import IMAGE_TASKS, open_images, split_size
from jaxnas.data.images.task import finish
from jaxnas.data.splits import shared
from jaxnas.data.texts import sources as ts
from jaxnas.data.texts import task as tt


@dataclass(frozen=True)
class List:
    """Lists images and texts: what is installed, and the command for what is not."""

    json: bool = False
    """Print JSON instead of a table."""

    def run(self) -> int:
        """Prints one line a set."""
        names = [(k, name) for k in ("image", "text") for name in registry.names(k)]
        rows = [_row(name, kind) for kind, name in names]
        if self.json:
            print(json.dumps(rows, indent=1))
            return 0
        table = headed(None, ("name", "what", "task set", "state", "to install it"))
        for row in rows:
            task = "yes" if row["task_set"] else ""
            table.add_row(row["name"], row["what"], task, row["state"], row["install"])
        console().print(table)
        console().print(
            "Also by path: an .npz with X and y, a folder with a folder of pictures for "
            "each class, CIFAR's archives, a folder of IDX files; and tfds:NAME, a data "
            "set prepared by tensorflow-datasets. PATH,size=32 reduces the images. Texts: "
            "a .csv or .tsv with a header, PATH,text=COLUMN,label=COLUMN (docs/text.md).",
            soft_wrap=True,
        )
        return 0


@dataclass(frozen=True)
class Info:
    """Shows shape, classes, splits, class counts, licence, citation and checksum."""

    name: Annotated[str, tyro.conf.Positional]
    """A name of `jaxnas data list`, an .npz or .csv file, a folder of IDX files or
    tfds:NAME."""
    size: int | None = None
    """Reduce the images to this many pixels a side."""
    limit: int | None = None
    """Most images or texts in each split."""
    json: bool = False
    """Print JSON instead of tables."""

    def run(self) -> int:
        """Reads, verifies and prints."""
        if ts.is_text(self.name):
            return self._texts()
        name, size = split_size(self.name)
        size = self.size or size
        opened = open_images(name, size)
        data = finish(name, opened, size, self.limit)
        parts = {split: y for split, (_, y) in data.splits.pairs().items()}
        count = lambda y: np.bincount(y, minlength=data.num_classes).tolist()
        counts = {split: count(y) for split, y in parts.items()}
        facts: dict[str, Any] = {
            "name": data.name,
            "shape": list(data.x_train.shape[1:]),
            "classes": data.num_classes,
            "images": {split: len(y) for split, y in parts.items()},
            "memory": f"{sum(x.nbytes for x in data.splits) / 2**20:,.1f} MiB",
            "splits": opened.note,
            "shared images": sum(shared(data.splits).values()),
            "checksum": f"sha256 {data.checksum}",
        }
        return self._print(facts, opened, counts, "Images a class")

    def _texts(self) -> int:
        """The same of texts."""
        if self.size is not None:
            raise UserError("--size is of images; give texts a length: NAME,length=64")
        name, reading = ts.split_reading(self.name)
        reading.check()
        opened = ts.open_texts(name, reading)
        data = tt.finish(self.name, opened, reading, self.limit)
        parts = {split: y for split, (_, y) in data.splits.pairs().items()}
        counts = {
            split: np.bincount(y, minlength=data.num_classes).tolist()
            for split, y in parts.items()
        }
        known = [f"{share:.1%} {split}" for split, share in tt.coverage(data).items()]
        facts: dict[str, Any] = {
            "name": data.name,
            "tokens": reading.tokens,
            "length": data.x_train.shape[1],
            "vocabulary": len(data.vocabulary),
            "known tokens": ", ".join(known),
            "classes": data.num_classes,
            "texts": {split: len(y) for split, y in parts.items()},
            "memory": f"{sum(x.nbytes for x in data.splits) / 2**20:,.1f} MiB",
            "splits": f"60 / 20 / 20, stratified, by content and seed {reading.seed}",
            "shared texts": sum(shared(data.splits).values()),
            "checksum": f"sha256 {data.checksum}",
        }
        return self._print(facts, opened, counts, "Texts a class")

    def _print(
        self, facts: dict[str, Any], opened: Any, counts: dict[str, list[int]], title: str
    ) -> int:
        for key, value in opened.facts.items():
            if key != "source checksum":
                facts["recipe checksum" if key == "checksum" else key] = value
        if self.json:
            counted = {"class_names": list(opened.classes), "class_counts": counts}
            print(json.dumps(facts | counted, indent=1))
            return 0
        console().print(_pairs(facts))
        table = headed(title, ("class", *counts), right=True)
        for i, label in enumerate(opened.classes):
            table.add_row(label, *(f"{counts[split][i]:,}" for split in counts))
        console().print(table)
        return 0


@dataclass(frozen=True)
class Prepare:
    """Converts and verifies an image set, and says where the result is.

    Nothing is downloaded. Example: jaxnas data prepare digits --to tfds --out sets
    """

    name: Annotated[str, tyro.conf.Positional]
    """A name of `jaxnas data list`, an .npz file, a folder of IDX files or tfds:NAME."""
    to: Literal["cache", "npz", "tfds"] = "cache"
    """What to make: our own cache, one .npz, or array_record of tensorflow-datasets."""
    out: Path | None = None
    """The .npz file, or the folder of data sets; NAME.npz or TFDS_DATA_DIR."""
    overwrite: bool = False
    """Replace an .npz that is there."""
    json: bool = False
    """Print JSON instead of a sentence."""

    def run(self) -> int:
        """Converts, reads back and prints."""
        if ts.is_text(self.name):
            return self._texts()
        where = {"cache": self._cache, "npz": self._npz, "tfds": self._tfds}[self.to]()
        read = f"tfds:{where}" if self.to == "tfds" else str(where)
        read = self.name if self.to == "cache" else read
        data = finish(read, open_images(read))
        counts = {split: len(y) for split, (_, y) in data.splits.pairs().items()}
        facts = {
            "name": self.name,
            "path": str(where),
            "load": read,
            "images": counts,
            "checksum": f"sha256 {data.checksum}",
        }
        return self._print(facts)

    def _print(self, facts: dict[str, Any]) -> int:
        if self.json:
            print(json.dumps(facts, indent=1))
        else:
            console().print(_pairs(facts))
        return 0

    def _texts(self) -> int:
        """Fills the cache with texts of a recipe."""
        name, _ = ts.split_reading(self.name)
        if self.to != "cache" or name not in registry.names("text"):
            raise UserError(
                f"{self.name} holds texts, which are read where they lie; only those of "
                "'jaxnas data list' are prepared, with --to cache."
            )
        where = self._cached("text", name)
        data = ts.load_texts(self.name)
        counts = {split: len(y) for split, (_, y) in data.splits.pairs().items()}
        facts = {"name": name, "path": str(where), "load": self.name, "texts": counts}
        return self._print({**facts, "checksum": f"sha256 {data.checksum}"})

    def _cached(self, kind: str, name: str) -> Path:
        if self.out is not None:
            raise UserError(
                "--out goes with --to npz or --to tfds; JAXNAS_CACHE names the cache."
            )
        recipe = registry.lookup(kind, name).recipe  # pyright: ignore
        recipes.load(recipe)
        return recipes.cache_path(recipe)

    def _cache(self) -> Path:
        if self.name not in registry.names("image"):
            open_images(self.name)  # says what is wrong with it, if anything
            raise UserError(
                f"{self.name} is read where it lies and needs no preparation; use --to npz "
                "or --to tfds to convert it."
            )
        return self._cached("image", self.name)

    def _npz(self) -> Path:
        from jaxnas.data.images.files import save_npz

        path = self.out or Path(f"{Path(self.name.removeprefix('tfds:')).stem}.npz")
        if path.suffix != ".npz":
            raise UserError(f"--out must end in .npz, got {path}.")
        if path.exists() and not self.overwrite:
            raise UserError(
                f"The file {path} exists; choose another --out or add --overwrite."
            )
        name, size = split_size(self.name)
        save_npz(open_images(name, size), path)
        return path

    def _tfds(self) -> Path:
        from jaxnas.data.images.tfds_writer import prepare

        return prepare(self.name, self.out)


@dataclass(frozen=True)
class HardnessOf:
    """Measures how hard tasks are: majority, logistic regression, 3-NN or n-grams.

    Of texts the regressions are on tf-idf of words and of characters 2 to 4.
    """

    names: tyro.conf.Positional[tuple[str, ...]] = IMAGE_TASKS
    """Tasks; those of the task set that are installed when none is named."""
    split: Literal["validation", "test"] = "validation"
    """What is evaluated on; leave test to final reports."""
    rows: int = 3_000
    """Most training images; texts are all used."""
    seeds: int = 1
    """Draws of the training images, where there are more than that."""
    json: bool = False
    """Print JSON instead of a table."""

    def run(self) -> int:
        """Measures and prints."""
        from jaxnas.cli.common.hardness import ITERATIONS, measure

        texts = [name for name in self.names if ts.is_text(name)]
        if texts:
            return self._texts(texts)
        chosen, left = list(self.names), []
        if self.names == IMAGE_TASKS:
            left = [n for n in chosen if _row(n)["state"] == "not installed"]
            chosen = [n for n in chosen if n not in left]
        found = [measure(name, self.split, self.rows, self.seeds) for name in chosen]
        if self.json:
            rows = [item._asdict() for item in found]
            print(json.dumps({"tasks": rows, "not_installed": left}, indent=1))
            return 0
        columns = ("train", "draws", "evaluated", "majority", "logistic", "3-NN")
        title = (
            f"Accuracy on the {self.split} split, mean over the draws of the training "
            "images, ± the standard error from the evaluated images"
        )
        table = headed(title, ("task", *columns), right=True)
        for item in found:
            rows, mark = item.evaluated_rows, "" if item.converged else " *"
            row = [item.task, f"{item.train_rows:,}", str(len(item.logistic)), f"{rows:,}"]
            row += [f"{item.majority:.3f}", _cell(item.logistic, rows) + mark]
            table.add_row(*row, _cell(item.neighbours, rows))
        out = console()
        out.print(table)
        if not all(item.converged for item in found):
            out.print(f"* stopped after {ITERATIONS} iterations, before converging")
        for name in left:
            out.print(f"{name} is not installed; run: {_row(name)['install']}")
        return 0

    def _texts(self, texts: list[str]) -> int:
        from jaxnas.cli.common.ngrams import GRAMS, measure

        if len(texts) < len(self.names):
            raise UserError("Images and texts have columns of their own; ask one by one.")
        found = [measure(name, self.split) for name in texts]
        if self.json:
            print(json.dumps({"tasks": [item._asdict() for item in found]}, indent=1))
            return 0
        title = f"Accuracy on the {self.split} split, ± the standard error from its texts"
        grams = [f"logistic, {name}" for name in GRAMS]
        columns = ("task", "train", "evaluated", "majority", *grams)
        table = headed(title, columns, right=True)
        for item in found:
            sizes = (f"{item.train_rows:,}", f"{item.evaluated_rows:,}")
            scores = [_cell((s,), item.evaluated_rows) for s in item.logistic.values()]
            table.add_row(item.task, *sizes, f"{item.majority:.3f}", *scores)
        console().print(table)
        return 0


@dataclass(frozen=True)
class Data:
    """Images and texts with fixed splits: what there is, what it holds, how hard it is."""

    command: tyro.conf.OmitSubcommandPrefixes[
        Annotated[List, tyro.conf.subcommand("list")]
        | Annotated[Info, tyro.conf.subcommand("info")]
        | Annotated[Prepare, tyro.conf.subcommand("prepare")]
        | Annotated[HardnessOf, tyro.conf.subcommand("hardness")]
    ]

    def run(self) -> int:
        """Runs the chosen command."""
        return self.command.run()


def _row(name: str, kind: str = "image") -> dict[str, Any]:
    """Returns what the list says of a registered set."""
    recipe = registry.lookup(kind, name).recipe  # pyright: ignore
    here = recipes.installed(recipe)
    cached = not here and recipes.cache_path(recipe).is_file()
    return {
        "name": name,
        "what": registry.describe(kind, name),
        "task_set": name in IMAGE_TASKS,
        "state": "installed" if here else "in the cache" if cached else "not installed",
        "install": "" if here or cached else recipe.install,
    }


def _cell(values: tuple[float, ...], evaluated: int) -> str:
    mean = float(np.mean(values))
    return f"{mean:.3f} ± {np.sqrt(mean * (1 - mean) / evaluated):.3f}"


def _pairs(facts: Mapping[str, Any]) -> Table:
    """Returns facts as a table of two columns."""
    shown = {}
    for name, value in facts.items():
        if isinstance(value, dict):
            value = ", ".join(f"{n:,} {split}" for split, n in value.items())
        elif isinstance(value, list):
            value = " x ".join(map(str, value))
        shown[name] = str(value)
    return pairs(shown, overflow="fold")
