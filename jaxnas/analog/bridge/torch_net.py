"""The torch form of a spec: one file that needs torch and the standard library, no more.

Copied beside a saved network it runs alone::

    net = TorchNet(read_spec("spec.json"))
    load_weights(net, "weights.npz")
    logits = net.eval()(images)          # float32 [B, C, H, W]

The flax form stands under the same names in ``jaxnas/children/ops.py``. Images are
channels first here, ``[B, C, H, W]``, and texts ids ``[B, T]`` of words, float32 too, of
which 0 is padding; ``flatten`` orders rows, columns, channels all the
same, so that a head's weights mean the same in both. Shapes in messages are channels last,
as in the spec, without the batch. (Over 400 lines, because it must be one file.)
"""

import ast
import functools
import json
import math
import operator
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

FORMAT = "jaxnas-spec-1"
DEPTH = 32  # blocks that may call each other one inside the other
MOMENTUM, EPSILON = 0.1, 1e-5
"""Of batch norm; torch's momentum is the share of the new statistics."""

Shape = tuple[int, ...]
Attributes = Mapping[str, Any]
Made = tuple[nn.Module, Shape]


class NetError(ValueError):
    """A spec or a file of weights that cannot be used; the text is one sentence."""


class Weightless(nn.Module):
    """A function of the inputs and of fixed arguments, with no weights."""

    def __init__(self, function: Callable[..., Tensor], *arguments: int) -> None:
        super().__init__()
        self.function, self.arguments = function, arguments

    def forward(self, *xs: Tensor) -> Tensor:
        """Returns the function's value."""
        return self.function(*xs, *self.arguments)


def add(*xs: Tensor) -> Tensor:
    """Returns the sum of values of one shape, added up from the left."""
    return functools.reduce(operator.add, xs)


def concat(*xs: Tensor) -> Tensor:
    """Returns ``[B, sum of channels, H, W]``."""
    return torch.cat(xs, dim=1)


def zero(x: Tensor, stride: int) -> Tensor:
    """Returns zeros in place of every ``stride``-th row and column.

    Also where the input is not finite. The input stays in the graph with gradient zero, as
    in flax, so that weight decay reaches the layers before it in both.
    """
    x = x[:, :, ::stride, ::stride] if stride > 1 else x
    return x.masked_fill(torch.ones_like(x, dtype=torch.bool), 0.0)


def shift(x: Tensor, pixels: int) -> Tensor:
    """Returns an image moved up and left, zeros where nothing arrives."""
    return nn.functional.pad(x[:, :, pixels:, pixels:], (0, pixels, 0, pixels))


def flatten(x: Tensor) -> Tensor:
    """Returns ``[B, H * W * C]``: rows, then columns, then channels."""
    return x.permute(0, 2, 3, 1).flatten(1)


def kept(ids: Tensor, places: int) -> Tensor:
    """Returns ``[B, places]``: which places of a text stand for more than padding."""
    length = ids.shape[1]
    ends = torch.arange(1, length + 1, device=ids.device) * (ids != 0)
    used = ends.amax(dim=1, keepdim=True).clamp(min=1)
    return torch.arange(places, device=ids.device) * length < used * places


def mask(x: Tensor, ids: Tensor) -> Tensor:
    """Returns a sequence ``[B, C, T, 1]`` with zeros where its text has ended."""
    return x.masked_fill(~kept(ids, x.shape[2])[:, None, :, None], 0.0)


def global_avg_pool(x: Tensor, *ids: Tensor) -> Tensor:
    """Returns ``[B, C]``, the mean over an image, or over the places of a text."""
    if not ids:
        return x.mean(dim=(2, 3))
    count = kept(ids[0], x.shape[2]).sum(dim=1, keepdim=True)
    return mask(x, ids[0]).sum(dim=(2, 3)) / count


def global_max_pool(x: Tensor, *ids: Tensor) -> Tensor:
    """Returns ``[B, C]``, the maximum over an image, or over the places of a text."""
    if ids:
        gone = ~kept(ids[0], x.shape[2])[:, None, :, None]
        x = x.masked_fill(gone, -math.inf)
    return x.amax(dim=(2, 3))


class ReluConvBn(nn.Module):
    """ReLU, convolution without bias, batch norm."""

    def __init__(self, conv: nn.Module, norm: nn.Module) -> None:
        super().__init__()
        self.conv = conv
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        """Returns ``[B, features, H', W']``."""
        return self.norm(self.conv(torch.relu(x)))


class LayerNorm(nn.LayerNorm):
    """Layer norm over the channels of each place, channels first."""

    def forward(self, input: Tensor) -> Tensor:
        """Returns the same shape."""
        last = input.dim() - 1  # counted from the front, as the ONNX exporter needs it
        return super().forward(input.movedim(1, last)).movedim(last, 1)


def pad_concat(*xs: Tensor) -> Tensor:
    """Returns images padded with zeros below and right to the largest, channels joined."""
    sides = [max(x.shape[axis] for x in xs) for axis in (2, 3)]
    room = [(0, sides[1] - x.shape[3], 0, sides[0] - x.shape[2]) for x in xs]
    return concat(*(nn.functional.pad(x, pads) for x, pads in zip(xs, room, strict=True)))


def multi_scale_pool(x: Tensor, scales: int) -> Tensor:
    """Returns the mean of means over windows of 1, 3, 5, ... pixels."""
    total = x
    for size in range(3, 2 * scales, 2):
        total = total + nn.functional.avg_pool2d(
            x, size, 1, size // 2, count_include_pad=False
        )
    return total / scales


class GatedSkip(nn.Module):
    """``g x + (1 - g) y``, one ``g`` an example, from the means of ``y``."""

    def __init__(self, gate: nn.Module) -> None:
        super().__init__()
        self.gate = gate

    def forward(self, new: Tensor, old: Tensor) -> Tensor:
        """Returns the shape of both."""
        means = old.flatten(2).mean(dim=2) if old.dim() > 2 else old
        gate = torch.sigmoid(self.gate(means)).reshape(-1, *[1] * (old.dim() - 1))
        return gate * new + (1.0 - gate) * old


class AttentionEdge(nn.Module):
    """``x + softmax(Q K' / sqrt(d)) V``, queries from the first value."""

    def __init__(self, query: nn.Module, key: nn.Module, value: nn.Module) -> None:
        super().__init__()
        self.query, self.key, self.value = query, key, value

    def forward(self, *xs: Tensor) -> Tensor:
        """Returns the shape of the first value."""
        ids = xs[-1] if xs[-1].dim() == 2 else None
        xs = xs if ids is None else xs[:-1]
        x, y = (v.flatten(2).transpose(1, 2) for v in (xs[0], xs[-1]))
        query, key, value = self.query(x), self.key(y), self.value(y)
        scores = query @ key.transpose(1, 2) / math.sqrt(query.shape[-1])
        if ids is not None:
            scores = scores.masked_fill(~kept(ids, y.shape[1])[:, None], -math.inf)
        found = torch.softmax(scores, dim=-1) @ value
        return xs[0] + found.transpose(1, 2).reshape(xs[0].shape)


class Embedding(nn.Module):
    """A row of weights for each word, as an image ``[B, F, T, 1]``; zeros for padding."""

    def __init__(self, vocabulary: int, features: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(vocabulary, features) / math.sqrt(features))

    def forward(self, ids: Tensor) -> Tensor:
        """Returns the rows of float32 ids; of ids beyond the table its last row."""
        rows = self.table[ids.long().clamp(0, len(self.table) - 1)]
        return (rows * (ids != 0)[..., None]).transpose(1, 2)[..., None]


class GRU(nn.Module):
    """The states of a GRU, from the first place on or from the last."""

    def __init__(self, input: nn.Module, hidden: nn.Module, backward: bool) -> None:
        super().__init__()
        self.input, self.hidden, self.backwards = input, hidden, backward

    def forward(self, x: Tensor, *ids: Tensor) -> Tensor:
        """Returns ``[B, F, T, 1]``; over padding the state stays as it is."""
        given, states = self.input(x[..., 0].transpose(1, 2)), {}
        places, features = x.shape[2], given.shape[2] // 3
        state = given.new_zeros(given.shape[0], features)
        keep = kept(ids[0], places) if ids else None
        for t in reversed(range(places)) if self.backwards else range(places):
            r, z, n = given[:, t].chunk(3, dim=-1)
            hr, hz, hn = self.hidden(state).chunk(3, dim=-1)
            update, new = torch.sigmoid(z + hz), torch.tanh(n + torch.sigmoid(r + hr) * hn)
            made = (1.0 - update) * new + update * state
            state = made if keep is None else torch.where(keep[:, t, None], made, state)
            states[t] = state
        return torch.stack([states[t] for t in range(places)], dim=2)[..., None]


def _only(inputs: Sequence[Shape], rank: int = 0) -> Shape:
    """Returns the only input: an image (rank 3), a vector (rank 1), or any (rank 0)."""
    if len(inputs) != 1 or rank not in (0, len(inputs[0])):
        kind = {0: "input", 1: "vector", 3: "image"}[rank]
        raise NetError(f"needs one {kind}, got {list(inputs)}")
    return inputs[0]


def _window(a: Attributes) -> tuple[tuple[int, int], tuple[int, int]]:
    """Returns kernel and padding of height and width, alike where only one is given."""
    wide, pad = a.get("kernel_width"), a.get("padding_width")
    kernel, padding = a["kernel"], a["padding"]
    return (kernel, wide or kernel), (padding, padding if pad is None else pad)


def _windows(shape: Shape, a: Attributes) -> tuple[int, int]:
    """Returns height and width after windows of a kernel, a stride and a padding."""
    span = []
    for side, kernel, padding in zip(shape, *_window(a)):
        span.append(side + 2 * padding - kernel)
        if span[-1] < 0:
            raise NetError(
                f"has a kernel of {kernel} for a side of {side} padded by {padding}"
            )
    return span[0] // a["stride"] + 1, span[1] // a["stride"] + 1


def _conv(inputs: Sequence[Shape], a: Attributes) -> Made:
    """Makes a convolution, He-normal over the fan-out of one group."""
    shape = _only(inputs, 3)
    features, groups = a.get("features") or shape[2], a.get("groups") or 1
    if shape[2] % groups or features % groups:
        raise NetError(f"cannot split {shape[2]} -> {features} channels into {groups}")
    out = (*_windows(shape, a), features)
    (kernel, padding), bias = _window(a), bool(a.get("bias"))
    conv = nn.Conv2d(
        shape[2], features, kernel, a["stride"], padding, groups=groups, bias=bias
    )
    spread = math.sqrt(2 * groups / (math.prod(kernel) * features))
    nn.init.normal_(conv.weight, 0.0, spread)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return conv, out


def _depthwise_conv(inputs: Sequence[Shape], a: Attributes) -> Made:
    return _conv(inputs, {**a, "groups": _only(inputs, 3)[2]})


def _relu_conv_bn(inputs: Sequence[Shape], a: Attributes) -> Made:
    conv, shape = _conv(inputs, a)
    return ReluConvBn(conv, nn.BatchNorm2d(shape[2], EPSILON, MOMENTUM)), shape


def _batch_norm(inputs: Sequence[Shape], a: Attributes) -> Made:
    shape = _only(inputs)
    kind = nn.BatchNorm2d if len(shape) == 3 else nn.BatchNorm1d
    return kind(shape[-1], EPSILON, MOMENTUM), shape


def _pool(inputs: Sequence[Shape], a: Attributes, largest: bool = False) -> Made:
    """Makes a mean over the pixels of a window, padding not counted, or a maximum."""
    shape = _only(inputs, 3)
    if 2 * a["padding"] > a["kernel"]:
        raise NetError(f"has a padding of {a['padding']}, more than half of its kernel")
    sizes = a["kernel"], a["stride"], a["padding"]
    out = (*_windows(shape, a), shape[2])
    if largest:
        return nn.MaxPool2d(*sizes), out
    return nn.AvgPool2d(*sizes, count_include_pad=False), out


def _with_ids(inputs: Sequence[Shape]) -> Shape:
    """Returns the shape of an image that comes alone or with the ids of its text."""
    if len(inputs) == 2 and len(inputs[1]) == 1 and inputs[0][1:2] == (1,):
        inputs = inputs[:1]
    return _only(inputs, 3)


def _global_pool(
    inputs: Sequence[Shape], a: Attributes, function: Callable[..., Tensor]
) -> Made:
    return Weightless(function), _with_ids(inputs)[2:]


def _mask(inputs: Sequence[Shape], a: Attributes) -> Made:
    if len(inputs) != 2:
        raise NetError(f"needs a sequence and the ids of its text, got {list(inputs)}")
    return Weightless(mask), _with_ids(inputs)


def _embedding(inputs: Sequence[Shape], a: Attributes) -> Made:
    (length,) = _only(inputs, 1)
    return Embedding(a["vocabulary"], a["features"]), (length, 1, a["features"])


def _gru(inputs: Sequence[Shape], a: Attributes) -> Made:
    places, width, channels = _with_ids(inputs)
    if width != 1:
        raise NetError(f"needs a sequence [places, 1, channels], got {list(inputs)}")
    given, hidden = (_dense(rows, 3 * a["features"]) for rows in (channels, a["features"]))
    return GRU(given, hidden, bool(a.get("backward"))), (places, 1, a["features"])


def _flatten(inputs: Sequence[Shape], a: Attributes) -> Made:
    return Weightless(flatten), (math.prod(_only(inputs, 3)),)


def _concat(inputs: Sequence[Shape], a: Attributes) -> Made:
    sides = {shape[:-1] for shape in inputs}
    if len(sides) != 1 or len(inputs[0]) != 3:
        raise NetError(f"joins the channels of different images {list(inputs)}")
    return Weightless(concat), (*inputs[0][:2], sum(shape[2] for shape in inputs))


def _shift(inputs: Sequence[Shape], a: Attributes) -> Made:
    shape = _only(inputs, 3)
    if a["pixels"] >= min(shape[:2]):
        raise NetError(f"moves an image of {shape[:2]} by {a['pixels']} pixels")
    return Weightless(shift, a["pixels"]), shape


def _linear(inputs: Sequence[Shape], a: Attributes) -> Made:
    """Makes a dense layer with bias; LeCun-normal and zero, as flax starts it."""
    (rows,) = _only(inputs, 1)
    return _dense(rows, a["features"]), (a["features"],)


def _dense(rows: int, features: int) -> nn.Linear:
    layer = nn.Linear(rows, features)
    nn.init.trunc_normal_(layer.weight, 0.0, 1 / math.sqrt(rows))
    nn.init.zeros_(layer.bias)
    return layer


def _sum(inputs: Sequence[Shape], a: Attributes) -> Made:
    if len(set(inputs)) != 1:
        raise NetError(f"adds values of different shapes {list(inputs)}")
    return Weightless(add), inputs[0]


def _zero(inputs: Sequence[Shape], a: Attributes) -> Made:
    shape, stride = _only(inputs), a.get("stride") or 1
    if stride == 1:
        return Weightless(zero, 1), shape
    height, width, channels = _only(inputs, 3)
    return Weightless(zero, stride), (-(-height // stride), -(-width // stride), channels)


def _group_norm(inputs: Sequence[Shape], a: Attributes, instance: bool = False) -> Made:
    shape = _only(inputs)
    if instance and len(shape) < 2:
        raise NetError(f"needs an image or a sequence, got {list(inputs)}")
    groups = shape[-1] if instance else a.get("groups") or math.gcd(shape[-1], 8)
    if shape[-1] % groups:
        raise NetError(f"cannot split {shape[-1]} channels into {groups}")
    return nn.GroupNorm(groups, shape[-1], EPSILON), shape


def _pad_concat(inputs: Sequence[Shape], a: Attributes) -> Made:
    if any(len(shape) != 3 for shape in inputs):
        raise NetError(f"joins images, got {list(inputs)}")
    sides = [max(shape[i] for shape in inputs) for i in (0, 1)]
    return Weightless(pad_concat), (*sides, sum(shape[2] for shape in inputs))


def _gated_skip(inputs: Sequence[Shape], a: Attributes) -> Made:
    if len(inputs) != 2 or inputs[0] != inputs[1]:
        raise NetError(f"chooses between two values of one shape, got {list(inputs)}")
    return GatedSkip(_dense(inputs[0][-1], 1)), inputs[0]


def _attention_edge(inputs: Sequence[Shape], a: Attributes) -> Made:
    inputs = inputs[:-1] if len(inputs) > 1 and len(inputs[-1]) == 1 else inputs
    if len(inputs) not in (1, 2) or any(len(shape) < 2 for shape in inputs):
        raise NetError(f"needs one or two images or sequences, got {list(inputs)}")
    features, rows = inputs[0][-1], inputs[-1][-1]
    parts = _dense(features, features), _dense(rows, features), _dense(rows, features)
    return AttentionEdge(*parts), inputs[0]


def _simple(make: Callable[[], nn.Module]) -> Callable[..., Made]:
    """Returns the maker of a module that keeps the shape and has no sizes."""
    return lambda shapes, a: (make(), _only(shapes))


_WINDOW = "kernel stride padding"
MODULES: dict[str, tuple[Callable[[Sequence[Shape], Attributes], Made], str, str]] = {
    "conv": (_conv, _WINDOW, "kernel_width padding_width features groups bias"),
    "depthwise_conv": (_depthwise_conv, _WINDOW, ""),
    "relu_conv_bn": (_relu_conv_bn, _WINDOW, "features groups"),
    "batch_norm": (_batch_norm, "", ""),
    "relu": (_simple(nn.ReLU), "", ""),
    "identity": (_simple(nn.Identity), "", ""),
    "zero": (_zero, "", "stride"),
    "avg_pool": (_pool, _WINDOW, ""),
    "global_avg_pool": (
        functools.partial(_global_pool, function=global_avg_pool),
        "",
        "",
    ),
    "flatten": (_flatten, "", ""),
    "concat": (_concat, "", ""),
    "shift": (_shift, "pixels", ""),
    "linear": (_linear, "features", ""),
    "sum": (_sum, "", ""),
    "max_pool": (functools.partial(_pool, largest=True), _WINDOW, ""),
    "multi_scale_pool": (
        lambda shapes, a: (Weightless(multi_scale_pool, a["scales"]), _only(shapes, 3)),
        "scales",
        "",
    ),
    "tanh": (_simple(nn.Tanh), "", ""),
    "sigmoid": (_simple(nn.Sigmoid), "", ""),
    "swish": (_simple(nn.SiLU), "", ""),
    "gelu": (_simple(nn.GELU), "", ""),
    "layer_norm": (
        lambda shapes, a: (LayerNorm(_only(shapes)[-1], EPSILON), _only(shapes)),
        "",
        "",
    ),
    "instance_norm": (functools.partial(_group_norm, instance=True), "", ""),
    "group_norm": (_group_norm, "", "groups"),
    "dropout": (lambda shapes, a: (nn.Dropout(a["rate"]), _only(shapes)), "rate", ""),
    "pad_concat": (_pad_concat, "", ""),
    "gated_skip": (_gated_skip, "", ""),
    "attention_edge": (_attention_edge, "", ""),
    "embedding": (_embedding, "vocabulary features", ""),
    "gru": (_gru, "features", "backward"),
    "mask": (_mask, "", ""),
    "global_max_pool": (
        functools.partial(_global_pool, function=global_max_pool),
        "",
        "",
    ),
}  # operation -> maker of (module, shape), attributes that it needs, and that it may have


class Block(nn.Module):
    """Nodes in order; each is a child module of its own name."""

    def __init__(
        self,
        spec: Mapping[str, Any],
        part: Mapping[str, Any],
        shapes: Sequence[Shape],
        path: str = "",
        inside: tuple[str, ...] = (),
    ) -> None:
        super().__init__()
        self.sources, self.result = list(part["inputs"]), part["outputs"][0]
        self.steps: list[tuple[str, list[str]]] = []
        if (len(self.sources), 1) != (len(shapes), len(part["outputs"])):
            raise NetError(
                f"The block at {path!r} needs {len(shapes)} inputs and 1 output."
            )
        known = dict(zip(self.sources, shapes, strict=True))
        for item in part["nodes"]:
            name, used = item["name"], list(item["inputs"])
            here = f"{path}{name}"
            for source in used:
                if source not in known:
                    raise NetError(
                        f"The node {here!r} uses {source!r}, which no node makes."
                    )
            inputs = [known[source] for source in used]
            module, known[name] = _node(spec, item, inputs, here, inside)
            try:
                self.add_module(name, module)
            except KeyError as error:  # text of torch: taken, empty, or with a dot
                raise NetError(
                    f"The torch backend cannot call a node {here!r}: {error.args[0]}."
                ) from error
            self.steps.append((name, used))
        if self.result not in known:
            raise NetError(f"Nothing at {path!r} makes the output {self.result!r}.")
        self.shape = known[self.result]
        self.last = {source: i for i, (_, used) in enumerate(self.steps) for source in used}

    def forward(self, *xs: Tensor) -> Tensor:
        """Returns the value of the output; others are dropped after their last use."""
        values = dict(zip(self.sources, xs, strict=True))
        for i, (name, sources) in enumerate(self.steps):
            values[name] = self.get_submodule(name)(*[values[s] for s in sources])
            for source in sources:
                if self.last[source] == i and source != self.result:
                    values.pop(source, None)
        return values[self.result]


class TorchNet(Block):
    """The network that a spec describes; ``state_dict`` has the names of its paths.

    Batch norm is torch's own: in training its running variance takes the unbiased estimate,
    ``n / (n - 1)`` times that of flax for ``n`` values a channel. Everything else agrees
    with the flax form up to rounding.

    Args:
        spec: as parsed from ``spec.json``; see ``docs/decisions/0005-spec.md``.

    Raises:
        NetError: an unknown operation or attribute, or shapes that cannot work.
    """

    def __init__(self, spec: Mapping[str, Any]) -> None:
        if not isinstance(spec, Mapping) or spec.get("format") != FORMAT:
            raise NetError(f"This is no spec of format {FORMAT!r}.")
        try:
            ((source, kind),) = spec["inputs"].items()
            ((target, goal),) = spec["outputs"].items()
            part = {"inputs": [source], "nodes": spec["nodes"], "outputs": [target]}
            super().__init__(spec, part, [tuple(kind["shape"])])
            self.input_shape, shape = tuple(kind["shape"]), tuple(goal["shape"])
        except NetError:
            raise
        except (KeyError, TypeError, AttributeError, ValueError, IndexError) as error:
            raise NetError(
                "The spec is malformed, or has not one input and one output."
            ) from error
        if self.shape != shape:
            raise NetError(
                f"The output {target!r} of the spec has shape {self.shape}, not {shape}."
            )

    def forward(self, *xs: Tensor) -> Tensor:
        """Returns logits ``[B, classes]`` of float32 images ``[B, C, H, W]`` or ids."""
        expected = (*self.input_shape[-1:], *self.input_shape[:-1])
        given = [tuple(x.shape[1:]) for x in xs]
        if given != [expected]:
            raise NetError(f"The network takes batches of {expected}, not {given}.")
        return super().forward(*xs)


def _node(
    spec: Mapping[str, Any],
    item: Mapping[str, Any],
    inputs: Sequence[Shape],
    path: str,
    inside: tuple[str, ...],
) -> Made:
    op, attributes = item["op"], item["attributes"]
    if op == "call":
        name = attributes["block"]
        if name not in spec["blocks"] or name in inside or len(inside) == DEPTH:
            raise NetError(
                f"The node {path!r} calls the block {name!r}, which is missing, calls "
                f"itself or lies inside {DEPTH} blocks."
            )
        block = Block(spec, spec["blocks"][name], inputs, f"{path}.", (*inside, name))
        return block, block.shape
    if op not in MODULES:
        raise NetError(
            f"The torch backend lacks the operation {op!r} of the node {path!r}."
        )
    make, needed, optional = MODULES[op]
    lacking = [name for name in needed.split() if name not in attributes]
    unknown = set(attributes) - set(needed.split()) - set(optional.split())
    if lacking or unknown:
        problem = f"lacks {lacking[0]!r}" if lacking else f"has {min(unknown)!r}"
        raise NetError(
            f"The node {path!r} ({op}) {problem}; the torch backend needs "
            f"{needed or 'nothing'} and allows {optional or 'nothing'} besides."
        )
    for name, value in attributes.items():
        left_out = value is None and name in optional.split()
        if not left_out and not _allowed(name, value):
            raise NetError(
                f"The node {path!r} ({op}) has {name} {value!r}, which cannot be."
            )
    if not inputs:
        raise NetError(f"The node {path!r} ({op}) has no input.")
    try:
        return make(inputs, attributes)
    except NetError as error:
        raise NetError(f"The node {path!r} ({op}) {error}.") from error
    except (RuntimeError, OverflowError, TypeError) as error:  # sizes that torch refuses
        reason = str(error).splitlines()[0]
        raise NetError(f"The node {path!r} ({op}) cannot be made: {reason}.") from error


def _allowed(name: str, value: Any) -> bool:
    """Whether an attribute of any operation may have a value."""
    if name in ("bias", "backward"):
        return type(value) is bool
    if name == "rate":
        return type(value) in (int, float) and 0 <= value < 1
    return type(value) is int and value >= {"scales": 2, "vocabulary": 3}.get(
        name, not name.startswith("padding")
    )


def read_spec(path: str | Path) -> dict[str, Any]:
    """Returns the spec of a JSON file.

    Raises:
        NetError: no such file, or not JSON.
    """
    try:
        return json.loads(Path(path).read_text())
    except (OSError, ValueError) as error:
        raise NetError(f"{path} cannot be read as a spec; it must be JSON.") from error


def load_weights(net: nn.Module, path: str | Path) -> None:
    """Copies the arrays of an npz file into a network, exactly those that it has.

    Raises:
        NetError: a damaged file, or an array that is missing, left over or of another
            shape; the text names it.
    """
    arrays, state = read_npz(path), net.state_dict()
    state = {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}
    for name in state.keys() - arrays.keys():
        raise NetError(f"{path} lacks the array {name!r}.")
    for name, value in arrays.items():
        if name not in state:
            raise NetError(
                f"{path} has the array {name!r}, which the network does not have."
            )
        if value.shape != state[name].shape:
            given, needed = list(value.shape), list(state[name].shape)
            raise NetError(
                f"The array {name!r} in {path} has shape {given} instead of {needed}."
            )
    with torch.no_grad():
        for name, value in state.items():
            value.copy_(arrays[name])


def read_npz(path: str | Path) -> dict[str, Tensor]:
    """Returns the floating point arrays of an npz file as float32 tensors, without numpy.

    Raises:
        NetError: no such file, a damaged one, or an array of another type.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            found = {n.removesuffix(".npy"): _read_npy(archive.read(n)) for n in names}
    except OSError as error:
        raise NetError(f"{path} cannot be read as weights: {error.strerror}.") from error
    except BadArrayError as error:
        raise NetError(f"{path} cannot be read as weights: {error}.") from error
    except UNREADABLE as error:
        raise NetError(
            f"{path} cannot be read as weights: it is damaged or no .npz file."
        ) from error
    return found


class BadArrayError(ValueError):
    """What is wrong with an array of an intact archive."""


UNREADABLE = (
    zipfile.BadZipFile, zlib.error, EOFError, ValueError, SyntaxError, LookupError,
    TypeError, RuntimeError,
)  # fmt: skip
"""What ``zipfile`` and the reading of a header raise on bytes that are no weights."""


def _read_npy(data: bytes) -> Tensor:
    """Returns the array of npy bytes, versions 1 to 3, each of float16, 32 or 64."""
    if data[:6] != b"\x93NUMPY":
        raise BadArrayError("it holds something that is not an npy array")
    wide = 2 if data[6] == 1 else 4
    start = 8 + wide + int.from_bytes(data[8 : 8 + wide], "little")
    header = ast.literal_eval(data[8 + wide : start].decode("utf-8"))
    kinds = {"<f4": torch.float32, "<f8": torch.float64, "<f2": torch.float16}
    if header["descr"] not in kinds:
        raise BadArrayError(f"an array of type {header['descr']!r} is not floating point")
    shape, kind = tuple(header["shape"]), kinds[header["descr"]]
    if len(data) - start != math.prod(shape) * int(header["descr"][2]):
        raise BadArrayError("an array is cut off")
    values = bytearray(data[start:])
    flat = torch.frombuffer(values, dtype=kind).float() if values else torch.zeros(0)
    if header["fortran_order"]:
        return flat.reshape(shape[::-1]).permute(*reversed(range(len(shape)))).contiguous()
    return flat.reshape(shape)
