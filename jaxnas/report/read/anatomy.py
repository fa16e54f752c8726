"""What an architecture is made of, read from the typed DAG that every space gives."""

import itertools
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol, cast, runtime_checkable

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from jaxnas.core.naming import decision_names, decision_values
from jaxnas.core.space import Featured, Nested, SearchSpace
from jaxnas.core.types import Spec

JOINS = ("sum", "concat", "pad_concat")
"""Operations that only join what arrives."""


class Step(NamedTuple):
    """One operation between two places of a cell."""

    source: str
    target: str
    label: str


def digits(tokens: Int[np.ndarray, "L"]) -> str:
    """Returns tokens as a short string: digits alone where each is one digit."""
    plain = [str(int(t)) for t in tokens]
    return ("" if all(len(t) == 1 for t in plain) else ",").join(plain)


def label(node: dict[str, Any]) -> str:
    """Returns an operation in plain words: ``conv 3x3``, ``pool 3x3``, ``skip``."""
    op, attributes = str(node["op"]), node.get("attributes", {})
    plain = {"identity": "skip", "zero": "none"}
    if op in plain:
        return plain[op]
    words = {"relu_conv_bn": "conv", "avg_pool": "pool", "max_pool": "max pool"}
    text = words.get(op, op.replace("_", " "))
    if "kernel" in attributes:
        wide = attributes.get("kernel_width") or attributes["kernel"]
        text += f" {attributes['kernel']}x{wide}"
    elif attributes.get("features"):
        text += f" {attributes['features']}"
    return text


def steps(spec: Spec) -> list[Step]:
    """Returns the operations of a spec's architecture: of its first block, else of all.

    None where the space makes no networks.
    """
    blocks = spec.get("blocks") or {}
    nodes = next(iter(blocks.values()))["nodes"] if blocks else spec.get("nodes", ())
    joins = {n["name"]: n["inputs"] for n in nodes if n["op"] in JOINS}
    into = {source: name for name, inputs in joins.items() for source in inputs}
    found = []
    for node in nodes:
        if node["op"] in JOINS or not node["inputs"]:
            continue
        source = node["inputs"][0]
        found.append(Step(source, into.get(node["name"], node["name"]), label(node)))
    return found


def _places(found: list[Step]) -> dict[str, str]:
    """Returns shorter names: the number where all places are one word and a number."""
    names = list(dict.fromkeys(n for s in found for n in (s.source, s.target)))
    stem = names[0].rstrip("0123456789") if names else ""
    short = {n: n.removeprefix(stem) for n in names}
    plain = stem and all(n.startswith(stem) and short[n].isdigit() for n in names)
    return short if plain else {n: n for n in names}


def describe(space: SearchSpace | None, tokens: Int[np.ndarray, "L"]) -> str:
    """Returns an architecture in words, ``1→2 conv 3x3, 1→3 skip``, without its none.

    A space that nests its decisions is described by them, ``layer conv 3 → pool``, and one
    with features of its own by those that are not zero, ``M 2, R1 3``.
    """
    if space is None:
        return digits(tokens)
    if isinstance(space, Nested):
        return in_words(cast(Nested, space).to_dict(np.asarray(tokens)))
    if isinstance(space, Featured):
        featured = cast(Featured, space)
        values = np.asarray(featured.features(jnp.asarray(tokens, jnp.int32)))
        named = zip(featured.feature_names, values.tolist(), strict=True)
        return ", ".join(f"{name} {value:g}" for name, value in named if value)
    found = steps(space.to_spec(np.asarray(tokens, np.int32)))
    if all(after.source == before.target for before, after in itertools.pairwise(found)):
        return " → ".join(s.label for s in found if s.label != "skip") or "skip"
    short = _places(found)
    parts = [
        f"{short[s.source]}→{short[s.target]} {s.label}" for s in found if s.label != "none"
    ]
    return ", ".join(parts) or "nothing"


def in_words(values: Mapping[str, Any]) -> str:
    """Returns nested names and values in a line, arrows between repetitions."""
    parts = []
    for name, value in values.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            rounds = [" ".join(str(v) for v in one.values() if v != []) for one in value]
            parts.append(f"{name} {' → '.join(rounds)}")
        elif value != []:
            parts.append(f"{name} {value}")
    return ", ".join(parts) or "nothing"


@runtime_checkable
class Frequent(Protocol):
    """A space that knows in which share of its architectures a decision has each value."""

    def frequencies(self) -> dict[str, dict[str, float]]:
        """Returns exact shares by decision and value, in the order of the tokens."""
        ...


def shares_of(space: Frequent, vocab: int) -> Float[np.ndarray, "V L"]:
    """Returns the share of each token at each position over a whole space."""
    rows = [list(shares.values()) for shares in space.frequencies().values()]
    return np.array([row + [0.0] * (vocab - len(row)) for row in rows]).T


def choice_names(space: SearchSpace) -> list[list[str]]:
    """Returns what each token of each position is, of a space that nests its decisions."""
    if not isinstance(space, Nested):
        return []
    named = decision_values(cast(SearchSpace, space))
    return [["-" if v is None else str(v) for v in values] for values in named]


def vocabulary(
    space: SearchSpace | None, vocab: int, length: int
) -> tuple[list[str], list[str]]:
    """Returns names of the token values and of the positions, numbers where there are none.

    Names are found by changing one token at a time and looking which step of the spec
    changed, so that a space need not know about reports.
    """
    plain = [str(v) for v in range(vocab)], [str(t + 1) for t in range(length)]
    values, places = map(list, plain)
    if isinstance(space, Nested):
        return values, list(decision_names(space))
    if isinstance(space, Featured) and len(space.feature_names) == length:
        return values, list(space.feature_names)
    if space is None or isinstance(space, Featured):
        return values, places
    base = steps(space.to_spec(np.zeros(length, np.int32)))
    short = _places(base)
    for t in range(length):
        for v in range(1, vocab):
            tokens = np.zeros(length, np.int32)
            tokens[t] = v
            changed = steps(space.to_spec(tokens))
            different = [(a, b) for a, b in zip(base, changed) if a.label != b.label]
            if len(changed) != len(base) or len(different) != 1:
                return plain
            old, new = different[0]
            values[0], values[v] = old.label, new.label
            places[t] = f"{short[old.source]}→{short[old.target]}"
    return values, places
