"""Use cases of intake: receive, accept, drain the inbox."""
