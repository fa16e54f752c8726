"""The evaluation store: faithful, never overwritten, durable, and clear when it cannot."""

import csv
import json
import math
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from jaxnas.core.errors import DiskFullError, UserError
from jaxnas.data.store.evaluations import APPLICATION, FORMAT, Key, Query, Record, Store


def record(number=0, accuracy=0.5, **changes):
    key = Key("child-v1", f"{number:064x}", 3, 0, "c" * 64)
    metrics = {"accuracy": accuracy, "layers": float(number)}
    curves = {"loss": [1.0, 0.5, accuracy]}
    return Record(key, (0, 1, number % 3), metrics, curves, 1.5, 0)._replace(**changes)


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "e.sqlite") as opened:
        yield opened


def test_what_goes_in_comes_out_to_the_bit(store):
    rng = random.Random(0)
    odd = [math.nan, math.inf, -math.inf, -0.0, 5e-324, 1.7976931348623157e308, 0.1 + 0.2]
    values = odd + [rng.uniform(-1, 1) * 10 ** rng.randint(-300, 300) for _ in range(200)]
    metrics = {f'odd "name" {i} ü': v for i, v in enumerate(values)}
    put = record(metrics=metrics, curves={"c": values, "empty": []}, seconds=math.nan)
    assert store.put(put._replace(made="2026-01-01", version="9")) == "stored"
    got = store.get(put.key)
    for name, value in metrics.items():
        assert repr(got.metrics[name]) == repr(value)
    assert list(map(repr, got.curves["c"])) == list(map(repr, values))
    assert got.curves["empty"] == []
    assert math.isnan(got.seconds)
    assert (got.tokens, got.made, got.version) == ((0, 1, 0), "2026-01-01", "9")
    assert store.get(put.key._replace(seed=1)) is None


@pytest.mark.parametrize("field", Key._fields)
def test_every_part_of_the_key_tells_rows_apart(store, field):
    other = {"fidelity": 4, "seed": 1}.get(field, "other")
    store.put(record(accuracy=0.1))
    key = record().key._replace(**{field: other})
    assert store.put(record(accuracy=0.2, key=key)) == "stored"
    assert len(store) == 2
    assert store.get(record().key).metrics["accuracy"] == 0.1
    assert store.get(key).metrics["accuracy"] == 0.2


def test_the_first_value_stays_and_a_second_one_is_a_conflict(store):
    first = record(accuracy=math.nan, made="first")
    assert store.put(first) == "stored"
    assert store.put(first._replace(seconds=9.0, made="later", version="2")) == "known"
    for other in (
        record(accuracy=0.6),
        first._replace(status=1),
        first._replace(curves={"loss": [1.0]}),
    ):
        assert store.put(other) == "conflict"
    assert len(store) == 1
    assert store.get(first.key).made == "first"


def test_top_and_queries_agree_with_a_plain_loop(store):
    rng = random.Random(1)
    every = []
    for i in range(60):
        accuracy = rng.choice([math.nan, rng.random(), rng.random()])
        key = Key(
            rng.choice(["child-v1", "analog-v2"]), f"{i:064x}", i % 2, i % 3, "c" * 64
        )
        one = record(i, accuracy, key=key, status=int(rng.random() < 0.2), made=str(i))
        every.append(one)
        store.put(one)
    number = lambda r, name="accuracy": r.metrics[name]
    good = [r for r in every if r.status == 0 and not math.isnan(number(r))]
    for maximise in (True, False):
        best = sorted(good, key=number, reverse=maximise)[:7]
        assert [r.made for r in store.top("accuracy", 7, maximise=maximise)] == [
            r.made for r in best
        ]
    query = Query(
        oracle="child", fidelity=1, failed=False, limits=(("accuracy", ">=", 0.5),)
    )
    want = [
        r.made
        for r in good
        if r.key.oracle == "child-v1" and r.key.fidelity == 1 and number(r) >= 0.5
    ]
    assert want
    assert [r.made for r in store.rows(query)] == want
    exact = number(good[3])
    at_most = Query(limits=(("accuracy", "<=", exact), ("accuracy", ">=", exact)))
    assert good[3].made in [r.made for r in store.rows(at_most)]
    assert len(list(store.rows(Query(failed=True)))) == sum(r.status for r in every)
    assert [r.made for r in store.rows(Query(digest="0" * 62 + "0a"))] == ["10"]
    assert len(list(store.rows(Query(seed=2, limit=4)))) == 4
    assert store.metric_names() == ["accuracy", "layers"]


def test_values_never_become_sql(store):
    store.put(record())
    nasty = "accuracy'; DROP TABLE evaluations; --"
    assert list(store.rows(Query(oracle=nasty, digest=nasty, checksum=nasty))) == []
    assert store.top(nasty, 3) == []
    assert list(store.rows(Query(limits=((nasty, ">=", 0.0),)))) == []
    assert len(store) == 1
    with pytest.raises(UserError, match="At least one row"):
        store.top("accuracy", 0)


def test_merging_adds_what_is_new_and_keeps_what_is_there(store, tmp_path):
    with Store(tmp_path / "other.sqlite") as other:
        for i, accuracy in enumerate([0.1, 0.2, 0.3]):
            other.put(record(i, accuracy, version="other"))
        store.put(record(1, 0.2))
        store.put(record(2, 0.9))
        assert store.merge(other) == (1, 1, 1)
    assert store.merge(tmp_path / "other.sqlite") == (0, 2, 1)
    assert [r.metrics["accuracy"] for r in store.rows()] == [0.2, 0.9, 0.1]
    assert store.get(record(0).key).version == "other"
    with pytest.raises(UserError, match="itself"):
        store.merge(tmp_path / "e.sqlite")
    with pytest.raises(UserError, match="no evaluation store"):
        store.merge(tmp_path / "absent.sqlite")


def test_a_merge_that_fails_changes_nothing(store, tmp_path):
    store.put(record(0))
    with Store(tmp_path / "other.sqlite") as other:
        for i in range(400):
            other.put(record(i, curves={"loss": [0.1] * 200}))
        limit_pages(store, 20)
        with pytest.raises(DiskFullError):
            store.merge(other)
        assert len(store) == 1
        limit_pages(store, 10**6)
        assert store.merge(other).added == 399


def test_exports_can_be_read_again(store, tmp_path):
    store.put(record(0, math.nan))
    store.put(record(1, 0.25, metrics={"accuracy": 0.25, "extra": 7.0}))
    assert store.export(tmp_path / "all.csv") == 2
    with open(tmp_path / "all.csv", newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert [row["accuracy"] for row in rows] == ["NaN", "0.25"]
    assert [row["extra"] for row in rows] == ["", "7.0"]
    assert rows[1]["tokens"] == "0 1 1"
    assert json.loads(rows[0]["curves"]) == {"loss": [1.0, 0.5, "NaN"]}
    assert store.export(tmp_path / "some.json", Query(limit=1)) == 1
    strict = lambda text: pytest.fail(f"{text} is no JSON")
    (one,) = json.loads((tmp_path / "some.json").read_text(), parse_constant=strict)
    assert one["metrics"] == {"accuracy": "NaN", "layers": 0.0}
    assert one["digest"] == record().key.digest
    for name, text in (
        ("x.parquet", r"\.csv or \.json"),
        ("no/x.csv", "cannot be written"),
    ):
        with pytest.raises(UserError, match=text):
            store.export(tmp_path / name)


def test_one_writer_many_readers(store, tmp_path):
    path = tmp_path / "e.sqlite"
    with pytest.raises(UserError, match=rf"process {os.getpid()} on \S+; wait"):
        Store(path)
    with Store(path, write=False) as a, Store(path, write=False) as b:
        store.put(record(0))
        assert len(a) == len(b) == 1
        with pytest.raises(UserError, match="for reading"):
            a.put(record(1))
    store.close()
    Store(path).close()


def test_a_foreign_lock_is_named(store, monkeypatch):
    monkeypatch.setattr("jaxnas.data.store.evaluations.WAIT_S", 0.1)
    store._db.execute("PRAGMA busy_timeout = 100")
    foreign = sqlite3.connect(store.path, isolation_level=None)
    foreign.execute("BEGIN IMMEDIATE")
    with pytest.raises(UserError, match="locked by another program"):
        store.put(record())
    foreign.execute("ROLLBACK")
    foreign.close()
    assert store.put(record()) == "stored"


def damage(path):
    data = bytearray(path.read_bytes())
    data[4096 : 4096 * 6] = os.urandom(4096 * 5)
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda p: p.write_bytes(b"no database at all " * 300), "damaged"),
        (damage, "damaged"),
        (lambda p: change_pragma(p, "user_version", FORMAT + 1), f"format {FORMAT + 1}"),
        (lambda p: change_pragma(p, "application_id", 7), "not an evaluation store"),
    ],
    ids=["text", "pages", "format", "application"],
)
@pytest.mark.parametrize("write", [True, False])
def test_a_bad_file_is_one_sentence(tmp_path, change, text, write):
    path = tmp_path / "e.sqlite"
    with Store(path) as store:
        for i in range(50):
            store.put(record(i))
    change(path)
    with pytest.raises(UserError, match=text) as caught:
        Store(path, write=write)
    assert "\n" not in str(caught.value)
    assert not isinstance(caught.value, DiskFullError)


def change_pragma(path, name, value):
    db = sqlite3.connect(path)
    db.execute(f"PRAGMA {name} = {value}")
    db.close()


def test_another_programs_database_is_left_alone(tmp_path):
    path = tmp_path / "photos.sqlite"
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE photos (name TEXT)")
    db.commit()
    db.close()
    before = path.read_bytes()
    with pytest.raises(UserError, match="not an evaluation store"):
        Store(path)
    assert path.read_bytes() == before
    with pytest.raises(UserError, match="no evaluation store"):
        Store(tmp_path / "absent", write=False)
    assert not (tmp_path / "absent").exists()
    with pytest.raises(UserError, match="cannot be"):
        Store(tmp_path)


def limit_pages(store, pages):
    """Makes SQLite refuse to grow the file, as a full disk does."""
    store._db.execute(f"PRAGMA max_page_count = {pages}")


def test_a_full_disk_loses_nothing_and_can_be_mended(store):
    limit_pages(store, 20)
    with pytest.raises(DiskFullError, match="free some space"):
        list(map(store.put, map(record, range(1000))))
    stored = len(store)
    assert 0 < stored < 1000
    assert [int(r.metrics["layers"]) for r in store.rows()] == list(range(stored))
    limit_pages(store, 10**6)
    assert store.put(record(stored)) == "stored"


@pytest.fixture
def read_only_folder():
    """A folder with a store in which this process may not write, even if it is root's."""
    folder = Path(tempfile.mkdtemp())
    with Store(folder / "e.sqlite") as store:
        store.put(record())
    folder.chmod(0o555)
    user = os.geteuid()
    os.seteuid(65534 if user == 0 else user)
    try:
        yield folder
    finally:
        os.seteuid(user)
        folder.chmod(0o755)
        shutil.rmtree(folder)


def test_a_read_only_folder_can_be_read_and_is_not_written(read_only_folder):
    path = read_only_folder / "e.sqlite"
    with Store(path, write=False) as store:
        assert len(store) == 1
        assert store.get(record().key) is not None
    with pytest.raises(UserError, match="cannot be written"):
        Store(path)
    with pytest.raises(UserError, match="cannot be written"):
        Store(read_only_folder / "new" / "e.sqlite")


WRITER = """
import sys
from jaxnas.data.store.evaluations import Key, Record, Store
with Store(sys.argv[1]) as store:
    for i in range(int(sys.argv[2]), 10**9):
        key = Key("child-v1", f"{i:064x}", 0, 0, "c")
        row = Record(key, (i,), {"a": i / 7}, {"c": [i / 3] * 50}, 0.0, 0)
        assert store.put(row) == "stored"
        print(i, flush=True)
"""


def test_kill_9_at_any_moment_keeps_every_acknowledged_row(tmp_path):
    path, rng, first, acknowledged = tmp_path / "e.sqlite", random.Random(3), 0, []
    for _ in range(6):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path), str(first)],
            stdout=subprocess.PIPE, text=True, env=os.environ,
        ) as child:  # fmt: skip
            acknowledged.append(int(child.stdout.readline()))
            time.sleep(rng.uniform(0.0, 0.15))
            child.send_signal(signal.SIGKILL)
            acknowledged += [int(line) for line in child.stdout if line.endswith("\n")]
        with Store(path, write=False) as reader:  # nobody has tidied up yet
            assert len(reader) >= len(acknowledged)
        with Store(path) as store:  # the lock died with its holder
            held = {r.tokens[0]: r for r in store.rows()}
        assert set(acknowledged) <= set(held)
        assert len(held) - len(acknowledged) <= 6, "at most one unacknowledged row a kill"
        assert all(r.metrics == {"a": i / 7} for i, r in held.items())
        first = max(held) + 1
    assert len(acknowledged) > 12


def test_the_file_says_what_it_is(store):
    store.put(record())
    store.close()
    header = store.path.read_bytes()[:72]
    assert int.from_bytes(header[68:72], "big") == APPLICATION
    assert int.from_bytes(header[60:64], "big") == FORMAT
