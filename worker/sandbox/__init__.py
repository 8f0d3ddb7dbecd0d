"""Everything a fresh machine lacks: embedded Postgres and Redis, and the simulator of Telnyx."""
