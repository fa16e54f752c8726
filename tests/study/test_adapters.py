"""Optuna and Ray Tune scripts, driven by our methods."""

import numpy as np
import pytest

import jaxnas

pytestmark = pytest.mark.external


def test_an_optuna_script_is_driven_and_never_repeats_itself():
    optuna = pytest.importorskip("optuna")
    from jaxnas.study.adapters.optuna_sampler import JaxnasSampler

    optuna.logging.set_verbosity(optuna.logging.ERROR)

    def objective(trial):
        x = trial.suggest_int("x", 0, 9)
        lr = trial.suggest_float("lr", 1e-4, 1e-1, log=True)
        kind = trial.suggest_categorical("kind", ["a", "b", None])
        if x == 9:
            raise optuna.TrialPruned
        return (x - 4) ** 2 + abs(np.log10(lr) + 2) + (kind != "b")

    best = {}
    for name, sampler in [
        ("ours", JaxnasSampler("evolution", seed=0, population=20, sample=10)),
        ("random", optuna.samplers.RandomSampler(seed=0)),
    ]:
        study = optuna.create_study(sampler=sampler)
        study.optimize(objective, n_trials=120)
        best[name] = study.best_value
        if name == "ours":
            params = [tuple(t.params.values()) for t in study.trials[1:]]
            assert len(set(params)) == len(params)
    assert best["ours"] < 0.2
    assert best["ours"] <= best["random"] + 0.05


def test_optuna_with_two_objectives():
    optuna = pytest.importorskip("optuna")
    from jaxnas.study.adapters.optuna_sampler import JaxnasSampler

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(
        directions=["maximize", "minimize"], sampler=JaxnasSampler("random")
    )

    def objective(trial):
        x = trial.suggest_int("x", 0, 5)
        y = trial.suggest_int("y", 0, 5)
        return x + y, x * y

    study.optimize(objective, n_trials=36)
    assert {t.values[0] for t in study.best_trials} == {5, 6, 7, 8, 9, 10}


@pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning")
def test_a_ray_tuner_is_driven(tmp_path):
    ray = pytest.importorskip("ray")
    tune = pytest.importorskip("ray.tune")
    from jaxnas.study.adapters.ray_tune import JaxnasSearch

    def train(config):
        if config["width"] == 8:
            raise RuntimeError("out of memory")
        tune.report({"accuracy": config["width"] + config["depth"]})

    document = {
        "name": "ray",
        "decisions": [
            {"name": "width", "choices": [8, 16, 32]},
            {"name": "depth", "choices": [1, 2]},
        ],
    }
    path = tmp_path / "s.sqlite"
    search = JaxnasSearch(document, metric="accuracy", path=path)
    ray.init(num_cpus=2, include_dashboard=False, ignore_reinit_error=True)
    try:
        tuner = tune.Tuner(
            train,
            tune_config=tune.TuneConfig(search_alg=search, num_samples=6),
            run_config=tune.RunConfig(storage_path=str(tmp_path / "ray"), verbose=0),
        )
        found = tuner.fit()
    finally:
        ray.shutdown()
    assert found.get_best_result("accuracy", "max").config == {"width": 32, "depth": 2}
    study = jaxnas.Study.load(path)
    assert study.best.values == {"accuracy": 34.0}
    assert len(study) == 6
    assert sum(np.isnan(t.values["accuracy"]) for t in study.trials) == 2
