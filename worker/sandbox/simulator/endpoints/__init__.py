"""The simulator's HTTP endpoints."""
