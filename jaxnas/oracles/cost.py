"""Exact parameter and FLOP counts, from the same spec that networks are built from."""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, cast, runtime_checkable

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from jaxnas.core import tokens as tk
from jaxnas.core.errors import UserError
from jaxnas.core.protocols import SearchSpace
from jaxnas.core.types import Evaluation, Objective, Spec
from jaxnas.oracles.metrics import choose, measured, members_of, summarise

Shape = tuple[int, ...]
"""Height, width, channels of an image, or the features of a vector; no batch axis."""

METRICS = {
    "params": Objective("params", "parameters", False, "trainable parameters, exact"),
    "flops": Objective(
        "flops",
        "FLOPs",
        False,
        "multiply-accumulates of convolutions and linear layers for one input, one FLOP "
        "each, biases included, as NAS-Bench-201 counts them; exact",
    ),
}


class Count(NamedTuple):
    """What one node makes of its inputs, and what that costs."""

    shape: Shape
    params: int = 0
    flops: int = 0


@runtime_checkable
class AdditiveCosts(Protocol):
    """A space whose costs are a constant plus one term a token: few walks suffice."""

    @property
    def additive_costs(self) -> bool:
        """True: declared by the space and tested against the walk on every member."""
        ...


def _image(shapes: Sequence[Shape]) -> Shape:
    """Returns the shape of the only input, which must be an image."""
    if len(shapes) != 1 or len(shapes[0]) != 3:
        raise UserError(f"needs one image (height, width, channels), got {list(shapes)}")
    return shapes[0]


def _window(size: int, attributes: Mapping[str, Any]) -> int:
    """Returns the side that a window of a kernel, a stride and a padding leaves."""
    free = size + 2 * attributes["padding"] - attributes["kernel"]
    if free < 0:
        raise UserError(
            f"has a kernel of {attributes['kernel']} for a side of {size} padded by "
            f"{attributes['padding']}"
        )
    return free // attributes["stride"] + 1


def _conv(shapes: Sequence[Shape], attributes: Mapping[str, Any]) -> Count:
    """Counts a square convolution; ``features`` None keeps the number of channels."""
    height, width, channels = _image(shapes)
    features = attributes.get("features") or channels
    groups = attributes.get("groups", 1)
    if channels % groups or features % groups:
        raise UserError(f"cannot split {channels} -> {features} channels into {groups}")
    out = (_window(height, attributes), _window(width, attributes), features)
    weights = attributes["kernel"] ** 2 * channels // groups * features
    bias = features if attributes.get("bias", False) else 0
    return Count(out, weights + bias, (weights + bias) * out[0] * out[1])


def _relu_conv_bn(shapes: Sequence[Shape], attributes: Mapping[str, Any]) -> Count:
    """Counts ReLU, convolution without bias, batch norm."""
    conv = _conv(shapes, attributes)
    return conv._replace(params=conv.params + 2 * conv.shape[-1])


def _batch_norm(shapes: Sequence[Shape], attributes: Mapping[str, Any]) -> Count:
    """Counts scale and shift; the arithmetic folds into the layer before."""
    return Count(shapes[0], params=2 * shapes[0][-1])


def _avg_pool(shapes: Sequence[Shape], attributes: Mapping[str, Any]) -> Count:
    """Counts a mean over windows; free of multiplications by convention."""
    height, width, channels = _image(shapes)
    return Count((_window(height, attributes), _window(width, attributes), channels))


def _global_avg_pool(shapes: Sequence[Shape], attributes: Mapping[str, Any]) -> Count:
    """Counts the mean over an image."""
    return Count((_image(shapes)[2],))


def _flatten(shapes: Sequence[Shape], attributes: Mapping[str, Any]) -> Count:
    """Counts an image read as one vector: rows, then columns, then channels."""
    height, width, channels = _image(shapes)
    return Count((height * width * channels,))


def _concat(shapes: Sequence[Shape], attributes: Mapping[str, Any]) -> Count:
    """Counts images of one size put one behind the other along their channels."""
    if len({shape[:-1] for shape in shapes}) != 1 or len(shapes[0]) != 3:
        raise UserError(f"joins the channels of different images {list(shapes)}")
    return Count((*shapes[0][:-1], sum(shape[-1] for shape in shapes)))


def _shift(shapes: Sequence[Shape], attributes: Mapping[str, Any]) -> Count:
    """Counts an image moved up and left by ``pixels``, zeros where nothing arrives."""
    return Count(_image(shapes))


def _linear(shapes: Sequence[Shape], attributes: Mapping[str, Any]) -> Count:
    """Counts a dense layer with bias."""
    if len(shapes) != 1 or len(shapes[0]) != 1:
        raise UserError(f"needs one vector, got {list(shapes)}")
    size = (shapes[0][0] + 1) * attributes["features"]
    return Count((attributes["features"],), size, size)


def _sum(shapes: Sequence[Shape], attributes: Mapping[str, Any]) -> Count:
    """Counts an addition of values of one shape."""
    if len(set(shapes)) != 1:
        raise UserError(f"adds values of different shapes {list(shapes)}")
    return Count(shapes[0])


def _same(shapes: Sequence[Shape], attributes: Mapping[str, Any]) -> Count:
    """Counts an operation that keeps the shape and costs nothing."""
    return Count(shapes[0])


RULES: dict[str, Callable[[Sequence[Shape], Mapping[str, Any]], Count]] = {
    "conv": _conv,
    "relu_conv_bn": _relu_conv_bn,
    "batch_norm": _batch_norm,
    "relu": _same,
    "identity": _same,
    "zero": _same,
    "avg_pool": _avg_pool,
    "global_avg_pool": _global_avg_pool,
    "flatten": _flatten,
    "concat": _concat,
    "shift": _shift,
    "linear": _linear,
    "sum": _sum,
}
"""Operation name -> its shape rule and its costs."""


class Costs(NamedTuple):
    """Exact totals of one network."""

    params: int
    flops: int


def count_costs(spec: Spec) -> Costs:
    """Returns the exact costs of the network that a spec describes, by one walk over it.

    Raises:
        UserError: an operation without a rule, a value that no node makes, or shapes that
            cannot work; the text names the node.
    """
    inputs = {name: tuple(kind["shape"]) for name, kind in spec["inputs"].items()}
    counted: dict[tuple[str, tuple[Shape, ...]], Count] = {}
    last, values = _walk(spec, spec["nodes"], inputs, "", counted)
    for name, kind in spec["outputs"].items():
        if values.get(name) != tuple(kind["shape"]):
            raise UserError(
                f"The output {name!r} of the spec has shape {values.get(name)} instead of "
                f"{tuple(kind['shape'])}."
            )
    return Costs(last.params, last.flops)


def _walk(
    spec: Spec,
    nodes: Sequence[Mapping[str, Any]],
    values: dict[str, Shape],
    path: str,
    counted: dict[tuple[str, tuple[Shape, ...]], Count],
) -> tuple[Count, dict[str, Shape]]:
    """Returns the totals of some nodes and the shape of every value."""
    params = flops = 0
    shape: Shape = ()
    for item in nodes:
        here = f"{path}{item['name']}"
        missing = [name for name in item["inputs"] if name not in values]
        if missing:
            raise UserError(f"The node {here!r} uses {missing[0]!r}, which no node makes.")
        shapes = tuple(values[name] for name in item["inputs"])
        if item["op"] == "call":
            one = _call(spec, item["attributes"]["block"], shapes, here, counted)
        elif item["op"] in RULES:
            try:
                one = RULES[item["op"]](shapes, item["attributes"])
            except UserError as error:
                raise UserError(f"The node {here!r} ({item['op']}) {error}.") from error
        else:
            raise UserError(f"The node {here!r} is {item['op']!r}, which has no cost rule.")
        params, flops = params + one.params, flops + one.flops
        values[item["name"]] = shape = one.shape
    return Count(shape, params, flops), values


def _call(
    spec: Spec,
    name: str,
    shapes: tuple[Shape, ...],
    here: str,
    counted: dict[tuple[str, tuple[Shape, ...]], Count],
) -> Count:
    """Returns the totals of one use of a block; the same for the same shapes."""
    if (name, shapes) not in counted:
        if name not in spec["blocks"]:
            raise UserError(
                f"The node {here!r} calls the block {name!r}, which is missing."
            )
        block = spec["blocks"][name]
        values = dict(zip(block["inputs"], shapes, strict=True))
        total, values = _walk(spec, block["nodes"], values, f"{here}.", counted)
        counted[name, shapes] = total._replace(shape=values[block["outputs"][0]])
    return counted[name, shapes]


@functools.lru_cache(maxsize=16)
def cost_columns(space: SearchSpace) -> dict[str, np.ndarray]:
    """Returns ``int64[n]`` params and flops of every architecture of a space.

    One walk an architecture, or one a token value where the space declares that its costs
    add up (:class:`AdditiveCosts`).

    Raises:
        UserError: the space is too large to enumerate.
    """
    members = members_of(space)
    additive = isinstance(space, AdditiveCosts) and cast(AdditiveCosts, space)
    if not (additive and additive.additive_costs):
        counts = np.array([count_costs(space.to_spec(row)) for row in members], np.int64)
        return dict(zip(Costs._fields, counts.T, strict=True))
    base = members[0]
    constant = np.array(count_costs(space.to_spec(base)), np.int64)
    terms = np.zeros((space.length, space.vocab, 2), np.int64)
    for place in range(space.length):
        for token in range(space.vocab):
            row = np.where(np.arange(space.length) == place, token, base)
            terms[place, token] = np.array(count_costs(space.to_spec(row))) - constant
    counts = constant + terms[np.arange(space.length), members].sum(axis=1)
    return dict(zip(Costs._fields, counts.T, strict=True))


class CostParams(NamedTuple):
    """Costs by the index of the architecture; NaN where an index is not a legal one."""

    scores: Float[Array, "n M"]


@dataclass(frozen=True)
class CostOracle:
    """Parameters and FLOPs of the network that a spec describes, exact, to be minimised.

    Traced by a table where the space can be indexed by 2**20 numbers; a host oracle
    elsewhere.

    Args:
        space: any space.
        objective: ``"params"``, ``"flops"``, or both joined by a comma.

    Raises:
        UserError: an unknown metric.
    """

    space: SearchSpace
    objective: str | Sequence[str] = "params"

    def __post_init__(self) -> None:
        chosen = choose("cost", self.objective, list(METRICS))
        object.__setattr__(self, "objective", ",".join(chosen))

    @property
    def id(self) -> str:
        """Versioned name."""
        return "cost-v1"

    @property
    def metric_names(self) -> tuple[str, ...]:
        """Everything that it can measure."""
        return tuple(METRICS)

    def select(self, objective: str | Sequence[str]) -> "CostOracle":
        """Returns the same oracle with other objectives."""
        return CostOracle(self.space, objective)

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """The chosen metrics."""
        return tuple(METRICS[name] for name in self._names)

    @property
    def traced(self) -> bool:
        """Whether there is a table of all index values."""
        return self.space.vocab**self.space.length <= tk.ENUMERABLE

    def params(self) -> CostParams:
        """Returns the table, of size 0 where there is none."""
        size = self.space.vocab**self.space.length if self.traced else 0
        scores = np.full((size, len(self._names)), np.nan, np.float32)
        if self.traced:
            members = members_of(self.space)
            radix = self.space.vocab ** np.arange(self.space.length - 1, -1, -1)
            columns = cost_columns(self.space)
            scores[members @ radix] = np.stack([columns[n] for n in self._names], axis=1)
        return CostParams(jnp.asarray(scores))

    def init(self, key: Key[Array, ""], params: PyTree) -> tuple[()]:
        """Returns nothing: no state."""
        return ()

    def evaluate(
        self,
        key: Key[Array, ""],
        params: CostParams,
        state: tuple[()],
        tokens: Int[Array | np.ndarray, "B L"],
        fidelity: Int[Array | np.ndarray, "B"],
        active: Bool[Array | np.ndarray, "B"],
    ) -> tuple[tuple[()], Evaluation]:
        """Returns the exact counts; an evaluation stands for no time at all."""
        seconds = jnp.zeros(tokens.shape[0])
        return state, measured(self.truth(params, tokens), seconds, jnp.asarray(active))

    def truth(
        self, params: CostParams, tokens: Int[Array | np.ndarray, "B L"]
    ) -> Float[Array, "B M"]:
        """Returns the exact counts."""
        if self.traced:
            return params.scores[tk.index(self.space, jnp.asarray(tokens))]
        rows = [count_costs(self.space.to_spec(row)) for row in np.asarray(tokens)]
        chosen = [[getattr(row, name) for name in self._names] for row in rows]
        return jnp.asarray(np.array(chosen, np.float32))

    def spread(
        self, params: CostParams, tokens: Int[Array | np.ndarray, "B L"]
    ) -> Float[Array, "B M"]:
        """Returns zeros: a count has no uncertainty."""
        return jnp.zeros((tokens.shape[0], len(self._names)))

    def columns(self) -> dict[str, np.ndarray]:
        """Returns both counts of every architecture, ``float64[n]``.

        Raises:
            UserError: the space is too large to enumerate.
        """
        counts = cost_columns(self.space)
        return {name: column.astype(np.float64) for name, column in counts.items()}

    def info(self) -> dict[str, Any]:
        """Returns what there is to know; ranges where the space can be enumerated."""
        metrics: dict[str, Any] = {
            name: {"unit": item.unit, "meaning": item.meaning, "better": "lower"}
            for name, item in METRICS.items()
        }
        if self.traced:
            metrics = summarise(self.space, list(METRICS.values()), self.columns())
        return {
            "id": self.id,
            "space": self.space.id,
            "size": tk.count(self.space),
            "metrics": metrics,
            "source": "counted from the specification of each network",
            "version": "1",
            "licence": "Apache-2.0",
            "citation": "none",
            "checksum": "none: computed from a formula",
        }

    @property
    def _names(self) -> list[str]:
        """The chosen metrics by name."""
        return str(self.objective).split(",")
