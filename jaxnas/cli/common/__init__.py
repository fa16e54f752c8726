"""What several sub-commands share."""
