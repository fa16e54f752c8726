"""A search in one archive: reported on elsewhere, and refused where it was touched."""

import hashlib
import json
import re
import zipfile

import pytest

from jaxnas.cli import main


def run(capsys, *args):
    with pytest.raises(SystemExit) as stop:
        main(list(map(str, args)))
    streams = capsys.readouterr()
    return stop.value.code or 0, streams.out, streams.err


@pytest.fixture
def packed(searched, tmp_path, capsys):
    file = tmp_path / "bench.zip"
    code, out, err = run(capsys, "pack", searched, "--out", file)
    assert code == 0, err
    assert "report on it with" in out
    return file


def test_a_packed_run_gives_the_same_numbers(capsys, searched, packed, tmp_path):
    here = run(capsys, "report", searched, "--json", "--out", tmp_path / "here")
    there = run(capsys, "report", packed, "--json", "--out", tmp_path / "there")
    assert here[0] == there[0] == 0
    first, second = json.loads(here[1]), json.loads(there[1])
    assert first["studies"] == second["studies"]
    assert (tmp_path / "there" / "report.html").exists()


def rewritten(packed, **changes):
    with zipfile.ZipFile(packed) as old:
        files = {name: old.read(name) for name in old.namelist()}
    for name, content in changes.items():
        name = name.replace("__", "/").replace("_DOT_", ".")
        if content is None:
            del files[name]
        else:
            files[name] = content
    with zipfile.ZipFile(packed, "w") as new:
        for name, content in files.items():
            new.writestr(name, content)
    return packed


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"random__results_DOT_npz": b"x"}, "is not what was packed"),
        ({"random__config_DOT_json": None}, "other files than its manifest"),
        ({"evil": b"x"}, "other files than its manifest"),
        ({"manifest_DOT_json": None}, "is no packed run"),
        ({"manifest_DOT_json": b"{"}, "manifest .* cannot be read"),
        ({"manifest_DOT_json": b'{"format": "jaxnas-pack-2", "files": {}}'}, "upgrade"),
    ],
)
def test_what_was_touched_is_refused(capsys, packed, tmp_path, changes, words):
    code, _, err = run(
        capsys, "report", rewritten(packed, **changes), "--out", tmp_path / "r"
    )
    assert code == 2
    assert re.search(words, err)


def test_a_path_that_leads_out_is_refused(capsys, tmp_path):
    file = tmp_path / "evil.zip"
    sums = {"../evil.txt": hashlib.sha256(b"x").hexdigest()}
    with zipfile.ZipFile(file, "w") as z:
        z.writestr("../evil.txt", b"x")
        z.writestr("manifest.json", json.dumps({"format": "jaxnas-pack-1", "files": sums}))
    code, _, err = run(capsys, "report", file, "--out", tmp_path / "out")
    assert code == 2
    assert "leads out of it" in err
    assert not (tmp_path.parent / "evil.txt").exists()


def test_what_cannot_be_packed(capsys, searched, tmp_path):
    assert "no directory" in run(capsys, "pack", tmp_path / "none")[2]
    (tmp_path / "empty").mkdir()
    assert "holds no run" in run(capsys, "pack", tmp_path / "empty")[2]
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "config.json").write_text("{}")
    assert "is not finished" in run(capsys, "pack", tmp_path / "half")[2]
    assert "must end in .zip" in run(capsys, "pack", searched, "--out", "a.tar")[2]
    (tmp_path / "a.zip").write_bytes(b"junk")
    assert "exists" in run(capsys, "pack", searched, "--out", tmp_path / "a.zip")[2]
    code, _, err = run(capsys, "report", tmp_path / "a.zip", "--out", tmp_path / "r")
    assert code == 2
    assert "damaged or no zip" in err


def test_a_damaged_stream_is_a_sentence(capsys, packed, tmp_path):
    """Bytes inside a compressed file, past its header."""
    data = bytearray(packed.read_bytes())
    place = data.index(b"results.npz") + 200
    data[place : place + 64] = bytes(64)
    packed.write_bytes(data)
    code, _, err = run(capsys, "report", packed, "--out", tmp_path / "r")
    assert code == 2
    assert "damaged" in err or "is not what was packed" in err
