"""Searchers: each proposes architectures, sees their evaluations, and learns."""
