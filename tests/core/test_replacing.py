"""A file is replaced whole or not at all, and nothing is left beside it."""

import os

import pytest

from jaxnas.core.files import replacing


def test_a_reader_sees_the_old_file_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with replacing(path) as file:
        file.write(b"ne")
        assert path.read_text() == "old"
        file.write(b"w")
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("stop", [OSError, ValueError, KeyboardInterrupt])
def test_what_stops_a_write_leaves_the_old_file_alone(tmp_path, stop):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def stopped():
        with replacing(path) as file:
            file.write(b"half")
            raise stop

    with pytest.raises(stop):
        stopped()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_two_writers_do_not_meet(tmp_path):
    path = tmp_path / "a.txt"
    with replacing(path) as first:
        first.write(b"first")
        with replacing(path) as second:
            second.write(b"second, longer")
        assert path.read_text() == "second, longer"
    assert path.read_text() == "first"


def test_others_may_read_it_as_far_as_the_umask_lets_them(tmp_path):
    old = os.umask(0o022)
    try:
        with replacing(tmp_path / "a.txt") as file:
            file.write(b"x")
    finally:
        os.umask(old)
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == 0o644


def test_a_folder_that_is_not_there_is_an_error_of_the_disk(tmp_path):
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "none" / "a.txt"):
        pass
