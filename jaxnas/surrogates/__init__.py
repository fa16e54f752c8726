"""Fitted models of an oracle: ensembles, boosted trees, their files and their quality."""
