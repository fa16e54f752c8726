"""Every registered space, and a toy one too large to list, conforms."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest

from jaxnas import registry
from jaxnas.core import tokens as tk
from jaxnas.spaces.analog_resnet import AnalogResNet
from jaxnas.spaces.toy import Toy
from jaxnas.testing.spaces import (
    SPACE_CHECKS,
    check_canonical,
    check_features,
    check_mask_reads_prefix_only,
    check_projection,
    sampling_p,
)
from jaxnas.testing.stats import P_MIN

SPACES = {name: registry.make_space(name) for name in registry.names("space")}
SPACES["toy-large"] = Toy(length=20, vocab=4)
LONG = ("vocab", "zoph-cnn", "chain", "grown")
"""Spaces of many tokens, whose programs take long to compile."""
NAMES = [pytest.param(n, marks=[pytest.mark.slow] * (n in LONG)) for n in SPACES]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("check", SPACE_CHECKS, ids=lambda check: check.__name__)
def test_space_conforms(name, check):
    check(SPACES[name])


@dataclasses.dataclass(frozen=True)
class Peeking(Toy):
    """Planted fault: the mask reads the token after the place it is asked about."""

    def mask(self, tokens, t):
        later = tokens[jnp.minimum(t + 1, self.length - 1)]
        return super().mask(tokens, t) & (jnp.arange(self.vocab) != (later % 2) + 1)


@dataclasses.dataclass(frozen=True)
class Drifting(Toy):
    """Planted fault: the canonical form has another canonical form."""

    def canonical(self, tokens):
        return jnp.where(tokens.at[0].get() == 0, tokens, tokens.at[0].add(-1))


def test_a_mask_that_peeks_is_caught():
    with pytest.raises(AssertionError):
        check_mask_reads_prefix_only(Peeking())


def test_a_canonical_form_that_drifts_is_caught():
    with pytest.raises(AssertionError):
        check_canonical(Drifting())


@dataclasses.dataclass(frozen=True)
class Typeless(AnalogResNet):
    """Planted fault: the convolution types do not show in the features."""

    def features(self, tokens):
        return super().features(tokens).at[jnp.arange(7, 22, 3)].set(0)


@dataclasses.dataclass(frozen=True)
class Unmasked(AnalogResNet):
    """Planted fault of the original: columns are clipped, absent groups not zeroed."""

    def project(self, features):
        legal = jnp.asarray(self._legal)[-1]
        highest = jnp.where(legal, jnp.arange(self.vocab), 0).max(axis=1)
        numbers = jnp.nan_to_num(features, nan=0, posinf=99, neginf=0)
        return jnp.clip(numbers, jnp.argmax(legal, axis=1), highest).astype(jnp.int32)


def test_features_that_hide_the_block_type_are_caught():
    with pytest.raises(AssertionError, match="must show in the features"):
        check_features(Typeless())


def test_a_projection_by_columns_alone_is_caught():
    with pytest.raises(AssertionError):
        check_projection(Unmasked())


def test_biased_samplers_are_caught():
    """Token-uniform draws are not uniform over architectures, and a 2 % bias shows."""
    space = Toy()
    assert sampling_p(space, tk.sample, uniform=True) < P_MIN

    def biased(key, space):
        drawn = tk.sample_uniform(key, space)
        unlucky = jax.random.uniform(jax.random.fold_in(key, 1)) < 0.02
        return jnp.where(unlucky, jnp.zeros_like(drawn), drawn)

    assert sampling_p(space, biased, uniform=True) < P_MIN
