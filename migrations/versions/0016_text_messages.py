"""Text messages: the consent ledger, the request and the receipt of a delivery, gateway ids.

`secrets` holds the key under which the ledger knows an address after it is erased. The key stays in
the database on purpose: who loses it would write to people who have opted out.

Workers of the version before know neither the new state of a delivery nor the ledger: until the
last of them has stopped, they may answer somebody who has just opted out.

Phase: expand.
Locks: ACCESS EXCLUSIVE on deliveries and channel_users, briefly: no column is filled in, and the
new check is validated under SHARE UPDATE EXCLUSIVE. The indexes are built concurrently: no reader
or writer waits. Each step may be run again.
"""

from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

STATES = (
    "'pending', 'sending', 'sent', 'failed', 'unknown', 'withheld', 'superseded', 'expired',"
    " 'cancelled'"
)
SOURCES = "'telnyx_keyword', 'telnyx_block', 'natural', 'signal', 'operator', 'import'"
SECRETS = """
CREATE TABLE IF NOT EXISTS secrets (
    name text NOT NULL,
    value bytea NOT NULL,
    CONSTRAINT pk_secrets PRIMARY KEY (name)
)
"""
# Postgres has no random bytes without an extension; two random UUIDs have 244 random bits.
KEY = """
INSERT INTO secrets (name, value)
VALUES ('consents', uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()))
ON CONFLICT DO NOTHING
"""
CONSENTS = f"""
CREATE TABLE IF NOT EXISTS consents (
    id bigint GENERATED ALWAYS AS IDENTITY,
    scope text NOT NULL,
    address_hash bytea NOT NULL,
    address text,
    stopped boolean NOT NULL,
    source text NOT NULL,
    channel text DEFAULT '' NOT NULL,
    recipient text DEFAULT '' NOT NULL,
    created_at timestamptz DEFAULT service_now() NOT NULL,
    CONSTRAINT pk_consents PRIMARY KEY (id),
    CONSTRAINT ck_consents_source CHECK (source IN ({SOURCES}))
)
"""
DELIVERIES = """
ALTER TABLE deliveries
    ADD COLUMN IF NOT EXISTS request text,
    ADD COLUMN IF NOT EXISTS part_of bigint
        CONSTRAINT fk_deliveries_part_of REFERENCES deliveries (id),
    ADD COLUMN IF NOT EXISTS parts smallint,
    ADD COLUMN IF NOT EXISTS exempt_until timestamptz,
    ADD COLUMN IF NOT EXISTS receipt text,
    ADD COLUMN IF NOT EXISTS receipt_error text,
    ADD COLUMN IF NOT EXISTS receipt_at timestamptz
"""
# What the gateway gives is a version-5 UUID; ids of Celery tasks are of version 4, and random.
OF_GATEWAY = "(task_id) WHERE get_byte(uuid_send(task_id), 6) >> 4 = 5"
INDEXES = {
    "ix_consents_address_hash": "consents (address_hash, id)",
    "ix_messages_task_id": f"messages {OF_GATEWAY}",
    "ix_inbox_task_id": f"inbox {OF_GATEWAY}",
    "ix_dead_letters_task_id": f"dead_letters {OF_GATEWAY}",
    "ix_deliveries_part_of": "deliveries (part_of) WHERE part_of IS NOT NULL",
    "ix_channel_users_sender": "channel_users (address_group, address)",
}


def _states(values: str) -> None:
    """Replace the check of a delivery's state; existing rows are read without blocking writers."""
    op.execute("ALTER TABLE deliveries DROP CONSTRAINT IF EXISTS ck_deliveries_state")
    op.execute(
        "ALTER TABLE deliveries ADD CONSTRAINT ck_deliveries_state"
        f" CHECK (state IN ({values})) NOT VALID"
    )


def upgrade() -> None:
    """Add all."""
    for step in (SECRETS, KEY, CONSENTS, DELIVERIES):
        op.execute(step)
    op.execute("ALTER TABLE channel_users ADD COLUMN IF NOT EXISTS pause_reason text")
    _states(f"{STATES}, 'opted_out'")
    with op.get_context().autocommit_block():
        op.execute("ALTER TABLE deliveries VALIDATE CONSTRAINT ck_deliveries_state")
        for name, rows in INDEXES.items():
            # An index whose build was interrupted exists too, and is invalid.
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
            op.execute(f"CREATE INDEX CONCURRENTLY {name} ON {rows}")


def downgrade() -> None:
    """Remove all, and with the ledger who has opted out: export it before."""
    op.execute("UPDATE deliveries SET state = 'cancelled' WHERE state = 'opted_out'")
    _states(STATES)
    op.execute("ALTER TABLE deliveries VALIDATE CONSTRAINT ck_deliveries_state")
    # A later piece has no reply of its own, so a delivery of the version before cannot be made.
    op.execute("DELETE FROM deliveries WHERE part_of IS NOT NULL")
    op.execute("DROP INDEX ix_channel_users_sender, ix_messages_task_id, ix_inbox_task_id")
    op.execute("DROP INDEX ix_dead_letters_task_id")
    op.execute("ALTER TABLE channel_users DROP COLUMN pause_reason")
    op.execute(
        "ALTER TABLE deliveries DROP COLUMN request, DROP COLUMN part_of, DROP COLUMN parts,"
        " DROP COLUMN exempt_until, DROP COLUMN receipt, DROP COLUMN receipt_error,"
        " DROP COLUMN receipt_at"
    )
    op.execute("DROP TABLE consents, secrets")
