"""Reports on spaces that users declare: words, chance, and no colour where nothing is."""

import numpy as np

import jaxnas
from jaxnas.report.draw import maps
from jaxnas.report.read import anatomy

SPACE = jaxnas.declare(
    {
        "name": "mine",
        "decisions": [
            {
                "repeat": "layer",
                "least": 1,
                "most": 2,
                "decisions": [
                    {"name": "op", "choices": ["conv", "pool"]},
                    {"name": "kernel", "choices": [1, 3, 5], "when": {"op": "conv"}},
                    {"name": "inputs", "subset": "earlier"},
                ],
            }
        ],
    }
)


def test_architectures_are_described_by_what_was_decided():
    tokens = SPACE.from_dict(
        {"layer": [{"op": "conv", "kernel": 3}, {"op": "pool", "inputs": [1]}]}
    )
    assert anatomy.describe(SPACE, tokens) == "layer conv 3 → pool [1]"
    assert anatomy.vocabulary(SPACE, SPACE.vocab, SPACE.length)[1] == list(
        SPACE.decision_names
    )


def test_chance_is_the_share_over_the_whole_space():
    from jaxnas.core import tokens as tk

    rows = tk.enumerate_space(SPACE)
    counted = np.stack([np.mean(rows == v, axis=0) for v in range(SPACE.vocab)])
    np.testing.assert_allclose(anatomy.shares_of(SPACE, SPACE.vocab), counted, atol=1e-12)


def test_a_token_that_no_architecture_has_is_left_blank():
    chance = anatomy.shares_of(SPACE, SPACE.vocab)
    figure = maps.actions(
        [("random", chance)], chance=chance, tokens=list("0123"),
        positions=list(SPACE.decision_names), position_label="position",
        choices=anatomy.choice_names(SPACE),
    )  # fmt: skip
    axis = figure.axes[0]
    shown = {tuple(map(int, text.get_position())): text.get_text() for text in axis.texts}
    assert {(t, v) for v, t in np.argwhere(chance > 0)} == set(shown)
    assert shown[0, 0].startswith("conv\n")
    colours = np.ma.filled(axis.images[0].get_array().astype(float), np.nan)
    assert np.isnan(colours[chance == 0]).all()
