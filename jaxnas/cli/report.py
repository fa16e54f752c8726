"""``jaxnas report``: one page from any set of runs."""

import contextlib
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from jaxnas.cli.common.options import numbers
from jaxnas.data.store.packed import unpack


@dataclass(frozen=True)
class Report:
    """Builds report.html and report.md from run directories or patterns."""

    runs: Annotated[tuple[str, ...], tyro.conf.Positional]
    """Run directories or patterns, such as runs/main or "runs/**"; packed runs, .zip."""
    out: Path | None = None
    """Where the report goes; the first run's directory when not given."""
    reference: tuple[str, ...] = ()
    """Point above which the hypervolume of several objectives is measured, such as 50,80;
    the worst of all fronts that were found when not given."""
    json: bool = False
    """Print the numbers as JSON."""

    def run(self) -> int:
        """Builds the report and prints its tables."""
        from jaxnas import report

        packed = [Path(run) for run in self.runs if run.endswith(".zip")]
        first = self.runs[0].removesuffix(".zip").split("*")[0]
        with contextlib.ExitStack() as stack:
            opened = []
            for file in packed:
                folder = stack.enter_context(tempfile.TemporaryDirectory())
                unpack(file, Path(folder))
                opened.append(folder)
            plain = [run for run in self.runs if not run.endswith(".zip")]
            point = numbers("--reference", self.reference) or ()
            built = report.build([*plain, *opened], self.out or Path(first), point)
        if self.json:
            print(json.dumps({"html": str(built.html_path), **built.summary()}))
            return 0
        built.print()
        print(f"report: {built.html_path}")
        return 0
