"""The evolution of AnalogNAS: its sample, its mutations, its restarts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnas
from jaxnas.core import tokens as tk
from jaxnas.core.errors import UserError
from jaxnas.core.types import OK, Evaluation

RESNET = jaxnas.make_space("analog-resnet")
NB201 = jaxnas.make_space("nb201")


def test_a_latin_sample_hits_every_quantile_of_every_decision():
    """Of 20 architectures each of nb201's 5 operations stands 4 times on each edge."""
    rows = np.asarray(tk.latin(jax.random.key(0), NB201, 20))
    for place in range(NB201.length):
        np.testing.assert_array_equal(np.bincount(rows[:, place]), [4] * 5)
    assert len(np.unique(rows, axis=0)) > 15


def test_a_mutation_changes_one_decision_among_the_places():
    parent = tk.sample(jax.random.key(1), RESNET)
    keys = jax.random.split(jax.random.key(2), 200)
    for positions in (RESNET.depth_positions, RESNET.width_positions):
        places = np.isin(np.arange(RESNET.length), positions)
        mutate = lambda k, p=places: tk.mutate_among(k, RESNET, parent, p)
        children = np.asarray(jax.jit(jax.vmap(mutate))(keys))
        differ = children != np.asarray(parent)
        assert differ[:, places].any(axis=1).all()
        kept = children[:, 1] == parent[1]  # as many groups: nothing had to be repaired
        assert (differ[kept].sum(axis=1) == 1).all()
        assert not differ[kept][:, ~places].any()
        assert jax.vmap(lambda c: tk.is_valid(RESNET, c))(jnp.asarray(children)).all()


def test_stagnation_draws_a_new_population_and_improvement_does_not():
    algo = jaxnas.make_algorithm("analog-ea", space=NB201, population=4, capacity=16)
    hparams = algo.default_hparams()._replace(patience=jnp.float32(6))
    zero, one = jnp.zeros(1, jnp.float32), jnp.ones(1, jnp.int32)
    tell = jax.jit(algo.tell)
    for rising in (False, True):
        state = algo.init(jax.random.key(0), hparams)
        drawn, again = np.asarray(state.population), []
        state, proposal = algo.ask(jax.random.key(1), state)
        for i in range(12):
            reward = jnp.full(1, float(i if rising else -i), jnp.float32)
            found = Evaluation(reward[:, None], zero, zero, OK * one, reward)
            state = tell(jax.random.key(100 + i), state, proposal, found)
            again.append(int(state.waiting) == 4)
        assert any(again) != rising
        assert (np.asarray(state.population) == drawn).all() == rising


@pytest.mark.parametrize("options", [{"population": 1}, {"batch": 30}, {"generations": 0}])
def test_sizes_that_do_not_fit_are_refused(options):
    with pytest.raises(UserError):
        jaxnas.make_algorithm("analog-ea", space=NB201, **options)
