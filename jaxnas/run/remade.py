"""The oracle of a run, made again from what its configuration says."""

from collections.abc import Mapping
from typing import Any

from jaxnas import registry
from jaxnas.core.errors import JaxnasError
from jaxnas.core.oracle import Oracle


def oracle_of(config: Mapping[str, Any]) -> Oracle:
    """Returns the oracle that a run asked, by its recorded name and options.

    Raises:
        JaxnasError: it was never registered, its space is another one here, or its numbers
            have another version now.
    """
    entry = config["oracle"]
    name, options = entry.get("name"), dict(entry.get("options") or {})
    if not name:
        raise JaxnasError("it was built in Python and has no registered name.")
    extra = {}
    if config.get("space_name"):
        options_ = config.get("space_options") or {}
        made = registry.make_space(config["space_name"], **options_)
        extra = {"space": made} if made.id == config["space"] else {}
    oracle = registry.make_oracle(name, **extra, **options)
    wanted = str(entry.get("id", oracle.id))
    if oracle.id != wanted:
        raise JaxnasError(f"its numbers are {oracle.id} here and were {wanted} in the run.")
    return oracle
