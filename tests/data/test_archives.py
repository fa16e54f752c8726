"""Archives of strangers: only the named files, never more bytes, nothing that leads out."""

import gzip
import io
import os
import tarfile

import numpy as np
import pytest

import jaxnas
from jaxnas.core.errors import UserError
from jaxnas.data import recipes
from jaxnas.data.formats.archives import read_members
from jaxnas.data.texts import vader

LIMIT = 2**20


def packed(files, kind=tarfile.REGTYPE, link=""):
    """An archive with these contents by name, in order."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name, content in files:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, link
            member.size = len(content) if kind == tarfile.REGTYPE else 0
            archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def test_named_files_come_and_others_do_not():
    content = packed([("a/x", b"1"), ("a/y", b"2"), ("x", b"3")])
    assert read_members(content, ["a/x"], "it", LIMIT) == {"a/x": b"1"}


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (packed([("../x", b"1"), ("x", b"2")]), "leads out of the archive"),
        (packed([("/x", b"1"), ("x", b"2")]), "leads out of the archive"),
        (packed([("x", b"")], tarfile.SYMTYPE, "/etc/passwd"), "as a link or twice"),
        (packed([("x", b"")], tarfile.LNKTYPE, "y"), "as a link or twice"),
        (packed([("x", b"")], tarfile.FIFOTYPE), "as a link or twice"),
        (packed([("x", b"1"), ("x", b"2")]), "as a link or twice"),
        (packed([("y", b"1")]), "lacks the file 'x'"),
        (packed([("x", bytes(LIMIT + 1))]), "unpacks to more than 1 MiB"),
        (gzip.compress(bytes(20 * LIMIT)), "unpacks to more than 1 MiB"),
        (packed([("x", b"1" * 9000)])[:60], "damaged or no .tar.gz"),
        (b"no archive", "damaged or no .tar.gz"),
        (gzip.compress(b"no archive" * 100), "damaged or no .tar.gz"),
        (b"", "damaged or no .tar.gz|lacks"),
    ],
    ids=lambda value: "" if isinstance(value, bytes) else None,
)
def test_hostile_and_damaged_archives_are_refused(content, text):
    with pytest.raises(UserError, match=text):
        read_members(content, ["x"], "it", LIMIT)


def synthetic(lines):
    """An archive like the real one, of synthetic sentences."""
    files = [(name, "\r\n".join(lines).encode()) for name in vader.PARTS]
    return packed([(vader.INNER, packed(files))])


def test_ratings_become_signs_where_they_are_clear():
    lines = ["1\t0.6\tnice, é", "2\t-2.5\tsad", "3\t0.5\tso so", "4\t-0.1\thm", ""]
    arrays = vader.convert({vader.FILE: synthetic(lines)})
    assert arrays["label"].tolist() == [1, 0] * 4
    ends = arrays["end"].tolist()
    assert arrays["text"].tobytes()[: ends[0]].decode() == "nice, é"
    assert ends[1] - ends[0] == len("sad")


@pytest.mark.parametrize("line", ["1\t0.6", "1\tmuch\tx", "1\t1\tx\ty", "\xa0"])
def test_other_lines_are_refused(line):
    with pytest.raises(UserError, match="lines of number, rating and text"):
        vader.convert({vader.FILE: synthetic(["1\t1\tx", line, "2\t1\ty"])})


def test_an_archive_that_is_missing_or_altered(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXNAS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("JAXNAS_VADER", str(tmp_path))
    with pytest.raises(UserError, match=r"run there.*pip download --no-deps"):
        jaxnas.load_texts("vader-sign")
    assert not recipes.installed(vader.VaderSign.recipe)
    (tmp_path / vader.FILE).write_bytes(synthetic(["1\t1\tx"]))
    with pytest.raises(UserError, match=r"instead of 5d7c06e0.*run: pip download"):
        jaxnas.load_texts("vader-sign")
    monkeypatch.setenv("JAXNAS_VADER", str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match="does not exist"):
        jaxnas.load_texts("vader-sign")


@pytest.mark.skipif("JAXNAS_VADER" not in os.environ, reason="the archive is not here")
def test_the_real_archive():
    data = jaxnas.load_texts("vader-sign")
    assert sum(len(y) for _, y in data.splits.pairs().values()) == 19_136
    assert np.mean(data.y_test) == pytest.approx(0.528, abs=0.001)
