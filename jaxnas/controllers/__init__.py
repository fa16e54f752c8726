"""Policies: what reads a prefix or an observation and answers with logits and a value."""
