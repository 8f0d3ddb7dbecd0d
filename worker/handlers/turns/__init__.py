"""Use cases of a turn: answer, reconcile, run tools, settle."""
