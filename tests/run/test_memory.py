"""Memory is planned with what the devices say, or with what is stated to be assumed."""

from dataclasses import dataclass

import jax
import pytest

import jaxnas
from jaxnas.oracles.toy import ToyOracle
from jaxnas.run import memory
from jaxnas.run import search as loop
from jaxnas.spaces.toy import Toy


@dataclass(frozen=True)
class Accelerator:
    """A device that reports ``stats``, or nothing."""

    stats: dict[str, int] | None
    platform: str = "gpu"

    def memory_stats(self):
        return self.stats


def test_devices_are_asked_and_not_the_host():
    devices = [Accelerator({"bytes_limit": 10**10, "bytes_in_use": 10**9})] * 3
    assert memory.free_memory(devices) == (2.7e10, "device")
    assert "as the devices report" in str(memory.free_memory(devices))


@pytest.mark.parametrize("stats", [None, {}, {"bytes_in_use": 3}])
def test_a_silent_device_is_said_to_be_assumed(stats):
    devices = [Accelerator(stats), Accelerator({"bytes_limit": 10**10})]
    found = memory.free_memory(devices)
    assert found.source == "assumed"
    assert found.free == 2 * memory.ASSUMED
    assert "assumed, 8 GB a device" in str(found)


def test_what_does_not_fit_runs_in_waves_and_says_what_was_assumed(
    monkeypatch,
):
    space = Toy(length=4, vocab=3)
    algo = jaxnas.make_algorithm("reinforce", space=space, batch=2, hidden=8)

    def run():
        return jaxnas.search(
            algo, ToyOracle(space), budget=2, seeds=8, layout="wide",
            devices=jax.devices()[:1],
        )  # fmt: skip

    whole = run()
    small = memory.Memory(3.5e6, "assumed")
    monkeypatch.setattr(loop.mem, "free_memory", lambda devices: small)
    monkeypatch.setattr(loop, "_member_bytes", lambda *args: 10**5)
    with pytest.warns(RuntimeWarning, match="assumed, 8 GB a device"):
        waves = run()
    assert whole.config["wave"] == 8
    assert waves.config["wave"] == waves.config["width"] == 2
    assert waves.config["layout"] == "wide"
    assert (whole.arrays["controller"] == waves.arrays["controller"]).all()
    none = memory.Memory(1e6, "device")
    monkeypatch.setattr(loop.mem, "free_memory", lambda devices: none)
    with pytest.raises(jaxnas.UserError, match="smaller --width"):
        run()
