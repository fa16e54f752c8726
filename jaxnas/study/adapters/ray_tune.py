"""A Ray Tune search algorithm: existing tuners are driven by our methods.

::

    searcher = JaxnasSearch("space.yaml", metric="accuracy", mode="max")
    tune.Tuner(train, tune_config=tune.TuneConfig(search_alg=searcher, num_samples=100))
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ray.tune.search import Searcher

from jaxnas.core.errors import UserError
from jaxnas.core.space import SearchSpace
from jaxnas.study.study import Study, Trial


class JaxnasSearch(Searcher):
    """Suggests architectures, as dicts of names and values, to Ray Tune.

    Args:
        space: a space, its name, a space file or a document.
        algorithm: name of a method, such as ``"evolution"`` or ``"ppo"``.
        metric: what a trial reports.
        mode: ``"max"`` or ``"min"``.
        seed: of the method.
        path: file of the study, which a restored experiment goes on from; None keeps it in
            memory.
        **options: of the algorithm.
    """

    def __init__(
        self,
        space: SearchSpace | str | Path | Mapping[str, Any] | None,
        algorithm: str = "evolution",
        metric: str = "score",
        mode: str = "max",
        seed: int = 0,
        path: str | Path | None = None,
        **options: Any,
    ) -> None:
        if mode not in ("max", "min"):
            raise UserError(f"The mode is 'max' or 'min', not {mode!r}.")
        super().__init__(metric=metric, mode=mode)
        up = {metric: mode == "max"}
        self._study = Study(space, algorithm, seed, up, path, **options)
        self._running: dict[str, Trial] = {}

    def suggest(self, trial_id: str) -> Any:
        """Returns the next architecture, or that there is none left."""
        try:
            (asked,) = self._study.ask(1)
        except UserError:
            return Searcher.FINISHED
        self._running[trial_id] = asked
        return dict(asked.architecture)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Tells the method; an error or a missing metric is a failure."""
        asked = self._running.pop(trial_id, None)
        if asked is None:
            return
        value = math.nan
        if result is not None and not error:
            value = float(result.get(str(self.metric), math.nan))
        self._study.tell(asked, value)

    def save(self, checkpoint_path: str) -> None:
        """Writes nothing: the study's file holds all."""

    def restore(self, checkpoint_path: str) -> None:
        """Reads nothing: the study's file holds all."""
