"""Views by walking every path; the process against scipy and scikit-learn in 64 bits."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import multivariate_normal
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import Kernel as SklearnKernel

import jaxnas
from jaxnas.core import tokens as tk
from jaxnas.surrogates import gaussian_process as gp
from jaxnas.surrogates import views as vw

SPACE = jaxnas.make_space("nb201")
VIEWS = vw.Views(SPACE)
ROWS = np.asarray(tk.draw(SPACE, jax.random.split(jax.random.key(3), 40)))


def test_paths_are_those_that_a_walk_finds():
    """Sequences of up to four operations of three, skips left out, by hand from edges."""
    edges = ((1, 2), (1, 3), (1, 4), (2, 3), (2, 4), (3, 4))
    found = np.asarray(jax.vmap(VIEWS)(jnp.asarray(ROWS)).paths)
    for row, counts in zip(ROWS, found, strict=True):
        walked = []

        def walk(node, seen, row=row, walked=walked):
            if node == 4:
                walked.append(tuple(seen))
            for (source, target), op in zip(edges, row, strict=True):
                if source == node and op != 1:
                    walk(target, seen if op == 0 else [*seen, int(op)])

        walk(1, [])
        _, times = np.unique([str(w) for w in walked], return_counts=True)
        np.testing.assert_allclose(
            np.sort(counts[counts > 0]), np.sort(np.sqrt(times)), rtol=1e-6
        )


def test_sequences_stand_in_columns_of_their_own():
    """Order counts, single operations too; a skip on the way changes no column."""
    straight = np.array([[2, 1, 1, 3, 1, 4], [2, 1, 1, 4, 1, 3], [1, 2, 1, 1, 1, 4]])
    a, b, c = np.asarray(jax.vmap(VIEWS)(jnp.asarray(straight, jnp.int32)).paths)
    assert len({int(np.argmax(x)) for x in (a, b, c)}) == 3
    skipped = jnp.asarray([0, 2, 1, 2, 1, 4], jnp.int32)  # 0 hands its input on
    plain = jnp.asarray([1, 2, 1, 1, 1, 4], jnp.int32)
    assert VIEWS(skipped).paths[np.argmax(c)] > VIEWS(plain).paths[np.argmax(c)] == 1


@pytest.mark.parametrize("name", ["analog-resnet", "zoph-cnn", "vocab", "text-chain"])
def test_every_space_has_views(name):
    """Of bounded length, finite, other tokens look different, and there are paths."""
    space = jaxnas.make_space(name)
    rows = tk.draw(space, jax.random.split(jax.random.key(0), 64))
    found = jax.jit(jax.vmap(vw.Views(space)))(rows)
    assert all(bool(jnp.isfinite(view).all()) for view in found)
    assert found.paths.shape[1] <= vw.COLUMNS
    assert bool((found.paths.sum(axis=1) > 0).all())
    assert len(np.unique(np.asarray(found.tokens), axis=0)) == len(np.unique(rows, axis=0))


def test_all_views_are_those_of_each_member():
    whole = VIEWS.all()
    places = np.array([0, 77, 15624])
    rows = jnp.asarray(tk.enumerate_space(SPACE)[places])
    for table, view in zip(whole, jax.vmap(VIEWS)(rows), strict=True):
        np.testing.assert_allclose(np.asarray(table)[places], view, atol=1e-6)


def drawn_kernel(seed):
    view = VIEWS(jnp.zeros(6, jnp.int32))
    start = gp.prior(6, view)
    leaves, tree = jax.tree.flatten(start)
    keys = jax.random.split(jax.random.key(seed), len(leaves))
    moved = [
        x + 0.4 * jax.random.normal(k, jnp.shape(x))
        for x, k in zip(leaves, keys, strict=True)
    ]
    return start, jax.tree.unflatten(tree, moved)


def brute_covariance(kernel, a, b, tokens_a, tokens_b):
    """The covariance by two loops over pairs, in 64 bits."""
    k = jax.tree.map(lambda x: np.asarray(x, np.float64), kernel)
    a, b = (jax.tree.map(lambda x: np.asarray(x, np.float64), view) for view in (a, b))
    share = np.exp(k.mixture) / np.exp(k.mixture).sum()
    found = np.empty((len(tokens_a), len(tokens_b)))
    for i, x in enumerate(tokens_a):
        for j, y in enumerate(tokens_b):
            differ = np.sum(np.exp(k.edges)[x != y])
            path = a.paths[i] - b.paths[j]
            summary = (a.summary[i] - b.summary[j]) / np.exp(k.summary)
            found[i, j] = np.exp(k.scale) * (
                share[0] * np.exp(-differ)
                + share[1] * np.exp(-np.sum((path / np.exp(k.paths)) ** 2) / 2)
                + share[2] * np.exp(-np.sum(summary**2) / 2)
            )
    return found


class Given(SklearnKernel):
    """A covariance of row numbers that was computed before, for scikit-learn."""

    def __init__(self, table):
        self.table = table

    def __call__(self, X, Y=None, eval_gradient=False):  # noqa: N803
        rows = np.asarray(X)[:, 0].astype(int)
        columns = rows if Y is None else np.asarray(Y)[:, 0].astype(int)
        return self.table[np.ix_(rows, columns)]

    def diag(self, X):  # noqa: N803
        return np.diag(self.table)[np.asarray(X)[:, 0].astype(int)]

    def is_stationary(self):
        return False


@pytest.mark.parametrize("seed", range(3))
def test_the_posterior_is_scikit_learns(seed):
    """Rows that are not held change nothing, wherever they stand."""
    _, kernel = drawn_kernel(seed)
    views = jax.vmap(VIEWS)(jnp.asarray(ROWS))
    table = brute_covariance(kernel, views, views, ROWS, ROWS)
    np.testing.assert_allclose(gp.covariance(kernel, views, views), table, atol=2e-5)
    labels = np.random.default_rng(seed).normal(size=40).astype(np.float32)
    held = np.arange(40) % 3 != 1
    noise = float(np.exp(kernel.noise)) + gp.JITTER
    model = GaussianProcessRegressor(Given(table), alpha=noise, optimizer=None)
    model.fit(np.flatnonzero(held)[:, None], labels[held])
    mean, sd = model.predict(np.arange(40)[:, None], return_std=True)
    known = jnp.where(held, labels, jnp.nan)
    posterior = jax.jit(gp.condition)(kernel, views, known, jnp.asarray(held))
    ours = jax.jit(gp.predict)(kernel, posterior, views)
    np.testing.assert_allclose(ours[0], mean, atol=2e-3)
    np.testing.assert_allclose(ours[1], sd, atol=5e-3)


def test_the_likelihood_is_scipys_and_a_fit_raises_it():
    start, kernel = drawn_kernel(5)
    views = jax.vmap(VIEWS)(jnp.asarray(ROWS))
    labels = jax.random.normal(jax.random.key(1), (40,))
    held = jnp.arange(40) < 25

    def theirs(kernel):
        table = brute_covariance(kernel, views, views, ROWS, ROWS)[:25, :25]
        noise = float(np.exp(kernel.noise)) + gp.JITTER
        cov = table + noise * np.eye(25)
        return multivariate_normal.logpdf(labels[:25], np.zeros(25), cov)

    other = kernel._replace(noise=kernel.noise + 0.7)
    ours = [float(gp.log_posterior(k, k, views, labels, held)) for k in (kernel, other)]
    assert ours[1] - ours[0] == pytest.approx(theirs(other) - theirs(kernel), abs=2e-3)
    value = functools.partial(gp.log_posterior, start=start, views=views, labels=labels)
    fitted = gp.fit(kernel, start, views, labels, held, 60)
    assert value(fitted, held=held) > value(kernel, held=held) + 1


def test_a_kernel_of_twins_and_constant_labels_stays_finite():
    """Fifty times one architecture: singular but for the noise."""
    start, _ = drawn_kernel(0)
    views = jax.vmap(VIEWS)(jnp.zeros((50, 6), jnp.int32))
    labels, held = jnp.zeros(50), jnp.ones(50, bool)
    fitted = gp.fit(start, start, views, labels, held, 30)
    posterior = gp.condition(fitted, views, labels, held)
    mean, sd = gp.predict(fitted, posterior, views)
    assert bool(jnp.isfinite(mean).all())
    assert bool((sd >= 0).all())
