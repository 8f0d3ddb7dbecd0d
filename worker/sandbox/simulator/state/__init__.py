"""What the simulator remembers between requests."""
