"""The VQ-VAE + PPO project's checkpoints: forward pass, actions, and refusals."""

import pickle
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas.core import tokens as tk
from jaxnas.core.errors import UserError
from jaxnas.latent import vqvae_checkpoint
from jaxnas.registry import make_space

# Outputs of torch 2.13.0's forward pass of the checkpoint (torch.load with
# weights_only=True, linear layers and ReLU): of codes 0 and 13, and of eight ones.
CODE_0 = [
    52.818867, 2.64072, 6.541422, 5.471724, 4.21881, 2.56539, 1.51501, 2.035624, 2.03432,
    5.381897, 1.689777, 1.49244, 4.252489, 1.292349, 1.224732, 3.104242, 0.806402, 0.937052,
    2.189767, 0, 0, 1.184247,
]  # fmt: skip
CODE_13 = [
    60.851276, 3.185542, 7.44641, 6.393496, 5.081307, 3.125224, 1.83774, 2.303551, 2.40435,
    6.140717, 2.030986, 1.835646, 4.950653, 1.627352, 1.56045, 3.678111, 1.107423, 1.227324,
    2.725902, 0, 0, 1.485703,
]  # fmt: skip
ONES = [3.85367, 0, 1.024629, 0, 0, 0, 0, 0.402759, 0, 0.755843, *[0] * 12]


@pytest.fixture(scope="module")
def paths(shared_folder):
    pytest.importorskip("torch")
    return (
        shared_folder / "vqvae_decoder_model.pth",
        shared_folder / "vqvae_codebook.pth",
    )


@pytest.fixture(scope="module")
def found(paths):
    return vqvae_checkpoint.read(*paths, make_space("analog-resnet", variant="csv"))


def forward(path, x):
    """The decoder in numpy, float64, straight from the checkpoint."""
    state = vqvae_checkpoint._load(path)
    for name in ("fc1", *(f"layers.{i}.0" for i in range(5)), "fc2"):
        weight, bias = (state[f"{name}.{p}"].astype(np.float64) for p in ("weight", "bias"))
        x = np.maximum(x @ weight.T + bias, 0)
    return x


@pytest.mark.external
def test_the_forward_pass_is_torchs(found, paths):
    model, params = found
    assert model.widths == (512, 256, 128, 64, 32, 16)
    assert sum(leaf.size for leaf in jax.tree.leaves(params.decoder)) == 180_070
    out = lambda z: np.asarray(model.outputs(params, z))
    np.testing.assert_allclose(out(params.codes[0]), CODE_0, rtol=2e-5, atol=2e-5)
    np.testing.assert_allclose(out(params.codes[13]), CODE_13, rtol=2e-5, atol=2e-5)
    np.testing.assert_allclose(out(jnp.ones(8)), ONES, rtol=2e-5, atol=2e-5)
    rng = np.random.default_rng(0)
    latents = rng.standard_normal((300, 8)) * np.array([[0.04], [1.0], [5.0]] * 100)
    ours = jax.jit(jax.vmap(lambda z: model.outputs(params, z)))(
        jnp.asarray(latents, jnp.float32)
    )
    np.testing.assert_allclose(ours, forward(paths[0], latents), rtol=1e-4, atol=1e-4)


@pytest.mark.external
def test_decoding_is_the_projection_of_the_outputs_and_valid(found):
    model, params = found
    latents = jax.random.normal(jax.random.key(0), (100, 8))
    decoded = jax.jit(jax.vmap(lambda z: model.decode(params, z)))(latents)
    by_hand = lambda z: model.space.project(model.outputs(params, z))
    np.testing.assert_array_equal(jax.jit(jax.vmap(by_hand))(latents), decoded)
    assert jax.vmap(lambda t: tk.is_valid(model.space, t))(decoded).all()


@pytest.mark.external
def test_entries_are_the_codebook_that_actions_write(found):
    """Action 17 of 14 x 8 writes codebook[2, 1] into dimension 1."""
    model, params = found
    entries = np.asarray(model.entries(params))
    assert entries.shape == (14, 8)
    assert entries.reshape(-1)[17] == params.codes[2, 1]
    assert entries.std() == pytest.approx(0.0393, abs=1e-4), "far from a normal start"
    with pytest.raises(UserError, match="without an encoder"):
        model.encode(params, jnp.zeros(22, jnp.int32))


@pytest.mark.external
def test_other_files_and_spaces_are_refused(paths):
    space = make_space("analog-resnet", variant="csv")
    decoder, codebook = paths
    with pytest.raises(UserError, match="not a decoder of the original"):
        vqvae_checkpoint.read(codebook, codebook, space)
    with pytest.raises(UserError, match="not a codebook"):
        vqvae_checkpoint.read(decoder, decoder, space)
    with pytest.raises(
        UserError, match="writes 22 features and the space 'nb201-v1' has 0"
    ):
        vqvae_checkpoint.read(decoder, codebook, make_space("nb201"))


def test_without_torch_the_sentence_names_the_extra(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "torch", None)
    (tmp_path / "a.pth").write_bytes(b"PK")
    (tmp_path / "b.pth").write_bytes(b"PK")
    space = make_space("analog-resnet", variant="csv")
    with pytest.raises(UserError, match=r"needs torch.*jaxnas\[analog\]"):
        vqvae_checkpoint.read(tmp_path / "a.pth", tmp_path / "b.pth", space)


class Attack:
    """Runs code when an ordinary unpickler reads it."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return open, (str(self.marker), "w")


@pytest.mark.external
def test_damaged_files_are_one_sentence_and_no_code_is_run(tmp_path):
    torch = pytest.importorskip("torch")
    path, marker = tmp_path / "m.pth", tmp_path / "ran"
    with pytest.raises(UserError, match="cannot be read"):
        vqvae_checkpoint._load(path)
    torch.save({"weight": torch.zeros(2), "more": Attack(marker)}, path)
    torch.load(path, weights_only=False)["more"].close()
    assert marker.exists()
    marker.unlink()
    contents = [path.read_bytes(), path.read_bytes()[:99], b"", b"x", pickle.dumps(open)]
    for content in contents:
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"not a torch checkpoint of tensors alone"):
            vqvae_checkpoint._load(path)
    assert not marker.exists()
    torch.save([torch.arange(3)], path)
    assert isinstance(vqvae_checkpoint._load(path), list)
