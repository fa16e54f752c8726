"""The little protocol between the harness and a worker process. Standard library only.

A worker prepares itself (imports, warm-up, compilation), prints one ``ready`` row and then
runs its timed region once for every line that it reads, printing one row each time. Rows
are JSON objects on lines of their own. CPU seconds are those of the whole process, so that
threads cannot hide work, and each row carries a checksum of what the region computed.
"""

import json
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple


class Region(NamedTuple):
    """What a worker times: ``run`` takes what ``before`` returned and gives a checksum."""

    run: Callable[[Any], float]
    before: Callable[[], Any] = lambda: None


def serve(
    prepare: Callable[[], Region], *, name: str, unit: str, units: int, **facts: Any
) -> None:
    """Prepares, then times one region for each line of standard input until it closes.

    Args:
        prepare: does what is not timed and returns the region; its checksum must depend on
            all the work.
        name: what is measured.
        unit: what is counted, for example ``"controller-update"``.
        units: how many of them one region does.
        facts: settings, versions and anything else that belongs in the row. A callable is
            called after the preparation.
    """
    cpu, wall = time.process_time(), time.perf_counter()
    region = prepare()
    row = {
        "ready": name,
        "unit": unit,
        "units": units,
        "prepare_cpu_s": time.process_time() - cpu,
        "prepare_wall_s": time.perf_counter() - wall,
        "facts": {k: v() if callable(v) else v for k, v in facts.items()},
    }
    print(json.dumps(row), flush=True)
    for _ in sys.stdin:
        begun = region.before()
        cpu, wall = time.process_time(), time.perf_counter()
        checksum = region.run(begun)
        row = {
            "cpu_s": time.process_time() - cpu,
            "wall_s": time.perf_counter() - wall,
            "checksum": float(checksum),
        }
        print(json.dumps(row), flush=True)
