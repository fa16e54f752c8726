"""What several algorithms share: returns, losses, optimisation, collapse detection."""
