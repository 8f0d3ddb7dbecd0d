"""Rows whose parent is gone, where no foreign key looks for it: decisions 56 and 68."""

from typing import Final

from worker.store.sql import Connection, sql

PARENTS: Final = {
    ("channel_users", "open_turn_id"): "turns",
    ("turns", "channel_user_id"): "channel_users",
    ("turns", "conversation_id"): "conversations",
    ("messages", "channel_user_id"): "channel_users",
    ("messages", "turn_id"): "turns",
    ("calls", "channel_user_id"): "channel_users",
    ("calls", "turn_id"): "turns",
    ("calls", "conversation_id"): "conversations",
    ("replies", "turn_id"): "turns",
    ("deliveries", "channel_user_id"): "channel_users",
    ("deliveries", "reply_id"): "replies",
}
"""Table and column -> the table to which it refers."""
_COUNTS: Final = {
    f"{table}.{column}": sql(f"""
SELECT count(*) FROM {table} child WHERE {column} IS NOT NULL
    AND NOT EXISTS (SELECT FROM {parent} WHERE {parent}.id = child.{column})
""")
    for (table, column), parent in PARENTS.items()
}
_PATIENCE = sql("SELECT set_config('statement_timeout', '0', true)")


def count_orphans(connection: Connection) -> dict[str, int]:
    """Count them by column, such as `calls.turn_id`, in a transaction; reads whole tables."""
    connection.execute(_PATIENCE)
    counts = {name: int(connection.execute(one).scalar_one()) for name, one in _COUNTS.items()}
    return {name: count for name, count in counts.items() if count}
