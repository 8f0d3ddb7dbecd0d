"""SQL of turns: claims, leases, calls, settling."""
