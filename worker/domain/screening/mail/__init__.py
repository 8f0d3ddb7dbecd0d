"""Tells mails of people from those of machines: one table of rules, and who is let through."""
