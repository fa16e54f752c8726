"""Parts of a space that is written down as data: file, decisions, counting, network."""
