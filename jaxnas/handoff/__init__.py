"""Networks for other tools: exports, and validation on simulated analog hardware."""
