"""``jaxnas pack``: a run as one archive that another machine can report on."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from jaxnas.core.errors import UserError
from jaxnas.data.store.packed import pack


@dataclass(frozen=True)
class Pack:
    """Makes one archive of a finished search, with checksums: jaxnas report reads it."""

    run_dir: Annotated[Path, tyro.conf.Positional]
    """Directory of a run, or of a search with one for each method."""
    out: Path | None = None
    """The archive; the name of the directory with .zip when not given."""
    force: bool = False
    """Replace an archive that is there."""

    def run(self) -> int:
        """Writes the archive."""
        file = self.out or Path(f"{self.run_dir.name}.zip")
        if file.suffix != ".zip":
            raise UserError(f"--out must end in .zip, got {file}.")
        if file.exists() and not self.force:
            raise UserError(f"{file} exists; add --force to replace it.")
        sizes = pack(self.run_dir, file)
        size = sum(sizes.values()) / 2**20
        print(
            f"packed {len(sizes)} files, {size:.1f} MiB, into {file}; "
            f"report on it with: jaxnas report {file}"
        )
        return 0
