"""Folders of pictures: what is read, how it is split, reduced and refused."""

import numpy as np
import pytest
from PIL import Image

import jaxnas
from jaxnas.core.errors import UserError
from jaxnas.data.images import folder as fd
from jaxnas.data.images.sources import open_images

RNG = np.random.default_rng(0)


def picture(path, height=8, width=8, mode="RGB", shade=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    channels = {"L": (), "RGB": (3,), "RGBA": (4,)}[mode]
    low, high = (0, 256) if shade is None else (shade, shade + 20)
    pixels = RNG.integers(low, high, (height, width, *channels), np.uint8)
    Image.fromarray(pixels, mode if mode != "RGBA" else None).save(path)
    return pixels


def photos(root, classes=("cat", "dog"), n=10, **options):
    return {
        (name, i): picture(root / name / f"{i}.png", **options)
        for name in classes
        for i in range(n)
    }


def test_a_folder_with_a_folder_for_each_class(tmp_path):
    made = photos(tmp_path / "photos")
    (tmp_path / "photos" / "cat" / "notes.txt").write_text("not a picture")
    data = jaxnas.load_images(tmp_path / "photos")
    assert data.num_classes == 2
    assert [len(y) for y in (data.y_train, data.y_val, data.y_test)] == [12, 4, 4]
    pixels = np.concatenate([data.x_train, data.x_val, data.x_test])
    labels = np.concatenate([data.y_train, data.y_val, data.y_test])
    found = {
        (x * 255).round().astype(np.uint8).tobytes(): y for x, y in zip(pixels, labels)
    }
    for (name, _), original in made.items():
        assert found[original.tobytes()] == ("cat", "dog").index(name)
    assert open_images(tmp_path / "photos").classes == ("cat", "dog")


def test_splits_given_by_folders_and_jpeg(tmp_path):
    for split, n in (("train", 12), ("test", 5)):
        for name in ("a", "b", "c"):
            for i in range(n):
                picture(tmp_path / split / name / f"{i}.jpg", mode="L")
    data = jaxnas.load_images(tmp_path)
    assert data.x_train.shape[1:] == (8, 8, 1)
    assert len(data.y_test) == 15
    assert len(data.y_train) + len(data.y_val) == 36


def test_grey_stays_grey_and_one_colour_makes_all_colour(tmp_path):
    photos(tmp_path / "grey", mode="L")
    assert jaxnas.load_images(tmp_path / "grey").x_train.shape[3] == 1
    photos(tmp_path / "mixed", mode="L")
    picture(tmp_path / "mixed" / "cat" / "x.png", mode="RGBA")
    data = jaxnas.load_images(tmp_path / "mixed")
    assert data.x_train.shape[3] == 3


def test_sixteen_bits_are_scaled(tmp_path):
    for name, value in (("dark", 0), ("light", 65535)):
        for i in range(5):
            path = tmp_path / name / f"{i}.png"
            path.parent.mkdir(exist_ok=True)
            pixels = np.full((4, 4), value, np.uint16)
            pixels[0, 0] = 256 * i * 40
            Image.fromarray(pixels).save(path)
    data = jaxnas.load_images(tmp_path)
    assert data.x_train[data.y_train == 1][:, 1:].min() == 1.0
    assert data.x_train[data.y_train == 0][:, 1:].max() == 0.0


def test_sizes_are_refused_or_cut_to_the_middle_square_and_reduced(tmp_path):
    photos(tmp_path)
    wide = np.zeros((8, 24, 3), np.uint8)
    wide[:, 8:16] = 200  # the middle square
    Image.fromarray(wide).save(tmp_path / "cat" / "wide.png")
    with pytest.raises(UserError, match=r"have 2 sizes: .*such as size=8"):
        jaxnas.load_images(tmp_path)
    for data in (
        jaxnas.load_images(tmp_path, size=4),
        jaxnas.load_images(f"{tmp_path},size=4"),
    ):
        assert data.x_train.shape[1:] == (4, 4, 3)
        every = np.concatenate([data.x_train, data.x_val, data.x_test])
        assert (np.abs(every - 200 / 255).max(axis=(1, 2, 3)) < 1e-6).sum() == 1
    with pytest.raises(UserError, match="between 1 and 8"):
        jaxnas.load_images(tmp_path, size=9)
    with pytest.raises(UserError, match="no whole number"):
        jaxnas.load_images(f"{tmp_path},size=x")


def test_reduced_pictures_are_means_over_areas(tmp_path):
    made = photos(tmp_path)
    data = jaxnas.load_images(tmp_path, size=4)
    found = np.concatenate([data.x_train, data.x_val, data.x_test])
    for original in made.values():
        mean = original.reshape(4, 2, 4, 2, 3).mean(axis=(1, 3)) / 255
        assert np.abs(found - mean).max(axis=(1, 2, 3)).min() < 1.1 / 255


def test_folders_that_cannot_be(tmp_path, monkeypatch):
    def refused(path, words):
        with pytest.raises(UserError, match=words):
            jaxnas.load_images(path)

    photos(tmp_path / "one", classes=("cat",))
    refused(tmp_path / "one", "has one class, 'cat'")
    photos(tmp_path / "empty")
    (tmp_path / "empty" / "fox").mkdir()
    refused(tmp_path / "empty", "fox has no pictures")
    photos(tmp_path / "broken")
    (tmp_path / "broken" / "cat" / "3.jpg").write_bytes(b"\xff\xd8\xff\xe0 not a jpeg")
    refused(tmp_path / "broken", r"3.jpg is damaged")
    picture(tmp_path / "cut" / "a" / "x.png", 64, 64)
    photos(tmp_path / "cut", height=64, width=64)
    whole = (tmp_path / "cut" / "a" / "x.png").read_bytes()
    (tmp_path / "cut" / "a" / "x.png").write_bytes(whole[: len(whole) // 2])
    refused(tmp_path / "cut", r"x.png is damaged")
    photos(tmp_path / "split" / "train")
    photos(tmp_path / "split" / "test", classes=("cat", "fox"))
    refused(tmp_path / "split", "has a class 'fox'")
    photos(tmp_path / "few", n=2)
    refused(tmp_path / "few", "2 distinct images")
    free = type("Memory", (), {"available": 1000})
    monkeypatch.setattr(fd.psutil, "virtual_memory", lambda: free)
    photos(tmp_path / "large")
    refused(tmp_path / "large", "20 pictures of .* GiB are free")


def test_a_child_is_trained_on_a_folder(tmp_path):
    """Dark and light pictures: one epoch tells them apart better than chance."""
    for name, shade in (("dark", 20), ("light", 200)):
        for i in range(40):
            picture(tmp_path / "shades" / name / f"{i}.png", shade=shade)
    document = {
        "name": "small",
        "decisions": [{"name": "width", "choices": [2, 4]}],
        "network": [
            {"op": "conv", "kernel": 3, "features": "$width"},
            {"op": "batch_norm"},
            {"op": "relu"},
            {"op": "global_avg_pool"},
            {"op": "linear", "features": "$classes"},
        ],
    }
    oracle = jaxnas.make_oracle(
        "child", space=jaxnas.declare(document), data=f"{tmp_path / 'shades'},size=4",
        epochs=12, batch=8,
    )  # fmt: skip
    found = oracle.measure(np.zeros(1, np.int32), 0)
    assert found.metrics["val_accuracy"] > 90
