"""Evaluations that cost something, stored in one SQLite file."""
