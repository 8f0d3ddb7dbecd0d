"""The tables. Names are the contract with operators."""

# `Base` knows the tables of the modules that were imported, so all of them are imported here.
from worker.store.schema import mail, operations, turns, users
from worker.store.schema.base import Base

__all__ = ["Base", "mail", "operations", "turns", "users"]
