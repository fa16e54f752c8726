"""Accuracy of real networks on simulated analog chips, over a month of drift."""

import functools
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from jaxnas.analog import config, convertible, evaluate, hwa
from jaxnas.analog.costs import analog_costs
from jaxnas.analog.plan import Plan, make_plan
from jaxnas.analog.variables import convert
from jaxnas.children.count import matrices
from jaxnas.core.errors import UserError
from jaxnas.core.rng import root_key
from jaxnas.core.types import FAILED, OK, Measurement, Objective
from jaxnas.oracles import child, programs

LABELS = ("analog_1min", "analog_1h", "analog_1day", "analog_1month")
"""Accuracy at each of ``evaluate.TIMES``, as AnalogNAS-Bench calls it."""
METRICS = {
    **child.METRICS,
    **{
        name: Objective(
            name, "%", True, f"validation accuracy {t:g} s after programming, mean of chips"
        )
        for name, t in zip(LABELS, evaluate.TIMES, strict=True)
    },
    **{
        f"{name}_sd": Objective(
            f"{name}_sd", "% points", False, f"standard deviation of {name} over chips"
        )
        for name in LABELS
    },
    "avm": Objective(
        "avm", "% points", False, "accuracy lost between a minute and a month"
    ),
    "tiles": Objective("tiles", "tiles", False, "analog tiles of 512 x 512 that it fills"),
}


@dataclass(frozen=True)
class AnalogOracle(child.ChildOracle):
    """Accuracy on simulated analog chips: trained, fine-tuned on noise, programmed, aged.

    A :class:`jaxnas.oracles.child.ChildOracle` that goes on: hardware-aware training on the
    tiles of an analog preset, then accuracy on validation images over several chips, each
    programmed anew, at 60 s, 1 h, 1 day and 30 days. Everything in JAX; IBM's aihwkit
    measures the best of a search with ``jaxnas validate``.

    Args:
        space: as there, and all that follow up to ``route``.
        objective: one metric or several with commas.
        hwa_epochs: epochs of hardware-aware training.
        hwa_lr: its first step size, falling to zero as a cosine.
        draws: chips.
        chip_images: validation images that each chip is evaluated on, the first ones; their
            order was set by content, so they are a sample of all classes.
        preset: of the analog model.

    Raises:
        UserError: as there, or a number below 1, an unknown preset, or a space that can
            name an operation which no tile can take.
    """

    objective: str | Sequence[str] = "analog_1month"
    hwa_epochs: int = 3
    hwa_lr: float = 0.02
    draws: int = 10
    chip_images: int = 400
    preset: str = "ibm-benchmark"
    known: ClassVar = {**METRICS, **child.EXTRA}

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.hwa_epochs, self.draws, self.chip_images) < 1:
            raise UserError(
                "Epochs of hardware-aware training, draws and images of the chips must be "
                "at least 1."
            )
        config.preset(self.preset)
        convertible.check_space(self.space, "analog")

    @property
    def id(self) -> str:
        """Versioned name with everything that changes the numbers."""
        return (
            f"analog-v1({super().id},hwa={self.hwa_epochs}x{self.hwa_lr:g},"
            f"draws={self.draws},images={self.chip_images},preset={self.preset})"
        )

    def effort(self, tokens: np.ndarray, fidelity: int) -> float:
        """Returns the share of training steps, hardware-aware ones counted as others."""
        level = self._level(fidelity)
        share = super().effort(tokens, fidelity)
        own = share * self.hwa_epochs / level.epochs * self.epochs
        return (share * self.epochs + own) / (self.epochs + self.hwa_epochs)

    def measure(self, tokens: np.ndarray, fidelity: int = 0) -> Measurement:
        """Returns every metric of ``int[L]`` tokens; diverged training is a failure."""
        begun = time.perf_counter()
        module, variables, curves = self.fit(tokens, fidelity)
        extra = self.extra_metrics(module, variables)  # of the digital network
        digital = self.measurement(tokens, fidelity, curves, extra)
        missing = dict.fromkeys(METRICS, float("nan"))
        if digital.status != OK:
            return digital._replace(
                metrics={**missing, **digital.metrics}, seconds=time.perf_counter() - begun
            )
        found, losses = self._chips(module, variables, self._level(fidelity).images)
        accuracy = 100.0 * np.asarray(found, np.float64)
        mean, losses = accuracy.mean(axis=0), np.asarray(losses)
        used = matrices(self.network(fidelity).to_spec(np.asarray(tokens)))
        metrics = {
            **digital.metrics,
            **dict(zip(LABELS, mean.tolist(), strict=True)),
            "avm": float(mean[0] - mean[-1]),
            "tiles": float(analog_costs(used).tiles),
        }
        spread = accuracy.std(axis=0, ddof=1) if self.draws > 1 else np.zeros(len(LABELS))
        metrics |= {f"{n}_sd": float(s) for n, s in zip(LABELS, spread, strict=True)}
        curves_ = {
            **digital.curves,
            "hwa_loss": losses.reshape(self.hwa_epochs, -1).mean(axis=1).tolist(),
            "chips": accuracy.reshape(-1).tolist(),
        }
        status, message = OK, ""
        if not np.isfinite(losses).all():
            status, message = FAILED, "the hardware-aware training diverged"
            metrics = {**metrics, **dict.fromkeys((*LABELS, "avm"), float("nan"))}
        return Measurement(metrics, curves_, time.perf_counter() - begun, status, message)

    def _chips(self, module: Any, variables: PyTree, used: int | None) -> tuple[Any, Any]:
        """Returns accuracies ``[draws, times]`` and the losses of the fine-tuning."""
        preset = config.preset(self.preset)
        images = programs.on_device(self.data, self.limit, used)
        plan = _plan(module, images.x_train.shape[1:], preset.structure)
        settings = hwa.FineTune(epochs=self.hwa_epochs, batch=self.batch)
        chips = evaluate.Evaluation(draws=self.draws, batch=min(200, self.chip_images))
        key, n = jax.random.fold_in(root_key(self.seed), 2), self.chip_images
        data = (images.x_train, images.y_train, images.x_val[:n], images.y_val[:n])
        recipe = jax.tree.map(jnp.float32, hwa.RECIPE)
        given = (variables, data, config.as_arrays(preset.hyper), recipe)
        program = _program(module, plan, settings, chips)
        return program(key, *given, jnp.float32(self.hwa_lr))


@functools.lru_cache(maxsize=32)
def _plan(module: Any, shape: tuple[int, ...], structure: config.Structure) -> Plan:
    """Returns the tiles of a network; all alternatives of one that holds every one."""
    x = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    start = jax.eval_shape(module.init, root_key(0), x)
    return make_plan(module, start, shape, structure)


@functools.lru_cache(maxsize=4)
def _program(
    module: Any, plan: Plan, settings: hwa.FineTune, chips: evaluate.Evaluation
) -> Any:
    def run(key: Any, variables: Any, data: Any, hyper: Any, training: Any, lr: Any) -> Any:
        x, y, x_val, y_val = data
        tune_key, chip_key = jax.random.split(key)
        analog = convert(plan, variables, hyper.omega)
        tuned, losses = hwa.fine_tune(
            tune_key, analog, x, y, hyper, training, lr,
            module=module, plan=plan, settings=settings,
        )  # fmt: skip
        times = jnp.asarray(evaluate.TIMES)
        found = evaluate.evaluate(
            chip_key, tuned, x_val, y_val, times, hyper,
            module=module, plan=plan, settings=chips,
        )  # fmt: skip
        return found.accuracy, losses

    return jax.jit(run)
