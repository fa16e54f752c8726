"""The measured analog-resnet networks, and the surrogate that is fitted to them."""

import functools
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxnas.children.count import count_costs, matrices
from jaxnas.core import tokens as tk
from jaxnas.core.errors import UserError
from jaxnas.data.tables import measured_files as mf
from jaxnas.oracles.analog import AnalogOracle
from jaxnas.registry import make_oracle, make_space
from jaxnas.surrogates import quality as q
from jaxnas.surrogates import resnets
from jaxnas.surrogates.features import make_encoder
from jaxnas.surrogates.fit import Rows, fit_surrogate
from jaxnas.surrogates.oracle import predict_rows

SPACE = resnets.measured_space()


@functools.cache
def month() -> Rows:
    return resnets.measurements("analog_1month")


def test_at_least_300_different_legal_networks_in_canonical_form():
    tokens = month().tokens
    assert len(np.unique(tokens, axis=0)) == len(tokens) >= 300
    canonical = np.asarray(jax.jit(jax.vmap(SPACE.canonical))(tokens))
    np.testing.assert_array_equal(canonical, tokens)
    assert np.asarray(jax.jit(jax.vmap(lambda t: tk.is_valid(SPACE, t)))(tokens)).all()


def test_most_were_drawn_and_the_others_found_by_searches():
    """The found ones are better as a lot, which is what they were looked for."""
    rounds = mf.read("digits-resnets")["round"]
    assert np.bincount(rounds).tolist() == [300, 18, 18, 18]
    value = month().values[:, 0]
    assert np.median(value[rounds > 0]) > np.median(value[rounds == 0])


def test_costs_are_those_of_the_networks_that_the_space_builds():
    """Counted from the whole spec, for every tenth network; all below a million."""
    arrays = mf.read("digits-resnets")
    assert arrays["metric:params"].max() < 1e6
    for row in range(0, len(arrays["tokens"]), 10):
        spec = SPACE.to_spec(arrays["tokens"][row].astype(np.int32))
        costs = count_costs(spec)
        assert costs.params == arrays["metric:params"][row]
        assert costs.flops == arrays["metric:flops"][row]


def test_the_surrogate_flags_what_was_not_measured():
    """Every measured network is inside; the largest network of the space is not."""
    oracle = make_oracle("digits-resnets", space=make_space("analog-resnet"))
    predicted = predict_rows(oracle, oracle.params(), month().tokens)
    assert not np.asarray(predicted.extrapolates).any()
    largest = np.asarray(oracle.space.tokens_from_features(np.array([[
        64, 4, 15, 15, 15, 15, 0, *[1, 0.5, 4] * 4, 0, 0, 0]])))  # fmt: skip
    assert np.asarray(predict_rows(oracle, oracle.params(), largest).extrapolates).all()
    assert (np.asarray(predicted.aleatoric) > 0).all()


def test_names_aliases_and_other_spaces():
    oracle = make_oracle("digits-resnets", objective="val_accuracy,analog_1month_sd")
    assert [item.name for item in oracle.objectives] == ["digital", "analog_1month_sd"]
    assert [item.maximise for item in oracle.objectives] == [True, False]
    assert oracle.space == SPACE
    assert all("not measured" in item.meaning for item in oracle.objectives)
    with pytest.raises(UserError, match="fitted on architectures of 'analog-resnet-ibm"):
        make_oracle("digits-resnets", space=make_space("analog-resnet", variant="csv"))
    with pytest.raises(UserError, match="analog_1month"):
        make_oracle("digits-resnets", objective="analog_1months")


def test_a_damaged_model_is_refused(tmp_path, monkeypatch):
    (tmp_path / "measured").mkdir()
    arrays = dict(mf.read(resnets.MODEL))
    arrays["widen"] = arrays["widen"] * 2
    np.savez(tmp_path / "measured" / f"{resnets.MODEL}.npz", **arrays)
    monkeypatch.setattr(mf.resources, "files", lambda package: tmp_path)
    with pytest.raises(UserError, match="missing or damaged; run: pip install"):
        make_oracle("digits-resnets")


@pytest.mark.slow
def test_a_surrogate_orders_networks_it_has_not_seen_better_than_their_size():
    """Fitted to four fifths, asked about the others: five splits, both by Kendall's tau.

    The number of parameters is what everyone would guess by.
    """
    arrays = mf.read("digits-resnets")
    drawn = arrays["round"] == 0
    whole, params = month(), arrays["metric:params"][drawn]
    rows = Rows(whole.tokens[drawn], whole.values[drawn], whole.objectives)
    encoder = make_encoder("numeric", SPACE)
    ours, size = [], []
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(len(rows.tokens))
        held, seen = order[: len(order) // 5], order[len(order) // 5 :]
        part = Rows(rows.tokens[seen], rows.values[seen], rows.objectives)
        fitted = fit_surrogate(encoder, part, seed=seed)
        predicted = predict_rows(fitted.oracle, fitted.params, rows.tokens[held]).mean[:, 0]
        none = np.zeros(len(held), bool)
        for found, score in ((ours, predicted), (size, params[held])):
            scored = q.Scored(rows.values[held, 0], np.asarray(score), none * 0.0, none)
            found.append(q.kendall(scored))
    assert np.mean(ours) > 0.6
    assert np.mean(ours) > np.mean(size)


@pytest.mark.slow
def test_training_again_gives_the_recorded_numbers():
    """The smallest network, trained and measured here.

    Another CPU may round otherwise, which acts like another seed: within five times the
    spread of one training.
    """
    arrays = mf.read("digits-resnets")
    sizes = [len(matrices(SPACE.to_spec(t.astype(np.int32)))) for t in arrays["tokens"]]
    row = int(np.argmin(sizes))
    space = make_space("analog-resnet", groups=4, blocks=2, branches=2)
    oracle = AnalogOracle(
        space, data="digits", epochs=10, hwa_epochs=3, draws=10, chip_images=400
    )
    again = oracle.measure(arrays["tokens"][row].astype(np.int32)).metrics
    for ours, theirs in (("digital", "val_accuracy"), ("analog_1min", "analog_1min")):
        seeds = arrays[f"again:{ours}"].astype(np.float64)
        spread = np.sqrt(seeds.var(axis=1, ddof=1).mean())
        assert abs(again[theirs] - arrays[f"metric:{ours}"][row]) <= 5 * spread


def test_the_oracle_says_what_its_order_of_the_best_tenth_is():
    root = Path(__file__).parents[2]
    text = (root / "experiments/05_resnets/results/resnets.md").read_text()
    rows = [line.split(" | ") for line in text.splitlines() if line.count(" | ") == 5]
    measured = {row[0].removeprefix("| "): row[2] for row in rows}
    info = make_oracle("digits-resnets").info()
    for name, tau in resnets.BEST_TENTH.items():
        assert measured[name] == tau
        assert f"Kendall tau {tau}" in info[f"held out, best tenth: {name}"]
    assert (
        "best tenth of them with 0.03"
        in (root / "jaxnas/data/tables/measured/README.md").read_text()
    )
