"""Postgres: every public method is one short transaction; rows stay here, values leave."""
