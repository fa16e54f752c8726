"""Analog in-memory inference: tiles, device noise, evaluation, training and costs."""
