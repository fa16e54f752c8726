"""Projections against known answers, and figures that are made of what they are given."""

import importlib.util

import numpy as np
import pytest

from jaxnas.core.errors import UserError
from jaxnas.report.draw import embed, latent_maps, plots
from jaxnas.report.say import latent_figures

RNG = np.random.default_rng(0)


def test_pca_finds_the_plane_and_its_variance():
    flat = RNG.standard_normal((400, 2)) * [5.0, 2.0]
    turn, _ = np.linalg.qr(RNG.standard_normal((6, 6)))
    points = flat @ turn[:2] + 3.0
    found, share = embed.pca(points)
    assert [i for i, _ in share] == [0, 1]
    assert sum(s for _, s in share) == pytest.approx(1.0)
    assert share[0][1] == pytest.approx(25 / 29, abs=0.05)
    for i in range(2):
        corr = np.corrcoef(found[:, i], flat[:, i])[0, 1]
        assert abs(corr) > 0.99
    gaps = lambda x: np.linalg.norm(x[:, None] - x, axis=-1)
    np.testing.assert_allclose(gaps(found), gaps(points), atol=1e-9)
    one, _ = embed.pca(points[:, :1])
    assert one.shape == (400, 2)


def test_what_is_missing_falls_back_to_pca_and_says_so(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    points = RNG.standard_normal((30, 4))
    for method in ("tsne", "umap"):
        with pytest.warns(UserWarning, match="PCA is drawn instead"):
            found, labels = embed.embed(points, method)
        np.testing.assert_array_equal(found, embed.embed(points)[0])
        assert "component 1" in labels
    with pytest.raises(UserError, match="must be one of"):
        embed.embed(points, "lda")
    with pytest.raises(UserError, match="at least 3 finite points"):
        embed.embed(points[:2])
    with pytest.raises(UserError, match="at least 3 finite points"):
        embed.embed(np.full((5, 2), np.nan))


@pytest.mark.external
@pytest.mark.parametrize("method", ["tsne", "umap"])
def test_neighbours_stay_neighbours(method):
    centres = 20 * RNG.standard_normal((3, 8))
    points = np.repeat(centres, 20, axis=0) + RNG.standard_normal((60, 8))
    found, labels = embed.embed(points, method, seed=1)
    assert found.shape == (60, 2)
    assert embed.NAMES[method] in labels
    gaps = np.linalg.norm(found[:, None] - found, axis=-1) + 1e9 * np.eye(60)
    assert np.mean(gaps.argmin(1) // 20 == np.arange(60) // 20) == 1


def test_the_map_holds_points_codes_and_walks_with_their_ends():
    walk = np.cumsum(RNG.standard_normal((6, 2)), axis=0)
    with plots.style():
        figure = latent_maps.space(
            RNG.standard_normal((20, 2)),
            np.arange(20.0),
            RNG.standard_normal((4, 2)),
            [walk, walk + 5],
            axes_labels=["a", "b"],
            score_label="score (%)",
            path_label="walk",
        )
    axis = figure.axes[0]
    lines = [line.get_xydata() for line in axis.lines]
    assert any(np.array_equal(line, walk) for line in lines)
    ends = [c.get_offsets() for c in axis.collections]
    assert any(np.array_equal(e, walk[:1]) for e in ends)
    assert any(np.array_equal(e, walk[-1:]) for e in ends)
    labels = axis.get_legend_handles_labels()[1]
    assert labels == ["codebook entry", "walk", "start", "end"]


def test_drawings_are_the_same_twice_and_say_what_is_drawn(tmp_path):
    latents, scores = RNG.standard_normal((30, 5)), RNG.standard_normal(30)
    entries = RNG.standard_normal((4, 5))
    draw = lambda: latent_figures.draw_space(
        latents, scores, entries, [latents[:3]], score_name="accuracy", unit=" %"
    )
    first, second = draw(), draw()
    assert (first.svg, first.png) == (second.svg, second.png)
    for text in ("30 architectures", "PCA", "4 codebook entries", "1 walk from start"):
        assert text in first.caption
    files = latent_figures.write(first, tmp_path / "new")
    assert [f.name for f in files] == ["latent_space.svg", "latent_space.png"]


def test_curves_and_parallel_coordinates_read_their_numbers():
    curves = {
        "reconstruction": np.geomspace(5, 0.1, 8),
        "match": np.linspace(0, 0.97, 8),
        "perplexity": np.full(8, 6.5),
    }
    drawn = latent_figures.draw_training(curves, 80, 10)
    assert "97.0 %" in drawn.alt
    assert "6.5" in drawn.alt
    settings = [{"lr": lr, "layers": n} for lr in (0.01, 0.1) for n in (0, 1)]
    quality = [{"match": 0.9 - 0.1 * i, "smoothness": 0.5} for i in range(4)]
    drawn = latent_figures.draw_sweep(settings, quality)
    assert "lr 0.01, layers 0; exact match 0.900" in drawn.alt
    heights, marks = latent_maps._heights(np.array([[1.0, 3.0], [10.0, 3.0], [100.0, 3.0]]))
    np.testing.assert_allclose(heights, [[0, 0.5], [0.5, 0.5], [1, 0.5]])
    assert [text for _, text in marks[0]] == ["1", "10", "100"]
