"""Log line, counter and span of each step, by subject."""
