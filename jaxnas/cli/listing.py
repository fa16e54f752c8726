"""``jaxnas list``: everything that has a name."""

from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from jaxnas import registry

TITLES = {
    "space": "Search spaces",
    "oracle": "Oracles",
    "env": "Environments",
    "controller": "Controllers",
    "algorithm": "Algorithms",
    "image": "Images (more: jaxnas data list)",
    "text": "Texts",
}


@dataclass(frozen=True)
class List:
    """Lists spaces, oracles, environments, controllers, algorithms, images and texts."""

    def run(self) -> int:
        """Prints the tables."""
        console = Console()
        for kind, title in TITLES.items():
            table = Table(title=title, title_justify="left", box=None, show_header=False)
            table.add_column(style="bold", no_wrap=True, min_width=16)
            table.add_column()
            for name in registry.names(kind):
                table.add_row(name, registry.describe(kind, name))
            console.print(table)
            console.print()
        return 0
