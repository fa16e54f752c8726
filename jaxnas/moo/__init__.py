"""Several objectives at once, and how they become one reward."""
