"""Types, protocols, token operators and keys: what every other folder is written in."""
