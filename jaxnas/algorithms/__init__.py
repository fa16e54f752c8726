"""Searchers: each proposes architectures, is told how they did, and learns."""
