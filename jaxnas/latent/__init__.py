"""Learned latent spaces: architectures as vectors that a controller can move through."""
