"""A search that is asked for architectures and told what they are worth.

The file holds which batches the algorithm proposed and when it learnt from them; its state
is computed from that again, so a study continues where any process left it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxnas.core import naming, rng
from jaxnas.core import tokens as tk
from jaxnas.core.errors import UserError, unknown_name
from jaxnas.core.space import SearchSpace
from jaxnas.core.types import Objective
from jaxnas.data.store import studies as st
from jaxnas.data.store.studies import Row, StudyFile
from jaxnas.moo.pareto import nondominated, signs
from jaxnas.spaces.pinned import pinned
from jaxnas.study import settings as cf
from jaxnas.study.analysis import importance
from jaxnas.study.driver import Driver, valid

BARREN = 64
"""Batches in a row without a new architecture, after which a random one is taken."""
TRIES = 4096
"""Random architectures that are looked at for one that is new."""


@dataclass(frozen=True)
class Trial:
    """An architecture that was asked for, or told."""

    id: int
    tokens: tuple[int, ...]
    architecture: dict[str, Any]
    """What was decided, by name."""
    values: dict[str, float] | None
    """Its objectives, NaN where it failed; None before they are told."""
    origin: str
    """``algorithm``, ``enqueued``, ``told`` (never asked for) or ``random``."""


class Study:
    """Asks an algorithm for architectures one by one and tells it their values.

        study = jaxnas.Study(space="chain", algorithm="evolution", path="study.sqlite")
        for trial in study.ask(4):
            study.tell(trial, train(trial.architecture))
        study.best

    Several processes may open one file and ask and tell at once. No architecture is
    given out twice, except one whose process ended before it told.

    Args:
        space: a space, its name, a space file or a document; None takes the file's.
        algorithm: name of a method that proposes from tokens alone.
        seed: of the algorithm.
        directions: whether more is better, or that by the name of each objective:
            ``{"accuracy": True, "latency": False}``; ``"maximise"`` and ``"minimise"`` are
            the same.
        path: the file; None keeps the study in memory.
        pins: decisions with one value, by name.
        weights: of the objectives in what the algorithm is told; 1 each.
        **options: of the algorithm, structural or numeric, such as ``batch=8``.

    Raises:
        UserError: options that contradict the file's, or that are unknown.
    """

    def __init__(
        self,
        space: SearchSpace | str | Path | Mapping[str, Any] | None = None,
        algorithm: str | None = None,
        seed: int | None = None,
        directions: bool | str | Mapping[str, bool | str] | None = None,
        path: str | Path | None = None,
        pins: Mapping[str, Any] | None = None,
        weights: Sequence[float] = (),
        **options: Any,
    ) -> None:
        made = None if space is None else cf.make(space)
        given = {
            "space": None if made is None else cf.recipe_of(made),
            "algorithm": algorithm,
            "seed": seed,
            "directions": None if directions is None else cf.directions(directions),
            "pins": None if pins is None else dict(pins),
            "weights": list(weights) or None,
            "options": options or None,
        }
        there = path is not None and Path(path).exists()
        self._file = StudyFile(path)
        try:
            with self._file.change():
                settings = self._file.settings()
                new = settings is None
                settings = settings or self._new(given)
                cf.check_same(given, settings, path)
                self.settings = settings
                made = cf.remade(settings["space"]) if made is None else made
                self.space = pinned(made, settings["pins"])
                self._start()
                if new:  # only what can be asked is written down
                    self._file.set_settings(settings)
        except BaseException:
            self._file.close()
            if path is not None and not there:
                Path(path).unlink(missing_ok=True)
            raise

    def _start(self) -> None:
        """Makes what the file does not hold."""
        self.objectives = tuple(
            Objective(name, "units", up, "told to the study")
            for name, up in self.settings["directions"].items()
        )
        self._driver = Driver(self.space, self.objectives, self.settings)
        self._done = 0  # last event that the driver has seen

    def __getstate__(self) -> dict[str, Any]:
        return {name: vars(self)[name] for name in ("_file", "settings", "space")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._start()

    @classmethod
    def load(cls, path: str | Path) -> "Study":
        """Returns the study of a file.

        Raises:
            UserError: there is none.
        """
        if not Path(path).is_file():
            raise UserError(f"There is no study at {path}; make one with a space.")
        return cls(path=path)

    def _new(self, given: Mapping[str, Any]) -> dict[str, Any]:
        if given["space"] is None:
            raise UserError("A new study needs a space: Study(space=...).")
        directions = given["directions"] or {"score": True}
        weights = given["weights"] or [1.0] * len(directions)
        return {
            "space": given["space"],
            "algorithm": given["algorithm"] or "evolution",
            "seed": given["seed"] or 0,
            "directions": directions,
            "pins": given["pins"] or {},
            "weights": [float(w) for w in weights],
            "options": given["options"] or {},
        }

    def ask(self, n: int = 1, stale_after: float | None = None) -> list[Trial]:
        """Returns architectures to evaluate: ``n``, fewer where the space has no more.

        First those of processes that ended before they told, then what was enqueued, then
        the algorithm's.

        Args:
            n: how many.
            stale_after: seconds after which a trial of any machine counts as abandoned.

        Raises:
            UserError: everything in the space has been asked for.
        """
        if n < 1:
            raise UserError(f"Ask for at least one architecture, not {n}.")
        try:
            with self._file.change():
                found = self._hand_out(n, stale_after)
        except BaseException:
            self._start()  # the file forgets what the driver may have seen already
            raise
        if not found:
            running = len(self._file.trials(st.RUNNING))
            raise UserError(
                "Every architecture of the space has been asked for"
                + (f"; {running} have not been told yet." if running else ".")
            )
        return [self._trial(row) for row in found]

    def _hand_out(self, n: int, stale_after: float | None) -> list[Row]:
        """Marks up to ``n`` trials as running here and returns them."""
        found = self._file.abandoned(stale_after)[:n]
        for row in found:
            self._file.hand_out(row.id)
        while len(found) < n:
            queued = self._file.trials(st.QUEUED, limit=n - len(found))
            for row in queued:
                self._file.hand_out(row.id)
            found += queued
            if len(found) < n and not self._propose():
                break
        return found

    def _propose(self) -> bool:
        """Queues at least one new architecture; False where there is none left."""
        size = tk.count(self.space)
        if size is not None and len(self) >= size:
            return False
        for _ in range(BARREN):
            self._sync()
            batch = self._file.batches()
            tokens = self._driver.ask(batch)
            rows = [self._file.add(row, "algorithm") for row in tokens]
            self._file.add_event("ask", batch)
            self._file.add_lanes(batch, [row.id for row in rows])
            if any(row.state == st.QUEUED for row in rows):
                return True
            self._learn()
        return self._random()

    def _random(self) -> bool:
        """Queues an architecture that is drawn uniformly among those never asked for."""
        keys = jax.random.split(
            rng.stream(rng.root_key(self.settings["seed"] + len(self)), "fill"), TRIES
        )
        for row in np.asarray(tk.draw(self.space, keys)):
            if self._file.find(row) is None:
                self._file.add(row, "random")
                return True
        size = tk.count(self.space)
        if size is not None and size <= tk.ENUMERABLE:
            for row in tk.enumerate_space(self.space):
                if self._file.find(row) is None:
                    self._file.add(row, "random")
                    return True
        return False

    def _sync(self) -> None:
        """Takes the steps that any process has written since."""
        for event in self._file.events(self._done):
            self._driver.replay(event, self._file.lanes(event.batch))
            self._done = event.id

    def _learn(self) -> None:
        """Writes that the algorithm learns from every batch that is complete."""
        for batch in self._file.open_batches():
            if all(row.state in (st.DONE, st.FAILED) for row in self._file.lanes(batch)):
                self._file.add_event("learn", batch)

    def tell(self, trials: Any, values: Any) -> None:
        """Says what architectures are worth.

        Args:
            trials: a trial, its id, tokens or a dict of an architecture, also one that was
                never asked for, which counts as data; a sequence of them where there is one
                of values.
            values: a number, or a dict of numbers by the names of the objectives; NaN or
                None is a failure.

        Raises:
            UserError: an unknown trial or architecture, values that do not fit the
                objectives, or other values than were told before.
        """
        many = isinstance(values, list | tuple | np.ndarray)
        several = list(trials) if many else [trials]
        given: list[Any] = list(values) if many else [values]
        if len(several) != len(given):
            raise UserError(
                f"{len(given)} values were told for {len(several)} architectures."
            )
        with self._file.change():
            for what, value in zip(several, given, strict=True):
                self._tell(what, self._values(value))
            self._learn()

    def _tell(self, what: Any, metrics: dict[str, float]) -> None:
        row = self._row(what)
        if row.state in (st.DONE, st.FAILED):
            pairs = [(metrics[n], row.metrics[n]) for n in metrics]
            same = np.array_equal(*zip(*pairs, strict=True), equal_nan=True)
            if not same:
                raise UserError(
                    f"Trial {row.id} was told {row.metrics} before and {metrics} now; an "
                    "architecture has one value."
                )
            return
        failed = any(math.isnan(value) for value in metrics.values())
        self._file.answer(row.id, metrics, failed)

    def _row(self, what: Any) -> Row:
        """Returns the trial that is meant, a new one for a new architecture."""
        if isinstance(what, Trial):
            what = what.id
        if isinstance(what, int | np.integer):
            found = self._file.trial(int(what))
            if found is None:
                raise UserError(f"There is no trial {what}; ask for one first.")
            return found
        return self._file.add(self._tokens(what), "told")

    def _tokens(self, what: Any) -> list[int]:
        if isinstance(what, Mapping):
            tokens = naming.from_dict(self.space, what)
        else:
            tokens = np.asarray(what)
        legal = tokens.shape == (self.space.length,) and np.issubdtype(
            tokens.dtype, np.integer
        )
        if not legal or not valid(self.space, tokens):
            raise UserError(
                f"{what!r} is no architecture of {self.space.id!r}"
                + (" with the pinned values." if self.settings["pins"] else ".")
            )
        return tokens.tolist()

    def _values(self, value: Any) -> dict[str, float]:
        names = [objective.name for objective in self.objectives]
        if value is None:
            value = dict.fromkeys(names, math.nan)
        if not isinstance(value, Mapping):
            if len(names) > 1:
                raise UserError(f"Tell a dict with the objectives {names}, not {value!r}.")
            value = {names[0]: value}
        for name in value:
            if name not in names:
                raise unknown_name("objective", str(name), names)
        lacking = [name for name in names if name not in value]
        if lacking:
            raise UserError(f"The values {dict(value)} lack the objective {lacking[0]!r}.")
        try:
            found = {name: float(value[name]) for name in names}
        except (TypeError, ValueError) as error:
            raise UserError(f"The values {dict(value)} are no numbers.") from error
        return {n: v if math.isfinite(v) else math.nan for n, v in found.items()}

    def find(self, architecture: Any) -> Trial | None:
        """Returns the trial of an architecture, a dict or tokens, or None."""
        row = self._file.find(self._tokens(architecture))
        return None if row is None else self._trial(row)

    def enqueue(self, *architectures: Any) -> None:
        """Puts architectures, as dicts or tokens, before all others that are asked for.

        One that was asked for or told already is left as it is.
        """
        wanted = [self._tokens(what) for what in architectures]
        with self._file.change():
            for tokens in wanted:
                self._file.add(tokens, "enqueued")

    @property
    def trials(self) -> list[Trial]:
        """All trials, in the order in which they were made."""
        return [self._trial(row) for row in self._file.trials()]

    def top(self, k: int) -> list[Trial]:
        """Returns the ``k`` best trials, by the weighted sum of their objectives."""
        done = self._file.trials(st.DONE)
        rewards = self._driver.rewards([row.metrics for row in done])
        order = np.argsort(-rewards, kind="stable")[:k]
        return [self._trial(done[i]) for i in order]

    @property
    def best(self) -> Trial:
        """The best trial.

        Raises:
            UserError: none has been told a value.
        """
        found = self.top(1)
        if not found:
            raise UserError("No architecture has a value yet; ask, evaluate and tell.")
        return found[0]

    @property
    def front(self) -> list[Trial]:
        """Trials that no other dominates, the best by the first objective first."""
        done = self._file.trials(st.DONE)
        if not done:
            return []
        table = signs(self.objectives) * np.array(
            [[r.metrics[o.name] for o in self.objectives] for r in done]
        )
        keep = np.flatnonzero(nondominated(table))
        order = keep[np.argsort(-table[keep, 0], kind="stable")]
        return [self._trial(done[i]) for i in order]

    def importance(self, objective: str | None = None, seed: int = 0) -> dict[str, float]:
        """Returns how much each decision matters for an objective; shares that sum to 1.

        A random forest of the told architectures, in which the tokens of one decision are
        shuffled: the share of the loss of fit (Breiman, 2001). Decisions of repetitions
        count together.

        Args:
            objective: the first one when None.
            seed: of forest and shuffles.

        Raises:
            UserError: fewer than 10 architectures, or an unknown objective.
        """
        names = [o.name for o in self.objectives]
        objective = objective or names[0]
        if objective not in names:
            raise unknown_name("objective", objective, names)
        done = self._file.trials(st.DONE)
        if len(done) < 10:
            raise UserError(
                f"Importance needs 10 architectures with values; there are {len(done)}."
            )
        tokens = np.array([row.tokens for row in done])
        value = np.array([row.metrics[objective] for row in done])
        groups = [_kind(name) for name in naming.decision_names(self.space)]
        return importance(tokens, value, groups, self.space.vocab, seed)

    def close(self) -> None:
        """Gives the file back."""
        self._file.close()

    def __len__(self) -> int:
        return self._file.count()

    def _trial(self, row: Row) -> Trial:
        named = naming.to_dict(self.space, np.array(row.tokens))
        return Trial(row.id, row.tokens, named, row.metrics or None, row.origin)


def _kind(name: str) -> str:
    """Returns a decision without the numbers of its repetitions and without its member."""
    *groups, last = name.partition("[")[0].split(".")
    return ".".join([*(group.rstrip("0123456789") for group in groups), last])
