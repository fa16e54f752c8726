"""Run in a process of its own: a search on one and on eight devices, both saved."""

import sys
from pathlib import Path

import jax
import numpy as np

import jaxnas

if __name__ == "__main__":
    jaxnas.configure_host(8)
    assert jax.device_count() == 8
    import methods

    folder = Path(sys.argv[1])
    oracle = jaxnas.make_oracle("toy", space=methods.SPACE)
    for name in sys.argv[2:]:
        algo = methods.make(name, folder)
        for count in (1, 8):
            devices = jax.local_devices()[:count]
            result = jaxnas.search(
                algo, oracle, budget=20, seeds=11, width=2, max_proposals=40,
                devices=devices,
            )  # fmt: skip
            np.savez(folder / f"{name}-{count}", **result.arrays)
