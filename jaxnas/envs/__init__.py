"""Environments: pure dynamics, their union with an oracle, and faces for outsiders."""
