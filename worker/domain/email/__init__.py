"""E-mail as values and decisions: a mail, its thread, ids that only we can make."""
