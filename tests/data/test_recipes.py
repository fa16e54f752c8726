"""Verify, convert, cache: every damaged or missing piece is noticed."""

import dataclasses
import errno
import hashlib
import json

import numpy as np
import pytest

from jaxnas.core.errors import UserError
from jaxnas.data import recipes
from jaxnas.data.formats.npz import content_checksum
from jaxnas.data.recipes import Recipe, cache_dir, load

ARRAYS = {"x": np.arange(6.0).reshape(2, 3), "n": np.array([1, 2])}


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXNAS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    """A recipe over a fake installed package whose file holds ARRAYS as JSON."""
    site = tmp_path / "site"
    (site / "fakebench").mkdir(parents=True)
    info = site / "fake_bench-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: fake-bench\nVersion: 1.0\n"
    )
    content = json.dumps({k: v.tolist() for k, v in ARRAYS.items()}).encode()
    (site / "fakebench" / "data.json").write_bytes(content)
    (site / "fakebench" / "__init__.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(str(site))
    return Recipe(
        name="fake",
        distribution="fake-bench",
        release="1.0",
        files=(("fakebench/data.json", hashlib.sha256(content).hexdigest()),),
        content_sha256=content_checksum(ARRAYS),
        convert=lambda files: {
            k: np.array(v) for k, v in json.loads(files["fakebench/data.json"]).items()
        },
        install='pip install "jaxnas[fake]"',
        licence="none",
        citation="nobody",
        homepage="nowhere",
    )


def broken(recipe):
    """The same recipe, whose source must not be needed."""
    return dataclasses.replace(recipe, distribution="no-such-package")


def cached_file(cache):
    (file,) = cache.iterdir()
    return file


def same(arrays):
    assert arrays.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(arrays[name], array)
        assert not arrays[name].flags.writeable


def test_converts_once_and_then_reads_the_cache(recipe, cache):
    same(load(recipe))
    assert cached_file(cache).suffix == ".npz"
    same(load(broken(recipe)))


@pytest.mark.parametrize("damage", ["values", "truncated", "garbage", "pickle"])
def test_a_damaged_cache_is_rebuilt_and_never_used(recipe, cache, damage):
    load(recipe)
    file = cached_file(cache)
    good = file.read_bytes()
    if damage == "values":
        np.savez(file, x=ARRAYS["x"] + 1e-9, n=ARRAYS["n"])
    elif damage == "truncated":
        file.write_bytes(good[: len(good) // 2])
    elif damage == "garbage":
        file.write_bytes(b"garbage")
    else:
        np.savez(file, x=np.array([{}], object), n=ARRAYS["n"])
    with pytest.raises(UserError, match="no-such-package"):
        load(broken(recipe))
    same(load(recipe))
    same(load(broken(recipe)))


def test_a_missing_package_names_the_command(recipe, cache):
    with pytest.raises(
        UserError, match=r'not installed; run: pip install "jaxnas\[fake\]"'
    ):
        load(broken(recipe))


def test_an_altered_source_is_refused(recipe, cache, tmp_path):
    file = tmp_path / "site" / "fakebench" / "data.json"
    file.write_bytes(file.read_bytes().replace(b"0.0", b"9.0"))
    with pytest.raises(UserError, match=r"damaged, altered.*--force-reinstall.*==1\.0"):
        load(recipe)
    file.unlink()
    with pytest.raises(UserError, match=r"cannot be read \(No such file"):
        load(recipe)
    assert not cache.exists()


def test_a_conversion_that_gives_other_numbers_is_refused(recipe, cache):
    other = dataclasses.replace(recipe, content_sha256="0" * 64)
    with pytest.raises(UserError, match="other numbers than recorded"):
        load(other)
    assert not cache.exists()


def test_a_cache_that_cannot_be_written_only_warns(recipe, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("JAXNAS_CACHE", str(tmp_path / "file" / "below"))
    with pytest.warns(UserWarning, match="set JAXNAS_CACHE to a writable directory"):
        same(load(recipe))


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left"), KeyboardInterrupt()]
)
def test_an_interrupted_write_leaves_nothing_behind(recipe, cache, monkeypatch, error):
    def cut_short(file, **arrays):
        file.write(b"half")
        raise error

    monkeypatch.setattr(recipes.np, "savez", cut_short)
    if isinstance(error, OSError):
        with pytest.warns(UserWarning, match="No space left"):
            same(load(recipe))
    else:
        with pytest.raises(KeyboardInterrupt):
            load(recipe)
    assert list(cache.iterdir()) == []


def test_checksum_sees_names_types_shapes_and_values():
    variants = [
        ARRAYS,
        {"y": ARRAYS["x"], "n": ARRAYS["n"]},
        {"x": ARRAYS["x"].astype(np.float32), "n": ARRAYS["n"]},
        {"x": ARRAYS["x"].reshape(3, 2), "n": ARRAYS["n"]},
        {"x": ARRAYS["x"] + 1, "n": ARRAYS["n"]},
    ]
    assert len({content_checksum(arrays) for arrays in variants}) == len(variants)
    assert content_checksum(dict(reversed(ARRAYS.items()))) == content_checksum(ARRAYS)


def test_cache_directory_follows_the_environment(tmp_path, monkeypatch):
    monkeypatch.delenv("JAXNAS_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_dir() == tmp_path / "jaxnas"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_dir() == tmp_path / "home" / ".cache" / "jaxnas"
