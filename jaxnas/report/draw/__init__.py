"""Draws figures from plain arrays."""
