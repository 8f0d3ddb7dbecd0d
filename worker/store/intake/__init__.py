"""SQL of intake: messages, the inbox and its listener."""
