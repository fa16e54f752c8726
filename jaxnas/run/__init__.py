"""Runs searches: the loop, the population layout, checkpoints and the run directory."""
