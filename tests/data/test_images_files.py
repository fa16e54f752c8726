"""A reader's own images: IDX files, .npz files, and what can be wrong with them."""

import gzip
import struct

import numpy as np
import pytest

from jaxnas.core.errors import UserError
from jaxnas.data.formats import idx
from jaxnas.data.images.files import save_npz
from jaxnas.data.images.sources import load_images, open_images

RNG = np.random.default_rng(0)
X = RNG.integers(0, 256, (60, 6, 5), dtype=np.uint8)
Y = np.arange(60) % 3


def idx_bytes(array, code=8):
    """An IDX file written by hand."""
    head = b"\0\0" + bytes([code, array.ndim])
    sides = b"".join(struct.pack(">I", n) for n in array.shape)
    return head + sides + array.astype(idx.TYPES[code]).tobytes()


@pytest.mark.parametrize(
    ("code", "dtype"),
    [(8, "u1"), (9, "i1"), (11, "i2"), (12, "i4"), (13, "f4"), (14, "f8")],
)
def test_idx_files_of_every_type(code, dtype):
    array = RNG.integers(-100, 100, (3, 4, 2)).astype(dtype)
    found = idx.parse(idx_bytes(array, code), "a")
    np.testing.assert_array_equal(found, array)
    assert found.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(
        idx.parse(gzip.compress(idx_bytes(array, code)), "a"), array
    )


def test_an_idx_file_known_by_its_bytes():
    """2 x 3 bytes, as the format's page lays them out."""
    content = bytes.fromhex("00000802 00000002 00000003 010203 0405ff")
    assert idx.parse(content, "a").tolist() == [[1, 2, 3], [4, 5, 255]]


GOOD = idx_bytes(X)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "no IDX file"),
        (b"\0\0", "no IDX file"),
        (b"\1" + GOOD[1:], "no IDX file: it begins with 01000803"),
        (GOOD[:2] + b"\x0a" + GOOD[3:], "no IDX file"),
        (GOOD[:3] + b"\0", "header"),
        (GOOD[:10], "header of the IDX file a is truncated"),
        (GOOD[:-1], "1,799 bytes of values where its header says 1,800"),
        (GOOD + b"\0", "1,801 bytes"),
        (GOOD[:4] + b"\xff\xff\xff\xff" + GOOD[8:], "header says 128,849,018,850"),
        (gzip.compress(GOOD)[:-20], "gzip"),
        (b"\x1f\x8b" + b"x" * 50, "gzip"),
    ],
)
def test_damaged_idx_files_are_refused(content, text):
    with pytest.raises(UserError, match=text):
        idx.parse(content, "a")


@pytest.fixture
def folder(tmp_path):
    for split, rows in (("train", slice(0, 48)), ("t10k", slice(48, 60))):
        (tmp_path / f"{split}-images-idx3-ubyte").write_bytes(idx_bytes(X[rows]))
        path = tmp_path / f"{split}-labels-idx1-ubyte.gz"
        path.write_bytes(gzip.compress(idx_bytes(Y[rows])))
    return tmp_path


def test_a_folder_of_idx_files_keeps_its_test_split(folder):
    data = load_images(folder)
    assert [len(y) for _, y in data.splits.pairs().values()] == [39, 9, 12]
    assert data.x_train.shape == (39, 6, 5, 1)
    assert {x.tobytes() for x in data.x_test} == {
        (x / 255).astype(np.float32).tobytes() for x in X[48:]
    }
    assert "validation is one sixth" in open_images(folder).note


def test_incomplete_folders_are_refused(folder):
    (folder / "train-copy-images-idx3").write_bytes(b"")
    with pytest.raises(UserError, match="two files of train images"):
        load_images(folder)
    (folder / "train-copy-images-idx3").unlink()
    (folder / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(UserError, match="no labels of its test split"):
        load_images(folder)
    (folder / "train-images-idx3-ubyte").unlink()
    with pytest.raises(UserError, match="holds no IDX files"):
        load_images(folder)


def npz(path, **arrays):
    np.savez(path / "own.npz", **arrays)
    return path / "own.npz"


def test_an_npz_without_splits_gets_stratified_ones(tmp_path):
    path = npz(tmp_path, X=X, y=Y)
    data = load_images(path)
    counts = [np.bincount(y).tolist() for _, y in data.splits.pairs().values()]
    assert counts == [[12] * 3, [4] * 3, [4] * 3]
    assert "60 / 20 / 20" in open_images(path).note
    floats = npz(tmp_path, x=(X / 255)[..., None], y=Y.astype(float))
    assert load_images(floats).x_train.shape == (36, 6, 5, 1)


def test_given_splits_stay_and_shared_images_are_reported(tmp_path):
    halves = {"X_train": X[:40], "y_train": Y[:40], "X_val": X[40:50], "y_val": Y[40:50]}
    data = load_images(npz(tmp_path, **halves))
    assert [len(y) for _, y in data.splits.pairs().values()] == [31, 10, 9]
    leaky = halves | {"X_test": X[38:40], "y_test": Y[38:40]}
    opened = open_images(npz(tmp_path, **leaky))
    assert len(opened.splits.y_train) == 38
    assert "2 images that two splits shared" in opened.note


def test_top_says_what_white_is(tmp_path):
    dim = X // 16
    with pytest.raises(UserError, match=r"brightest pixel of .* is 15 of 255"):
        load_images(npz(tmp_path, X=dim, y=Y))
    assert load_images(npz(tmp_path, X=dim, y=Y, top=15)).x_train.max() == 1
    assert load_images(npz(tmp_path, X=X > 127, y=Y)).x_train.max() == 1
    for top in (0, -1, np.nan, [1, 2]):
        with pytest.raises(UserError, match="one positive number"):
            load_images(npz(tmp_path, X=X, y=Y, top=top))


def with_value(value):
    x = (X / 255).astype(np.float64)
    x[7, 2, 2] = value
    return x


@pytest.mark.parametrize(
    ("arrays", "text"),
    [
        ({"X": X.reshape(60, -1), "y": Y}, r"shape \[60, 30\]; they must be \[n, H, W\]"),
        ({"X": X[None, ..., None], "y": Y}, "they must be"),
        ({"X": X[:0], "y": Y[:0]}, "they must be"),
        ({"X": np.tile(X[:, None], (1, 3, 1, 1)), "y": Y}, "channels first"),
        ({"X": with_value(np.nan), "y": Y}, "NaN"),
        ({"X": with_value(np.inf), "y": Y}, "infinite"),
        ({"X": with_value(-0.5), "y": Y}, r"lie in \[-0.5, 1\], not in \[0, 1\]"),
        ({"X": with_value(255.0), "y": Y}, "rescale"),
        ({"X": X.astype(int) - 1, "y": Y}, r"not in \[0, 255\]"),
        ({"X": X.astype("U3"), "y": Y}, "not numbers"),
        ({"X": X, "y": Y[:-1]}, "one for each of the 60 images"),
        ({"X": X, "y": Y[:, None]}, "one for each"),
        ({"X": X, "y": Y + 0.5}, "not all whole numbers"),
        ({"X": X, "y": np.where(Y > 0, Y, np.nan)}, "not all whole numbers"),
        ({"X": X, "y": Y.astype("U1")}, "not all whole numbers"),
        ({"X": X, "y": Y - 1}, "from 0 without gaps"),
        ({"X": X, "y": Y * 10**8}, "no image of class 1 of 200000001"),
        ({"X": X, "y": Y * 2}, "no image of class 1 of 5"),
        ({"X": X, "y": Y * 0}, "no image of a second class"),
        ({"X": X[:8], "y": np.r_[Y[:6], 0, 1]}, "has 2 distinct images"),
        ({"X": X}, "only one of X and y"),
        ({"images": X, "labels": Y}, "holds images, labels, but neither X and y"),
        ({"X_test": X, "y_test": Y}, "neither X and y nor"),
        ({"X": X, "y": Y, "X_val": X[:, :4], "y_val": Y}, "differ in the shape or type"),
        ({"X": X, "y": Y, "X_val": X / 255, "y_val": Y}, "differ in the shape or type"),
        ({"X": X[Y < 2], "y": Y[Y < 2], "X_test": X, "y_test": Y}, "no image of class 2"),
        (
            {"X": X, "y": Y, "X_val": X, "y_val": Y, "X_test": X, "y_test": Y},
            "none of class",
        ),
        ({"X": np.array([None] * 60), "y": Y}, r"not a readable \.npz"),
    ],
)
def test_unusable_arrays_are_refused_in_one_sentence(tmp_path, arrays, text):
    with pytest.raises(UserError, match=text) as raised:
        load_images(npz(tmp_path, **arrays))
    assert "\n" not in str(raised.value)


def test_a_damaged_npz_is_refused(tmp_path):
    path = npz(tmp_path, X=X, y=Y)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"not a readable \.npz"):
        load_images(path)


def test_objects_are_refused_without_advice_to_unpickle_them(tmp_path):
    path = npz(tmp_path, X=X, y=np.array(["a", 1, None] * 20, dtype=object))
    with pytest.raises(UserError, match="holds Python objects, not numbers") as error:
        load_images(path)
    assert "pickle" not in str(error.value)


def test_a_saved_npz_is_the_same_task(tmp_path):
    opened = open_images(npz(tmp_path, X=X // 16, y=Y, top=15))
    save_npz(opened, tmp_path / "saved.npz")
    again = open_images(tmp_path / "saved.npz")
    for a, b in zip(opened.splits, again.splits):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(UserError, match="cannot be written"):
        save_npz(opened, tmp_path / "none" / "saved.npz")
