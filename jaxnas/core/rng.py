"""Positional randomness: a key depends on what it is for, never on when it was asked.

Step ``i`` of controller ``c`` of a run always uses ``fold_in(fold_in(root, c), i)``, so
cutting a run into chunks, interrupting it or changing the logging interval cannot change a
bit of it.
"""

import zlib

import jax
from jaxtyping import Array, Int, Key


def root_key(seed: int) -> Key[Array, ""]:
    """Returns the key that a whole run is derived from."""
    return jax.random.key(seed)


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
