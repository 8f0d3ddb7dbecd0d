"""How people stay in charge: drafts, hand-over, disclosure, hours."""
