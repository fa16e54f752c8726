"""``python -m jaxnas`` is the ``jaxnas`` command."""

from jaxnas.cli import main

main()
