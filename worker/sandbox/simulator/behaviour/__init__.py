"""How the simulator decides what to answer."""
