"""An Optuna sampler: existing scripts are driven by our methods.

::

    study = optuna.create_study(sampler=JaxnasSampler("evolution"))
    study.optimize(objective, n_trials=100)
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from jaxnas.core.errors import UserError
from jaxnas.spaces.declare import declare
from jaxnas.study.study import Study, Trial

LEVELS = 32
"""Values of a parameter that has more or that is continuous."""


class JaxnasSampler(optuna.samplers.BaseSampler):
    """Samples by an algorithm of jaxnas over the parameters of the first finished trial.

    The first trial is drawn at random, because Optuna's spaces are known only by running.
    Of a continuous parameter, or one with many whole numbers, ``LEVELS`` values are
    searched, evenly spaced (in the logarithm, where Optuna has ``log=True``). Parameters
    that are not in every trial are drawn at random.

    Args:
        algorithm: name of a method, such as ``"evolution"`` or ``"ppo"``.
        seed: of the method and of the random draws.
        path: file of the study; None keeps it in memory.
        **options: of the algorithm.
    """

    def __init__(
        self,
        algorithm: str = "evolution",
        seed: int = 0,
        path: str | Path | None = None,
        **options: Any,
    ) -> None:
        self._made = {"algorithm": algorithm, "seed": seed, "path": path, **options}
        self._random = optuna.samplers.RandomSampler(seed=seed)
        self._space = optuna.search_space.IntersectionSearchSpace()
        self._choices: dict[str, list[Any]] = {}
        self._names: dict[str, str] = {}
        self._study: Study | None = None
        self._asked: dict[int, Trial] = {}

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Returns the parameters that all finished trials have."""
        found = self._space.calculate(study)
        if self._study is not None:  # what the study was made of stays
            return {name: d for name, d in found.items() if name in self._choices}
        return {name: d for name, d in found.items() if not d.single()}

    def sample_relative(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        search_space: dict[str, BaseDistribution],
    ) -> dict[str, Any]:
        """Returns the values of the next architecture."""
        if not search_space:
            return {}
        if self._study is None:
            self._start(study, search_space)
        assert self._study is not None
        try:
            (asked,) = self._study.ask(1)
        except UserError:  # everything has been asked: Optuna may repeat itself
            return {}
        self._asked[trial.number] = asked
        return {
            name: self._choices[name][int(asked.architecture[self._names[name]])]
            for name in search_space
        }

    def _start(self, study: optuna.Study, space: Mapping[str, BaseDistribution]) -> None:
        self._choices = {name: choices(d) for name, d in space.items()}
        self._names = {name: f"p{i}" for i, name in enumerate(space)}
        decisions = [
            {"name": short, "choices": list(range(len(self._choices[name])))}
            for name, short in self._names.items()
        ]
        up = {
            f"value{i}": direction == StudyDirection.MAXIMIZE
            for i, direction in enumerate(study.directions)
        }
        document = {"name": "optuna", "decisions": decisions}
        self._study = Study(space=declare(document), directions=up, **self._made)
        for past in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
            if all(name in past.params for name in space):
                values = {
                    short: nearest(self._choices[name], past.params[name])
                    for name, short in self._names.items()
                }
                given = dict(zip(up, past.values, strict=True))
                if self._study.find(values) is None:
                    self._study.tell(values, given)

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Returns a random value: of the first trial, and of what is not in every trial."""
        return self._random.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        """Tells the method; a trial that failed or was pruned is a failure."""
        asked = self._asked.pop(trial.number, None)
        if asked is None or self._study is None:
            return
        names = [objective.name for objective in self._study.objectives]
        good = state == TrialState.COMPLETE and values is not None
        told = list(values) if good and values else [math.nan] * len(names)
        self._study.tell(asked, dict(zip(names, told, strict=True)))


def choices(distribution: BaseDistribution) -> list[Any]:
    """Returns the values that are searched of a parameter.

    Raises:
        UserError: a kind of parameter that is not known.
    """
    if isinstance(distribution, CategoricalDistribution):
        return list(distribution.choices)
    if isinstance(distribution, IntDistribution):
        low, high, step = distribution.low, distribution.high, distribution.step
        every = list(range(low, high + 1, step))
        if len(every) <= LEVELS:
            return every
        found = [round(v) for v in _spaced(low, high, distribution.log)]
        return sorted({low + step * round((v - low) / step) for v in found})
    if isinstance(distribution, FloatDistribution):
        low, high, step = distribution.low, distribution.high, distribution.step
        if step is not None and (high - low) / step < LEVELS:
            return [low + i * step for i in range(round((high - low) / step) + 1)]
        found = _spaced(low, high, distribution.log)
        if step is not None:
            found = [min(high, low + step * round((v - low) / step)) for v in found]
        return sorted(set(found))
    raise UserError(f"The parameter {distribution} is of a kind that is not known.")


def _spaced(low: float, high: float, log: bool) -> list[float]:
    """Returns ``LEVELS`` numbers from low to high, both exact."""
    shares = [i / (LEVELS - 1) for i in range(LEVELS)]
    if log:
        inner = [low * (high / low) ** share for share in shares]
    else:
        inner = [low + (high - low) * share for share in shares]
    return [low, *inner[1:-1], high]


def nearest(known: Sequence[Any], value: Any) -> int:
    """Returns the place of a value, the nearest one of numbers."""
    if value in known:
        return list(known).index(value)
    return min(range(len(known)), key=lambda i: abs(known[i] - value))
