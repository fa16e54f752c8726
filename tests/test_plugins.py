"""The package of docs/extending.md: five kinds, read from the page, and no edit of jaxnas.

It is one file outside the repository, found through the page's entry points. The public
conformance suites, the search, training and the report then work on it.
"""

import importlib
import importlib.metadata
import json
import sys
import tomllib

import jax
import numpy as np
import pytest
from pages import ROOT, blocks

import jaxnas
from jaxnas import registry
from jaxnas.algorithms.token_policy import init_params, sequence
from jaxnas.cli import main
from jaxnas.controllers.unroll import generate
from jaxnas.core.errors import UserError
from jaxnas.testing.algos import ALGORITHM_CHECKS
from jaxnas.testing.envs import ENV_CHECKS
from jaxnas.testing.oracles import ORACLE_CHECKS
from jaxnas.testing.spaces import SPACE_CHECKS

PAGE = ROOT / "docs" / "extending.md"
PYTHON = blocks(PAGE, "python")
PACKAGE = "\n\n".join(block for block in PYTHON if not block.startswith("# "))
POINTS = tomllib.loads("".join(blocks(PAGE, "toml")))["project"]["entry-points"]


@pytest.fixture
def stranger(tmp_path, monkeypatch):
    """The installed package, known by its entry points only."""
    (tmp_path / "stranger.py").write_text(PACKAGE)
    monkeypatch.syspath_prepend(str(tmp_path))
    points = {
        group: [importlib.metadata.EntryPoint(*item, group) for item in named.items()]
        for group, named in POINTS.items()
    }
    monkeypatch.setattr(
        importlib.metadata, "entry_points", lambda group: points.get(group, [])
    )
    registry._plugins.cache_clear()
    yield importlib.import_module("stranger")
    registry._plugins.cache_clear()
    del sys.modules["stranger"]


def test_strangers_pass_the_public_suites(stranger):
    (source,) = (block for block in PYTHON if block.startswith("# test_"))
    suite = {}
    exec(compile(source, "test_stranger.py", "exec"), suite)
    for check in SPACE_CHECKS:
        suite["test_bits"](check)
    space = registry.make_space("bits")
    oracle = registry.make_oracle("ones", space=space)
    for check in ORACLE_CHECKS:
        check(oracle)
    algo = registry.make_algorithm("climber", space=space)
    for check in ALGORITHM_CHECKS:
        check(algo, oracle)
    env, scored = registry.make_env("flips"), registry.make_env("flips", oracle=oracle)
    for check in ENV_CHECKS:
        check(env, ())
        check(scored, scored.params())


def test_a_strangers_controller_writes_and_is_trained(stranger):
    space = registry.make_space("bits")
    algo = jaxnas.make_algorithm("ppo", space=space, controller="tiny", hidden=16)
    params = init_params(jax.random.key(0), algo.module, space)
    uniforms = jax.random.uniform(jax.random.key(1), (4, space.length))
    wrote = generate(algo.module, params, uniforms, space.mask)
    whole = sequence(algo.module, params, wrote.tokens)
    np.testing.assert_allclose(wrote.value, whole.value, atol=1e-5)


def test_strangers_are_searched_listed_and_reported(stranger, capsys, tmp_path):
    with pytest.raises(SystemExit) as stop:
        main(
            [
                "search", "--oracle", "ones", "--budget", "40",
                "--algorithms", "climber", "ppo", "--seeds", "4", "--quiet",
                "--set", "ppo.controller=tiny", "--out", str(tmp_path), "--name", "run",
            ]
        )  # fmt: skip
    assert not stop.value.code
    assert "climber" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["report", str(tmp_path / "run"), "--json"])
    assert json.loads(capsys.readouterr().out)["studies"]
    with pytest.raises(SystemExit):
        main(["list"])
    listed = capsys.readouterr().out
    assert all(name in listed for named in POINTS.values() for name in named)


def test_a_policy_learns_on_a_strangers_environment(stranger):
    env = jaxnas.make_env("flips", oracle=stranger.Ones())
    module = registry.make_controller("tiny", num_actions=env.num_actions, hidden=32)
    sizes = {"updates": 60, "num_envs": 16, "num_steps": 12, "controller": module}
    returns = np.squeeze(jaxnas.rl.train(env, hparams={"lr": 3e-3}, **sizes).returns)
    assert np.mean(returns[:5]) < 4, "a random walk ends at three of six"
    assert np.mean(returns[-5:]) > 5


def test_identity_is_no_setting_and_an_oracle_needs_no_objective(stranger, capsys):
    """``ones`` has no ``info`` and no ``objective``; both used to end in an error."""
    with pytest.raises(SystemExit) as stop:
        main(["info", "ones", "--json"])
    assert not stop.value.code
    facts = json.loads(capsys.readouterr().out)
    assert facts["id"] == "ones-v1"
    assert facts["metrics"]["ones"]["unit"] == "bits"
    assert facts["options"] == "space=Bits(length=6, vocab=2, id='bits-v1')"
    for option in registry.IDENTITY:
        with pytest.raises(UserError, match=f"'ones': '{option}'. .*Available: space"):
            registry.make_oracle("ones", **{option: "mine"})
    with pytest.raises(SystemExit) as stop:
        main(["search", "--oracle", "ones", "--objective", "zeros", "--budget", "4"])
    assert stop.value.code == 2
    assert "Unknown option of oracle 'ones': 'objective'" in capsys.readouterr().err


def test_a_broken_algorithm_ends_with_one_sentence(stranger, capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(stranger.Climber, "default_hparams", lambda self: {"lr": 0.1})
    with pytest.raises(SystemExit) as stop:
        main(["search", "--oracle", "ones", "--algorithms", "climber", "--out",
              str(tmp_path / "runs")])  # fmt: skip
    assert stop.value.code == 2
    said = capsys.readouterr().err
    assert "Climber.default_hparams must return a NamedTuple of numbers, got dict" in said
    assert not (tmp_path / "runs").exists()
