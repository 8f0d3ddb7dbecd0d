"""Pure values and decisions: no framework, no clock, no I/O."""
