"""tensorflow-datasets without TensorFlow: our tasks go out and come back the same."""

import subprocess
import sys

import numpy as np
import pytest

from jaxnas.core.errors import UserError
from jaxnas.data.images import tfds as tfds_source
from jaxnas.data.images import tfds_writer
from jaxnas.data.images.sources import load_images, open_images

tfds = pytest.importorskip(
    "tensorflow_datasets", reason='needs: pip install "jaxnas[tfds]"', exc_type=ImportError
)
pytest.importorskip("array_record", reason='needs: pip install "jaxnas[tfds]"')

RNG = np.random.default_rng(0)
Y = np.arange(40) % 2


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two small tasks prepared once: bytes, which become PNG, and floats, a Tensor."""
    made = tmp_path_factory.mktemp("sets")
    bytes_ = RNG.integers(0, 256, (40, 6, 5, 3), dtype=np.uint8)
    np.savez(made / "colour.npz", X=bytes_, y=Y)
    np.savez(made / "float.npz", X=RNG.random((40, 4, 4)), y=Y)
    for name in ("colour", "float"):
        tfds_writer.prepare(str(made / f"{name}.npz"), made / "tfds")
    return made


@pytest.mark.parametrize(
    ("name", "feature"), [("colour", tfds.features.Image), ("float", tfds.features.Tensor)]
)
def test_a_task_comes_back_the_same(folder, name, feature, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(folder / "tfds"))
    own = load_images(folder / f"{name}.npz")
    for given in (name, f"{name}:1.0.0"):
        again = load_images(f"tfds:jaxnas_{given}")
        assert again.checksum == own.checksum
    path = folder / "tfds" / f"jaxnas_{name}" / "1.0.0"
    assert load_images(f"tfds:{path}").checksum == own.checksum
    features = tfds.builder_from_directory(str(path)).info.features
    assert type(features["image"]) is feature


def test_digits_survive_with_their_white_level(tmp_path):
    """17 grey levels: the brightness of white travels with the data set."""
    path = tfds_writer.prepare("digits", tmp_path)
    assert path == tfds_writer.prepare("digits", tmp_path), "left in place, and checked"
    again = open_images(f"tfds:{path}")
    assert again.top == 16
    assert "CC BY 4.0" in again.facts["licence"]
    assert load_images(f"tfds:{path}").checksum == load_images("digits").checksum


def test_another_task_under_the_same_name_is_refused(folder, tmp_path):
    other = RNG.integers(0, 256, (40, 6, 5, 3), dtype=np.uint8)
    np.savez(tmp_path / "colour.npz", X=other, y=Y)
    with pytest.raises(UserError, match="delete that folder"):
        tfds_writer.prepare(str(tmp_path / "colour.npz"), folder / "tfds")


def foreign(folder, name, features, examples, file_format="array_record"):
    """A data set that somebody else's builder made, with train and test only."""
    with tfds.core.registered.skip_registration():

        class Foreign(tfds.core.GeneratorBasedBuilder):
            VERSION = tfds.core.Version("2.0.0")

            def _info(self):
                return tfds.core.DatasetInfo(
                    builder=self, features=tfds.features.FeaturesDict(features)
                )

            def _split_generators(self, dl_manager):
                count = len(examples)
                return {
                    "train": self._generate_examples(range(0, count * 3 // 4)),
                    "test": self._generate_examples(range(count * 3 // 4, count)),
                    "extra": self._generate_examples(range(2)),
                }

            def _generate_examples(self, rows):
                for i in rows:
                    yield i, examples[i]

        Foreign.name = name
        builder = Foreign(data_dir=str(folder), file_format=file_format)
        builder.download_and_prepare()
    return builder


def test_a_foreign_set_gets_a_validation_split(tmp_path, capsys):
    x = RNG.integers(0, 256, (40, 6, 6, 1), dtype=np.uint8)
    features = {
        "picture": tfds.features.Tensor(shape=(6, 6, 1), dtype=np.uint8),
        "kind": tfds.features.ClassLabel(names=["cat", "dog"]),
    }
    examples = [{"picture": image, "kind": int(c)} for image, c in zip(x, Y)]
    foreign(tmp_path, "pets", features, examples)
    opened = tfds_source.open_tfds("pets", tmp_path)
    assert opened.classes == ("cat", "dog")
    assert "validation is one sixth" in opened.note
    sizes = [len(y) for _, y in opened.splits.pairs().values()]
    assert sizes == [26, 4, 10]
    assert {i.tobytes() for i in opened.splits.x_test} == {i.tobytes() for i in x[30:]}


def test_sets_without_one_image_and_one_class_are_refused(tmp_path):
    kinds = tfds.features
    label = kinds.ClassLabel(num_classes=2)
    image = kinds.Tensor(shape=(2, 2, 1), dtype=np.uint8)
    two = {"a": image, "b": image, "label": label}
    pixels = np.full((2, 2, 1), 200, np.uint8)
    rows = [{"a": pixels, "b": pixels, "label": int(c)} for c in Y[:8]]
    foreign(tmp_path, "two_images", two, rows)
    with pytest.raises(UserError, match="not exactly one is an image"):
        tfds_source.open_tfds("two_images", tmp_path)
    ragged = {"image": kinds.Tensor(shape=(None, 2, 1), dtype=np.uint8), "label": label}
    rows = [
        {"image": np.full((1 + i % 2, 2, 1), 200 + i, np.uint8), "label": int(c)}
        for i, c in enumerate(Y[:8])
    ]
    foreign(tmp_path, "ragged", ragged, rows)
    with pytest.raises(UserError, match="images of 2 shapes"):
        tfds_source.open_tfds("ragged", tmp_path)


def test_what_is_not_prepared_is_named_with_its_route(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    for name, text in (
        ("mnist", r"tfds.builder\('mnist', file_format='array_record'\)"),
        ("omniglott", "did you mean 'omniglot'"),
        ("jaxnas_digits", "jaxnas data prepare"),
        (str(tmp_path / "none"), "holds no dataset_info.json"),
    ):
        with pytest.raises(UserError, match=text) as raised:
            load_images(f"tfds:{name}")
        assert "\n" not in str(raised.value)
    (tmp_path / "mnist" / "3.0.1").mkdir(parents=True)
    (tmp_path / "mnist" / "3.0.1" / "dataset_info.json").write_text("{")
    with pytest.raises(UserError, match="prepare it again"):
        load_images("tfds:mnist")


def test_damaged_records_are_reported(folder, tmp_path):
    import shutil

    path = tmp_path / "1.0.0"
    shutil.copytree(folder / "tfds" / "jaxnas_float" / "1.0.0", path)
    (record,) = path.glob("*-train.array_record*")
    record.write_bytes(b"\0" * record.stat().st_size)
    with pytest.raises(UserError, match=r"train split .* cannot be read"):
        tfds_source.open_tfds(str(path))


def test_nothing_of_tensorflow_is_imported(folder):
    """Nor tensorflow-datasets itself, where no tfds: name is used."""
    path = folder / "tfds" / "jaxnas_colour" / "1.0.0"
    code = (
        "import sys\n"
        "from jaxnas.data.images.sources import load_images\n"
        "load_images('digits')\n"
        "print('tensorflow_datasets' in sys.modules)\n"
        f"load_images({f'tfds:{path}'!r})\n"
        "print('tensorflow' in sys.modules)\n"
    )
    run = [sys.executable, "-c", code]
    out = subprocess.run(run, capture_output=True, text=True, check=True).stdout
    assert out.split() == ["False", "False"]


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "importlib_resources", None)
    with pytest.raises(UserError, match=r'pip install "jaxnas\[tfds\]"'):
        load_images("tfds:mnist")
