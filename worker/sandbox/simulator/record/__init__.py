"""Values and the append-only log of the simulator."""
