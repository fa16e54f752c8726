"""Several objectives at once: domination, fronts, hypervolume and archives."""
