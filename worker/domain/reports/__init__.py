"""Pure values and decisions behind the commands that explain."""
