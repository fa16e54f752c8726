"""Several objectives at once: how they become one reward, and which of them are undominated."""
