"""Finished experiments as arrays: benchmarks of others and measurements of our own."""
