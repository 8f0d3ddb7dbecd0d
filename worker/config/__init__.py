"""Settings from the environment and the agents file."""
