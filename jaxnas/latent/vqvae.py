"""The supervised VQ-VAE: architecture -> codes -> architecture, with a score head.

An encoder writes ``S`` vectors of ``D`` numbers, each is replaced by the nearest of ``K``
codes, and a decoder turns the ``Z = S D`` numbers back into tokens. What the decoder says
goes through the space's mask token by token, so *every* float vector decodes to a valid
architecture, not only those the encoder can write.

Reference: van den Oord et al., 2017 (VQ-VAE). The score head and the ``label`` mode follow
the original, a supervised VQ-VAE latent space with an RL agent over it.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, PyTree

from jaxnas.core.errors import UserError
from jaxnas.core.space import Featured, Projectable, SearchSpace
from jaxnas.latent import codebook as cb
from jaxnas.latent.networks import Dense, Scalar

MODES = ("instance", "label")
OUTPUTS = ("tokens", "features")
HUGE = 1e30
"""What an infinite logit or feature is cut to."""


class Params(NamedTuple):
    """What is learned; ``encoder`` and ``head`` are None in a model that lacks them."""

    encoder: PyTree
    decoder: PyTree
    head: PyTree
    codes: Float[Array, "K D"]
    usage: Float[Array, "K"]
    """Share of the training latents that hold each code."""
    score_mean: Float[Array, ""]
    score_scale: Float[Array, ""]
    """The head predicts ``(score - mean) / scale``."""


@dataclass(frozen=True)
class VQVAE:
    """Configuration of a latent space; the parameters are arguments.

    Args:
        space: whose architectures are embedded.
        mode: ``"instance"``: each architecture has its own codes, the nearest ones.
            ``"label"``: the code is the bin of the score, as in the original; the decoder
            then sees ``K`` different inputs in all, so a reconstruction cannot do better
            than each bin's mean.
        output: ``"tokens"``: logits through the space's mask. ``"features"``: the numeric
            features of a ``Featured`` and ``Projectable`` space, with a ReLU, projected.
        codes: ``K``.
        positions: ``S``; 0 stands for one a token, and for the one of label mode.
        dims: ``D``.
        hidden: units of the first hidden layer.
        layers: further hidden layers.
        shrink: each further layer has this many times fewer units; the original's halve.
        ema: whether codes are moving averages; otherwise they follow a gradient.

    Raises:
        UserError: a size or a combination that no model has.
    """

    space: SearchSpace
    mode: str = "instance"
    output: str = "tokens"
    codes: int = 10
    positions: int = 0
    dims: int = 3
    hidden: int = 128
    layers: int = 1
    shrink: int = 1
    ema: bool = True
    id = "vqvae-v1"

    def __post_init__(self) -> None:
        if self.mode not in MODES or self.output not in OUTPUTS:
            raise UserError(
                f"The mode must be one of {MODES} and the output one of {OUTPUTS}, not "
                f"{self.mode!r} and {self.output!r}."
            )
        if self.positions == 0:
            one_each = 1 if self.mode == "label" else self.space.length
            object.__setattr__(self, "positions", one_each)
        sizes = (self.positions, self.dims, self.hidden, self.shrink)
        if self.codes < 2 or min(sizes) < 1 or self.layers < 0:
            raise UserError(
                "A latent space needs at least 2 codes and positive sizes, got "
                f"codes={self.codes}, positions={self.positions}, dims={self.dims}, "
                f"hidden={self.hidden}, layers={self.layers}, shrink={self.shrink}."
            )
        if self.widths[-1] < 1:
            raise UserError(
                f"{self.hidden} hidden units cannot shrink {self.layers} times by "
                f"{self.shrink}; take fewer layers or more units."
            )
        if self.mode == "label" and self.positions != 1:
            raise UserError("In label mode an architecture has one code: positions=1.")
        numeric = isinstance(self.space, Featured) and isinstance(self.space, Projectable)
        if self.output == "features" and not numeric:
            raise UserError(
                f"The space {self.space.id!r} has no numeric features to decode to; use "
                "output='tokens'."
            )

    @property
    def latent_size(self) -> int:
        """Numbers that describe an architecture, ``Z = S D``."""
        return self.positions * self.dims

    @property
    def num_codes(self) -> int:
        """Codes in the codebook, ``K``."""
        return self.codes

    @property
    def widths(self) -> tuple[int, ...]:
        """Units of the hidden layers of the encoder, and of the decoder."""
        return tuple(self.hidden // self.shrink**i for i in range(self.layers + 1))

    @property
    def num_inputs(self) -> int:
        """Numbers that the encoder sees: one-hot tokens, or features."""
        if self.output == "features":
            space: Any = self.space
            return len(space.feature_names)
        return self.space.length * self.space.vocab

    @property
    def encoder(self) -> Dense:
        """The encoder's network."""
        return Dense(self.widths, self.latent_size)

    @property
    def decoder(self) -> Dense:
        """The decoder's network."""
        return Dense(self.widths, self.num_inputs, relu_out=self.output == "features")

    @property
    def head(self) -> Dense:
        """The score head's network: one hidden layer over the latent vector."""
        return Dense((64,), 1)

    def init(self, key: Key[Array, ""]) -> Params:
        """Returns parameters before training."""
        keys = jax.random.split(key, 4)
        latent = jnp.zeros(self.latent_size, jnp.float32)
        book = cb.init(keys[3], self.codes, self.dims)
        zero, one = jnp.float32(0.0), jnp.float32(1.0)
        encoder = self.encoder.init(keys[0], jnp.zeros(self.num_inputs, jnp.float32))
        decoder, head = self.decoder.init(keys[1], latent), self.head.init(keys[2], latent)
        return Params(encoder, decoder, head, book.codes, book.usage, zero, one)

    def inputs(self, tokens: Int[Array, "L"]) -> Float[Array, "I"]:
        """Returns what the encoder sees of an architecture."""
        if self.output == "features":
            space: Any = self.space
            return space.features(tokens)
        return jax.nn.one_hot(tokens, self.space.vocab, dtype=jnp.float32).reshape(-1)

    def entries(self, params: Params) -> Float[Array, "K Z"]:
        """Returns the value that code ``k`` writes into latent dimension ``z``."""
        return jnp.tile(params.codes, (1, self.positions))

    def project(self, params: Params, tokens: Int[Array, "L"]) -> Float[Array, "S D"]:
        """Returns the encoder's unquantised output; UserError without an encoder."""
        if params.encoder is None:
            raise UserError(
                "This latent model was imported without an encoder, so it can decode but "
                "not encode; start from 'normal' or 'codebook' latents."
            )
        x = self.encoder.apply(params.encoder, self.inputs(tokens))
        return jnp.asarray(x).reshape(self.positions, self.dims)

    def choose(self, params: Params, tokens: Int[Array, "L"]) -> Int[Array, "S"]:
        """Returns the codes of an architecture."""
        return cb.nearest(params.codes, self.project(params, tokens))

    def encode(self, params: Params, tokens: Int[Array, "L"]) -> Float[Array, "Z"]:
        """Returns the quantised latent: what the decoder is given for an architecture."""
        return params.codes[self.choose(params, tokens)].reshape(-1)

    def outputs(self, params: Params, latent: Float[Array, "Z"]) -> Float[Array, "I"]:
        """Returns the decoder's raw outputs: logits ``[L V]`` flat, or features."""
        return jnp.asarray(self.decoder.apply(params.decoder, latent))

    def decode(self, params: Params, latent: Float[Array, "Z"]) -> Int[Array, "L"]:
        """Returns a valid architecture for any latent, also one that is not finite."""
        out = self.outputs(params, latent)
        out = jnp.nan_to_num(out, nan=0.0, posinf=HUGE, neginf=-HUGE)
        if self.output == "features":
            space: Any = self.space
            return space.project(out)
        return greedy(self.space, out.reshape(self.space.length, self.space.vocab))

    def score(self, params: Params, latent: Float[Array, "Z"]) -> Float[Array, ""]:
        """Returns the predicted score in the labels' unit; UserError without a head."""
        if params.head is None:
            raise UserError(
                "This latent model was imported without a score head; score what it "
                "decodes with an oracle instead."
            )
        raw = jnp.asarray(self.head.apply(params.head, latent))[0]
        return params.score_mean + params.score_scale * raw


def greedy(space: SearchSpace, logits: Float[Array, "L V"]) -> Int[Array, "L"]:
    """Returns the legal token of the largest logit at each position, left to right."""

    def write(t: Int[Array, ""], tokens: Int[Array, "L"]) -> Int[Array, "L"]:
        legal = space.mask(tokens, t)
        token = jnp.argmax(jnp.where(legal, logits[t], -jnp.inf))
        return tokens.at[t].set(token.astype(jnp.int32))

    return jax.lax.fori_loop(0, space.length, write, jnp.zeros(space.length, jnp.int32))


def rescale(model: VQVAE, params: Params) -> Params:
    """Returns the same model with latents of mean 0 and mean square 1.

    The mean is taken over the codes weighted by their usage, for each of the ``D``
    numbers; the scale is one number, so nearest codes stay nearest. Shift and scale are
    moved into the last layer of the encoder and the first of decoder and head: what is
    decoded and predicted does not change.

    The original's codes had a standard deviation of 0.039 while its agent started from a
    standard normal; after this, such a start lies where the encoder writes.
    """
    weight = params.usage / jnp.sum(params.usage)
    shift = weight @ params.codes
    spread = jnp.sqrt(jnp.mean(weight @ (params.codes - shift) ** 2))
    scale = jnp.where(spread > 0, spread, 1.0)
    moved = jnp.tile(shift, model.positions)
    return params._replace(
        encoder=_scale_output(params.encoder, moved, scale),
        decoder=_scale_input(params.decoder, moved, scale),
        head=_scale_input(params.head, moved, scale),
        codes=(params.codes - shift) / scale,
    )


def _scale_output(net: PyTree, shift: Float[Array, "Z"], scale: Scalar) -> PyTree:
    """Returns a network whose output is ``(old - shift) / scale``."""
    last = net["params"]["out"]
    new = {"kernel": last["kernel"] / scale, "bias": (last["bias"] - shift) / scale}
    return {"params": {**net["params"], "out": new}}


def _scale_input(net: PyTree, shift: Float[Array, "Z"], scale: Scalar) -> PyTree:
    """Returns a network that does to ``x`` what the old one does to ``scale x + shift``."""
    first = net["params"]["layer_0"]
    kernel, bias = first["kernel"], first["bias"]
    new = {"kernel": kernel * scale, "bias": bias + shift @ kernel}
    return {"params": {**net["params"], "layer_0": new}}
