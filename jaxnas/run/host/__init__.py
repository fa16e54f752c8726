"""Evaluating on the host: executors, workers, and the cache in front of them."""
