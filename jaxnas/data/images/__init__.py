"""Small real image sets with fixed splits, and a reader's own."""
