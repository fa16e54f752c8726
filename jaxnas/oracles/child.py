"""Real networks, built, trained and evaluated on the validation images of a real task."""

import dataclasses
import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int, Key, PyTree

from jaxnas.children import train as tr
from jaxnas.children.build import Child, build
from jaxnas.children.check import check_space
from jaxnas.children.choice import ChoiceChild, choose, select
from jaxnas.children.count import count_costs
from jaxnas.core import tokens as tk
from jaxnas.core.errors import UserError, unknown_name
from jaxnas.core.ranges import COUNT
from jaxnas.core.rng import root_key
from jaxnas.core.space import SearchSpace
from jaxnas.core.types import FAILED, OK, Evaluation, Measurement, Objective
from jaxnas.data.tasks import Task, built_for, check_pixels, noun
from jaxnas.oracles import metrics as mt
from jaxnas.oracles import programs as pg
from jaxnas.oracles.fidelity import Fidelity, ladder, parse_size, read_levels

_ROWS = (
    ("val_accuracy", "%", True, "accuracy on the validation images after training"),
    ("val_loss", "nats", False, "cross-entropy on the validation images after training"),
    ("train_loss", "nats", False, "mean cross-entropy of the last epoch's batches"),
    ("params", "parameters", False, "trainable parameters, exact"),
    ("flops", "FLOPs", False, "multiply-accumulates for one image, as the cost oracle"),
)
METRICS = {row[0]: Objective(*row) for row in _ROWS}
_EXTRA_ROWS = (
    ("worst_class", "%", True, "least validation accuracy of a class"),
    ("fgsm_accuracy", "%", True, "validation accuracy on images moved by FGSM"),
    ("noise_accuracy", "%", True, "validation accuracy with noise on the pixels"),
    ("ece", "% points", False, "expected calibration error on the validation images"),
    ("brier", "units", False, "Brier score on the validation images, from 0 to 2"),
)
EXTRA = {row[0]: Objective(*row) for row in _EXTRA_ROWS}
"""Measured only where they are among the objectives, which the id then says."""
ROUTES = ("auto", "choice", "exact")


def _short(value: Any) -> str:
    """Returns a size for an id; what is long, such as a document, as its digest."""
    text = str(value)
    return text if len(text) <= 64 else hashlib.sha256(text.encode()).hexdigest()[:12]


@dataclass(frozen=True)
class ChildOracle:
    """Accuracy of real networks: each is built, trained on a real task and validated.

    A host oracle. The same tokens, fidelity and seed give the same numbers to the bit, on
    one kind of device. The test images are never touched here.

    Args:
        space: whose networks can be built for other images, such as ``nb201``, or for
            other texts, such as ``text-chain``.
        data: an image or text task or file; see ``jaxnas data list``.
        objective: metrics to optimise; several with commas.
        size: sizes that are not searched, such as ``"channels:8,cells:1"``.
        epochs: of a full training, fidelity 0.
        batch: images a step.
        augment: see :class:`jaxnas.children.train.Training`.
        lr: largest step size.
        weight_decay: on all parameters.
        optimiser: ``"sgd"``, ``"adam"`` or ``"adamw"``; this and the next four as in
            :class:`jaxnas.children.train.Training` and ``Hparams``.
        schedule: of the step size.
        smoothing: of the labels.
        cutout: side of a square of zeros.
        mixup: alpha of mixed images.
        seed: decides initial weights, order of the images and augmentation.
        limit: most images of each split; all when None.
        levels: cheaper fidelities 1, 2, ..., the cheapest first; or as text,
            ``"epochs:1;epochs:3,images:500"``.
        route: ``"choice"`` compiles one program for all architectures, ``"exact"`` one for
            each; ``"auto"`` takes the first where the space allows it, which is measured in
            ``benchmarks/children.py routes``.
        epsilon: step of ``fgsm_accuracy``, in units of the pixels, which are in [0, 1].
        sigma: standard deviation of the noise of ``noise_accuracy``, in the same units.

    Raises:
        UserError: an unknown metric, task or size, a space whose networks are fixed or
            take other inputs, or what only images can be given, asked of texts.
    """

    space: SearchSpace
    data: str = "digits"
    objective: str | Sequence[str] = "val_accuracy"
    size: str = ""
    epochs: int = 10
    batch: int = 64
    augment: str = "none"
    lr: float = 0.1
    weight_decay: float = 5e-4
    optimiser: str = "sgd"
    schedule: str = "cosine"
    smoothing: float = 0.0
    cutout: int = 0
    mixup: float = 0.0
    seed: int = 0
    limit: int | None = None
    levels: tuple[Fidelity, ...] | str = ()
    route: str = "auto"
    epsilon: float = 0.03
    sigma: float = 0.1
    RANGES: ClassVar = {
        "lr": "(0, inf)", "weight_decay": "[0, 10]", "limit": COUNT, "hwa_lr": "(0, 1]",
        "smoothing": "[0, 1)", "cutout": "[0, 65536]", "mixup": "[0, 100]",
        "epsilon": "[0, 1]", "sigma": "[0, inf)",
    }  # fmt: skip
    traced = False
    known: ClassVar = {**METRICS, **EXTRA}

    def __post_init__(self) -> None:
        name = type(self).__name__.removesuffix("Oracle").lower()
        chosen = mt.choose(name, self.objective, list(self.known))
        object.__setattr__(self, "objective", ",".join(chosen))
        if self.route not in ROUTES:
            raise UserError(
                f"The route {self.route!r} is unknown; choose one of {', '.join(ROUTES)}."
            )
        object.__setattr__(self, "levels", read_levels(self.levels, self.epochs))
        for level in range(self.num_fidelities):
            self.training(level)
            self.network(level)

    @property
    def id(self) -> str:
        """Versioned name with everything that changes the numbers."""
        levels = ";".join(",".join(map(str, level)) for level in self.levels)
        # All sizes of the networks, those that nobody set included.
        sizes = {k: v for k, v in vars(self.network(0)).items() if v is not None}
        sizes = ",".join(f"{k}={_short(v)}" for k, v in sorted(sizes.items()))
        return (
            f"child-v1({self.data},{sizes};epochs={self.epochs},batch={self.batch},"
            f"augment={self.augment},lr={self.lr:g},wd={self.weight_decay:g},"
            f"{self._more}limit={self.limit},levels={levels},route={self._route})"
        )

    @property
    def _more(self) -> str:
        """What is trained with otherwise than by default; ids from before stay."""
        names = ("optimiser", "schedule", "smoothing", "cutout", "mixup")
        plain = {f.name: f.default for f in dataclasses.fields(self)}
        chosen = {n: getattr(self, n) for n in names if getattr(self, n) != plain[n]}
        if extra := self._extra:
            chosen["metrics"] = "+".join(extra)
        for name, metric in (("epsilon", "fgsm_accuracy"), ("sigma", "noise_accuracy")):
            if metric in extra:
                chosen[name] = f"{getattr(self, name):g}"
        return "".join(f"{n}={v}," for n, v in chosen.items())

    @property
    def _extra(self) -> tuple[str, ...]:
        """The objectives that are measured only on request, in one order."""
        asked = str(self.objective).split(",")
        return tuple(name for name in EXTRA if name in asked)

    @property
    def num_fidelities(self) -> int:
        """How many fidelities there are, the full one included."""
        return 1 + len(self.levels)

    def effort(self, tokens: np.ndarray, fidelity: int) -> float:
        """Returns the share of a full training's multiply-accumulates: images x FLOPs."""
        level, there = self._level(fidelity), len(self.images.x_train)
        used = min(level.images or there, there)
        share = level.epochs * (used // self.batch) / (self.epochs * (there // self.batch))
        if level.channels is None:
            return share
        row = np.asarray(tokens)
        costs = [count_costs(self.network(f).to_spec(row)) for f in (fidelity, 0)]
        return share * costs[0].flops / max(1, costs[1].flops)

    def cheaper(self, resource: str, eta: float, least: int) -> dict[str, Any]:
        """Returns the option ``levels`` with ever less of a resource.

        Args:
            resource: ``"epochs"``, ``"images"`` or ``"channels"``.
            eta: how many times less each fidelity has than the next.
            least: of the cheapest; a batch where images are fewer than one.

        Raises:
            UserError: an unknown resource, one that these networks do not have, or a least
                that leaves no fidelity below the full one.
        """
        full = {
            "epochs": self.epochs,
            "images": len(self.images.x_train),
            "channels": vars(self.network(0)).get("channels"),
        }
        if resource not in full:
            raise unknown_name("resource of a training:", resource, full)
        whole = full[resource]
        if not isinstance(whole, int):
            raise UserError(
                f"The networks of {self.space.id!r} have no width named channels; halve "
                "epochs or images."
            )
        least = max(least, self.batch) if resource == "images" else least
        amounts = ladder(resource, whole, eta, least)
        return {"levels": ";".join(f"{resource}:{n}" for n in amounts)}

    @property
    def metric_names(self) -> tuple[str, ...]:
        """Names of everything that it measures."""
        return tuple(self.known)

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """The chosen metrics."""
        return tuple(self.known[name] for name in str(self.objective).split(","))

    @property
    def data_checksum(self) -> str:
        """SHA-256 over the task and its splits."""
        return self.images.checksum

    @property
    def images(self) -> Task:
        """The task; images, or texts as ids."""
        return pg.task_of(self.data, self.limit)

    def select(self, objective: str | Sequence[str]) -> "ChildOracle":
        """Returns the same oracle with other objectives."""
        return dataclasses.replace(self, objective=objective)

    def training(self, fidelity: int) -> tr.Training:
        """Returns a fidelity's settings; UserError on a wrong fidelity or batch."""
        level = self._level(fidelity)
        there = len(self.images.x_train)
        used = there if level.images is None else min(level.images, there)
        if self.batch > used:
            raise UserError(
                f"A batch of {self.batch} is more than the {used} training "
                f"{noun(self.images)}s of {self.images.name!r}; use a smaller batch."
            )
        moved = {name: name in self._extra for name in ("fgsm_accuracy", "noise_accuracy")}
        check_pixels(self.images, augment=self.augment != "none", cutout=self.cutout > 0,
                     mixup=self.mixup > 0, **moved)  # fmt: skip
        return tr.Training(
            level.epochs, self.batch, self.augment, schedule=self.schedule,
            optimiser=self.optimiser, cutout=self.cutout, mixup=self.mixup,
        )  # fmt: skip

    @property
    def hparams(self) -> tr.Hparams:
        """The traced numbers of its trainings."""
        made = tr.Hparams(
            lr=self.lr, weight_decay=self.weight_decay, label_smoothing=self.smoothing
        )
        return jax.tree.map(jnp.float32, made)

    def network(self, fidelity: int) -> SearchSpace:
        """Returns the space built for the task; UserError where its networks are fixed."""
        check_space(self.space)
        size, level = dict(self._size), self._level(fidelity)
        if level.channels is not None:
            size["channels"] = level.channels
        return built_for(self.space, self.images, **size)

    def spec(self, tokens: np.ndarray) -> dict[str, Any]:
        """Returns the spec of the network that is trained for ``int[L]`` tokens."""
        return self.network(0).to_spec(np.asarray(tokens))

    def params(self) -> PyTree:
        """Returns nothing: data and programs live with the process."""
        return ()

    def init(self, key: Key[Array, ""], params: PyTree) -> tuple[()]:
        """Returns nothing: no state."""
        return ()

    def train(
        self, tokens: np.ndarray, fidelity: int = 0
    ) -> tuple[Child, dict[str, Any], tr.Curves]:
        """Returns the network, its trained variables and its learning curves (NumPy)."""
        child = build(self.network(fidelity).to_spec(np.asarray(tokens)))
        module, variables, curves = self.fit(tokens, fidelity)
        variables = jax.tree.map(np.asarray, variables)
        if isinstance(module, ChoiceChild):
            variables = select(module, variables, np.asarray(tokens))
        return child, variables, tr.Curves(*(np.asarray(c) for c in curves))

    def fit(
        self, tokens: np.ndarray, fidelity: int = 0
    ) -> tuple[nn.Module, dict[str, Any], tr.Curves]:
        """Returns what was trained, be it one network or one for all architectures."""
        pg.keep_compilations()
        space, training = self.network(fidelity), self.training(fidelity)
        one_for_all = self._route == "choice"
        row = np.asarray(tokens)
        module: Any = pg.choice_of(space) if one_for_all else build(space.to_spec(row))
        images = pg.on_device(self.data, self.limit, self._level(fidelity).images)
        start = jax.random.key(self.seed, impl="rbg")  # a tenth of the compile time
        variables = pg.initial_of(module)(start, images.x_train[:1])
        if one_for_all:
            variables = choose(variables, jnp.asarray(tokens))
        key = jax.random.fold_in(root_key(self.seed), 1)
        trained, curves = pg.program_of(module, training)(
            variables, images, key, self.hparams
        )
        return module, trained, curves

    def measure(self, tokens: np.ndarray, fidelity: int = 0) -> Measurement:
        """Returns every metric of ``int[L]`` tokens; diverged training is a failure."""
        begun = time.perf_counter()
        module, variables, curves = self.fit(tokens, fidelity)
        extra = self.extra_metrics(module, variables)
        found = self.measurement(tokens, fidelity, curves, extra)
        return found._replace(seconds=time.perf_counter() - begun)

    def extra_metrics(self, module: Any, variables: PyTree) -> dict[str, float]:
        """Returns what is measured only on request, of a trained network."""
        if not self._extra:
            return {}
        images = pg.on_device(self.data, self.limit, None)
        key = jax.random.fold_in(root_key(self.seed), 3)
        program = pg.assessment_of(module, self._extra, self.images.num_classes)
        sizes = jnp.float32(self.epsilon), jnp.float32(self.sigma)
        found = program(variables, images.x_val, images.y_val, key, *sizes)
        percent = lambda name: 1.0 if name == "brier" else 100.0
        return {name: percent(name) * float(value) for name, value in found.items()}

    def measurement(
        self,
        tokens: np.ndarray,
        fidelity: int,
        curves: tr.Curves,
        extra: Mapping[str, float],
    ) -> Measurement:
        """Returns the metrics of a digital training from its curves."""
        curves = tr.Curves(*(np.asarray(c) for c in curves))
        costs = count_costs(self.network(fidelity).to_spec(np.asarray(tokens)))
        metrics = {
            "val_accuracy": 100.0 * float(curves.val_accuracy[-1]),
            "val_loss": float(curves.val_loss[-1]),
            "train_loss": float(curves.train_loss[-1]),
            "params": float(costs.params),
            "flops": float(costs.flops),
            **extra,
        }
        message = ""
        finite = np.isfinite([curves.train_loss, curves.val_loss]).all(axis=0)
        if not finite.all():
            lost = (*list(METRICS)[:3], *extra)
            metrics = {**metrics, **dict.fromkeys(lost, float("nan"))}
            message = f"the training diverged in epoch {int(np.argmin(finite)) + 1}"
        shown = {name: value.tolist() for name, value in curves._asdict().items()}
        return Measurement(metrics, shown, 0.0, FAILED if message else OK, message)

    def evaluate(
        self,
        key: Key[Array, ""],
        params: tuple[()],
        state: tuple[()],
        tokens: mt.Tokens,
        fidelity: Int[Array | np.ndarray, "B"],
        active: Bool[Array | np.ndarray, "B"],
    ) -> tuple[tuple[()], Evaluation]:
        """Returns what training found, one architecture after the other."""
        wanted = [item.name for item in self.objectives]
        scores = np.full((len(tokens), len(wanted)), np.nan, np.float32)
        seconds = np.zeros(len(tokens), np.float32)
        for i in np.flatnonzero(np.asarray(active)):
            found = self.measure(np.asarray(tokens[i]), int(fidelity[i]))
            scores[i] = [found.metrics[name] for name in wanted]
            seconds[i] = found.seconds
        on = jnp.asarray(active)
        return state, mt.measured(jnp.asarray(scores), jnp.asarray(seconds), on)

    def info(self) -> dict[str, Any]:
        """Returns what there is to know."""
        data = self.images
        return {
            "id": self.id,
            "space": self.space.id,
            "size": tk.count(self.space),
            "metrics": {name: mt.described(item) for name, item in self.known.items()},
            "source": f"trained here on {data.name}",
            f"training {noun(data)}s": len(data.x_train),
            f"validation {noun(data)}s": len(data.x_val),
            "checksum": f"sha256 {data.checksum}",
        }

    @property
    def _size(self) -> Mapping[str, int]:
        return parse_size(self.size)

    @property
    def _route(self) -> str:
        if self.route != "auto":
            return self.route
        return pg.best_route(self.network(0))

    def _level(self, fidelity: int) -> Fidelity:
        """Returns a fidelity; 0 is the full one."""
        levels: Any = (Fidelity(self.epochs), *self.levels)
        if not 0 <= fidelity < len(levels):
            raise UserError(
                f"There is no fidelity {fidelity}; this oracle has 0 to {len(levels) - 1}."
            )
        return Fidelity(*levels[fidelity])
