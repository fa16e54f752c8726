"""Spaces as data: counts, masks and sampling against brute force; files; networks."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from brute import architectures, random_document

import jaxnas
from jaxnas.children.build import build
from jaxnas.children.check import check_space
from jaxnas.children.count import count_totals
from jaxnas.core import tokens as tk
from jaxnas.core.errors import UserError
from jaxnas.spaces.declare import declare, write_space
from jaxnas.spaces.nb201 import NB201
from jaxnas.testing.spaces import SPACE_CHECKS

SHIPPED = ("vocab", "zoph-cnn", "chain", "hierarchical", "text-chain")


def plain(values):
    """A dict as text, so that it can be put into a set."""
    return json.dumps(values, sort_keys=True)


DOCUMENTS = [
    pytest.param(seed, marks=[pytest.mark.slow] * (seed >= 10)) for seed in range(25)
]


@pytest.mark.parametrize("seed", DOCUMENTS)
def test_members_are_those_of_brute_force(seed):
    """Count, mask, dicts and frequencies of random documents, all architectures listed."""
    document = random_document(seed)
    wanted = architectures(document)
    if not wanted:
        with pytest.raises(UserError, match="no architecture"):
            declare(document)
        return
    space = declare(document)
    assert space.count() == len(wanted)
    rows = tk.enumerate_space(space)
    found = [space.to_dict(row) for row in rows]
    assert sorted(map(plain, found)) == sorted(map(plain, wanted))
    for row, values in list(zip(rows, found, strict=True))[:: max(1, len(rows) // 50)]:
        np.testing.assert_array_equal(space.from_dict(values), row)
    for place, (name, shares) in enumerate(space.frequencies().items()):
        values = space.decision_values[place]
        for token, value in enumerate(values):
            share = np.mean(rows[:, place] == token)
            key = "absent" if value is None else str(value)
            assert shares[key] == pytest.approx(share, abs=1e-12), name


def test_some_random_documents_are_large_and_some_forbid():
    """The check above has something to say."""
    documents = [random_document(seed) for seed in range(25)]
    assert sum("forbid" in d for d in documents) > 10
    assert max(len(architectures(d)) for d in documents) > 500


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 3, 7])
def test_random_documents_conform(seed):
    space = declare(random_document(seed))
    for check in SPACE_CHECKS:
        check(space)


def test_uniform_sampling_is_uniform_where_token_sampling_is_not():
    document = {
        "name": "lopsided",
        "decisions": [
            {"name": "op", "choices": ["many", "one"]},
            {"name": "size", "choices": list(range(99)), "when": {"op": "many"}},
        ],
    }
    space = declare(document)
    keys = jax.random.split(jax.random.key(0), 20_000)
    draw = lambda sampler: np.asarray(jax.vmap(lambda k: sampler(k, space))(keys))
    share = np.mean(draw(tk.sample_uniform)[:, 0] == 1)
    assert abs(share - 0.01) < 4 * np.sqrt(0.01 * 0.99 / 20_000)
    assert abs(np.mean(draw(tk.sample)[:, 0] == 1) - 0.5) < 0.02


def test_a_dead_end_is_masked_before_it_is_reached():
    """``b`` has no choice left after a = 1, so a = 1 is illegal at once."""
    space = declare(
        {
            "name": "dead",
            "decisions": [
                {"name": "a", "choices": [0, 1]},
                {"name": "c", "choices": [0, 1]},
                {"name": "b", "choices": [0, 1]},
            ],
            "forbid": [{"a": 1, "b": 0}, {"a": 1, "b": 1}],
        }
    )
    assert space.count() == 4
    zeros = jnp.zeros(3, jnp.int32)
    assert np.asarray(space.mask(zeros, jnp.int32(0))).tolist() == [True, False]
    assert any("'a' can never be '1'" in text for text in space.warnings())


def test_numbers_beyond_64_bits_are_exact():
    decisions = [{"repeat": "x", "least": 70, "most": 70, "decisions": [
        {"name": "v", "choices": [1, 2, 3]}]}]  # fmt: skip
    space = declare({"name": "huge", "decisions": decisions})
    assert space.count() == 3**70
    shares = space.completions(jnp.zeros(70, jnp.int32), jnp.int32(5))
    np.testing.assert_allclose(shares, 1 / 3, rtol=1e-6)


FILE = """
name = "mine"
[[decisions]]
name = "op"
choices = ["conv", "pool"]
[[decisions]]
name = "kernel"
choices = [1, 3]
when = { op = "conv" }
"""
YAML = """
name: mine
decisions:
  - name: op
    choices: [conv, pool]
  - name: kernel
    choices: [1, 3]
    when: {op: conv}
"""


def test_toml_yaml_json_and_dict_are_one_space(tmp_path):
    (tmp_path / "a.toml").write_text(FILE)
    (tmp_path / "a.yaml").write_text(YAML)
    first, second = declare(tmp_path / "a.toml"), declare(tmp_path / "a.yaml")
    (tmp_path / "a.json").write_text(json.dumps(first.document))
    third = declare(tmp_path / "a.json")
    assert first == second == third == declare(first.document)
    assert hash(first) == hash(second)
    assert jaxnas.make_space(str(tmp_path / "a.yaml")) == first


@pytest.mark.parametrize("suffix", [".toml", ".yaml", ".json"])
@pytest.mark.parametrize("name", SHIPPED)
def test_file_to_space_to_file(name, suffix, tmp_path):
    space = jaxnas.make_space(name)
    write_space(space, tmp_path / f"copy{suffix}")
    assert declare(tmp_path / f"copy{suffix}") == space


def test_another_document_is_another_id():
    """An edited file never shares stored evaluations with what it was; comments do."""
    document = random_document(1)
    same = {**document, "description": "in other words"}
    other = {**document, "version": 2}
    assert declare(same).id == declare(document).id != declare(other).id


def test_the_declared_nb201_makes_the_networks_of_the_hand_written_one():
    ours = declare(__file__.replace("test_declare.py", "nb201.toml"), (16, 16, 3), 10,
                   channels=4, cells=2)  # fmt: skip
    theirs = NB201(channels=4, cells=2, image=(16, 16, 3))
    assert ours.count() == theirs.count()
    assert ours.decision_names == theirs.decision_names
    rng = np.random.default_rng(0)
    for row in rng.integers(0, 5, (20, 6)):
        tokens = row.astype(np.int32)
        first, second = ours.to_spec(tokens), theirs.to_spec(tokens)
        assert count_totals(first) == count_totals(second)
        shapes = [
            sorted(leaf.shape for leaf in jax.tree.leaves(jax.eval_shape(
                build(spec).init, jax.random.key(0), jnp.zeros((1, 16, 16, 3)))))
            for spec in (first, second)
        ]  # fmt: skip
        assert shapes[0] == shapes[1]


def test_stacking_a_motif_more_often_on_other_images():
    """The same tokens, another task and twice the cells: twice the unit's parameters."""
    space = jaxnas.make_space("hierarchical")
    tokens = space.from_dict({
        "depth": 1, "motif1_in_mid": "conv3x3", "motif1_in_out": "skip",
        "motif1_mid_out": "conv1x1",
    })  # fmt: skip
    sizes = {}
    for cells in (1, 2, 3):
        moved = space.for_images((8, 8, 1), 4, cells=cells)
        spec = moved.to_spec(tokens)
        sizes[cells] = count_totals(spec).params
        assert spec["outputs"]["logits"]["shape"] == [4]
        np.testing.assert_array_equal(moved.from_spec(spec), tokens)
    assert sizes[2] - sizes[1] == sizes[3] - sizes[2] > 0


def test_a_space_without_a_network_says_so():
    space = declare({"name": "bare", "decisions": [{"name": "a", "choices": [1, 2]}]})
    spec = space.to_spec(np.zeros(1, np.int32))
    assert spec["choices"] == {"a": 1}
    with pytest.raises(UserError, match="names no operations"):
        check_space(space)
    for name in ("cost", "child"):
        with pytest.raises(UserError, match="names no operations"):
            jaxnas.make_oracle(name, space=space)


def test_skips_show_in_the_graph():
    """Chains of two layers, with and without a skip, have different graphs."""
    space = declare({"name": "skips", "decisions": [{
        "repeat": "layer", "least": 3, "most": 3,
        "decisions": [{"name": "op", "choices": ["a", "b"]},
                      {"name": "from", "subset": "earlier"}]}]})  # fmt: skip
    layers = lambda chosen: {"layer": [
        {"op": "a"}, {"op": "a", "from": []}, {"op": "a", "from": chosen}]}  # fmt: skip
    edges = {}
    for chosen in ([], [1], [2], [1, 2]):
        graph = space.to_graph(jnp.asarray(space.from_dict(layers(chosen))))
        edges[tuple(chosen)] = int(np.asarray(graph.adjacency).sum())
        assert int(np.asarray(graph.present).sum()) == 5
    # An edge from a layer to the one after it is in the chain already.
    assert edges == {(): 4, (1,): 5, (2,): 4, (1, 2): 5}


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
@pytest.mark.parametrize("name", SHIPPED)
def test_sampling_is_one_wide_loop_over_positions_on_accelerators(name, platform):
    """1,024 architectures at once: the only loop is the one over the tokens."""
    space = jaxnas.make_space(name)
    keys = jax.random.split(jax.random.key(0), 1024)
    draw = jax.jit(jax.vmap(lambda key: tk.sample_uniform(key, space)))
    text = draw.trace(keys).lower(lowering_platforms=(platform,)).as_text()
    assert text.count("stablehlo.while") == 1
    assert f"tensor<1024x{space.length}xi32>" in text
