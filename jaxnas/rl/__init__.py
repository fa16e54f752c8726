"""Training on environments: rollouts, returns, losses and learning steps."""
