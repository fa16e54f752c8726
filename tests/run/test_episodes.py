"""Episodes of saved policies against exact probabilities and brute force, toy space."""

import json

import jax
import jax.numpy as jnp
import methods
import numpy as np
import pytest

import jaxnas
from jaxnas.core import tokens as tk
from jaxnas.core.errors import UserError
from jaxnas.data.formats.npz import read_npz
from jaxnas.run import episodes, policies
from jaxnas.testing.fakes import OnHost

SPACE = methods.SPACE
ORACLE = jaxnas.make_oracle("toy", space=SPACE)
NUMBER = 2000


def learner(name="reinforce"):
    return jaxnas.make_algorithm(name, space=SPACE, batch=4, hidden=8)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Two temperatures, three controllers of each."""
    out = tmp_path_factory.mktemp("runs") / "reinforce"
    hparams = {"temperature": [1.0, 2.0]}
    jaxnas.search(learner(), ORACLE, out=out, budget=32, seeds=3, hparams=hparams)
    return out


@pytest.fixture(scope="module")
def played(run):
    before = {p.name: p.read_bytes() for p in run.iterdir()}
    found = episodes.play(run, NUMBER)
    assert {p.name: p.read_bytes() for p in run.iterdir()} == before, "nothing is learned"
    return found


def probabilities(result, made, k):
    """Of every architecture under policy ``k``: the product of its masked softmaxes."""
    members = np.asarray(tk.enumerate_space(SPACE))
    policy = result.policy(int(made.controller[k]))
    temperature = [1.0, 2.0][made.setting[k]]
    logits = np.asarray(policy.apply(policy.params, jnp.asarray(members)).logits, float)
    places = jnp.arange(SPACE.length)
    legal = jax.vmap(lambda row: jax.vmap(lambda t: SPACE.mask(row, t))(places))
    weights = np.where(
        np.asarray(legal(jnp.asarray(members))), logits / temperature, -np.inf
    )
    logs = weights - np.logaddexp.reduce(weights, axis=-1, keepdims=True)
    picked = np.take_along_axis(logs, members[..., None], axis=-1)[..., 0]
    return members, picked.sum(axis=1)


def test_draws_follow_the_policy_and_its_temperature(played):
    """Log-likelihood and entropy against exact sums; 5 standard errors of each mean."""
    result, made = played
    for k in range(len(made.controller)):
        members, logs = probabilities(result, made, k)
        p = np.exp(logs)
        assert p.sum() == pytest.approx(1.0, abs=1e-5)
        row = {tuple(m): i for i, m in enumerate(members)}
        drawn = logs[[row[tuple(t)] for t in made.tokens[k]]]
        exact = float((p * logs).sum())
        spread = np.sqrt((p * (logs - exact) ** 2).sum() / NUMBER)
        assert abs(drawn.mean() - exact) < 5 * spread
        error = SPACE.length * made.entropy[k].std() / np.sqrt(NUMBER)
        assert SPACE.length * made.entropy[k].mean() == pytest.approx(-exact, abs=5 * error)
        assert np.ptp(logs) > 0.5, "it is not the uniform policy"


def test_values_are_those_of_the_table(played):
    _, made = played
    flat = jnp.asarray(made.tokens[:, :50].reshape(-1, SPACE.length))
    lanes = jnp.zeros(len(flat), jnp.int32), jnp.ones(len(flat), bool)
    params = ORACLE.params()
    key = jax.random.key(1)
    _, found = ORACLE.evaluate(key, params, ORACLE.init(key, params), flat, *lanes)
    want = np.asarray(found.objectives)[:, 0].reshape(made.value[:, :50].shape)
    np.testing.assert_allclose(made.value[:, :50], want, rtol=1e-6)
    np.testing.assert_array_equal(made.returns, made.value)
    assert not made.failed.any()
    assert not made.infeasible.any()
    assert not episodes.invalid(played[0], made.tokens).any()
    wanted = [len({tuple(t) for t in rows}) for rows in made.tokens]
    assert episodes.distinct(made.tokens).tolist() == wanted


def test_greedy_takes_the_likeliest_token_each_time(run):
    result, made = episodes.play(run, 3, greedy=True)
    for k, controller in enumerate(made.controller):
        policy = result.policy(int(controller))
        tokens = np.zeros(SPACE.length, np.int32)
        for t in range(SPACE.length):
            logits = policy.apply(policy.params, jnp.asarray(tokens[None])).logits[0, t]
            legal = np.asarray(SPACE.mask(jnp.asarray(tokens), jnp.int32(t)))
            tokens[t] = np.argmax(np.where(legal, np.asarray(logits), -np.inf))
        assert made.tokens[k].tolist() == [tokens.tolist()] * 3


def test_again_is_the_same_and_compiles_nothing(run, played):
    heard = []

    def listen(event, seconds, **_):
        if event.endswith("backend_compile_duration"):
            heard.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        again = episodes.play(run, NUMBER)[1]
        assert not heard
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    np.testing.assert_array_equal(again.tokens, played[1].tokens)
    other = episodes.play(run, NUMBER, seed=1)[1]
    assert not np.array_equal(other.tokens, again.tokens)


def test_fewer_policies_are_the_best_ones(run, played):
    made = episodes.play(run, NUMBER, top=2)[1]
    assert made.controller.tolist() == played[1].controller[:2].tolist()
    np.testing.assert_array_equal(made.tokens, played[1].tokens[:2])


def test_a_host_oracle_is_asked_what_its_run_did_not(tmp_path, monkeypatch):
    jaxnas.search(learner(), OnHost(ORACLE), out=tmp_path / "a", budget=32, seeds=3)
    monkeypatch.setattr(episodes.remade, "oracle_of", lambda config: OnHost(ORACLE))
    asked, inner = [], OnHost.evaluate

    def evaluate(oracle, key, params, state, tokens, *rest):
        asked.extend(map(tuple, np.asarray(tokens)))
        return inner(oracle, key, params, state, tokens, *rest)

    monkeypatch.setattr(OnHost, "evaluate", evaluate)
    _, made = episodes.play(tmp_path / "a", 40)
    known = {tuple(t) for t in read_npz(tmp_path / "a/answers.npz")["tokens"]}
    ended = {tuple(t) for t in made.tokens.reshape(-1, SPACE.length)}
    assert sorted(asked) == sorted(ended - known)
    assert made.asked == len(asked)
    monkeypatch.setattr(episodes.remade, "oracle_of", lambda config: ORACLE)
    compiled = episodes.play(tmp_path / "a", 40)[1]
    np.testing.assert_array_equal(made.tokens, compiled.tokens)
    np.testing.assert_allclose(made.value, compiled.value, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ppo", "latent-reinforce"])
def test_every_method_with_a_policy_plays(name, tmp_path):
    algo = methods.make(name, tmp_path)
    jaxnas.search(algo, ORACLE, out=tmp_path / "a" / name, budget=20, seeds=2)
    for greedy in (False, True):
        result, made = episodes.play(tmp_path / "a" / name, 30, greedy=greedy)
        assert made.tokens.shape == (2, 30, SPACE.length)
        assert not episodes.invalid(result, made.tokens).any()
        assert np.isfinite(made.value).all()
        assert (made.entropy >= 0).all()
        if name.startswith("latent-"):
            first = made.value - made.returns
            known = result.arrays["objectives"][..., 0]
            found = np.isclose(first[..., None], known[made.controller][:, None], atol=1e-4)
            assert found.any(axis=-1).mean() > 0.5, "it begins near what was found"


def test_what_cannot_play_is_refused(run, tmp_path):
    random = jaxnas.make_algorithm("random", space=SPACE)
    jaxnas.search(random, ORACLE, out=tmp_path / "r", budget=8)
    with pytest.raises(UserError, match="learned no policy"):
        episodes.play(tmp_path / "r")
    with pytest.raises(UserError, match="more than 10,000,000"):
        episodes.play(run, 10**7)
    config = json.loads((run / "config.json").read_text())
    other = {**config, "space_options": {"length": SPACE.length - 1}}
    try:
        (run / "config.json").write_text(json.dumps(other))
        with pytest.raises(UserError, match="another space"):
            episodes.play(run)
        other = {**config, "oracle": {**config["oracle"], "id": "toy-v0"}}
        (run / "config.json").write_text(json.dumps(other))
        with pytest.raises(UserError, match="and were toy-v0"):
            episodes.play(run)
    finally:
        (run / "config.json").write_text(json.dumps(config))
    (tmp_path / "r" / policies.FILE).write_bytes(b"x")
    with pytest.raises(UserError, match="no intact set of policies"):
        episodes.play(tmp_path / "r")
