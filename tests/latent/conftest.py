"""A latent space of the toy space, fitted once."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas.latent.dataset import split
from jaxnas.latent.fit import Hparams, Plan, fit
from jaxnas.latent.labels import make_labels
from jaxnas.latent.vqvae import VQVAE
from jaxnas.spaces.toy import Toy

PLAN = Plan(steps=1000, batch=64, labelled=32, records=10)


class Small(NamedTuple):
    """A fitted model with what it saw and did not see."""

    model: VQVAE
    fitted: Any
    train: np.ndarray
    heldout: np.ndarray
    scores: np.ndarray
    """Of the held-out architectures."""
    score: Any
    """Gives the scores of any architectures."""


def toy_score(tokens):
    """A smooth score: the sum of the tokens, the first weighing double."""
    return tokens.sum(axis=-1) + tokens[..., 0].astype(float)


@pytest.fixture(scope="session")
def small():
    space = Toy(length=6, vocab=4)
    train, heldout = split(space, 1200, 150)
    model = VQVAE(space, codes=10, hidden=128)
    labels = make_labels(train[:400], toy_score(train[:400]))
    run = jax.jit(lambda key: fit(model, key, jnp.asarray(train), labels, Hparams(), PLAN))
    return Small(
        model, run(jax.random.key(0)), train, heldout, toy_score(heldout), toy_score
    )
