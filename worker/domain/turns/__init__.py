"""Pure values and decisions of a turn."""
