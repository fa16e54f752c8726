"""The decoder and codebook that the VQ-VAE + PPO project trained, from its checkpoints.

Its decoder is dense layers with ReLU, the output too: 8 -> 512, then five layers that halve
(256, 128, 64, 32, 16), then 22 features. Its codebook is 14 codes of 8 numbers, one for
each bin of the score. There is no encoder in its files, and no score head.
"""

import io
import itertools
import re
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxnas.core.errors import UserError
from jaxnas.core.space import Featured, SearchSpace
from jaxnas.latent.vqvae import VQVAE, Params

SHRINK = 2
"""Each layer of the original has half the units of the one before."""


def read(
    decoder: str | Path, codebook: str | Path, space: SearchSpace
) -> tuple[VQVAE, Params]:
    """Returns the original's latent space over ours; it decodes and does not encode.

    ``decoder`` is a dictionary of tensors, ``codebook`` a tensor ``[K, D]``; the space has
    as many features as the decoder has outputs: ``analog-resnet``, variant ``csv``.

    Raises:
        UserError: not such checkpoints, or of other sizes than each other or the space.
    """
    layers = _layers(decoder)
    codes = _load(codebook)
    if not isinstance(codes, np.ndarray) or codes.ndim != 2:
        raise UserError(f"{codebook} is not a codebook: one tensor of codes by numbers.")
    widths = [len(bias) for _, bias in layers]
    dims, hidden = layers[0][0].shape[1], widths[:-1]
    halved = [hidden[0] // SHRINK**i for i in range(len(hidden))]
    if codes.shape[1] != dims or hidden != halved:
        raise UserError(
            f"A decoder from {dims} numbers through layers of {hidden} units does not fit "
            f"codes of {codes.shape[1]} numbers, or its layers do not halve."
        )
    num = len(space.feature_names) if isinstance(space, Featured) else 0
    if widths[-1] != num:
        raise UserError(
            f"The decoder writes {widths[-1]} features and the space {space.id!r} has "
            f"{num}; use the space 'analog-resnet' with variant='csv'."
        )
    sizes = {"codes": codes.shape[0], "dims": dims, "hidden": hidden[0], "shrink": SHRINK}
    sizes["layers"] = len(hidden) - 1
    model = VQVAE(space, "label", "features", ema=False, **sizes)
    names = [*(f"layer_{i}" for i in range(len(hidden))), "out"]
    net = {
        name: {"kernel": jnp.asarray(weight.T), "bias": jnp.asarray(bias)}
        for name, (weight, bias) in zip(names, layers, strict=True)
    }
    usage = jnp.full(model.codes, 1.0 / model.codes, jnp.float32)
    zero, one = jnp.float32(0.0), jnp.float32(1.0)
    params = Params(None, {"params": net}, None, jnp.asarray(codes), usage, zero, one)
    return model, params


def _load(path: str | Path) -> Any:
    """Returns the tensor of a checkpoint, or its dictionary of tensors, as numpy arrays."""
    try:
        content = Path(path).read_bytes()
        import torch
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}).") from error
    except ImportError as error:
        raise UserError(
            "Reading a torch checkpoint needs torch, which is not installed; run: "
            'pip install "jaxnas[analog]"'
        ) from error
    try:
        found = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged checkpoint can raise almost anything
        raise UserError(
            f"{path} is not a torch checkpoint of tensors alone, or is damaged; save it "
            "again with torch.save(model.state_dict(), path)."
        ) from error
    plain = lambda x: x.numpy(force=True) if isinstance(x, torch.Tensor) else x
    if isinstance(found, dict):
        return {name: plain(value) for name, value in found.items()}
    return plain(found)


def _layers(path: str | Path) -> list[tuple[np.ndarray, np.ndarray]]:
    """Returns weight ``[out, in]`` and bias of each layer in order, all float32."""
    state = _load(path)
    tensors = state if isinstance(state, dict) else {}
    inner = sorted(
        int(found[1])
        for name in tensors
        if (found := re.fullmatch(r"layers\.(\d+)\.0\.weight", str(name)))
    )
    names = ["fc1", *(f"layers.{i}.0" for i in inner), "fc2"]
    wanted = {f"{name}.{part}" for name in names for part in ("weight", "bias")}
    good = set(tensors) == wanted and inner == list(range(len(inner)))
    layers = []
    if good:
        layers = [(tensors[f"{n}.weight"], tensors[f"{n}.bias"]) for n in names]
        good = all(
            w.ndim == 2 and b.shape == w.shape[:1] and w.dtype == b.dtype == np.float32
            for w, b in layers
        ) and all(b.shape[1] == a.shape[0] for (a, _), (b, _) in itertools.pairwise(layers))
    if not good:
        raise UserError(
            f"{path} is not a decoder of the original: fc1, layers.0.0, ..., fc2, each "
            "with a float32 weight and bias that fit together."
        )
    return layers
