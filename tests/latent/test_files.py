"""Model files: what comes back, and what is refused with one sentence."""

import dataclasses
import json
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas.core.errors import UserError
from jaxnas.latent import files
from jaxnas.latent.vqvae import VQVAE
from jaxnas.registry import make_space
from jaxnas.spaces.toy import Toy

SPACE = make_space("toy", length=5, vocab=4)
MODEL = VQVAE(SPACE, codes=4, dims=2, hidden=8, ema=False)
CURVES = {"match": np.linspace(0, 1, 5, dtype=np.float32)}


@pytest.fixture(scope="module")
def params():
    return jax.jit(MODEL.init)(jax.random.key(0))


@pytest.fixture
def saved(params, tmp_path):
    path = tmp_path / "deep" / "m.npz"
    files.save(path, MODEL, params, CURVES, {"labels": 7})
    return path


def test_what_was_saved_comes_back(saved, params):
    stored = files.load(saved)
    assert stored.model == MODEL
    assert stored.facts == {"labels": 7}
    np.testing.assert_array_equal(stored.history["match"], CURVES["match"])
    assert jax.tree.structure(stored.params) == jax.tree.structure(params)
    for a, b in zip(jax.tree.leaves(stored.params), jax.tree.leaves(params), strict=True):
        np.testing.assert_array_equal(a, b)
        assert a.dtype == b.dtype
    latent = jnp.ones(MODEL.latent_size)
    np.testing.assert_array_equal(
        stored.model.decode(stored.params, latent), MODEL.decode(params, latent)
    )
    assert [p.name for p in saved.parent.iterdir()] == ["m.npz"], "nothing half written"


def test_a_model_without_encoder_and_head_comes_back_so(tmp_path, params):
    bare = params._replace(encoder=None, head=None)
    files.save(tmp_path / "m.npz", MODEL, bare)
    stored = files.load(tmp_path / "m.npz", SPACE)
    assert stored.params.encoder is None
    assert stored.params.head is None
    with pytest.raises(UserError, match="without an encoder"):
        MODEL.encode(stored.params, jnp.zeros(5, jnp.int32))
    with pytest.raises(UserError, match="without a score head"):
        MODEL.score(stored.params, jnp.zeros(MODEL.latent_size))


def altered(path, **changes):
    """Rewrites the header of a file."""
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    header = json.loads(arrays["header"].tobytes()) | changes
    arrays["header"] = np.frombuffer(json.dumps(header).encode(), np.uint8)
    np.savez(path, **arrays)


def refused(path, text, space=None):
    with pytest.raises(UserError, match=text) as error:
        files.load(path, space)
    message = str(error.value)
    assert "\n" not in message
    assert message.endswith((".", "train"))
    return message


def test_another_space_or_version_is_refused(saved):
    refused(saved, "of the space 'toy-v1', not of 'nb201-v1'", make_space("nb201"))
    refused(saved, "does not fit its space", Toy(length=6, vocab=4))
    altered(saved, format="jaxnas-latent", version=1)  # as files up to 0.1 say it
    assert files.load(saved).model == MODEL
    altered(saved, version=99)
    refused(saved, "format 'jaxnas-latent-v99' and this jaxnas reads 'jaxnas-latent-v1'")
    altered(saved, version=1, format="other")
    refused(saved, "no intact latent model")


def test_a_space_without_a_name_must_be_given(tmp_path, params):
    space = Toy(length=5, vocab=5)
    model = dataclasses.replace(MODEL, space=space)
    files.save(tmp_path / "m.npz", model, jax.jit(model.init)(jax.random.key(0)))
    refused(tmp_path / "m.npz", "which no name stands for")
    assert files.load(tmp_path / "m.npz", space).model == model


def test_a_value_that_changed_is_seen(saved):
    with np.load(saved) as file:
        arrays = {name: file[name] for name in file.files}
    arrays["params.codes"] = arrays["params.codes"] + 1
    np.savez(saved, **arrays)
    refused(saved, "no intact latent model")


@pytest.mark.parametrize("length", [0, 10, 200, -30])
def test_a_truncated_file_is_refused(saved, length):
    saved.write_bytes(saved.read_bytes()[:length])
    refused(saved, "no intact latent model")


class Attack:
    def __reduce__(self):
        return exec, ("raise RuntimeError('ran')",)


def test_what_is_no_model_is_refused_and_nothing_is_run(tmp_path):
    path = tmp_path / "m.npz"
    refused(path, "There is no latent model at")
    for content in (b"text", pickle.dumps(Attack())):
        path.write_bytes(content)
        refused(path, "no intact latent model")
    np.savez(path, header=np.array([Attack()], dtype=object))
    refused(path, "no intact latent model")
    np.savez(path, x=np.ones(3))
    refused(path, "no intact latent model")


def test_an_unwritable_place_is_one_sentence(tmp_path, params):
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="cannot be written"):
        files.save(tmp_path / "file" / "m.npz", MODEL, params)
