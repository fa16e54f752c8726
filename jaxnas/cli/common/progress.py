"""What a person, a log file or a program sees while a search runs."""

import json
import signal
import sys
import time
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

COLLAPSE_SHARE = 0.5
"""Share of collapsed controllers from which the progress line says so."""


def _line(event: dict[str, Any], eta_s: float | None) -> str:
    """Returns one progress line: best so far, rate, budget, entropy, time left."""
    row = event["row"]
    best = "-" if row["best_mean"] is None else f"{row['best_mean']:.2f}"
    top = "-" if row["best_max"] is None else f"{row['best_max']:.2f}"
    parts = [
        f"best {best} mean, {top} top",
        f"{row['queries_per_s']:,.0f} queries/s",
        f"{row['queries'] / row['controllers']:.0f} queries each",
    ]
    if row["entropy"] is not None:
        parts.append(f"entropy {row['entropy']:.2f}")
    if (row["collapsed"] or 0.0) >= COLLAPSE_SHARE:
        parts.append(f"{row['collapsed']:.0%} COLLAPSED")
    if eta_s is not None:
        parts.append(f"{eta_s:.0f} s left at most")
    return ", ".join(parts)


def halved(found: dict[str, Any]) -> str:
    """Returns what a search by brackets evaluated and what that saved, in words."""
    counts = " > ".join(f"{rung['evaluations']:,}" for rung in found["rungs"])
    text = (
        f"{found['architectures']:,} architectures in brackets, evaluations from cheap to "
        f"full {counts}; {found['equivalents']:.1f} full evaluations' worth, "
        f"{found['saved']:.1f} saved"
    )
    if found["saved_seconds"] is not None:
        text += f", about {found['saved_seconds']:.0f} s of {found['seconds']:.0f} s spent"
    return text


class Interrupt:
    """Ctrl-C, remembered: libraries may swallow the exception that it raises."""

    def __init__(self) -> None:
        self.asked = False

    def listen(self) -> None:
        """Takes over SIGINT for this process."""
        signal.signal(signal.SIGINT, self._handle)

    def _handle(self, number: int, frame: Any) -> None:
        self.asked = True
        raise KeyboardInterrupt

    def check(self) -> None:
        """Raises KeyboardInterrupt where Ctrl-C was pressed before."""
        if self.asked:
            raise KeyboardInterrupt


INTERRUPT = Interrupt()


class Reporter:
    """Shows events as a live bar, as plain lines, as JSON, or not at all.

    Args:
        mode: ``"auto"`` (a bar in a terminal, else lines), ``"quiet"`` or ``"json"``.
    """

    def __init__(self, mode: str) -> None:
        self.mode = mode
        self.console = Console(stderr=True)
        self._begun: dict[str, tuple[float, int]] = {}
        self._printed = 0.0
        self._bar: Progress | None = None
        self._task: TaskID | None = None

    def __call__(self, event: dict[str, Any]) -> None:
        """Shows one event of ``search``."""
        INTERRUPT.check()
        if self.mode == "quiet" and event["event"] == "warning":
            print(f"jaxnas: {event['label']}: {event['text']}", file=sys.stderr)
        if self.mode == "quiet":
            return
        if self.mode == "json":
            print(json.dumps(event), flush=True)
            return
        getattr(self, f"_{event['event']}")(event)

    def remark(self, text: str) -> None:
        """Shows a sentence on the error stream in every mode."""
        if self.mode == "json":
            print(json.dumps({"event": "remark", "text": text}), flush=True)
        elif self.mode == "quiet":
            print(f"jaxnas: {text}", file=sys.stderr)
        else:
            self.say(text)

    def say(self, text: str) -> None:
        """Shows a remark, unless quiet or in JSON mode."""
        if self.mode == "auto":
            self.console.print(text, highlight=False)

    def _compiled(self, event: dict[str, Any]) -> None:
        key = f"{event['label']}:{event['first']}"
        self._begun[key] = (time.perf_counter(), event["update"])
        resumed = f", resumed at update {event['update']:,}" if event["update"] else ""
        self.say(
            f"{event['label']}: {event['controllers']:,} controllers, compile time "
            f"{event['seconds']:.1f} s{resumed}"
        )
        if self.console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=24),
                TextColumn("{task.percentage:>3.0f} %"),
                TimeElapsedColumn(),
                TextColumn("{task.fields[line]}"),
                console=self.console,
                transient=True,
            )
            self._bar.start()
            self._task = self._bar.add_task(
                event["label"], total=event["updates"], completed=event["update"], line=""
            )

    def _progress(self, event: dict[str, Any]) -> None:
        begun, first = self._begun[f"{event['label']}:{event['first']}"]
        done = event["update"] - first
        elapsed = time.perf_counter() - begun
        left = (event["updates"] - event["update"]) * elapsed / done if done else None
        line = _line(event, left)
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=event["update"], line=line)
        elif time.perf_counter() - self._printed > 5.0:
            self._printed = time.perf_counter()
            share = event["update"] / event["updates"]
            self.say(f"{event['label']}: {share:4.0%}, {line}")

    def _done(self, event: dict[str, Any]) -> None:
        self.close()
        row = event["row"]
        self.say(
            f"{event['label']}: done in {row['wall_s']:.1f} s, {_line(event, None)}, "
            f"{row['spent']:.0%} spent the budget"
        )

    def _warning(self, event: dict[str, Any]) -> None:
        self.say(f"{event['label']}: {event['text']}")

    def _evaluations(self, event: dict[str, Any]) -> None:
        text = f"{event['label']}: {event['evaluations']:,} evaluations"
        if event["store"]:
            text += f", {event['found']:,} of them found in {event['store']}"
        if event["failed"]:
            first = f" ({event['failures'][0]})" if event["failures"] else ""
            text += f", {event['failed']:,} failed{first}"
        if event["not_stored"]:
            text += f", {event['not_stored']:,} could not be stored"
        self.say(text)
        if event.get("halving"):
            self.say(f"{event['label']}: {halved(event['halving'])}")

    def close(self) -> None:
        """Takes the live bar away."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
        sys.stderr.flush()
