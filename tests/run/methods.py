"""Every method on the toy space, at sizes that compile in seconds."""

import jax

import jaxnas

SPACE = jaxnas.make_space("toy")
LATENT = "latent.npz"
"""An untrained latent model, in the folder that :func:`make` is given."""


def make(name, folder):
    """The method of that name; a latent one finds or makes its model in the folder."""
    if not name.startswith("latent-"):
        return jaxnas.make_algorithm(name, space=SPACE, batch=2)
    path = folder / LATENT
    if not path.exists():
        from jaxnas.latent import files
        from jaxnas.latent.vqvae import VQVAE

        model = VQVAE(SPACE, codes=6, dims=2, hidden=16)
        files.save(path, model, model.init(jax.random.key(0)))
    return jaxnas.make_algorithm(
        name, space=SPACE, batch=2, latent=str(path), labels=10, members=2, fit_steps=5,
        capacity=64, num_envs=2, num_steps=8, max_steps=4, hidden=8,
    )  # fmt: skip
