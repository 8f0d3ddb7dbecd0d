"""Use cases: receive, answer, deliver, sweep, operate."""
