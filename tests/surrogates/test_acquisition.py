"""Acquisition values: an upper confidence bound on the labels' own scale."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas.core import tokens as tk
from jaxnas.registry import make_space
from jaxnas.surrogates import ensemble
from jaxnas.surrogates.acquisition import FLOOR, Acquisition, AcquisitionParams
from jaxnas.surrogates.features import make_encoder

SPACE = make_space("toy")
ROWS = jnp.asarray(tk.enumerate_space(SPACE))


@pytest.fixture(scope="module")
def fitted():
    config = ensemble.Ensemble(members=3, hidden=(16,), steps=150)
    acquisition = Acquisition(make_encoder("one-hot", SPACE), config)
    labels = jnp.sum(ROWS > 0, axis=1).astype(jnp.float32)[:, None]
    x = jax.vmap(acquisition.encoder)(ROWS)
    model = jax.jit(lambda key: ensemble.fit(config, key, x, labels, jnp.ones(len(ROWS))))(
        jax.random.key(0)
    )
    params = AcquisitionParams(model, jnp.median(labels), jnp.max(labels), jnp.float32(0.0))
    return acquisition, params, labels[:, 0]


def score(acquisition, params):
    lanes = jnp.zeros(len(ROWS), jnp.int32)
    _, found = acquisition.evaluate(jax.random.key(0), params, (), ROWS, lanes, lanes == 0)
    return np.asarray(found.objectives[:, 0])


def test_the_scale_is_that_of_the_labels(fitted):
    acquisition, params, labels = fitted
    found = score(acquisition, params)
    median, best = float(params.median), float(params.best)
    mean = acquisition.predict(params, ROWS).mean[:, 0]
    np.testing.assert_allclose(
        found, np.maximum((mean - median) / (best - median), FLOOR), rtol=1e-5
    )
    assert found[labels == best].mean() > found[labels == median].mean() + 0.3
    assert abs(found[labels == median].mean()) < 0.3


def test_kappa_pays_for_disagreement_and_hopeless_ones_are_equal(fitted):
    acquisition, params, _ = fitted
    bold = score(acquisition, params._replace(kappa=jnp.float32(1.0)))
    plain = score(acquisition, params)
    spread = np.asarray(acquisition.predict(params, ROWS).epistemic[:, 0])
    gained = (bold - plain)[plain > FLOOR]
    assert (gained >= -1e-6).all()
    assert np.corrcoef(gained, spread[plain > FLOOR])[0, 1] > 0.999
    low = score(acquisition, params._replace(median=params.best + 5, best=params.best + 6))
    assert (low == FLOOR).all()
