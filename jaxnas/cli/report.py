"""``jaxnas report``: one page from any set of runs."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro


@dataclass(frozen=True)
class Report:
    """Builds report.html and report.md from run directories or patterns."""

    runs: Annotated[tuple[str, ...], tyro.conf.Positional]
    """Run directories or patterns, such as runs/main or "runs/**"."""
    out: Path | None = None
    """Where the report goes; the first run's directory when not given."""
    json: bool = False
    """Print the numbers as JSON."""

    def run(self) -> int:
        """Builds the report and prints its tables."""
        from jaxnas import report

        out = self.out or Path(self.runs[0].split("*")[0])
        built = report.build(list(self.runs), out)
        if self.json:
            print(json.dumps({"html": str(built.html_path), **built.summary()}))
            return 0
        built.print()
        print(f"report: {built.html_path}")
        return 0
