"""How the simulator chooses its answers."""
