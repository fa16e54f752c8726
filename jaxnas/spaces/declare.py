"""Search spaces as data: a dict, or a TOML, YAML or JSON file, becomes a search space.

::

    space = declare("space.toml")
    space = declare({"name": "mine", "decisions": [{"name": "depth", "choices": [2, 4]}]})

The language of a file is described in ``docs/spaces.md``.
"""

import dataclasses
import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jaxnas.core.errors import UserError, unknown_name
from jaxnas.core.space import Value
from jaxnas.core.types import Graph, Spec
from jaxnas.registry import DECLARED
from jaxnas.spaces import spec as sp
from jaxnas.spaces.declared import document as doc
from jaxnas.spaces.declared import seen
from jaxnas.spaces.declared.compiled import Compiled, Pins, compile_source, compiled
from jaxnas.spaces.declared.counting import marginals
from jaxnas.spaces.declared.network import to_spec
from jaxnas.spaces.declared.uses import operations
from jaxnas.spaces.declared.values import from_values, to_values


@dataclass(frozen=True)
class Declared:
    """A search space that is written down as data.

    One token a decision; a decision whose condition does not hold has its last token,
    *absent*, and nothing else. The mask leaves no dead ends: what is forbidden, and what
    would lead to something forbidden, cannot be written.

    Args:
        text: the document as JSON; use :func:`declare`.
        image: height, width and channels of an input, where the space makes networks.
        num_classes: of the data set.
        sizes: of its networks, by name, that are not the document's own.

    Raises:
        UserError: a document that means nothing, with the place; or an unknown size.
    """

    text: str
    image: tuple[int, int, int] = (32, 32, 3)
    num_classes: int = 10
    sizes: tuple[tuple[str, int], ...] = ()
    pins: Pins = ()
    """Decisions that have one value, by name: what remains of the space."""
    words: tuple[int, int] | None = None
    """Length of a text and size of the vocabulary, where its networks read texts; then 64
    and 1,000 when None."""

    def __post_init__(self) -> None:
        known = self._made.document.get("sizes", {})
        for name, _ in self.sizes:
            if name not in known:
                raise unknown_name(f"size of {self.id!r}:", name, known)
        if len(self.image) != 3 or min(self.num_classes, *self.image) < 1:
            raise UserError(
                "Classes and image (height, width, channels) must be at least 1."
            )
        if self.words is None and self.reads == "text":
            object.__setattr__(self, "words", (64, 1000))
        if self.words and (self.words[0] < 1 or self.words[1] < 3):
            raise UserError(
                "A text has a length of 1 or more, and a vocabulary 3 ids or more: "
                "padding, unknown words and a known one."
            )

    @property
    def id(self) -> str:
        """Name, version and a digest of the document: another document, another space."""
        return self._made.id

    @property
    def length(self) -> int:
        """Number of decisions in the longest architecture."""
        return len(self._made.layout.slots)

    @property
    def vocab(self) -> int:
        """Most choices of a decision, with *absent* where that can be."""
        return self._made.tables.legal.shape[1]

    @property
    def document(self) -> doc.Document:
        """The document, a copy."""
        return json.loads(self.text)

    @property
    def decision_names(self) -> tuple[str, ...]:
        """Name of each decision, such as ``layer2.kernel``."""
        return tuple(slot.name for slot in self._made.layout.slots)

    @property
    def decision_values(self) -> tuple[tuple[Value, ...], ...]:
        """What each token of each decision stands for; None where it has no value."""
        slots = self._made.layout.slots
        return tuple((*slot.choices, *(None,) * slot.absent) for slot in slots)

    @property
    def recipe(self) -> tuple[str, dict[str, Any]]:
        """Name and options that make it again, for the record of a run."""
        image, classes = list(self.image), self.num_classes
        options = {"text": self.text, "image": image, "num_classes": classes}
        pins = {"pins": [list(pin) for pin in self.pins]} if self.pins else {}
        words = {"words": list(self.words)} if self.words else {}
        return DECLARED, {**options, **pins, **words, **dict(self.sizes)}

    @property
    def has_network(self) -> bool:
        """Whether architectures can be built."""
        return self._made.template is not None

    @property
    def reads(self) -> str:
        """What its networks take: ``"image"`` or ``"text"``."""
        return self._made.document.get("input", "image")

    def for_images(
        self, image: tuple[int, int, int], num_classes: int, **size: int
    ) -> "Declared":
        """Returns the same architectures as networks for other images.

        Args:
            image: height, width, channels.
            num_classes: of the data set.
            **size: the document's ``sizes``, by name.
        """
        if self.reads == "text":
            raise UserError(
                f"The networks of {self.id!r} read texts, not images; give it a CSV file "
                "of texts (docs/text.md), or take a space for images, such as chain."
            )
        return self._for(num_classes, size, image=tuple(image))

    def for_texts(
        self, length: int, vocabulary: int, num_classes: int, **size: int
    ) -> "Declared":
        """Returns the same architectures as networks for other texts.

        Args:
            length: ids of each text, padded.
            vocabulary: number of ids.
            num_classes: of the data set.
            **size: the document's ``sizes``, by name.
        """
        if self.reads != "text":
            raise UserError(
                f"The networks of {self.id!r} take images, not texts; take a space for "
                "texts, such as text-chain."
            )
        return self._for(num_classes, size, words=(length, vocabulary))

    def _for(self, num_classes: int, size: Mapping[str, int], **data: Any) -> "Declared":
        sizes = tuple(sorted({**dict(self.sizes), **size}.items()))
        return dataclasses.replace(self, num_classes=num_classes, sizes=sizes, **data)

    def mask(self, tokens: Int[Array, "L"], t: Int[Array, ""]) -> Bool[Array, "V"]:
        """Returns the tokens at ``t`` that some architecture has after ``tokens[:t]``."""
        legal = self._made.tables.legal
        if legal.all():
            return jnp.ones(self.vocab, bool)
        return jnp.asarray(legal)[self._row(tokens, t)]

    def completions(self, tokens: Int[Array, "L"], t: Int[Array, ""]) -> Float[Array, "V"]:
        """Returns the share of the architectures after ``tokens[:t]`` behind each token."""
        return jnp.asarray(self._made.tables.shares)[self._row(tokens, t)]

    def _row(self, tokens: Int[Array, "L"], t: Int[Array, ""]) -> Int[Array, ""]:
        tables = self._made.tables
        first = jnp.asarray(tables.first)[t]
        if tables.steps is None:
            return first
        return first + jnp.sum(jnp.asarray(tables.steps)[t] * tokens, dtype=jnp.int32)

    def count(self) -> int:
        """Returns the exact number of architectures."""
        return self._made.counts.total

    def canonical(self, tokens: Int[Array, "L"]) -> Int[Array, "L"]:
        """Returns the tokens: the mask leaves one way to write what was decided."""
        return jnp.asarray(tokens, jnp.int32)

    @property
    def feature_names(self) -> tuple[str, ...]:
        """``NAME`` of a number, ``NAME = CHOICE`` of others, ``NAME present``."""
        return tuple(name for name, _, _ in self._columns)

    def features(self, tokens: Int[Array, "L"]) -> Float[Array, "F"]:
        """Returns numeric decisions as they are, one column a choice of the others.

        A decision that can be without a value has a column for whether it has one, and 0
        in its others where it has none.
        """
        places = np.array([place for _, place, _ in self._columns], np.int32)
        table = np.array([values for _, _, values in self._columns], np.float32)
        rows = np.arange(len(places), dtype=np.int32)
        return jnp.asarray(table)[rows, tokens[jnp.asarray(places)]]

    @functools.cached_property
    def _columns(self) -> list[seen.Column]:
        return seen.columns(self._made.layout, self.vocab)

    def to_dict(self, tokens: np.ndarray) -> dict[str, Any]:
        """Returns what was decided, by name; fixed parts too, absent ones left out.

        Repeats are lists of such dicts, subsets lists of what is in them.
        """
        fixed = self._made.document.get("fixed", {})
        return {**fixed, **to_values(self._made.layout, np.asarray(tokens).tolist())}

    def from_dict(self, values: Mapping[str, Any]) -> Int[np.ndarray, "L"]:
        """Returns the tokens of a dict that ``to_dict`` could have given.

        Raises:
            UserError: an unknown name or value, something missing, or a combination that
                is forbidden or against a condition.
        """
        fixed = self._made.document.get("fixed", {})
        for name, value in fixed.items():
            if values.get(name, value) != value:
                raise UserError(
                    f"{name!r} is fixed to {value!r} in {self.id!r}, not {values[name]!r}."
                )
        own = {name: value for name, value in values.items() if name not in fixed}
        tokens = from_values(self._made.layout, own)
        self._check(tokens)
        return tokens

    def _check(self, tokens: Int[np.ndarray, "L"]) -> None:
        """Refuses tokens that are not an architecture, naming the decision."""
        tables = self._made.tables
        rows = tables.first.copy()
        if tables.steps is not None:
            rows += (tables.steps * tokens).sum(axis=1, dtype=np.int32)
        for t, slot in enumerate(self._made.layout.slots):
            legal = tables.legal[rows[t]]
            if not legal[tokens[t]]:
                names = [*map(str, slot.choices), "no value"]
                allowed = [name for name, yes in zip(names, legal) if yes]
                raise UserError(
                    f"The decision {slot.name!r} cannot be {names[tokens[t]]} after those "
                    f"before it; it can be {', '.join(allowed)}."
                )

    def to_graph(self, tokens: Int[Array, "L"]) -> Graph:
        """Returns the decisions as a chain with the skips drawn in, ``N = L + 2``.

        Input (op 1), a node for each decision that has a value, and the output (op 2);
        each choice of each kind of decision has an operation id, in all repetitions the
        same. What a repetition takes from earlier ones is an edge between their first
        decisions.
        """
        ids, edges = self._nodes
        places = jnp.arange(self.length, dtype=jnp.int32)
        ops = jnp.asarray(ids)[places, tokens]
        ends = jnp.ones(1, jnp.int32)
        ops = jnp.concatenate([ends, ops, 2 * ends])
        present = ops > 0
        rank = jnp.cumsum(present)
        follows = rank[None, :] == rank[:, None] + 1
        if len(edges):
            slot, token, source, target = edges.T
            drawn = tokens[jnp.asarray(slot)] == jnp.asarray(token)
            follows = follows.at[jnp.asarray(source), jnp.asarray(target)].max(drawn)
        adjacency = follows & present[:, None] & present[None, :]
        return Graph(ops.astype(jnp.int32), adjacency, present)

    @functools.cached_property
    def _nodes(self) -> tuple[np.ndarray, np.ndarray]:
        return seen.nodes(self._made.layout, self.vocab)

    def to_spec(self, tokens: np.ndarray) -> Spec:
        """Returns the network, with what was decided under ``choices``.

        Where the document has no network it is that alone, of another format, which
        nothing can build.
        """
        made = self._made
        values = self.to_dict(tokens)
        if made.template is None:
            return sp.choices(self, values)
        return to_spec(made.template, self, values, dict(self.sizes))

    def from_spec(self, spec: Spec) -> Int[np.ndarray, "L"]:
        """Returns the tokens that ``to_spec`` was given.

        Raises:
            UserError: not a spec of this space, or not the network of its choices.
        """
        wanted = sp.CHOICES if self._made.template is None else sp.FORMAT
        if spec.get("format") != wanted or spec.get("space") != self.id:
            raise UserError(
                f"This spec is {spec.get('format')!r} of space {spec.get('space')!r}; "
                f"{wanted!r} of space {self.id!r} is needed."
            )
        tokens = self.from_dict(spec.get("choices", {}))
        if self.to_spec(tokens).get("nodes") != spec.get("nodes"):
            raise UserError(f"This spec of {self.id!r} is not the network of its choices.")
        return tokens

    def operations(self) -> dict[str, str]:
        """Returns every operation that some network has, and what puts it there."""
        made, reached = self._made, {}
        if made.template is None:
            return {}
        for slot, row in zip(made.layout.slots, marginals(made.counts), strict=True):
            chosen = {value for value, n in zip(slot.choices, row) if n}
            reached.setdefault(slot.kind.rpartition(".")[2], set()).update(chosen)
        return operations(made.template, reached)

    def frequencies(self) -> dict[str, dict[str, float]]:
        """Returns the share of all architectures in which a decision has each value; exact.

        ``absent`` is the share in which it has none.
        """
        total, slots = self.count(), self._made.layout.slots
        found = {}
        for slot, row in zip(slots, marginals(self._made.counts), strict=True):
            names = [*map(str, slot.choices), "absent"]
            found[slot.name] = {name: n / total for name, n in zip(names, row)}
        return found

    def warnings(self) -> list[str]:
        """Returns what is legal and surely not meant: parts that nothing can reach."""
        return seen.unreached(self._made.layout, marginals(self._made.counts))

    @property
    def _made(self) -> Compiled:
        return compiled(self.text, self.pins)


def declare(
    document: Mapping[str, Any] | str | Path,
    image: tuple[int, int, int] = (32, 32, 3),
    num_classes: int = 10,
    **sizes: int,
) -> Declared:
    """Returns the search space of a document or of a file.

    Example:
        >>> space = declare({
        ...     "name": "mine",
        ...     "decisions": [
        ...         {"name": "op", "choices": ["conv", "pool"]},
        ...         {"name": "kernel", "choices": [1, 3, 5], "when": {"op": "conv"}},
        ...     ],
        ... })
        >>> space.count()
        4

    Args:
        document: a dict, or the path of a ``.toml``, ``.yaml`` or ``.json`` file.
        image: height, width and channels of an input, where the space makes networks.
        num_classes: of the data set.
        **sizes: the document's ``sizes``, by name.

    Raises:
        UserError: what is wrong, in one sentence with the file, the line and, for an
            unknown key, the nearest one.
    """
    if isinstance(document, str | Path):
        source = doc.read(document)
    else:
        source = doc.Source(dict(document))
    text = compile_source(source)
    chosen = tuple(sorted(sizes.items()))
    return Declared(text, (*image,), num_classes, chosen)


def from_options(
    name: str,
    text: str = "",
    image: tuple[int, int, int] = (32, 32, 3),
    num_classes: int = 10,
    pins: Pins = (),
    words: tuple[int, int] | None = None,
    **sizes: int,
) -> Declared:
    """Returns the space of a file, or of a text that a run wrote down.

    Args:
        name: path of a space file; anything else where there is a text.
        text: the document as JSON.
        image: height, width and channels of an input.
        num_classes: of the data set.
        pins: decisions that have one value.
        words: length of a text and size of the vocabulary.
        **sizes: the document's ``sizes``, by name.

    Raises:
        UserError: as :func:`declare`.
    """
    if not text:
        made = declare(name, image, num_classes, **sizes)
        return dataclasses.replace(made, pins=pins, words=words)
    return Declared(text, image, num_classes, tuple(sorted(sizes.items())), pins, words)


def write_space(space: Declared, path: str | Path) -> None:
    """Writes the document of a space as a file; :func:`declare` gives it back.

    Raises:
        UserError: a suffix other than those of ``declare``, or a folder that is not there.
    """
    doc.write(space.document, path)
