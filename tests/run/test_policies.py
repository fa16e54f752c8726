"""Policies of a search: saved, given back, started from, refused where they do not fit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnas
from jaxnas.core.errors import UserError
from jaxnas.run import policies

SPACE = jaxnas.make_space("toy")
ORACLE = jaxnas.make_oracle("toy", space=SPACE)
OPTIONS = {"budget": 32, "max_proposals": 32, "seeds": 3}


def learner(name="reinforce", **options):
    sizes = {"batch": 4, "hidden": 8, **options}
    return jaxnas.make_algorithm(name, space=SPACE, **sizes)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "reinforce"
    return jaxnas.search(learner(), ORACLE, out=out, **OPTIONS)


def test_policies_come_back_from_memory_and_from_the_folder(run):
    score = run.learned[policies.SCORE]
    assert score.tolist() == sorted(run.arrays["best_true"], reverse=True)
    tokens = jnp.zeros((2, SPACE.length), jnp.int32)
    read = jaxnas.load_result(run.path)
    for i in range(3):
        ours, theirs = run.policy(i), read.policy(i)
        jax.tree.map(np.testing.assert_array_equal, ours.params, theirs.params)
        out = theirs.apply(theirs.params, tokens)
        assert out.logits.shape == (2, SPACE.length, SPACE.vocab)
    first, second = (jax.tree.leaves(run.policy(i).params)[-1] for i in (0, 1))
    assert not np.array_equal(first, second)
    with pytest.raises(UserError, match="controller 7 was not saved"):
        read.policy(7)


def test_a_search_starts_from_saved_policies_and_resumes_to_the_same_bits(run, tmp_path):
    frozen = {"hparams": {"lr": [0.0, 0.1]}, "init": run.path, "seed0": 5}
    found = jaxnas.search(learner(), ORACLE, out=tmp_path / "a", **OPTIONS, **frozen)
    best = run.learned[policies.CONTROLLER]
    for s in range(3):  # lr is 0 in the first setting: it ends as it began
        theirs = run.policy(int(best[s])).params
        jax.tree.map(np.testing.assert_array_equal, found.policy(s).params, theirs)
    assert found.config["init"]
    cut = []

    def stop(event):
        if event["event"] == "progress":
            cut.append(event["update"])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        jaxnas.search(
            learner(), ORACLE, out=tmp_path / "b", callbacks=[stop], **OPTIONS, **frozen
        )
    again = jaxnas.search(learner(), ORACLE, out=tmp_path / "b", **OPTIONS, **frozen)
    assert cut
    for name, column in found.arrays.items():
        np.testing.assert_array_equal(column, again.arrays[name])
    with pytest.raises(UserError, match="init"):
        jaxnas.search(
            learner(), ORACLE, out=tmp_path / "b", **OPTIONS, **{**frozen, "init": None}
        )


def test_only_the_best_are_saved_where_all_are_too_many(run):
    each = sum(v[0].nbytes for n, v in run.learned.items() if n.startswith(policies.LEAF))
    twice = {name: np.concatenate([leaf, leaf]) for name, leaf in run.learned.items()}
    arrays = {**twice, "curve": np.zeros(6)}
    kept = policies.taken(arrays, limit=2 * each + 1)
    assert list(arrays) == ["curve"]
    assert kept[policies.SCORE].tolist() == [run.learned[policies.SCORE][0]] * 2


@pytest.mark.parametrize(
    ("made", "match"),
    [
        (lambda: learner("ppo"), "another algorithm"),
        (lambda: learner(hidden=9), "another policy"),
        (lambda: jaxnas.make_algorithm("random", space=SPACE), "learns no policy"),
    ],
)
def test_policies_that_do_not_fit_are_refused(run, made, match):
    with pytest.raises(UserError, match=match):
        jaxnas.search(made(), ORACLE, init=run.path, **OPTIONS)


def test_policies_of_another_space_or_of_nothing_are_refused(run, tmp_path):
    space = jaxnas.make_space("toy", length=SPACE.length + 1)
    other = jaxnas.make_algorithm("reinforce", space=space, batch=4, hidden=8)
    with pytest.raises(UserError, match="another space"):
        policies.initial(run.path, other)
    with pytest.raises(UserError, match="There is no set of policies"):
        policies.initial(tmp_path, learner())
    plain = jaxnas.search(jaxnas.make_algorithm("random", space=SPACE), ORACLE, budget=8)
    with pytest.raises(UserError, match="learns none"):
        plain.policy(0)


def test_the_command_line_starts_each_method_from_its_own_run(run, tmp_path, monkeypatch):
    from jaxnas.cli import search as cli

    monkeypatch.setattr(cli, "conclude", lambda *args, **kwargs: 0)
    sizes = ("reinforce.hidden=8", "reinforce.batch=4")
    made = {"oracle": "toy", "budget": 8, "out": tmp_path, "quiet": True, "name": "b"}
    common = cli.Common(init=run.path.parent, set=sizes, **made)
    cli.Search(common, algorithms=("random", "reinforce"), seeds=2).run()
    begun = jaxnas.load_result(tmp_path / "b" / "reinforce").config["init"]
    assert begun == policies.initial(run.path, learner()).checksum
    alone = cli.Search(cli.Common(init=run.path.parent, **made), algorithms=("random",))
    with pytest.raises(UserError, match="leave --init out"):
        alone.run()
