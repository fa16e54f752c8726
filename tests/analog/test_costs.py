"""Analog costs against counts by hand."""

import pytest

from jaxnas.analog.costs import CONSTANTS, EnergyConstants, analog_costs
from jaxnas.core.errors import UserError
from jaxnas.core.types import Matrix

ZERO = EnergyConstants(0.0, 0.0, 0.0, 0.0)


def test_one_small_layer_by_hand():
    # A 3x3 convolution of 3 to 16 channels on 32 x 32 outputs: a 27 x 16 matrix.
    found = analog_costs([Matrix("stem", 27, 16, 1024)])
    assert found.tiles == 1
    assert found.utilisation == pytest.approx(27 * 16 / 512**2)
    assert (found.adc, found.dac, found.additions) == (16 * 1024, 27 * 1024, 0)


def test_a_layer_cut_on_both_axes_by_hand():
    # 576 inputs on 512 rows: 2 pieces; 600 outputs on 512 columns: 2 pieces.
    found = analog_costs([Matrix("wide", 576, 600, 10)])
    assert found.tiles == 4
    assert found.utilisation == pytest.approx(576 * 600 / (4 * 512**2))
    assert (found.adc, found.dac, found.additions) == (2 * 6000, 2 * 5760, 6000)


def test_groups_are_matrices_of_their_own():
    grouped = analog_costs([Matrix("depthwise", 9, 1, 64, groups=8)], tile=(16, 16))
    single = analog_costs([Matrix(str(i), 9, 1, 64) for i in range(8)], tile=(16, 16))
    assert grouped == single
    assert grouped.tiles == 8


def test_unlimited_tiles_are_full():
    found = analog_costs([Matrix("a", 700, 3, 1), Matrix("b", 5, 900, 1)], tile=(0, 0))
    assert (found.tiles, found.utilisation, found.additions) == (2, 1.0, 0)


@pytest.mark.parametrize("field", EnergyConstants._fields)
def test_energy_is_the_sum_of_its_parts(field):
    matrix = [Matrix("wide", 576, 600, 10)]
    found = analog_costs(matrix, constants=ZERO._replace(**{field: 2.0}))
    counts = {
        "adc_pj": found.adc,
        "dac_pj": found.dac,
        "cell_pj": 576 * 600 * 10,
        "add_pj": found.additions,
    }
    assert found.energy_uj == pytest.approx(2e-6 * counts[field])


def test_constants_are_the_published_figures():
    # HERMES: a full 256 x 256 product at 10.5 TOPS/W is 131072 / 10.5e12 J = 12.48 nJ.
    hermes = analog_costs([Matrix("m", 256, 256, 1)], (256, 256), "hermes")
    assert hermes.energy_uj == pytest.approx(12.48e-3, rel=1e-3)
    isaac = CONSTANTS["isaac"].constants
    # ISAAC: 1.28 G conversions a second at 2 mW; 3.9 microwatts for a one-bit DAC.
    assert isaac.adc_pj == pytest.approx(2.0 / 1.28, rel=1e-3)
    assert isaac.dac_pj == pytest.approx(8 * 0.39, rel=3e-3)


def test_a_measured_core_needs_more_than_the_components():
    matrix = [Matrix("m", 256, 256, 1)]
    energies = [analog_costs(matrix, (256, 256), c).energy_uj for c in CONSTANTS]
    assert 2 < energies[1] / energies[0] < 8


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (([],), "without a weight matrix"),
        (([Matrix("m", 1, 1, 1)], (-1, 2)), "negative side"),
        (([Matrix("m", 1, 1, 1)], (2, 2), "isac"), "Did you mean 'isaac'"),
    ],
)
def test_bad_input_is_one_sentence(arguments, words):
    with pytest.raises(UserError, match=words):
        analog_costs(*arguments)
