"""Figures of a latent space: what is drawn, its caption, and a description in words."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from jaxnas.report.draw import embed, latent_maps, plots
from jaxnas.report.say.drawing import Drawing, finish
from jaxnas.report.say.text import bracket, number


def draw_space(
    latents: Float[np.ndarray, "n Z"],
    scores: Float[np.ndarray, "n"],
    entries: Float[np.ndarray, "K Z"],
    paths: Sequence[Float[np.ndarray, "T Z"]] = (),
    *,
    method: str = "pca",
    score_name: str = "score",
    unit: str = "",
    path_label: str = "path of an episode",
    seed: int = 0,
) -> Drawing:
    """Returns the map of a latent space.

    Args:
        latents: encoded architectures.
        scores: true score of each.
        entries: latents that hold one code everywhere, ``model.entries(params)``.
        paths: walks through the space, first to last latent; at most five are drawn.
        method: ``pca``, ``tsne`` or ``umap``.
        score_name: what the colour is.
        unit: of the score.
        path_label: what a walk is.
        seed: of the projection.
    """
    parts = [latents, entries, *paths]
    flat, labels = embed.embed(np.concatenate(parts), method, seed)
    points, codes, *walks = np.split(flat, np.cumsum([len(p) for p in parts])[:-1])
    with plots.style():
        figure = latent_maps.space(
            points,
            scores,
            codes,
            walks,
            axes_labels=labels.split(","),
            score_label=f"{score_name}{bracket(unit)}",
            path_label=path_label,
        )
    name = embed.NAMES[embed.available(method)]
    walked = f"{min(len(paths), 5)} walk{'s' if len(paths) > 1 else ''}"
    shown = f", {walked} from start to end" if paths else ""
    return finish(
        "latent_space",
        "The latent space",
        f"{len(latents):,} architectures at the latent that encodes each, in two "
        f"dimensions by {name}, coloured by {score_name} (the scale ends at the 5th and "
        f"95th percentile); {len(entries)} codebook entries{shown}.",
        f"Scatter plot. {score_name} runs from {number(float(np.min(scores)))} to "
        f"{number(float(np.max(scores)))}{unit}.",
        figure,
    )


def draw_training(curves: Mapping[str, np.ndarray], steps: int, codes: int) -> Drawing:
    """Returns the curves of a fit: reconstruction error, exact matches and perplexity."""
    with plots.style():
        figure = latent_maps.training(dict(curves), steps, codes)
    last = {n: float(np.mean(np.asarray(v)[..., -1])) for n, v in curves.items()}
    return finish(
        "latent_training",
        "How the latent space was learned",
        f"Means over each {steps // np.asarray(curves['match']).shape[-1]} of "
        f"{steps:,} gradient steps, on training batches. Perplexity is exp(entropy) of "
        f"code use: {codes} where all codes are used alike.",
        f"Line charts. At the end {100 * last['match']:.1f} % of the training "
        f"architectures are reconstructed exactly, at perplexity {last['perplexity']:.1f}.",
        figure,
    )


def draw_sweep(
    settings: Sequence[Mapping[str, int | float]], quality: Sequence[Mapping[str, float]]
) -> Drawing:
    """Returns the parallel coordinates of a sweep, best first in both arguments."""
    names = list(settings[0])
    results = {"match": "held-out\nmatch", "smoothness": "held-out\nsmooth"}
    columns = [
        [*(s[n] for n in names), *(q[n] for n in results)]
        for s, q in zip(settings, quality, strict=True)
    ]
    with plots.style():
        figure = latent_maps.parallel(
            [*names, *results.values()],
            np.array(columns, float),
            np.array([q["match"] for q in quality], float),
            quality_label="held-out exact match",
            best=0,
        )
    best = ", ".join(f"{n} {v:g}" for n, v in settings[0].items())
    return finish(
        "latent_sweep",
        "Hyperparameters of the latent space",
        f"One line for each of {len(settings)} settings. Orange: the best by the mean of "
        "two ranks, exact reconstruction and smoothness, both on architectures that no fit "
        "has seen; the total loss ranks nothing. Best of a search, so known only after it.",
        f"Parallel coordinates. Best: {best}; exact match {quality[0]['match']:.3f}, "
        f"smoothness {quality[0]['smoothness']:.2f}.",
        figure,
    )


def write(drawing: Drawing, folder: Path) -> list[Path]:
    """Writes a drawing as SVG and as PNG and returns the two files."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for ending, data in (("svg", drawing.svg), ("png", drawing.png)):
        files.append(folder / f"{drawing.name}.{ending}")
        files[-1].write_bytes(data)
    return files
