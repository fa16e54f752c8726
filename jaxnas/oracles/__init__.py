"""What scores architectures: tables, costs, toy functions, and their combinations."""
