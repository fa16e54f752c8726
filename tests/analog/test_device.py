"""Statistics of one cell and one tile against those of aihwkit 1.1.0.

The golden numbers are means and standard deviations over 100,000 samples of the toolkit's
``PCMLikeNoiseModel`` (g_max 25, tile maximum 1), to four decimals. With as many samples of
ours the standard error of the difference of two means is ``std * sqrt(2 / 1e5)``, that of
two deviations about ``std / sqrt(1e5)`` (more where the tail is heavy). The tolerance is
four of those and the rounding of the table, 0.00005.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas.analog import device as dv
from jaxnas.analog import noise
from jaxnas.analog.config import Device

SAMPLES = 100_000
WEIGHTS = (0.0, 0.02, 0.05, 0.1, 0.25, 0.5, 0.75, 1.0)
PROGRAMMED_MEAN = (0.0, 0.0160, 0.0458, 0.0958, 0.2458, 0.4959, 0.7457, 0.9956)
PROGRAMMED_STD = (0.0087, 0.0131, 0.0156, 0.0190, 0.0279, 0.0385, 0.0435, 0.0428)
NU_MEAN = (0.1004, 0.0856, 0.0712, 0.0602, 0.0490, 0.0490, 0.0490, 0.0490)
NU_STD = (0.0441, 0.0413, 0.0310, 0.0226, 0.0115, 0.0080, 0.0080, 0.0080)
TARGETS = (0.0, 0.05, 0.25, 0.5, 1.0)
SINGLE = {  # seconds: means, deviations
    60.0: (
        (0.0038, 0.0454, 0.2337, 0.4671, 0.9343),
        (0.0066, 0.0179, 0.0338, 0.0456, 0.0543),
    ),
    3600.0: (
        (0.0027, 0.0351, 0.1941, 0.3880, 0.7756),
        (0.0049, 0.0156, 0.0313, 0.0423, 0.0564),
    ),
    86400.0: (
        (0.0020, 0.0285, 0.1666, 0.3327, 0.6650),
        (0.0040, 0.0144, 0.0305, 0.0411, 0.0609),
    ),
    2592000.0: (
        (0.0015, 0.0232, 0.1416, 0.2820, 0.5646),
        (0.0033, 0.0137, 0.0298, 0.0402, 0.0645),
    ),
}


def normals(seed, shape):
    """Numbers of the source that the simulator uses."""
    return noise.counter_normal(noise.streams(jax.random.key(seed), 1)[0], shape)


def compare(found, mean, std):
    """Asserts the moments of samples [n, SAMPLES] against golden ones."""
    found = np.asarray(found, np.float64)
    mean, std = np.asarray(mean), np.asarray(std)
    # A four-sigma bound on the deviation uses the kurtosis of the samples themselves.
    centred = found - found.mean(1, keepdims=True)
    kurtosis = np.mean(centred**4, 1) / np.mean(centred**2, 1) ** 2
    mean_error = std * np.sqrt(2 / SAMPLES)
    std_error = std * np.sqrt((kurtosis - 1) / 4 * 2 / SAMPLES)
    assert np.all(np.abs(found.mean(1) - mean) < 4 * mean_error + 5.1e-5)
    assert np.all(np.abs(found.std(1) - std) < 4 * std_error + 5.1e-5)


def test_programmed_weights_match_the_toolkit():
    w = jnp.broadcast_to(jnp.asarray(WEIGHTS)[:, None], (8, SAMPLES))
    net, _ = dv.program_weight(w, jnp.ones_like(w), normals(1, (3, 8, SAMPLES)), Device())
    compare(net, PROGRAMMED_MEAN, PROGRAMMED_STD)


def test_a_wrong_programming_noise_is_seen():
    w = jnp.broadcast_to(jnp.asarray(WEIGHTS)[:, None], (8, SAMPLES))
    louder = Device(programming_scale=1.02)
    net, _ = dv.program_weight(w, jnp.ones_like(w), normals(1, (3, 8, SAMPLES)), louder)
    with pytest.raises(AssertionError):
        compare(net, PROGRAMMED_MEAN, PROGRAMMED_STD)


def test_drift_exponents_match_the_toolkit():
    target = 25.0 * jnp.broadcast_to(jnp.asarray(WEIGHTS)[:, None], (8, SAMPLES))
    nu = dv.drift_exponent(target, normals(2, target.shape), Device())
    compare(nu, NU_MEAN, NU_STD)


@pytest.mark.parametrize("seconds", SINGLE)
def test_single_devices_match_the_toolkit(seconds):
    target = 25.0 * jnp.broadcast_to(jnp.asarray(TARGETS)[:, None], (5, SAMPLES))
    z = normals(int(seconds), (3, *target.shape))
    programmed = dv.programmed_conductance(target, z[0], Device())
    nu = dv.drift_exponent(target, z[1], Device())
    drifted = dv.drifted_conductance(programmed, nu, seconds, z[2], Device())
    compare(drifted / 25.0, *SINGLE[seconds])


def test_the_exponent_is_that_of_the_device_that_carries_the_weight():
    """A net weight whose sign the noise has turned drifts as a device of target zero."""
    w = jnp.full(SAMPLES, 0.01)
    net, nu = dv.program_weight(w, jnp.ones_like(w), normals(5, (3, SAMPLES)), Device())
    turned = np.asarray(net) < 0
    positive = np.asarray(net) > 0
    assert 0.02 < turned.mean() < 0.3
    # mu is 0.1 at r = 0 and 0.0244 - 0.0155 ln 0.01 = 0.0958 at 0.01; sd is 0.045 at both.
    error = 0.045 / np.sqrt(turned.sum())
    assert abs(np.mean(nu, where=turned) - 0.1004) < 4 * error
    assert abs(np.mean(nu, where=positive) - 0.0962) < 4 * 0.045 / np.sqrt(positive.sum())


def test_time_zero_reads_with_noise_but_does_not_drift():
    p = jnp.full(SAMPLES, 0.5)
    one = jnp.ones(SAMPLES)
    z = normals(3, (SAMPLES,))
    exact = dv.drift_weight(p, one, one, 0.0, z, Device(read_scale=0.0))
    np.testing.assert_allclose(exact, 0.5, rtol=1e-6)
    noisy = dv.drift_weight(p, one, one, 0.0, z, Device())
    # sigma = g Q sqrt(ln((20 + t_read) / (2 t_read))), Q = 0.0088 / 0.5^0.65.
    expected = 0.5 * 0.0088 / 0.5**0.65 * np.sqrt(np.log((20 + 250e-9) / 500e-9))
    assert abs(np.std(noisy) / expected - 1) < 4 / np.sqrt(2 * SAMPLES)


def test_conductances_map_back_to_weights():
    w = jnp.linspace(-0.7, 0.7, 101)
    plus, minus = dv.to_conductance(w, jnp.full(101, 0.7), Device())
    assert float(jnp.max(plus)) == 25.0
    assert not np.any((np.asarray(plus) > 0) & (np.asarray(minus) > 0))
    back = dv.to_weight(plus, minus, jnp.full(101, 0.7), Device())
    np.testing.assert_allclose(back, w, atol=1e-7)


@pytest.mark.parametrize("source", ["counter", "threefry"])
def test_normal_numbers_are_normal_and_independent(source):
    """Moments, quantiles, neighbours and other streams, each at four standard errors."""
    n = 1 << 20
    keys = noise.streams(jax.random.key(9), 3)
    close = keys.at[1].set(keys[0] + jnp.array([1, 0], jnp.uint32))
    a, b, c = (np.asarray(noise.normal(s, (n,), source), np.float64) for s in close)
    se = 1 / np.sqrt(n)
    for power, moment, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs(np.mean(a**power) - moment) < 4 * se * np.sqrt(variance)
    for lag in (1, 2, 8, 32, 1024):
        assert abs(np.mean(a[lag:] * a[:-lag])) < 4.5 * se
        assert abs(np.mean(np.abs(a[lag:]) * np.abs(a[:-lag])) - 2 / np.pi) < 4.5 * se
    for other in (b, c):
        assert abs(np.mean(a * other)) < 4 * se
        assert abs(np.mean(a[1:] * other[:-1])) < 4 * se
    grid = np.asarray(jax.scipy.special.ndtr(jnp.linspace(-4, 4, 41)))
    found = np.searchsorted(np.sort(a), np.linspace(-4, 4, 41)) / n
    # Kolmogorov: P(sqrt(n) D > 2.2) = 1.3e-4.
    assert np.max(np.abs(found - grid)) < 2.2 * se
