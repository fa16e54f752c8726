"""Positional randomness: a key depends on what it is for, never on when it was asked.

Step ``i`` of controller ``c`` of a run always uses ``fold_in(fold_in(root, c), i)``, so
cutting a run into chunks, interrupting it or changing the logging interval cannot change a
bit of it.
"""

import zlib

import jax
from jaxtyping import Array, Int, Key, UInt32


def root_key(seed: int) -> Key[Array, ""]:
    """Returns the key that a whole run is derived from.

    It is of one generator whatever JAX's default is, so that a seed means one run.
    """
    return jax.random.key(seed, impl="threefry2x32")


def wrap(data: UInt32[Array, "*b words"]) -> Key[Array, "*b"]:
    """Returns the key that ``jax.random.key_data`` was taken of: threefry's has 2 words."""
    impl = "threefry2x32" if data.shape[-1] == 2 else "rbg"
    return jax.random.wrap_key_data(data, impl=impl)


def controller_key(root: Key[Array, ""], controller: Int[Array, ""]) -> Key[Array, ""]:
    """Returns a controller's key, from its *global* id, never its place in a block."""
    return jax.random.fold_in(root, controller)


def step_key(key: Key[Array, ""], step: Int[Array, ""] | int) -> Key[Array, ""]:
    """Returns the key of update ``step`` of a controller."""
    return jax.random.fold_in(key, step)


def stream(key: Key[Array, ""], name: str) -> Key[Array, ""]:
    """Returns a named sub-stream: those of ``"ask"`` and of ``"noise"`` differ.

    The name enters by its CRC-32, so adding a stream never moves another one.
    """
    return jax.random.fold_in(key, zlib.crc32(name.encode()))


def round_keys(
    key: Key[Array, ""], rounds: int
) -> tuple[Key[Array, "rounds 3"], Key[Array, ""]]:
    """Returns the keys of ask, evaluate and tell in each round, and the key of learn."""
    keys = jax.random.split(key, 3 * rounds + 1)
    return keys[:-1].reshape(rounds, 3), keys[-1]
