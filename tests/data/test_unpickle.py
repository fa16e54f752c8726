"""The restricted reader builds data and never runs code."""

import os
import pickle
import subprocess

import numpy as np
import pytest

from jaxnas.core.errors import UserError
from jaxnas.data.formats.unpickle import loads

ALLOWED = {("somewhere.else", "Record")}
RECORD = b"csomewhere.else\nRecord\n)\x81}(X\x01\x00\x00\x00aK\x07ub."
"""Record with attribute a = 7; the module does not exist."""


class Attack:
    """Runs a command when an ordinary unpickler reads it."""

    def __init__(self, target, *arguments):
        self.target, self.arguments = target, arguments

    def __reduce__(self):
        return self.target, self.arguments


def test_plain_data_and_listed_records_are_read():
    plain = {"a": [1, 2.5, "x", None, (True, b"y")], (0, 1): {3}}
    assert loads(pickle.dumps(plain), "f") == plain
    record = loads(RECORD, "f", ALLOWED)
    assert (type(record).__name__, record.a) == ("Record", 7)


def test_stand_ins_are_made_anew_for_each_file():
    assert type(loads(RECORD, "f", ALLOWED)) is not type(loads(RECORD, "f", ALLOWED))


def test_code_is_refused_before_it_runs(tmp_path):
    """Each would write a marker under ``pickle.loads``, as is seen for the first."""
    marker = tmp_path / "ran"
    attacks = [
        Attack(os.system, f"touch {marker}"),
        Attack(eval, f"open({str(marker)!r}, 'w').close()"),
        Attack(exec, f"open({str(marker)!r}, 'w').close()"),
        Attack(open, str(marker), "w"),
        Attack(subprocess.call, ["touch", str(marker)]),
        [1, {"nested": Attack(os.system, f"touch {marker}")}],
    ]
    pickle.loads(pickle.dumps(attacks[0]))
    assert marker.exists()
    marker.unlink()
    for attack in attacks:
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            with pytest.raises(UserError, match="no reason to do; it was not loaded"):
                loads(pickle.dumps(attack, protocol), "f", ALLOWED)
            assert not marker.exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x80",
        pickle.dumps({"a": 1})[:-3],
        b"not a pickle at all",
        b"csomewhere.else\nRecord\n(K\x01tR.",
        b"\x80\x04Pid\n.",
    ],
    ids=["empty", "cut short", "truncated", "text", "record called", "persistent id"],
)
def test_damaged_pickles_are_one_sentence(content):
    with pytest.raises(UserError, match=r"The file name.pkl is not a readable pickle"):
        loads(content, "name.pkl", ALLOWED)


def test_numpy_scalars_are_not_on_the_list():
    """The two sources hold plain floats, so nothing of numpy needs to be admitted."""
    with pytest.raises(UserError, match="numpy"):
        loads(pickle.dumps(np.float64(1.0)), "f")
