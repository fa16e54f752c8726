"""The sweep: what it tries, and that held-out quality ranks and the loss does not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas.core.errors import UserError
from jaxnas.latent import sweep as sw
from jaxnas.latent.fit import Hparams, Plan
from jaxnas.latent.labels import make_labels
from jaxnas.latent.vqvae import VQVAE


def trial(name, match, smoothness, loss):
    return sw.Trial({"lr": name}, {"match": match, "smoothness": smoothness}, loss)


def names(trials):
    return [t.setting["lr"] for t in trials]


def test_the_loss_does_not_rank():
    """The original took the lowest loss, which a push-away term can make anything."""
    trials = [trial(1, 0.2, 0.1, -1e9), trial(2, 0.9, 0.8, 5.0), trial(3, 0.8, 0.7, 1.0)]
    assert names(sw.rank(trials)) == [2, 3, 1]
    by_loss = sorted(trials, key=lambda t: t.loss)
    assert names(by_loss) == [1, 3, 2], "what ranking by the loss would have said"


def test_both_qualities_count_and_reconstruction_breaks_ties():
    trials = [trial(1, 0.7, 0.9, 0), trial(2, 0.9, 0.7, 0), trial(3, 0.8, 0.6, 0)]
    assert names(sw.rank(trials)) == [2, 1, 3]
    broken = [trial(1, np.nan, np.nan, 0), trial(2, 0.1, 0.1, 0)]
    assert names(sw.rank(broken)) == [2, 1]


def test_settings_are_different_and_share_few_shapes():
    drawn = sw.settings(sw.GRID, 32, 0)
    assert len(drawn) == 4
    assert sum(map(len, drawn.values())) == 32
    for numbers in drawn.values():
        assert len(set(numbers)) == len(numbers)
    one = {name: values[:1] for name, values in sw.GRID.items()}
    assert sum(map(len, sw.settings(one, 32, 0).values())) == 1


@pytest.mark.parametrize(
    ("grid", "text"),
    [
        ({"learning_rate": (1,)}, "Unknown axis"),
        ({"dropout": (1.0,)}, "up to but not 1"),
        ({"hidden": (1.5,)}, "whole numbers of at least 1"),
        ({"layers": (-1,)}, "at least 0"),
        ({"lr": ()}, "needs numbers from 0"),
        ({"lr": ("a",)}, "needs numbers from 0"),
    ],
)
def test_bad_axes_are_refused(grid, text):
    with pytest.raises(UserError, match=text):
        sw.check_grid(grid)


@pytest.mark.slow
def test_a_sweep_finds_that_training_at_all_helps(small):
    """Nine axes, two of them with more than one value; lr 0 learns nothing."""
    grid = {name: values[:1] for name, values in sw.GRID.items()}
    grid |= {"hidden": (32,), "lr": (0.0, 1e-2), "commitment": (0.25, 1.0)}
    said = []
    arguments = (
        VQVAE(small.model.space, codes=8),
        Plan(steps=60, labelled=8, records=2),
        jax.random.key(0),
        jnp.asarray(small.train),
        make_labels(small.train[:50], small.score(small.train[:50])),
        jnp.asarray(small.heldout),
        jnp.asarray(small.scores, jnp.float32),
    )
    trials = sw.sweep(
        *arguments, sw.check_grid(grid), hparams=Hparams(), trials=4, tell=said.append
    )
    assert len(trials) == 4
    assert set(trials[0].setting) == set(sw.AXES)
    assert [t.setting["lr"] for t in trials[2:]] == [0.0, 0.0]
    assert trials[0].quality["match"] > trials[-1].quality["match"]
    assert said == ["1/1: 4 settings with batch 64, embed_dim 2, hidden 32, layers 0"]
    with pytest.raises(UserError, match="at least one trial"):
        sw.sweep(*arguments, grid, hparams=Hparams(), trials=0)
