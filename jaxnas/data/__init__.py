"""Tables from installed packages: located, verified, converted once, cached; numpy only."""
