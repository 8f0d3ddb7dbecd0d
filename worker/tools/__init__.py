"""Tools: running what a model asks for."""
