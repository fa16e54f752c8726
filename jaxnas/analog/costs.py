"""What a network costs on analog tiles: cells, conversions, energy for one input.

Pure Python; nothing here is traced. The energy is an estimate for comparing networks with
one another, not a prediction for a chip: buffers, buses, activations and idle power are not
in it, and measured cores need several times more (see ``hermes``).
"""

from collections.abc import Sequence
from typing import NamedTuple

from jaxnas.analog.plan import pieces
from jaxnas.core.errors import UserError, unknown_name
from jaxnas.core.types import Matrix


class EnergyConstants(NamedTuple):
    """Energies in picojoules."""

    adc_pj: float  # one output conversion
    dac_pj: float  # one input conversion, all bits
    cell_pj: float  # one weight (a pair of devices) in one product
    add_pj: float  # one digital addition of partial outputs


class Source(NamedTuple):
    """Where a set of constants comes from and what it takes for granted."""

    constants: EnergyConstants
    citation: str
    assumes: str


CONSTANTS = {
    "isaac": Source(
        EnergyConstants(
            # 2 mW for an 8-bit ADC that converts 128 columns in 100 ns.
            adc_pj=2.0e-3 * 100e-9 / 128 * 1e12,
            # 4 mW for 8 x 128 one-bit DACs over 100 ns, 8 bits one after another.
            dac_pj=8 * 4.0e-3 / 1024 * 100e-9 * 1e12,
            # 0.3 mW for a 128 x 128 array over 100 ns, 8 bits, two devices a weight.
            cell_pj=2 * 8 * 0.3e-3 * 100e-9 / 128**2 * 1e12,
            add_pj=0.1,
        ),
        "Shafiee et al., ISAAC, ISCA 2016, table of components (powers of ADC, DAC, "
        "array, as the PUMA simulator repeats them); addition: Horowitz, ISSCC 2014, "
        "32-bit integer, 45 nm",
        "assumed: one 8-bit conversion for a whole product instead of ISAAC's one for "
        "each input bit; memristor arrays of 128 x 128 at 32 nm stand for larger PCM "
        "tiles; the addition was not checked against the paper's own table",
    ),
    "hermes": Source(
        EnergyConstants(adc_pj=2 * 256 / 10.5, dac_pj=0.0, cell_pj=0.0, add_pj=0.1),
        "Khaddam-Aljameh et al., HERMES core, JSSC 2022: 10.5 TOPS/W measured on a "
        "256 x 256 PCM core in 14 nm (2 x 256 operations a column = 48.8 pJ)",
        "assumed: all energy of a product is booked on its output conversions and does not "
        "depend on the number of rows; addition as in isaac",
    ),
}  # constants by name, with source and assumptions; others may be passed instead


class AnalogCosts(NamedTuple):
    """Costs of one network; counts and energy are for one input."""

    tiles: int
    utilisation: float  # cells that hold a weight over cells of all tiles, in (0, 1]
    adc: int  # output conversions
    dac: int  # input conversions
    energy_uj: float  # microjoules
    additions: int  # digital additions of partial outputs


def analog_costs(
    matrices: Sequence[Matrix],
    tile: tuple[int, int] = (512, 512),
    constants: str | EnergyConstants = "isaac",
) -> AnalogCosts:
    """Returns what a network's matrices, in any order, cost on tiles.

    A matrix of ``inputs x outputs`` takes ``ceil(inputs/rows) ceil(outputs/columns)``
    tiles, one for itself even where it is small; rows or columns of 0 are as many as
    needed. Each product converts every input once for each piece of the outputs and every
    output once for each piece of the inputs; partial outputs are added digitally. The
    constants are energies or a name in :data:`CONSTANTS`.

    Raises:
        UserError: no matrix, a tile with a negative side, or an unknown name.
    """
    rows, columns = tile
    if rows < 0 or columns < 0:
        raise UserError(
            f"A tile of {rows} x {columns} cells has a negative side; give two sizes, 0 "
            "for as large as needed."
        )
    if not matrices:
        raise UserError("A network without a weight matrix has no analog cost to count.")
    if isinstance(constants, str):
        if constants not in CONSTANTS:
            raise unknown_name("energy constants", constants, CONSTANTS)
        constants = CONSTANTS[constants].constants
    tiles = cells = allocated = adc = dac = additions = reads = 0
    for m in matrices:
        across, down = len(pieces(m.inputs, rows)), len(pieces(m.outputs, columns))
        tiles += m.groups * across * down
        cells += m.groups * m.inputs * m.outputs
        side, width = rows or m.inputs, columns or m.outputs
        allocated += m.groups * across * side * down * width
        adc += m.groups * m.uses * m.outputs * across
        dac += m.groups * m.uses * m.inputs * down
        additions += m.groups * m.uses * m.outputs * (across - 1)
        reads += m.groups * m.uses * m.inputs * m.outputs
    picojoules = (
        adc * constants.adc_pj
        + dac * constants.dac_pj
        + reads * constants.cell_pj
        + additions * constants.add_pj
    )
    return AnalogCosts(tiles, cells / allocated, adc, dac, picojoules * 1e-6, additions)
