"""Use cases of operators: take over, pause, say, conversations, replay."""
