"""File formats, read without running what a file says."""
