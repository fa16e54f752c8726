"""Texts with labels: what networks for sequences are trained and evaluated on."""
