"""Settings of JAX that a user may bring, and which of them cannot be worked under."""

import jax

from jaxnas.core.errors import UserError

REFUSED = {
    "jax_debug_nans": (True, "NaN stands for what was not measured here"),
    "jax_debug_infs": (True, "an infinity stands for what is not known yet here"),
    "jax_numpy_dtype_promotion": ("strict", "numbers of several types are combined here"),
    "jax_numpy_rank_promotion": ("raise", "arrays are broadcast here"),
}
"""The value of a setting that stops any computation of ours, and why."""
NO_JIT = {"jax_disable_jit": (True, "a search is one compiled program")}


def check_settings(compiled: bool = True) -> None:
    """Raises a UserError, naming the setting, where JAX is set so that nothing would work.

    Args:
        compiled: whether what follows would take hours without compilation.
    """
    for name, (value, why) in (REFUSED | (NO_JIT if compiled else {})).items():
        if getattr(jax.config, name) == value:
            raise UserError(
                f"JAX is set to {name}={value!r}, under which nothing here can run: {why}; "
                f"unset {name.upper()}."
            )


def check_platform() -> None:
    """Initialises JAX's devices.

    Raises:
        UserError: those that ``JAX_PLATFORMS`` names cannot be used.
    """
    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:
        named = jax.config.jax_platforms  # pyright: ignore[reportAttributeAccessIssue]
        raise UserError(
            f"JAX cannot use the platform {named!r} on this machine; unset "
            "JAX_PLATFORMS or set it to cpu, and see 'jaxnas doctor'."
        ) from error
