"""The circulating table: what it holds, and one sentence for what is no table."""

import numpy as np
import pytest

from jaxnas.core.errors import UserError
from jaxnas.data.tables.analognas_csv import FEATURES, NOTICE, TARGETS, read

HEADER = (*FEATURES, *TARGETS)
FIRST = ",".join(HEADER)
LINE = "16,1,3,0,0,0,0,C,2,2,0,0,0,0,0,0,0,0,0,0,0,0,0.9,0.05,7.5"


def written(folder, *lines, header=FIRST):
    """A file of some lines under a header."""
    path = folder / "table.csv"
    path.write_text("\n".join([header, *lines]) + "\n")
    return path


def with_value(name, value):
    """The good line with one value replaced."""
    values = LINE.split(",")
    values[HEADER.index(name)] = value
    return ",".join(values)


def test_a_table_is_read_in_the_published_order(tmp_path):
    rows = read(written(tmp_path, LINE, "", with_value("AVM", " 8 ")))
    assert rows.features.shape == (2, 22)
    expected = {"out_channel0": 16, "M": 1, "R1": 3, "convblock1": 3, "B1": 2, "B5": 0}
    for name, value in expected.items():
        assert rows.features[0, FEATURES.index(name)] == value
    assert {n: v.tolist() for n, v in rows.targets.items()} == {
        "1_day_accuracy": [0.9, 0.9],
        "1_day_accuracy_std": [0.05, 0.05],
        "AVM": [7.5, 8.0],
    }
    assert rows.notice == NOTICE


def test_columns_are_found_by_name(tmp_path):
    """Another order, another column, a byte-order mark."""
    header = ",".join(["note", *reversed(HEADER)])
    line = ",".join(["text", *reversed(LINE.split(","))])
    path = written(tmp_path, line, header="\ufeff" + header)
    plain = read(written(tmp_path / "..", LINE)).features
    np.testing.assert_array_equal(read(path).features, plain)


def test_the_notice_says_what_the_table_is_for():
    assert "generated" in NOTICE
    assert "parity tests only" in NOTICE


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "has a header and no rows"),
        ([LINE, with_value("AVM", "nan")], "Line 3 of .* has AVM = 'nan'"),
        ([with_value("AVM", "")], "has AVM = '', which is not a finite number"),
        ([with_value("1_day_accuracy", "high")], "has 1_day_accuracy = 'high'"),
        ([with_value("R1", "inf")], "has R1 = 'inf'"),
        ([with_value("convblock1", "E")], "the convblock1 'E', which is none of 0, A, B"),
        ([LINE + ",1"], "Line 2 of .* has 26 values for 25 columns"),
        (['"open'], "is not a CSV table"),
    ],
)
def test_bad_rows_are_named(tmp_path, lines, message):
    with pytest.raises(UserError, match=message):
        read(written(tmp_path, *lines))


def test_files_that_are_no_table(tmp_path):
    with pytest.raises(UserError, match="No such file"):
        read(tmp_path / "absent.csv")
    with pytest.raises(UserError, match="Is a directory"):
        read(tmp_path)
    binary = tmp_path / "binary.csv"
    binary.write_bytes(bytes(range(256)))
    with pytest.raises(UserError, match="not a CSV table in UTF-8"):
        read(binary)
    empty = tmp_path / "empty.csv"
    empty.touch()
    with pytest.raises(UserError, match="needs one column 'out_channel0' and has 0"):
        read(empty)
    twice = ",".join([*HEADER[:-1], "M"])
    with pytest.raises(UserError, match="needs one column 'M' and has 2"):
        read(written(tmp_path, LINE, header=twice))


def test_the_circulating_table_carries_one_bit(shared_folder):
    """Why no claim rests on it: one rule of the configuration, and no overlap."""
    rows = read(shared_folder / "dataset_cifar10_v1.csv")
    widenings = rows.features[:, FEATURES.index("widenfact1") :: 3]
    good = (widenings == 4).any(axis=1) | (rows.features[:, 1] >= 4)
    assert (good.sum(), (~good).sum()) == (789, 411)
    accuracy, spread, variation = (rows.targets[name] for name in TARGETS)
    assert accuracy[good].min() > accuracy[~good].max()
    assert spread[good].max() < spread[~good].min()
    assert variation[good].max() < variation[~good].min()
