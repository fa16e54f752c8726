"""Search spaces: token vectors under a mask, their canonical forms, graphs and specs."""
