"""Text messages: pure values and decisions."""
