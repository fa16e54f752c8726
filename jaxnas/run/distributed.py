"""Several processes as one run: how they meet, what they agree on, and who is still there.

Every process runs the same program on its own devices of one mesh. What they say to each
other is small and goes through the key-value store of ``jax.distributed``; arrays go
through the run directory, which all of them share.

JAX ends a process with a stack trace where another one dies. Here the coordination service
lives in a child of process 0, which outlives it by a little, with its own watch switched
off; each process beats in the store, and ends with one sentence where another falls silent.
"""

import atexit
import contextlib
import hashlib
import itertools
import json
import os
import platform
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from jax._src import distributed as internal  # its key-value store has no public name
from jax._src.clusters import ClusterEnv

from jaxnas.core.errors import JaxnasError, UserError
from jaxnas.run.memory import Memory

BEAT_S = 1.0
SILENT_S = 20.0
"""Seconds without a beat after which a process counts as dead."""
WAIT_S = 120.0
"""Seconds that processes wait for one another at the start."""
LINGER_S = (4, 25)
"""Seconds that the service outlives process 0, so that the others end in good order: where
that says goodbye, and where it is killed."""
_NEVER = 10**6
_SERVICE = f"""
import os, sys, time
from jaxlib import _jax
service = _jax.get_distributed_runtime_service(
    sys.argv[1], int(sys.argv[2]), heartbeat_timeout={_NEVER}, shutdown_timeout=60)
print("ready", flush=True)
time.sleep({LINGER_S[0]} if sys.stdin.readline() else {LINGER_S[1]})
os._exit(0)
"""
_turns = itertools.count()
_services: list[subprocess.Popen[str]] = []
"""The service that this process has started, if it is process 0."""


class AgreedError(UserError):
    """A refusal that every process raises, so that none has to be told."""


def count() -> int:
    """Returns how many processes there are; 1 without ``jax.distributed``."""
    return internal.global_state.num_processes if internal.global_state.client else 1


def index() -> int:
    """Returns which of the processes this is, from 0."""
    return internal.global_state.process_id if internal.global_state.client else 0


def exchange(value: Any) -> list[Any]:
    """Returns the JSON values of all processes, in their order; it waits for all."""
    client: Any = internal.global_state.client
    if client is None or count() == 1:
        return [value]
    turn = next(_turns)
    client.key_value_set(f"jaxnas/{turn}/{index()}", json.dumps(value))
    found = [_get(client, f"jaxnas/{turn}/{i}") for i in range(count())]
    if turn:  # all are here, so all have read the turn before
        client.key_value_delete(f"jaxnas/{turn - 1}/{index()}")
    return [json.loads(text) for text in found]


def _get(client: Any, key: str) -> str:
    """Returns an entry of the store once it is there; Ctrl-C is heard in between."""
    while True:
        try:
            return client.blocking_key_value_get(key, 1000)
        except jax.errors.JaxRuntimeError as error:
            if "DEADLINE_EXCEEDED" not in str(error):
                raise


def first(make: Callable[[], Any]) -> Any:
    """Returns the JSON value that process 0 makes, in all processes.

    Raises:
        JaxnasError: process 0 raised it; the others raise an AgreedError with its text.
    """
    if count() == 1:
        return make()
    answer: dict[str, Any] = {}
    if index() == 0:
        try:
            answer["value"] = make()
        except JaxnasError as error:
            answer["error"] = str(error)
    answer = exchange(answer)[0]
    if "error" in answer:
        raise AgreedError(answer["error"])
    return answer["value"]


def same(what: Mapping[str, Any]) -> None:
    """Checks that all processes have the same values.

    Raises:
        AgreedError: with the first process that differs from process 0, and in what.
    """

    def digest(value: Any) -> str:
        text = json.dumps(value, sort_keys=True, default=str)
        return hashlib.sha1(text.encode()).hexdigest()

    ours, *others = exchange({name: digest(value) for name, value in what.items()})
    for i, theirs in enumerate(others, start=1):
        names = sorted(n for n in ours | theirs if ours.get(n) != theirs.get(n))
        if names:
            raise AgreedError(
                f"Process {i} was started with other options than process 0: "
                f"{', '.join(names)}. Give every process the same command, but --process."
            )


def shared(memory: Memory) -> Memory:
    """Returns the free memory of all processes together, by the one that has least."""
    found = exchange([platform.node(), *memory])
    if len(found) == 1:
        return memory
    nodes = [node for node, *_ in found]
    share = lambda node, source: nodes.count(node) if source == "host" else 1
    each = [free / share(node, source) for node, free, source in found]
    return Memory(min(each) * len(each), memory.source)


def local(x: Any) -> np.ndarray:
    """Returns the rows of an array, sharded over its first axis, that this process has."""
    if not isinstance(x, jax.Array) or x.is_fully_addressable:
        return np.asarray(x)
    shards = sorted(x.addressable_shards, key=lambda shard: shard.index[0].start or 0)
    return np.concatenate([np.asarray(shard.data) for shard in shards])


@contextlib.contextmanager
def joined(
    coordinator: str | None,
    process: int | None = None,
    processes: int | None = None,
    options: Mapping[str, Any] | None = None,
    wait_s: float = WAIT_S,
) -> Iterator[None]:
    """Joins the processes of a run; a run of one process where no coordinator is given.

    Call it before any JAX computation. Where a process ends or falls silent, the others
    print one sentence and exit with code 1.

    Args:
        coordinator: ``HOST:PORT`` of process 0, or ``"auto"`` for what SLURM, Open MPI, and
            whatever else ``jax.distributed.initialize`` knows, have set.
        process: which one this is, from 0; None with ``"auto"``.
        processes: how many there are; None with ``"auto"``.
        options: what all processes must have been given alike, JSON-able.
        wait_s: seconds that the processes wait for one another.

    Raises:
        UserError: the three do not go together, or the processes differ.
    """
    if coordinator is None:
        if process is not None or processes is not None:
            raise UserError("--process and --processes need --coordinator HOST:PORT.")
        yield
        return
    address, me, total, devices = _place(coordinator, process, processes)
    if me == 0:
        _services[:] = [_serve(address, total)]
    _connect(address, me, total, devices, wait_s)
    watch, together = _Watch(internal.global_state.client, me, total), True
    try:
        same(options or {})
        yield
        exchange("done")
    except AgreedError:
        raise
    except BaseException as error:
        if not isinstance(error, JaxnasError | KeyboardInterrupt):
            time.sleep(SILENT_S + 5)  # most often another one died: the watch says so
        watch.leave(f"ended: {str(error) or type(error).__name__}")
        stopped = isinstance(error, KeyboardInterrupt)
        atexit.register(_leave, 130 if stopped else getattr(error, "exit_code", 1))
        together = False
        raise
    finally:
        watch.stop()
        if together:
            jax.distributed.shutdown()
            for service in _services:
                service.kill()
                service.communicate()
            _services.clear()


def _leave(code: int) -> None:
    """Ends this process without waiting for the others, as JAX would at its exit."""
    sys.stdout.flush()
    sys.stderr.flush()
    for service in _services:
        if service.stdin is not None and service.poll() is None:
            service.stdin.write("goodbye\n")
            service.stdin.flush()
    os._exit(code)


def _place(
    coordinator: str, process: int | None, processes: int | None
) -> tuple[str, int, int, Any]:
    if coordinator == "auto":
        if process is not None or processes is not None:
            raise UserError("--coordinator auto finds --process and --processes itself.")
        host, total, me, devices = ClusterEnv.auto_detect_unset_distributed_params(
            None, None, None, None, None, int(WAIT_S)
        )
        if host is None or total is None or me is None:
            raise UserError(
                "No SLURM, Open MPI or other cluster's variables are set here; give "
                "--coordinator HOST:PORT --process I --processes N."
            )
        return host, me, total, devices
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdigit():
        raise UserError(f"--coordinator needs HOST:PORT or auto, got {coordinator!r}.")
    if process is None or processes is None:
        raise UserError(
            "--coordinator HOST:PORT needs --process I and --processes N as well."
        )
    if not 0 <= process < processes:
        raise UserError(
            f"--process must be 0 to {processes - 1} with --processes {processes}, got "
            f"{process}."
        )
    return coordinator, process, processes, None


def _serve(address: str, processes: int) -> subprocess.Popen[str]:
    port = address.rpartition(":")[2]
    limit = time.monotonic() + LINGER_S[1]  # that of a run which has just ended lingers
    while not _free(int(port)):
        if time.monotonic() > limit:
            raise UserError(
                f"No coordinator can listen on port {port} here; choose a free one for "
                "--coordinator."
            )
        time.sleep(1.0)
    service = subprocess.Popen(
        [sys.executable, "-c", _SERVICE, f"[::]:{port}", str(processes)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        start_new_session=True,
    )  # fmt: skip
    assert service.stdout is not None
    if service.stdout.readline().strip() != "ready":
        raise UserError(f"The coordinator could not be started on port {port}.")
    return service


def _free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True


def _connect(address: str, me: int, total: int, devices: Any, wait_s: float) -> None:
    """Connects all processes, or ends this one with a sentence: JAX would abort."""

    def late() -> None:
        print(
            f"jaxnas: the {total} processes did not all meet at {address} within "
            f"{wait_s:.0f} s; check that each was started and reaches that address.",
            file=sys.stderr,
        )
        _leave(2)

    timer = threading.Timer(wait_s, late)
    timer.daemon = True
    timer.start()
    jax.config.update("jax_enable_preemption_service", False)
    jax.distributed.initialize(
        address,
        total,
        me,
        local_device_ids=devices,
        cluster_detection_method="deactivate",
        coordinator_bind_address="localhost:0",  # ours listens on the address itself
        initialization_timeout=_NEVER,
        heartbeat_timeout_seconds=_NEVER,
        shutdown_timeout_seconds=60,
    )
    jax.devices()  # waits for everyone's
    timer.cancel()


class _Watch(threading.Thread):
    """Beats in the store, and ends this process where another one stops or says so."""

    def __init__(self, client: Any, me: int, total: int) -> None:
        super().__init__(daemon=True)
        self.client, self.me, self.total = client, me, total
        self.ended = threading.Event()
        self.start()

    def leave(self, text: str) -> None:
        """Stops beating and tells the others why."""
        self.stop()
        with contextlib.suppress(jax.errors.JaxRuntimeError):  # they find out by themselves
            self.client.key_value_set(f"jaxnas/beat/{self.me}", text, allow_overwrite=True)

    def stop(self) -> None:
        """Stops beating."""
        self.ended.set()
        self.join()

    def run(self) -> None:
        """Beats and looks at the others until it is stopped."""
        seen = {i: ("", time.monotonic()) for i in range(self.total)}
        for beat in itertools.count():
            try:
                key = f"jaxnas/beat/{self.me}"
                self.client.key_value_set(key, str(beat), allow_overwrite=True)
                beats = dict(self.client.key_value_dir_get("jaxnas/beat/"))
            except jax.errors.JaxRuntimeError:
                self.lost("The coordinator of the processes is gone")
                return
            for i, (text, since) in seen.items():
                now = beats.get(f"jaxnas/beat/{i}", "")
                if now != text:
                    seen[i] = (now, time.monotonic())
                if now.startswith("ended"):
                    self.lost(f"Process {i} {now.rstrip('.')}")
                elif time.monotonic() - since > SILENT_S and now == text:
                    self.lost(f"Process {i} has not been heard of for {SILENT_S:.0f} s")
            if self.ended.wait(BEAT_S):
                return

    def lost(self, what: str) -> None:
        """Ends this process with one sentence."""
        if not self.ended.is_set():
            print(
                f"jaxnas: {what}, so this process ends too; start all processes with the "
                "same command again to go on from the last checkpoint.",
                file=sys.stderr,
            )
            _leave(1)
