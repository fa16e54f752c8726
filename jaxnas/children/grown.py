"""A growing network in one program: the largest one, with what is not there masked.

Channels, layers and skips that a network does not have yet stand in the arrays all the
same and are multiplied by zero or passed by, so that every size is one shape: a morph is a
gather, training is compiled once, and ``vmap`` grows many networks at once. The price is
the arithmetic of the largest network. What is there computes what
:class:`jaxnas.children.build.Child` of the same size does: see :func:`extracted`.

References: as :mod:`jaxnas.children.morph`, which does the same to any network one by one.
"""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, PyTree

from jaxnas.children import train as tr
from jaxnas.children.channels import copied, mixed, origins
from jaxnas.children.forms import EPSILON, conv_layer, norm_layer
from jaxnas.spaces.growth import Limits

SEEN = 256
"""Training images from which a new layer takes the statistics of its batch norm."""
_WINDOW = {"kernel": 3, "stride": 1, "padding": 1}
_ONE = {"kernel": 1, "stride": 1, "padding": 0}


class GrownChild(nn.Module):
    """Every network within some limits in one module.

    Which one it is stands in the variable ``grown/taken``, ``int32[K]`` (see
    :class:`jaxnas.spaces.growth.Limits`). Layers have the names of the spec's nodes; those
    of a stage are as wide as the widest, ``W``.
    """

    limits: Limits

    @nn.compact
    def __call__(
        self, x: Float[Array, "B H W C"], train: bool = False
    ) -> Float[Array, "B classes"]:
        """Returns the logits of float32 images."""
        limits, widest = self.limits, self.limits.widest
        taken = self.variable("grown", "taken", jnp.zeros, 3 * limits.stages, jnp.int32)
        widths, depths = limits.widths(taken.value), limits.depths(taken.value)
        skips = limits.skips(taken.value)
        for s in range(limits.stages):
            stage = f"stage{s + 1}"
            if s:
                x = nn.max_pool(x, (2, 2), (2, 2))
            start, here = x, jnp.arange(widest, dtype=jnp.int32) < widths[s]
            for layer in range(1, limits.depth + 1):
                window = {**_WINDOW, "features": widest}
                y = conv_layer(x, window, f"{stage}_conv{layer}")
                y = nn.relu(norm_layer(y, f"{stage}_norm{layer}", train)) * here
                x = jnp.where(layer <= depths[s], y, x) if layer > 1 else y
            self.sow("stages", stage, x)
            skip = conv_layer(start, {**_ONE, "features": widest}, f"{stage}_skip") * here
            x = x + jnp.where(skips[s], skip, 0.0)
        return nn.Dense(limits.num_classes, name="logits")(jnp.mean(x, axis=(1, 2)))


def started(
    limits: Limits, key: Key[Array, ""], images: Float[Array, "n H W C"]
) -> dict[str, Any]:
    """Returns the variables of an untrained network of the least size.

    Kernels are those of the widest network, larger by ``sqrt(W / channels)``: He-normal
    for the width that is there. Skips are zero.
    """
    variables: Any = GrownChild(limits).init(key, images[:1])
    scale = (limits.widest / limits.channels) ** 0.5
    params = dict(variables["params"])
    for name, layer in params.items():
        if "kernel" in layer:
            factor = 0.0 if name.endswith("_skip") else scale
            params[name] = {**layer, "kernel": layer["kernel"] * factor}
    wanted = ("batch_stats", "grown")
    return {"params": params, **{group: variables[group] for group in wanted}}


def morphed(
    limits: Limits,
    variables: Mapping[str, Any],
    action: Int[Array, ""],
    key: Key[Array, ""],
    images: Float[Array, "n H W C"],
) -> dict[str, Any]:
    """Returns the variables after an action; the logits stay as they are, up to rounding.

    An action that is not legal changes nothing. *Widen* copies channels into random shares
    (:mod:`jaxnas.children.channels`). *Deepen* sets the next layer of the stage to an
    identity, its batch norm to the mean and variance of what it receives for ``images``.
    *Skip* shows a convolution that is zero and was never trained.
    """
    taken = variables["grown"]["taken"]
    legal = limits.legal(taken)[jnp.clip(action, 0, 3 * limits.stages)]
    legal = legal & (action >= 0) & (action <= 3 * limits.stages)
    after = jnp.where(legal, limits.added(taken, action), taken)
    wide = _widened(limits, variables, taken, after, key)
    deep = _deepened(limits, wide, taken, after, images)
    return {**deep, "grown": {"taken": after}}


def advanced(
    limits: Limits,
    variables: PyTree,
    action: Int[Array, ""],
    key: Key[Array, ""],
    images: tr.Images,
    training: tr.Training,
    hparams: tr.Hparams,
) -> tuple[PyTree, tr.Curves]:
    """Returns the network after an action and a training, and that training's curves.

    Each training has its own schedule and begins without momentum.
    """
    morph_key, fit_key = jax.random.split(key)
    seen = images.x_train[:SEEN]
    variables = morphed(limits, variables, action, morph_key, seen)
    forward = tr.forward_of(GrownChild(limits))
    return tr.fit(forward, variables, images, fit_key, training, hparams)


def extracted(limits: Limits, variables: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the variables of the network that is there, for ``Child`` of its spec; host.

    The spec's nodes are :meth:`jaxnas.spaces.growth.Limits.nodes` of ``grown/taken``.
    """
    taken = np.asarray(variables["grown"]["taken"])
    widths = np.asarray(limits.widths(jnp.asarray(taken))).tolist()
    there = {item["name"] for item in limits.nodes(taken)}
    found: dict[str, Any] = {}
    for group in ("params", "batch_stats"):
        made = found.setdefault(group, {})
        for name, layer in variables[group].items():
            if name in there:
                came, goes = _widths_at(limits, widths, name)
                cut = lambda a, i=came, o=goes: np.asarray(a)[..., :i, :o]
                short = lambda a, o=goes: np.asarray(a)[..., :o]
                made[name] = {
                    k: (cut if k == "kernel" else short)(v) for k, v in layer.items()
                }
    return found


def _widths_at(limits: Limits, widths: list[int], name: str) -> tuple[int, int]:
    """Returns input and output channels of a layer."""
    if name == "logits":
        return widths[-1], limits.num_classes
    stage = int(name.partition("_")[0].removeprefix("stage")) - 1
    before = widths[stage - 1] if stage else limits.image[2]
    first = name.endswith(("_conv1", "_skip"))
    return before if first else widths[stage], widths[stage]


def _widened(
    limits: Limits,
    variables: Mapping[str, Any],
    taken: Int[Array, "K"],
    after: Int[Array, "K"],
    key: Key[Array, ""],
) -> dict[str, Any]:
    """Returns the variables with the channels of a stage copied, in all of its layers."""
    # One draw for all layers: a generator of its own for each takes long to compile.
    S, widest = limits.stages, limits.widest
    layers = [name for name, layer in variables["params"].items() if "kernel" in layer]
    rows, columns = max(widest, limits.image[2]), max(widest, limits.num_classes)
    shape = (S * widest + len(layers) * rows * columns,)
    drawn = jax.random.uniform(key, shape, jnp.float32)
    picks = drawn[: S * widest].reshape(S, widest)
    splits = drawn[S * widest :].reshape(len(layers), rows, columns)
    maps = [jnp.arange(limits.image[2], dtype=jnp.int32)]  # of the image, of each stage
    for pick, old, new in zip(
        picks, limits.widths(taken), limits.widths(after), strict=True
    ):
        maps.append(origins(pick, old, new))
    made = {group: dict(inner) for group, inner in variables.items()}
    for name, layer in variables["params"].items():
        if name == "logits":
            came, goes = maps[-1], jnp.arange(limits.num_classes, dtype=jnp.int32)
        else:
            stage = int(name.partition("_")[0].removeprefix("stage"))
            first = name.endswith(("_conv1", "_skip"))
            came, goes = maps[stage - 1 if first else stage], maps[stage]
        if "kernel" in layer:
            own = splits[layers.index(name), : came.shape[0], : goes.shape[0]]
            made["params"][name] = mixed(own, layer, came, goes)
        else:
            made["params"][name] = copied(layer, goes)
            made["batch_stats"][name] = copied(variables["batch_stats"][name], goes)
    return made


def _deepened(
    limits: Limits,
    variables: dict[str, Any],
    taken: Int[Array, "K"],
    after: Int[Array, "K"],
    images: Float[Array, "n H W C"],
) -> dict[str, Any]:
    """Returns the variables with the next layer of a deepened stage as an identity."""
    shown = {**variables, "grown": {"taken": taken}}
    seen: Any = GrownChild(limits).apply(shown, images, False, mutable=["stages"])[1]
    old, new = limits.depths(taken), limits.depths(after)
    one = jnp.zeros((3, 3, limits.widest, limits.widest), jnp.float32)
    one = one.at[1, 1].set(jnp.eye(limits.widest, dtype=jnp.float32))
    params, stats = dict(variables["params"]), dict(variables["batch_stats"])
    for s in range(limits.stages):
        leaves = seen["stages"][f"stage{s + 1}"][0]
        mean, var = jnp.mean(leaves, (0, 1, 2)), jnp.var(leaves, (0, 1, 2))
        norm = {"scale": jnp.sqrt(var + EPSILON), "bias": mean}
        for layer in range(2, limits.depth + 1):
            conv, name = f"stage{s + 1}_conv{layer}", f"stage{s + 1}_norm{layer}"
            now = (old[s] < layer) & (new[s] == layer)
            pick = lambda x, y, now=now: jax.tree.map(
                lambda a, b: jnp.where(now, a, b), x, y
            )
            params[conv] = pick({"kernel": one}, params[conv])
            params[name] = pick(norm, params[name])
            stats[name] = pick({"mean": mean, "var": var}, stats[name])
    return {**variables, "params": params, "batch_stats": stats}
