"""Conformance suites, for this repository's tests and for those of plug-ins."""
