"""Networks on analog in-memory hardware: a JAX model of it, and a bridge to torch."""
