"""What other tools show of a run: its histories, read when it has finished."""
