"""Ways out: how a reply reaches its channel."""
