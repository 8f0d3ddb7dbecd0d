"""E-mail: what threads and replies need of a mail, the mailboxes' places, bounces in the ledger.

`secrets` gets the key of our Message-IDs: who knows a mail's id must not be able to make one.

Phase: expand.
Locks: ACCESS EXCLUSIVE on consents, briefly: the new check is validated under SHARE UPDATE
EXCLUSIVE. Each step may be run again.
"""

from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

SOURCES = "'telnyx_keyword', 'telnyx_block', 'natural', 'signal', 'operator', 'import'"
KEY = """
INSERT INTO secrets (name, value)
VALUES ('mail', uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()))
ON CONFLICT DO NOTHING
"""
# `address` and `recipient` are the columns of channel_users; a mail may be older than its user.
MAILS = """
CREATE TABLE IF NOT EXISTS mails (
    id bigint GENERATED ALWAYS AS IDENTITY,
    channel text NOT NULL,
    recipient text NOT NULL,
    address text NOT NULL,
    thread text NOT NULL,
    root text NOT NULL,
    message_id text NOT NULL,
    refs text[] DEFAULT '{}' NOT NULL,
    subject text DEFAULT '' NOT NULL,
    reply_to text,
    from_name text DEFAULT '' NOT NULL,
    smtp_sender text,
    smtp_recipient text,
    dmarc text,
    verdict text,
    extraction_version bigint,
    left_out bigint DEFAULT 0 NOT NULL,
    original text,
    raw bytea,
    delivery_id bigint,
    created_at timestamptz DEFAULT service_now() NOT NULL,
    redacted_at timestamptz,
    CONSTRAINT pk_mails PRIMARY KEY (id),
    CONSTRAINT uq_mails_channel_recipient_address_message_id
        UNIQUE (channel, recipient, address, message_id),
    CONSTRAINT fk_mails_delivery_id FOREIGN KEY (delivery_id) REFERENCES deliveries (id)
)
"""
MAILBOXES = """
CREATE TABLE IF NOT EXISTS mailboxes (
    name text NOT NULL,
    uidvalidity bigint NOT NULL,
    last_uid bigint NOT NULL,
    looked_at timestamptz NOT NULL,
    CONSTRAINT pk_mailboxes PRIMARY KEY (name)
)
"""
INDEXES = {
    "ix_mails_delivery_id": "mails (delivery_id) WHERE delivery_id IS NOT NULL",
    "ix_mails_address": "mails (address)",
    "ix_mails_unredacted": "mails (created_at) WHERE redacted_at IS NULL",
}


def _sources(values: str) -> None:
    """Replace the check of an entry's source."""
    op.execute("ALTER TABLE consents DROP CONSTRAINT IF EXISTS ck_consents_source")
    op.execute(
        "ALTER TABLE consents ADD CONSTRAINT ck_consents_source"
        f" CHECK (source IN ({values})) NOT VALID"
    )
    op.execute("ALTER TABLE consents VALIDATE CONSTRAINT ck_consents_source")


def upgrade() -> None:
    """Add all."""
    for step in (KEY, MAILS, MAILBOXES):
        op.execute(step)
    for name, rows in INDEXES.items():
        op.execute(f"CREATE INDEX IF NOT EXISTS {name} ON {rows}")
    _sources(f"{SOURCES}, 'bounce'")


def downgrade() -> None:
    """Remove all; addresses that bounced are written to again."""
    op.execute("DELETE FROM consents WHERE source = 'bounce'")
    _sources(SOURCES)
    op.execute("DROP TABLE mailboxes, mails")
    op.execute("DELETE FROM secrets WHERE name = 'mail'")
