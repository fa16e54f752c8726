"""CIFAR's archives, small ones written here in the four forms of the real ones."""

import io
import struct
import tarfile

import numpy as np
import pytest

import jaxnas
from jaxnas.core.errors import UserError
from jaxnas.data.formats import cifar

NAMES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship",
         "truck"]  # fmt: skip
FILES = [*cifar.TRAIN, "test_batch"]


def batches(classes=10, n=30, seed=0):
    """Pixels as planes and labels, by the name of the file."""
    rng = np.random.default_rng(seed)
    names = FILES if classes == 10 else ["train", "test"]
    return {
        name: (rng.integers(0, 256, (n, 3072), np.uint8), np.arange(n) % classes)
        for name in names
    }


def binary(made, classes=10):
    files = {}
    for name, (x, y) in made.items():
        labels = [y // 5, y] if classes == 100 else [y]
        rows = np.concatenate([np.uint8(labels).T, x], axis=1)
        files[f"cifar-10-batches-bin/{name}.bin"] = rows.tobytes()
    names = NAMES if classes == 10 else [f"fine{i}" for i in range(100)]
    meta = "batches.meta.txt" if classes == 10 else "meta.txt"
    files[f"cifar-10-batches-bin/{meta}"] = ("\n".join(names) + "\n\n").encode()
    return files


def text(value):
    """A string as Python 2 pickled it."""
    if len(value) < 256:
        return b"U" + bytes([len(value)]) + value
    return b"T" + struct.pack("<i", len(value)) + value


def integer(value):
    return b"J" + struct.pack("<i", value)


def array(x):
    """A numpy array as Python 2 and numpy 1 pickled it."""
    shape = b"".join(map(integer, x.shape))
    dtype = b"cnumpy\ndtype\n(" + text(b"u1") + integer(0) + integer(1) + b"tR("
    dtype += integer(3) + text(b"|") + b"NNN" + integer(-1) + integer(-1) + integer(0)
    start = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n("
    start += integer(0) + b"t" + text(b"b") + b"tR"
    return (
        start
        + b"("
        + integer(1)
        + b"("
        + shape
        + b"t"
        + dtype
        + b"tb\x89"
        + text(x.tobytes())
        + b"tb"
    )


def pickled(pairs):
    body = b"".join(text(key.encode()) + value for key, value in pairs.items())
    return b"\x80\x02}(" + body + b"u."


def listed(values):
    return b"](" + b"".join(values) + b"e"


def python(made, classes=10):
    key = "labels" if classes == 10 else "fine_labels"
    files = {
        f"cifar-10-batches-py/{name}": pickled(
            {"data": array(x), key: listed(map(integer, y.tolist()))}
        )
        for name, (x, y) in made.items()
    }
    names = NAMES if classes == 10 else [f"fine{i}" for i in range(100)]
    meta, label = ("batches.meta", "label_names") if classes == 10 else (
        "meta", "fine_label_names")  # fmt: skip
    words = listed(text(name.encode()) for name in names)
    files[f"cifar-10-batches-py/{meta}"] = pickled({label: words})
    return files


def archive(path, files):
    with tarfile.open(path, "w:gz") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


@pytest.mark.parametrize("write", [binary, python])
@pytest.mark.parametrize("classes", [10, 100])
def test_all_forms_give_the_same_images(tmp_path, write, classes):
    made = batches(classes, n=30 if classes == 10 else 600)
    path = archive(tmp_path / "cifar.tar.gz", write(made, classes))
    found = cifar.read(path)
    *trains, test = made.values()
    planes = np.concatenate([x for x, _ in trains]).reshape(-1, 3, 32, 32)
    np.testing.assert_array_equal(found.x_train, np.moveaxis(planes, 1, 3))
    np.testing.assert_array_equal(found.y_train, np.concatenate([y for _, y in trains]))
    np.testing.assert_array_equal(found.y_test, test[1])
    assert found.classes[:2] == (("airplane", "automobile") if classes == 10 else (
        "fine0", "fine1"))  # fmt: skip
    data = jaxnas.make_images(f"cifar{classes}", path=path)
    assert data.x_train.shape[1:] == (32, 32, 3)
    assert data.num_classes == classes
    assert len(data.y_test) == len(test[1])
    assert len(data.y_train) + len(data.y_val) == len(planes)


def test_the_unpacked_folder_and_the_python_form_are_the_same_task(tmp_path):
    made = batches()
    for name, content in python(made).items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    packed = archive(tmp_path / "c.tar.gz", binary(made))
    folder = jaxnas.load_images(tmp_path / "cifar-10-batches-py")
    assert folder.checksum == jaxnas.load_images(packed).checksum


def test_a_harmful_pickle_is_not_run(tmp_path):
    made = python(batches())
    mark = tmp_path / "mark"
    harm = b"cos\nsystem\n(" + text(f"touch {mark}".encode()) + b"tR."
    made["cifar-10-batches-py/data_batch_2"] = harm
    with pytest.raises(UserError, match=r"tries to use os.system"):
        jaxnas.load_images(archive(tmp_path / "c.tar.gz", made))
    assert not mark.exists()


def test_archives_that_cannot_be(tmp_path):
    good = binary(batches())

    def refused(files, words):
        with pytest.raises(UserError, match=words):
            jaxnas.load_images(archive(tmp_path / "c.tar.gz", files))

    refused({**good, "../../evil.txt": b"x"}, "leads out of the archive")
    refused({**good, "/etc/evil": b"x"}, "leads out of the archive")
    refused({"readme.txt": b"x"}, "does not hold CIFAR's batches")
    cut = good["cifar-10-batches-bin/data_batch_1.bin"][:-1]
    refused({**good, "cifar-10-batches-bin/data_batch_1.bin": cut}, "truncated or damaged")
    wrong = python(batches())
    wrong["cifar-10-batches-py/test_batch"] = pickled({"data": integer(3)})
    refused(wrong, "holds no CIFAR batch")
    path = tmp_path / "c.tar.gz"
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(UserError, match="cannot be read"):
        jaxnas.load_images(path)
    with pytest.raises(UserError, match=r"fetch one of cifar-10-binary.tar.gz"):
        jaxnas.make_images("cifar10")
    many = archive(path, binary(batches(100, 600), 100))
    with pytest.raises(UserError, match="is not cifar10"):
        jaxnas.make_images("cifar10", path=many)
