"""What is fixed when a program is compiled, what is a number in a formula, and the presets.

The statistical model is that of IBM's aihwkit for PCM inference (Rasch et al., AICAS 2021;
Le Gallo et al., APL Mach. Learn. 1(4), 2023). Everything here that is a number is a leaf of
:class:`Hyper`, so noise levels can be swept with ``vmap`` and without a new compilation.
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxnas.core.errors import UserError, unknown_name

Scalar = float | int | Float[Array, ""]


class Device(NamedTuple):
    """Numbers of the phase-change memory cell (Nandakumar et al., ICECS 2019)."""

    g_max: Scalar = 25.0  # largest target conductance, microsiemens
    t_0: Scalar = 20.0  # seconds between programming and the first read of the drift fit
    t_read: Scalar = 250e-9  # width of the read pulse, seconds
    c_0: Scalar = 0.26348
    """Programming noise ``c_0 + c_1 r + c_2 r^2`` in microsiemens, at ``g_reference``."""
    c_1: Scalar = 1.9650
    c_2: Scalar = -1.1731
    g_reference: Scalar = 25.0
    """The largest conductance, microsiemens, that the programming fit was made with."""
    programming_scale: Scalar = 1.0
    drift_scale: Scalar = 1.0
    read_scale: Scalar = 1.0


class Periphery(NamedTuple):
    """Numbers of the converters around a tile, in units of the normalised tile."""

    inp_res: Scalar = 1 / 254
    """Step of the DAC over its whole range; above 1 it is a number of steps, 0 is exact."""
    inp_bound: Scalar = 1.0
    out_res: Scalar = 1 / 254
    """Step of the ADC over its whole range; above 1 it is a number of steps, 0 is exact."""
    out_bound: Scalar = 10.0
    out_noise: Scalar = 0.04
    """Standard deviation of the output noise of each matrix-vector product."""
    weight_noise: Scalar = 0.0
    """Short-term read noise; used only where ``Structure.weight_noise`` is on."""
    ir_drop: Scalar = 0.0
    """Scale of the voltage drop; used only where ``Structure.ir_drop`` is on."""


class Hyper(NamedTuple):
    """Every number of the analog model; all leaves are traced."""

    device: Device = Device()
    periphery: Periphery = Periphery()
    omega: Scalar = 1.0
    """A tile's largest weight after scaling (unused with ``scaling="none"``)."""


@dataclass(frozen=True)
class Structure:
    """What changes the shapes or the branches of a compiled program.

    Raises:
        UserError: an unknown choice or a negative tile size.
    """

    tile_inputs: int = 512  # rows of a tile, that is inputs; 0 is unlimited
    tile_outputs: int = 512  # columns of a tile, that is outputs; 0 is unlimited
    scaling: str = "layerwise"
    """One digital scale a tile; ``"columnwise"``: one an output; ``"none"``."""
    input_range: bool = True  # whether each tile clips its input to a range of its own
    noise_management: str = "none"
    """``"abs-max"``: each input vector is divided by its largest magnitude before a DAC."""
    bound_management: str = "none"
    """``"iterative"``: a vector whose output clips is repeated at half the input, up to 10
    times."""
    weight_noise: bool = False  # short-term PCM read noise in each matrix-vector product
    ir_drop: bool = False  # voltage drop along the columns
    compensation: str = "global"  # of drift, one factor a tile; or ``"none"``
    out_scale: bool = False  # whether an output scale is learned for each output of a tile
    clip: str = "gaussian"
    """After each training step, at a number of standard deviations of the tile, or
    ``"fixed"``, at a value in tile units, or ``"none"``."""
    remap: bool = True  # whether training maps the largest weight back to 1 after each step
    modifier: str = "additive"  # weight noise in training, or ``"none"``
    digital_depthwise: bool = False
    """Keep grouped convolutions digital and exact; else each group has tiles of its own."""

    def __post_init__(self) -> None:
        choices = {
            "scaling": ("layerwise", "columnwise", "none"),
            "noise_management": ("none", "abs-max"),
            "bound_management": ("none", "iterative"),
            "compensation": ("global", "none"),
            "clip": ("gaussian", "fixed", "none"),
            "modifier": ("additive", "none"),
        }
        for field, known in choices.items():
            if getattr(self, field) not in known:
                raise unknown_name(field.replace("_", " "), getattr(self, field), known)
        if min(self.tile_inputs, self.tile_outputs) < 0:
            raise UserError(
                f"A tile of {self.tile_inputs} x {self.tile_outputs} cells has a negative "
                "side; give two sizes, 0 for unlimited."
            )

    @property
    def unfolded(self) -> bool:
        """Whether a product needs each input vector by itself, not the whole image."""
        managed = (self.noise_management, self.bound_management) != ("none", "none")
        return managed or self.weight_noise or self.ir_drop


class Preset(NamedTuple):
    """A named setting of the whole model."""

    structure: Structure
    hyper: Hyper
    meaning: str


PRESETS = {
    "ibm-benchmark": Preset(
        Structure(),
        Hyper(),
        "IBM's analognasbench recipe: 8-bit converters, input range, one scale a tile",
    ),
    "library": Preset(
        Structure(
            scaling="none",
            input_range=False,
            noise_management="abs-max",
            bound_management="iterative",
            clip="none",
            remap=False,
            modifier="none",
        ),
        Hyper(
            periphery=Periphery(
                inp_res=1 / 126, out_res=1 / 510, out_bound=12.0, out_noise=0.06
            )
        ),
        "the toolkit's own defaults: 7-bit input, 9-bit output, abs-max noise management",
    ),
    "standard-hwa": Preset(
        Structure(
            tile_outputs=0,
            scaling="columnwise",
            weight_noise=True,
            ir_drop=True,
            out_scale=True,
            clip="fixed",
        ),
        Hyper(periphery=Periphery(weight_noise=0.0175, ir_drop=1.0)),
        "Rasch et al. 2023: one scale an output, read noise and voltage drop",
    ),
}


def preset(name: str = "ibm-benchmark") -> Preset:
    """Returns a named setting, ``ibm-benchmark``, ``library`` or ``standard-hwa``.

    Raises:
        UserError: the name is unknown.
    """
    if name not in PRESETS:
        raise unknown_name("analog preset", name, PRESETS)
    return PRESETS[name]


def as_arrays(hyper: Hyper) -> Hyper:
    """Returns ``hyper`` with every leaf a float32 scalar array."""
    return jax.tree.map(jnp.float32, hyper)
