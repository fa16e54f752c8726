"""What a user brings: JAX configuration, ranges, names, encodings, platforms, messages."""

import functools
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from probes import LADDER

from jaxnas import registry
from jaxnas.cli import main
from jaxnas.controllers.mlp import MLP
from jaxnas.core import ranges, rng
from jaxnas.core import tokens as tk
from jaxnas.core.errors import UserError
from jaxnas.envs.base import default_params
from jaxnas.envs.change import ChangeEnv
from jaxnas.envs.scored import ScoredEnv
from jaxnas.envs.tokens import TokenEnv
from jaxnas.latent import files, fit, labels
from jaxnas.latent.vqvae import VQVAE
from jaxnas.oracles.toy import ToyOracle
from jaxnas.rl.rollout import head_of
from jaxnas.rl.training import METHODS, EnvTraining
from jaxnas.run.search import search
from jaxnas.spaces.toy import Toy
from jaxnas.surrogates import ensemble
from jaxnas.testing import algos
from jaxnas.testing.fakes import LinearLatent
from jaxnas.testing.tiny import TinyNets

SPACE = Toy(length=4, vocab=3)
ORACLE = ToyOracle(SPACE)
KEY = jax.random.key(0)
ROWS = jnp.asarray(tk.enumerate_space(SPACE))[:30]
LEARNERS = [
    (name, controller)
    for name in registry.names("algorithm")
    for controller in (registry.CONTROLLERS if name == "reinforce" else ("",))
]


@pytest.fixture(scope="module")
def latent_file(tmp_path_factory):
    """An untrained latent model of the small space."""
    model = VQVAE(SPACE, codes=6, dims=2, hidden=16)
    path = tmp_path_factory.mktemp("latent") / "toy.npz"
    files.save(path, model, model.init(KEY))
    return str(path)


def algorithm(name, latent_file, **options):
    if name.startswith("latent-"):
        options |= {
            "batch": 2, "latent": latent_file, "labels": 16, "members": 2, "fit_steps": 4,
            "capacity": 64, "num_envs": 2, "num_steps": 8, "max_steps": 4, "hidden": 8,
        }  # fmt: skip
    return registry.make_algorithm(name, space=SPACE, **options)


def same_types(function, *args):
    """Asserts that 64-bit defaults change no type of a result; traces, computes nothing."""
    usual = jax.eval_shape(function, *args)
    with jax.enable_x64(True):
        jax.tree.map(_same, usual, jax.eval_shape(lambda *a: function(*a), *args))


def _same(a, b):
    assert (a.shape, a.dtype) == (b.shape, b.dtype)


@pytest.mark.parametrize(("name", "controller"), LEARNERS)
def test_algorithms_with_64_bit_defaults(name, controller, latent_file):
    algo = algorithm(
        name, latent_file, **({"controller": controller} if controller else {})
    )
    with jax.enable_x64(True):
        algos.check_state_fixed(algo, ORACLE)
    same_types(lambda key: algo.init(key, algo.default_hparams()), KEY)


def environments():
    dynamics = {name: registry.make_env(name, model=LinearLatent(SPACE)) for name in (
        "latent", "latent-continuous")}  # fmt: skip
    yield "scored", ScoredEnv(TokenEnv(SPACE), ORACLE)
    yield from ((name, ChangeEnv(env, ORACLE)) for name, env in dynamics.items())
    yield from ((type(probe).__name__, probe) for probe in LADDER)


@pytest.mark.parametrize(
    ("env", "method"),
    [
        pytest.param(env, method, id=f"{name}-{method}")
        for name, env in environments()
        for method in (("ppo",) if env in LADDER else METHODS)
    ],
)
def test_environments_with_64_bit_defaults(env, method):
    module = MLP(head_of(env).num_logits, hidden=8)
    training = EnvTraining(
        env, module, method=method, num_envs=2, num_steps=4, minibatches=2
    )

    def train(key, params):
        state = training.init(key, training.default_hparams(), params)
        return training.train(key, state, params, 2)

    same_types(train, KEY, default_params(env))


@pytest.mark.parametrize("mode", ["instance", "label"])
@pytest.mark.parametrize("ema", [True, False])
def test_latent_training_with_64_bit_defaults(mode, ema):
    model = VQVAE(SPACE, mode=mode, ema=ema, codes=6, dims=2, hidden=16)
    scored = labels.make_labels(np.asarray(ROWS), np.arange(30.0))
    bins = jnp.zeros(30, jnp.int32) if mode == "label" else None
    plan = fit.Plan(steps=4, batch=8, labelled=8, records=2)
    hparams = fit.Hparams(dropout=0.1)
    same_types(lambda key: fit.fit(model, key, ROWS, scored, hparams, plan, bins), KEY)


@pytest.mark.parametrize("kind", ["ranks", "values"])
def test_surrogate_training_with_64_bit_defaults(kind):
    config = ensemble.Ensemble(2, hidden=(8,), steps=3, batch=8, labels=kind)

    def train(key, x):
        params = ensemble.fit(config, key, x, x[:, :1], jnp.ones(len(x), jnp.float32))
        return params, ensemble.predict(config, params, x)

    same_types(train, KEY, ROWS.astype(jnp.float32))


@pytest.mark.slow
def test_children_train_with_64_bit_defaults():
    measure = functools.partial(
        registry.make_oracle, "child", space=TinyNets(), epochs=1, limit=100
    )
    for options in ({"augment": "shift-flip"}, {"route": "exact"}):
        found = {}
        for wide in (False, True):
            with jax.enable_x64(wide):
                found[wide] = measure(**options).measure(np.array([1, 2], np.int32)).metrics
        assert found[True] == pytest.approx(found[False], rel=1e-3)


SEARCH = ("search", "--oracle", "toy", "--space", "toy", "--budget", "4", "--seeds", "1")
"""A small search, without its algorithms and its place."""


def run(capsys, *args):
    with pytest.raises(SystemExit) as stop:
        main(list(args))
    streams = capsys.readouterr()
    return stop.value.code or 0, streams.out, streams.err


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (["--seed0", "-1"], "--seed0 must be in [0, 4294967295], got -1."),
        (["--seed0", "4294967301"], "got 4294967301."),
        (["--seed0", str(2**64 + 5)], "got 18446744073709551621."),
        (["--seeds", "0"], "--seeds must be in"),
        (["--budget", "-3"], "--budget must be in"),
        (["--width", "0"], "--width must be in"),
        (["--max-proposals", "0"], "--max-proposals must be in"),
        (["--weights", "nan"], "--weights must be in [0, inf)"),
        (["--timeout", "0"], "--timeout must be in (0, inf)"),
        (["--workers", "-2"], "--workers must be in"),
        (["--set", "ppo.lr=-1"], "ppo.lr must be in [0, 1], got -1"),
        (["--set", "ppo.lr=1e30"], "ppo.lr must be in [0, 1], got 1e+30."),
        (["--set", "ppo.clip=0"], "ppo.clip must be in (0, 1]"),
        (["--set", "ppo.entropy=nan"], "ppo.entropy must be in"),
        (["--grid", "ppo.gamma=0.5,2"], "ppo.gamma must be in [0, 1], got 2"),
        (["--set", "ppo.hidden=big"], "'hidden' of algorithm 'ppo' must be a whole number"),
        (["--set", "ppo.hidden=1e3"], "must be a whole number, got 1000.0"),
        (["--set", f"ppo.hidden={10**30}"], "must be in [-2147483648, 2147483647]"),
        (["--oracle-set", "task=x"], "'task' of oracle 'toy' must be a whole number"),
        (["--name", "../../escape"], "--name must be letters"),
        (["--name", "/elsewhere/x"], "--name must be letters"),
        (["--name", "<script>"], "--name must be letters"),
        (["--name", "-x"], ""),
        (["--name", ".."], "--name must be letters"),
        (["--name", ""], "--name must be letters"),
        (["--name", "a\udcff"], "is no text in the encoding of this system"),
        (["--out", "a\udcff"], "is no text in the encoding of this system"),
    ],
)
def test_nothing_starts_with_a_bad_option(args, text, capsys, tmp_path):
    where = ["--out", str(tmp_path / "runs"), "--algorithms", "random", "ppo"]
    code, _, err = run(capsys, *SEARCH, *where, *args)
    assert code == 2
    assert text in err
    assert "Traceback" not in err
    assert not list(tmp_path.iterdir())


def test_every_number_of_every_command_has_a_range():
    """``COUNT`` and ``SEED`` are whole numbers' own; a float's must be stated."""
    from jaxnas.cli import data, db, export, search, surrogate, sweep, validate
    from jaxnas.cli import latent as lt
    from jaxnas.cli.common import evaluating, latent_parts

    modules = (data, db, export, search, surrogate, sweep, validate, lt, evaluating)
    found = 0
    for module in (*modules, latent_parts):
        for kind in vars(module).values():
            for name, field in getattr(kind, "__dataclass_fields__", {}).items():
                if kind.__module__ == module.__name__ and "float" in str(field.type):
                    assert name in kind.RANGES, (kind, name)
                    found += 1
    assert found > 5
    for name, algorithm in registry.ALGORITHMS.items():
        record = registry.lookup("algorithm", name)
        if name.startswith("latent-") or name == "random":
            continue
        hparams = record(SPACE).default_hparams()
        assert set(hparams._fields) <= set(hparams.RANGES), algorithm
        ranges.check_hparams(hparams, hparams._asdict())


def test_fresh_deletes_after_all_checks_and_follows_no_link(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").touch()
    algo, out = registry.make_algorithm("random", space=SPACE), tmp_path / "run"
    small = {"budget": 4, "seeds": 1, "out": out}
    search(algo, ORACLE, **small)
    (out / "link").symlink_to(outside)
    for wrong in ({"hparams": {"lr": 1}}, {"seed0": -1}, {"layout": "tall"}):
        with pytest.raises(UserError):
            search(algo, ORACLE, resume="never", **small | wrong)
    assert (out / "results.npz").exists()
    search(algo, ORACLE, resume="never", **small)
    assert not (out / "link").exists()
    assert (outside / "precious").exists()
    linked = tmp_path / "linked"
    linked.symlink_to(out)
    with pytest.raises(UserError, match="is a link"):
        search(algo, ORACLE, resume="never", **small | {"out": linked})
    assert (out / "results.npz").exists()


@pytest.mark.parametrize(
    "setting",
    [
        {"jax_disable_jit": True}, {"jax_debug_nans": True}, {"jax_debug_infs": True},
        {"jax_numpy_dtype_promotion": "strict"}, {"jax_numpy_rank_promotion": "raise"},
    ],
)  # fmt: skip
def test_settings_of_jax_that_stop_a_search_are_refused(setting, tmp_path):
    ((name, value),) = setting.items()
    before = getattr(jax.config, name)
    jax.config.update(name, value)
    try:
        with pytest.raises(UserError, match=f"unset {name.upper()}"):
            search(registry.make_algorithm("random", space=SPACE), ORACLE, budget=4)
    finally:
        jax.config.update(name, before)


@pytest.mark.parametrize("default", ["rbg", "unsafe_rbg"])
def test_a_seed_is_one_run_whatever_the_default_generator(default):
    algo = registry.make_algorithm("random", space=SPACE, batch=2)
    usual = search(algo, ORACLE, budget=4, seeds=2, seed0=7)
    with jax.default_prng_impl(default):
        other = search(algo, ORACLE, budget=4, seeds=2, seed0=7)
        key = jax.random.key(0)
        assert jax.random.key_impl(rng.wrap(jax.random.key_data(key))) == "rbg"
        algos.check_state_fixed(algo, ORACLE)
    np.testing.assert_array_equal(usual.arrays["tokens"], other.arrays["tokens"])


PROGRAM = """
import os, sys
sys.modules["fcntl"] = None
from jaxnas.cli import main
for args in {commands!r}:
    try:
        main(args)
    except SystemExit as stop:
        print("code", stop.code or 0, flush=True)
"""


def apart(commands, **variables):
    """Returns what commands print in one new process without ``fcntl``."""
    found = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(commands=commands)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), **variables},
        capture_output=True,
        timeout=300,
        check=True,
    )
    return found.stdout.decode("latin-1"), found.stderr.decode("latin-1")


@pytest.mark.parametrize(
    ("platform", "more", "codes"),
    [
        ("cuda", [["list"], ["info", "toy"], ["doctor"]], [2, 0, 2, 1]),
        ("no-such-platform", [], [2]),
    ],
)
def test_a_platform_that_is_not_there_is_a_sentence(platform, more, codes, tmp_path):
    wanted = [*SEARCH, "--algorithms", "random", "--out", str(tmp_path)]
    variables = {"PYTHONIOENCODING": "ascii", "JAX_PLATFORMS": platform}
    out, err = apart([wanted, *more], **variables)
    assert "Traceback" not in err
    assert f"JAX cannot use the platform '{platform}'" in err
    ended = [line for line in out.splitlines() if line.startswith("code")]
    assert ended == [f"code {code}" for code in codes]
    assert not list(tmp_path.iterdir())
    if more:
        assert "latent-ppo" in out
        assert "scikit-learn" in out, "doctor prints everything else"
        assert "1 problem(s)." in out


def test_tables_print_in_any_encoding_and_a_search_needs_locks(tmp_path):
    wanted = [*SEARCH, "--algorithms", "random", "--out", str(tmp_path), "--name", "x"]
    out, err = apart([["info", "analog-nasbench"], wanted], PYTHONIOENCODING="ascii")
    assert "UnicodeEncodeError" not in err
    assert "This system cannot lock files" in err
    assert out.endswith("code 2\n")


def test_objects_in_an_image_file_are_refused_in_our_words(tmp_path):
    from jaxnas.data.images.files import open_path

    path = tmp_path / "objects.npz"
    np.savez(path, X=np.zeros((4, 8, 8)), y=np.array(["a", None, 1, 2], object))
    garbage = tmp_path / "garbage.npz"
    garbage.write_bytes(b"no archive")
    for given, why in ((path, "holds Python objects"), (garbage, "is damaged")):
        with pytest.raises(UserError, match=why) as refused:
            open_path(given)
        assert "pickle" not in str(refused.value)
