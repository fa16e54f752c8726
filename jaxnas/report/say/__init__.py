"""Sentences, tables and captioned figures of a report."""
