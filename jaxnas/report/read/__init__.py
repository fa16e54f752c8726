"""Reads run directories into numbers, and checks them."""
