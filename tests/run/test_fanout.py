"""Host evaluations: none made twice, none lost, whatever dies, fills up or hangs."""

import collections
import json
import os
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import psutil
import pytest

import jaxnas
from jaxnas.core import tokens as tk
from jaxnas.core.errors import UserError
from jaxnas.core.types import FAILED, OK, Measurement
from jaxnas.data.store.evaluations import Store
from jaxnas.oracles.combine import Joined, constrained
from jaxnas.registry import make_algorithm, make_oracle, make_space
from jaxnas.run import waves
from jaxnas.run.host.cache import HostCache
from jaxnas.run.host.executor import Answer, Failure, Measure, Request, Serial
from jaxnas.run.host.processes import Processes
from jaxnas.testing.fakes import FakeChild, OnHost

SPACE = make_space("toy")
EVERY = tk.enumerate_space(SPACE)
SAME = ("curve", "tokens", "objectives", "count", "proposals", "best_tokens", "best_true")


def run(oracle, **options):
    options = {"budget": 8, "seeds": 3, "chunk": 2, **options}
    algo = make_algorithm("evolution", space=SPACE, batch=4, population=5, sample=3)
    return jaxnas.search(algo, oracle, **options)


def assert_same(a, b):
    for name in SAME:
        np.testing.assert_array_equal(a.arrays[name], b.arrays[name], err_msg=name)


def counts(log):
    """How often each architecture was measured to the end, in whatever process."""
    return collections.Counter(log.read_text().splitlines()) if log.exists() else {}


def requests(count):
    return [Request(str(i), EVERY[i], 0) for i in range(count)]


def trouble(*kinds):
    """The first architectures of the space, each with its trouble."""
    return tuple(
        (tuple(map(int, row)), kind) for row, kind in zip(EVERY, kinds, strict=False)
    )


@pytest.fixture(scope="module")
def alone():
    """What a search of the fake oracle finds in one process without a store."""
    return run(FakeChild())


def ask_all(oracle, path):
    """The summary of asking for every architecture, without a search."""
    zeros, on = np.zeros(len(EVERY), np.int32), np.ones(len(EVERY), bool)
    with Store(path) as store:
        cache = HostCache(oracle, None, store)
        cache.evaluate(EVERY, zeros, on)
        return cache.summary()


def where_am_i(request):
    """Says what a worker's JAX sees; runs in the worker."""
    import jax

    counted = [jax.device_count(), os.getpid(), os.environ["XLA_FLAGS"].count("=1")]
    return Answer(np.asarray(counted, np.float64), 0.0, 0.0, OK)


def test_a_killed_worker_loses_nothing_and_counts_nothing_twice(alone, tmp_path):
    asked = alone.arrays["tokens"][:, 2]
    victims = tuple((tuple(map(int, row)), "kill-once") for row in np.unique(asked, axis=0))
    log, marks = tmp_path / "log", tmp_path / "marks"
    marks.mkdir()
    oracle = FakeChild(log=str(log), marks=str(marks), troubles=victims)
    with Processes(2) as executor:
        found = run(oracle, executor=executor, store=tmp_path / "e.sqlite")
    assert len(list(marks.iterdir())) == len(victims), "each victim did kill its worker"
    assert_same(alone, found)
    measured = counts(log)
    distinct = {tuple(row) for row in alone.arrays["tokens"].reshape(-1, SPACE.length)}
    assert set(measured) == {" ".join(map(str, row)) for row in distinct if row[0] >= 0}
    assert set(measured.values()) == {1}
    with Store(tmp_path / "e.sqlite", write=False) as store:
        assert len(store) == len(measured)
    assert found.evaluations["made"] == len(measured)
    assert found.evaluations["failed"] == 0


def test_every_request_has_one_outcome_whatever_befalls_it(tmp_path):
    kinds = ("kill", "kill-once", "hang", "raise", "diverge")
    oracle = FakeChild(
        marks=str(tmp_path), log=str(tmp_path / "log"), troubles=trouble(*kinds)
    )
    with Processes(2, retries=1, timeout_s=4.0) as executor:
        outcomes = list(executor.map(Measure(oracle), requests(9)))
    assert sorted(i for i, _ in outcomes) == list(range(9))
    got = dict(outcomes)
    assert isinstance(got[0], Failure)
    assert "SIGKILL" in got[0].message
    assert "2 tries" in got[0].message
    assert got[2] == Failure("TimeoutError: no answer within 4 s")
    assert got[3] == Failure("RuntimeError: out of cheese")
    assert (got[4].status, got[4].message) == (FAILED, "the loss became NaN")
    healthy = FakeChild()
    for i in (1, 5, 6, 7, 8):
        want = healthy.measure(EVERY[i], 0)
        assert got[i].metrics == want.metrics
        assert isinstance(got[i], Measurement)
    assert set(counts(tmp_path / "log").values()) == {1}


def test_workers_have_settings_of_their_own_and_stay(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=5")
    with Processes(1) as executor:
        one = dict(executor.map(where_am_i, requests(2)))
        two = dict(executor.map(where_am_i, requests(1)))
        rows = np.stack([one[0].objectives, one[1].objectives, two[0].objectives])
        assert rows[:, 0].tolist() == [1, 1, 1], "one CPU device"
        assert len(set(rows[:, 1])) == 1, "the same process"
        assert rows[0, 1] != os.getpid()
        assert os.environ["XLA_FLAGS"] == "--xla_force_host_platform_device_count=5"
        defect = FakeChild(troubles=trouble("defect"))
        with pytest.raises(RuntimeError, match="nobody expects this"):
            list(executor.map(Measure(defect), requests(3)))
        assert not psutil.pid_exists(int(rows[0, 1]))
        with pytest.raises(UserError, match="cannot be sent to another process"):
            list(executor.map(lambda request: None, requests(1)))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"workers": 0}, "At least one worker"),
        ({"workers": 1, "retries": -1}, "Retries"),
        ({"workers": 1, "timeout_s": 0.0}, "above 0 seconds"),
    ],
)
def test_bad_executors_are_refused(options, text):
    with pytest.raises(UserError, match=text):
        Processes(**options)


HANGING = """
import sys
from jaxnas.run.host.executor import Measure, Request
from jaxnas.run.host.processes import Processes
from jaxnas.testing.fakes import FakeChild
import numpy as np

if __name__ == "__main__":
    row = (0, 0, 0, 0)
    oracle = FakeChild(troubles=((row, "hang"),))
    request = Request("", np.asarray(row, np.int32), 0)
    list(Processes(2).map(Measure(oracle), [request, request]))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_workers_end_with_their_parent(number, tmp_path):
    script = tmp_path / "hanging.py"
    script.write_text(HANGING)
    with subprocess.Popen(
        [sys.executable, str(script)], stderr=subprocess.PIPE, text=True, env=os.environ
    ) as child:
        workers = []
        until = time.monotonic() + 60
        while len(workers) < 2 and time.monotonic() < until:
            time.sleep(0.1)
            family = psutil.Process(child.pid).children(recursive=True)
            workers = [p for p in family if "spawn_main" in " ".join(p.cmdline())]
        time.sleep(0.5)
        child.send_signal(number)
        _, err = child.communicate(timeout=30)
    assert len(workers) == 2
    _, alive = psutil.wait_procs(workers, timeout=20)
    assert not alive
    if number == signal.SIGINT:
        assert err.count("Traceback") <= 1, "workers say nothing on Ctrl-C"


def test_what_is_stored_is_not_measured_again(alone, tmp_path):
    log, path = tmp_path / "log", tmp_path / "e.sqlite"
    oracle = FakeChild(log=str(log))
    first = run(oracle, store=path)
    assert (first.evaluations["found"], first.config["store"]) == (0, str(path))
    log.unlink()
    with Store(path) as store:
        again = run(oracle, store=store, out=tmp_path / "run")
    assert not log.exists()
    assert_same(alone, again)
    assert again.evaluations["found"] == again.evaluations["evaluations"] > 0
    made = json.loads((tmp_path / "run/provenance.json").read_text())
    assert made["evaluations"] == again.evaluations
    assert jaxnas.load_result(tmp_path / "run").evaluations == again.evaluations
    distinct = again.evaluations["evaluations"]
    for other in (FakeChild(seed=1), FakeChild(data="mnist")):
        assert ask_all(other, path)["found"] == 0
    other = FakeChild(objective="layers", log=str(log))
    shared = ask_all(other, path)
    assert shared["found"] == distinct, "one measurement holds every metric"
    assert len(counts(log)) == shared["made"] == len(EVERY) - distinct


def test_each_answer_is_stored_as_it_arrives(tmp_path):
    oracle = FakeChild(troubles=trouble("", "", "", "defect"))
    with Store(tmp_path / "e.sqlite") as store:
        cache = HostCache(oracle, Serial(), store)
        with pytest.raises(LookupError):
            cache.evaluate(EVERY[:6], np.zeros(6, np.int32), np.ones(6, bool))
        assert [r.tokens for r in store.rows()] == [tuple(row) for row in EVERY[:3]]


def test_failures_of_the_oracle_are_kept_and_failures_of_the_run_are_not(tmp_path):
    oracle = FakeChild(troubles=trouble("diverge", "raise"))
    scored = np.asarray([True, True, True, False])
    for turn in range(2):
        with Store(tmp_path / "e.sqlite") as store:
            cache = HostCache(oracle, None, store)
            found = cache.evaluate(EVERY[:4], np.zeros(4, np.int32), scored)
            assert np.asarray(found.status).tolist() == [FAILED, FAILED, OK, OK]
            assert np.isnan(np.asarray(found.objectives)[[0, 1, 3]]).all()
            said = cache.summary()
            assert said["failed"] == 2
            assert said["failures"] == [
                "RuntimeError: out of cheese",
                "the loss became NaN",
            ]
            assert (said["found"], said["made"]) == ((0, 3), (2, 1))[turn]
            assert [r.message for r in store.rows()] == ["the loss became NaN", ""]


def test_a_full_disk_does_not_stop_a_search(alone, tmp_path):
    events = []
    with Store(tmp_path / "e.sqlite") as store:
        for i in range(40):  # fills what is allocated
            store.put(filler(i))
        before = len(store)
        store._db.execute("PRAGMA max_page_count = 1")
        found = run(FakeChild(), store=store, callbacks=[events.append])
        assert_same(alone, found)
        warned = [e["text"] for e in events if e["event"] == "warning"]
        assert len(warned) == 1, "said once"
        assert "disk is full" in warned[0]
        kept = len(store) - before
        assert found.evaluations["not_stored"] == found.evaluations["made"] - kept > 0
        assert found.evaluations["problems"] == warned
        with pytest.warns(RuntimeWarning, match="disk is full"):
            run(FakeChild(), store=store)


def filler(number):
    from jaxnas.data.store.evaluations import Key, Record

    key = Key("filler", str(number), 0, 0, "")
    return Record(key, (), {}, {"x": [0.5] * 100}, 0.0, 0)


def test_what_could_not_be_kept_is_written_as_soon_as_it_can_be(tmp_path):
    oracle, zeros = FakeChild(), np.zeros(30, np.int32)
    said = []
    with Store(tmp_path / "e.sqlite") as store:
        cache = HostCache(oracle, None, store, said.append)
        store._db.execute("PRAGMA query_only = 1")
        cache.evaluate(EVERY[:10], zeros[:10], np.ones(10, bool))
        assert (len(store), cache.kept.summary()["not_stored"], len(said)) == (0, 10, 1)
        store._db.execute("PRAGMA query_only = 0")
        cache.evaluate(EVERY[10:11], zeros[:1], np.ones(1, bool))
        assert (len(store), cache.kept.summary()["not_stored"], len(said)) == (11, 0, 1)
        store._db.execute("DROP TABLE evaluations")
        found = cache.evaluate(EVERY[:30], zeros, np.ones(30, bool))
        assert np.isfinite(np.asarray(found.objectives)).all()
        assert len(said) == 3


def test_an_oracle_inside_others_is_measured_once_for_all(tmp_path):
    log, path = tmp_path / "log", tmp_path / "e.sqlite"
    child = FakeChild(log=str(log))
    limited = constrained(child, ["layers<=2", "params<=1e9"])
    found = run(limited, store=path)
    assert found.evaluations["made"] == len(counts(log)) == found.evaluations["evaluations"]
    assert [part["oracle"] for part in found.config["measuring"]] == [child.id]
    tokens, violation = found.arrays["tokens"], found.arrays["violation"]
    asked = tokens[..., 0] >= 0
    layers = (tokens[asked] > 0).sum(axis=-1)
    np.testing.assert_allclose(violation[asked], np.maximum(0, layers - 2) / 2, rtol=1e-6)
    assert (layers > 2).any()
    cost = make_oracle("cost", space=SPACE, objective="params")
    few, zeros = EVERY[::3], np.zeros(len(EVERY[::3]), np.int32)
    with Store(path) as store:
        cache = HostCache(Joined((child, cost)), None, store)
        pair = cache.evaluate(few, zeros, np.ones(len(few), bool))
    assert set(counts(log).values()) == {1}
    assert cache.summary()["found"] > 0
    want = [child.measure(row, 0).metrics["digits_accuracy"] for row in few]
    np.testing.assert_array_equal(np.asarray(pair.objectives)[:, 0], np.float32(want))
    _, alone = cost.evaluate(
        jax.random.key(0), cost.params(), (), few, zeros, np.ones(len(few), bool)
    )
    np.testing.assert_array_equal(np.asarray(pair.objectives)[:, 1:], alone.objectives)


def test_interrupted_and_resumed_with_a_store(alone, tmp_path, monkeypatch):
    monkeypatch.setattr(waves, "CHECKPOINT_EVERY_S", 0.0)
    log, left = tmp_path / "log", [2]
    oracle = FakeChild(log=str(log))

    def interrupt(event):
        left[0] -= event["event"] == "progress"
        if not left[0]:
            raise KeyboardInterrupt

    out, path = tmp_path / "run", tmp_path / "e.sqlite"
    with pytest.raises(KeyboardInterrupt):
        run(oracle, out=out, store=path, callbacks=[interrupt])
    assert json.loads((out / "config.json").read_text())["store"] == str(path)
    with pytest.raises(UserError, match="measuring"):
        run(FakeChild(data="mnist"), out=out, store=path)
    path.rename(tmp_path / "moved.sqlite")
    again = run(oracle, out=out, store=tmp_path / "moved.sqlite")
    assert_same(alone, again)
    assert set(counts(log).values()) == {1}
    assert len(counts(log)) == again.evaluations["evaluations"]
    assert again.evaluations["store"] == str(tmp_path / "moved.sqlite")


@pytest.mark.parametrize(
    ("oracle", "options", "text"),
    [
        (make_oracle("toy", space=SPACE), {"executor": Serial()}, "leave the executor out"),
        (make_oracle("toy", space=SPACE), {"store": "e.sqlite"}, "leave the store out"),
        (OnHost(make_oracle("toy")), {"store": "e.sqlite"}, "leave the store out"),
    ],
)
def test_options_that_mean_nothing_are_refused(oracle, options, text):
    with pytest.raises(UserError, match=text):
        run(oracle, **options)


def test_an_objective_that_was_not_measured_is_named(tmp_path):
    with Store(tmp_path / "e.sqlite") as store:
        run(FakeChild(), store=store)
        store._db.execute("UPDATE evaluations SET metrics = '{\"older\": 1.0}'")
        with pytest.raises(UserError, match="measured older and not 'digits_accuracy'"):
            run(FakeChild(), store=store)


UNGUARDED = """
from jaxnas.run.host.executor import Measure, Request
from jaxnas.run.host.processes import Processes
from jaxnas.testing.fakes import FakeChild
list(Processes(1).map(Measure(FakeChild()), [Request("", None, 0)]))
"""


@pytest.mark.slow
def test_a_script_without_a_guard_is_told_so(tmp_path):
    (tmp_path / "script.py").write_text(UNGUARDED)
    done = subprocess.run(
        [sys.executable, str(tmp_path / "script.py")],
        capture_output=True, text=True, check=False, env=os.environ, timeout=300,
    )  # fmt: skip
    assert done.returncode == 1
    assert 'call the search under if __name__ == "__main__"' in done.stderr


RAY = """
import sys
import jaxnas
from jaxnas.core import tokens as tk
from jaxnas.run.host.executor import Failure, Measure, Request
from jaxnas.testing.fakes import FakeChild

if __name__ == "__main__":
    folder = sys.argv[1]
    space = jaxnas.make_space("toy")
    every = tk.enumerate_space(space)
    row = lambda i: tuple(int(token) for token in every[i])
    algo = jaxnas.make_algorithm("evolution", space=space, batch=4, population=5, sample=3)
    options = {"budget": 8, "seeds": 3, "chunk": 2}
    alone = jaxnas.search(algo, FakeChild(), **options)
    victim = tuple(int(token) for token in alone.arrays["tokens"][0, 2])
    oracle = FakeChild(
        log=folder + "/log", marks=folder, troubles=((victim, "kill-once"),)
    )
    with jaxnas.RayExecutor(workers=2) as executor:
        found = jaxnas.search(
            algo, oracle, executor=executor, store=folder + "/e.sqlite", **options
        )
        for name in ("curve", "tokens", "objectives", "best_true"):
            a, b = alone.arrays[name], found.arrays[name]
            assert a.tobytes() == b.tobytes(), name
        assert found.evaluations["failed"] == 0, found.evaluations
        open(folder + "/made", "w").write(str(found.evaluations["made"]))
    with jaxnas.RayExecutor(workers=2, retries=1, timeout_s=20.0) as executor:
        kinds = ((row(0), "kill"), (row(1), "hang"), (row(2), "raise"))
        oracle = FakeChild(marks=folder, troubles=kinds)
        asked = [Request(str(i), every[i], 0) for i in range(5)]
        got = dict(executor.map(Measure(oracle), asked))
        assert len(got) == 5
        assert "2 tries" in got[0].message, got[0]
        assert got[1].message == "TimeoutError: no answer within 20 s"
        assert got[2] == Failure("RuntimeError: out of cheese")
        assert got[3].metrics == FakeChild().measure(every[3], 0).metrics
"""


@pytest.mark.slow
def test_ray_with_a_killed_worker(tmp_path):
    pytest.importorskip("ray", reason="Ray is not installed (the extra ray)")
    (tmp_path / "script.py").write_text(RAY)
    done = subprocess.run(
        [sys.executable, str(tmp_path / "script.py"), str(tmp_path)],
        capture_output=True, text=True, check=False, env=os.environ, timeout=400,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    measured = counts(tmp_path / "log")
    assert set(measured.values()) == {1}
    assert len(measured) == int((tmp_path / "made").read_text())


def test_a_missing_ray_is_one_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r'pip install "jaxnas\[ray\]"'):
        jaxnas.RayExecutor()
