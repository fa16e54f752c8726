"""Evaluations that cost something, kept in one SQLite file."""
