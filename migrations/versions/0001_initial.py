"""Create the first tables: all of the turn protocol.

Phase: expand (nothing existed before).
Locks: none on existing tables.
"""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

SERVICE_NOW = """
CREATE FUNCTION service_now() RETURNS timestamptz LANGUAGE sql STABLE PARALLEL SAFE
    AS 'SELECT statement_timestamp()';
COMMENT ON FUNCTION service_now() IS 'All time in SQL comes from here; tests replace it.';
"""
ATTEMPT_LOG = """
CREATE TABLE attempt_log (
    id bigint GENERATED ALWAYS AS IDENTITY,
    at timestamptz DEFAULT service_now() NOT NULL,
    event text NOT NULL,
    channel_user_id bigint,
    turn_id bigint,
    call_id bigint,
    token bigint,
    worker_id uuid,
    facts jsonb DEFAULT '{}'::jsonb NOT NULL,
    CONSTRAINT pk_attempt_log PRIMARY KEY (id)
);
CREATE INDEX ix_attempt_log_channel_user_id ON attempt_log (channel_user_id, id);
"""
GATES = """
CREATE TABLE gates (
    name text NOT NULL,
    closed_until timestamptz NOT NULL,
    reason text NOT NULL,
    strikes bigint DEFAULT 0 NOT NULL,
    changed_at timestamptz DEFAULT service_now() NOT NULL,
    CONSTRAINT pk_gates PRIMARY KEY (name)
);
"""
INBOX = """
CREATE TABLE inbox (
    id bigint GENERATED ALWAYS AS IDENTITY,
    envelope jsonb NOT NULL,
    created_at timestamptz DEFAULT service_now() NOT NULL,
    CONSTRAINT pk_inbox PRIMARY KEY (id)
);
"""
WORKERS = """
CREATE TABLE workers (
    id uuid NOT NULL,
    host text NOT NULL,
    pid bigint NOT NULL,
    started_at timestamptz DEFAULT service_now() NOT NULL,
    alive_until timestamptz NOT NULL,
    stalled_since timestamptz,
    CONSTRAINT pk_workers PRIMARY KEY (id)
);
"""
CHANNEL_USERS = """
CREATE TABLE channel_users (
    id bigint GENERATED ALWAYS AS IDENTITY,
    channel text NOT NULL,
    recipient text DEFAULT '' NOT NULL,
    address text NOT NULL,
    thread text DEFAULT '' NOT NULL,
    created_at timestamptz DEFAULT service_now() NOT NULL,
    next_seq bigint DEFAULT 1 NOT NULL,
    due_at timestamptz,
    waiting_since timestamptz,
    waiting_due_at timestamptz,
    taken_until timestamptz,
    woken_at timestamptz,
    open_turn_id bigint,
    lease_token bigint DEFAULT 0 NOT NULL,
    lease_owner uuid,
    lease_until timestamptz,
    superseding_since timestamptz,
    paused_at timestamptz,
    diverged_at timestamptz,
    CONSTRAINT pk_channel_users PRIMARY KEY (id),
    CONSTRAINT uq_channel_users_channel_recipient_address_thread
        UNIQUE (channel, recipient, address, thread),
    CONSTRAINT fk_channel_users_lease_owner
        FOREIGN KEY(lease_owner) REFERENCES workers (id) ON DELETE SET NULL
)
 WITH (fillfactor = 80);
CREATE INDEX ix_channel_users_due_at ON channel_users (due_at) WHERE due_at IS NOT NULL;
"""
CONVERSATIONS = """
CREATE TABLE conversations (
    id bigint GENERATED ALWAYS AS IDENTITY,
    channel_user_id bigint NOT NULL,
    agent text NOT NULL,
    remote_key uuid DEFAULT gen_random_uuid() NOT NULL,
    telnyx_conversation_id uuid,
    base_user_messages bigint DEFAULT 0 NOT NULL,
    instructions_hash text,
    opened_at timestamptz DEFAULT service_now() NOT NULL,
    closed_at timestamptz,
    close_reason text,
    CONSTRAINT pk_conversations PRIMARY KEY (id),
    CONSTRAINT uq_conversations_remote_key UNIQUE (remote_key),
    CONSTRAINT uq_conversations_telnyx_conversation_id UNIQUE (telnyx_conversation_id),
    CONSTRAINT fk_conversations_channel_user_id
        FOREIGN KEY(channel_user_id) REFERENCES channel_users (id)
);
CREATE INDEX ix_conversations_channel_user_id ON conversations (channel_user_id);
CREATE UNIQUE INDEX uq_conversations_open
    ON conversations (channel_user_id, agent) WHERE closed_at IS NULL;
"""
TURNS = """
CREATE TABLE turns (
    id bigint GENERATED ALWAYS AS IDENTITY,
    channel_user_id bigint NOT NULL,
    conversation_id bigint,
    agent text NOT NULL,
    agent_version text NOT NULL,
    kind text DEFAULT 'model' NOT NULL,
    input_text text NOT NULL,
    parts jsonb DEFAULT '[]'::jsonb NOT NULL,
    state text DEFAULT 'open' NOT NULL,
    landed boolean,
    failure text,
    opened_at timestamptz DEFAULT service_now() NOT NULL,
    finished_at timestamptz,
    CONSTRAINT pk_turns PRIMARY KEY (id),
    CONSTRAINT ck_turns_kind CHECK (kind IN ('model', 'human')),
    CONSTRAINT ck_turns_state CHECK (state IN ('open', 'answered', 'failed')),
    CONSTRAINT fk_turns_channel_user_id
        FOREIGN KEY(channel_user_id) REFERENCES channel_users (id),
    CONSTRAINT fk_turns_conversation_id
        FOREIGN KEY(conversation_id) REFERENCES conversations (id)
);
CREATE INDEX ix_turns_channel_user_id ON turns (channel_user_id, id);
CREATE INDEX ix_turns_conversation_id ON turns (conversation_id, id);
CREATE UNIQUE INDEX uq_turns_open ON turns (channel_user_id) WHERE state = 'open';
"""
CALLS = """
CREATE TABLE calls (
    id bigint GENERATED ALWAYS AS IDENTITY,
    channel_user_id bigint NOT NULL,
    turn_id bigint NOT NULL,
    conversation_id bigint,
    round bigint DEFAULT 0 NOT NULL,
    attempt bigint DEFAULT 0 NOT NULL,
    token bigint NOT NULL,
    worker_id uuid,
    instructions_hash text,
    intent_at timestamptz DEFAULT service_now() NOT NULL,
    finished_at timestamptz,
    state text DEFAULT 'intended' NOT NULL,
    reason text,
    status integer,
    code text,
    request_id text,
    response_id text,
    output jsonb,
    input_tokens bigint,
    output_tokens bigint,
    CONSTRAINT pk_calls PRIMARY KEY (id),
    CONSTRAINT ck_calls_state
        CHECK (state IN ('intended', 'not_sent', 'refused', 'done', 'unknown')),
    CONSTRAINT uq_calls_turn_id_round_attempt UNIQUE (turn_id, round, attempt),
    CONSTRAINT fk_calls_channel_user_id
        FOREIGN KEY(channel_user_id) REFERENCES channel_users (id),
    CONSTRAINT fk_calls_turn_id FOREIGN KEY(turn_id) REFERENCES turns (id),
    CONSTRAINT fk_calls_conversation_id
        FOREIGN KEY(conversation_id) REFERENCES conversations (id)
);
CREATE UNIQUE INDEX uq_calls_intended ON calls (channel_user_id) WHERE state = 'intended';
"""
MESSAGES = """
CREATE TABLE messages (
    id bigint GENERATED ALWAYS AS IDENTITY,
    channel_user_id bigint NOT NULL,
    message_id text NOT NULL,
    seq bigint NOT NULL,
    order_at timestamptz NOT NULL,
    agent text NOT NULL,
    envelope jsonb NOT NULL,
    expires_at timestamptz,
    state text DEFAULT 'pending' NOT NULL,
    outcome text,
    turn_id bigint,
    late boolean DEFAULT false NOT NULL,
    alone boolean DEFAULT false NOT NULL,
    conflicts bigint DEFAULT 0 NOT NULL,
    accepted_at timestamptz DEFAULT service_now() NOT NULL,
    finished_at timestamptz,
    CONSTRAINT pk_messages PRIMARY KEY (id),
    CONSTRAINT uq_messages_channel_user_id_message_id UNIQUE (channel_user_id, message_id),
    CONSTRAINT uq_messages_channel_user_id_seq UNIQUE (channel_user_id, seq),
    CONSTRAINT ck_messages_state
        CHECK (state IN ('pending', 'in_turn', 'answered', 'dead', 'expired', 'human',
            'skipped')),
    CONSTRAINT ck_messages_outcome_when_ended
        CHECK ((state IN ('pending', 'in_turn')) = (outcome IS NULL)),
    CONSTRAINT fk_messages_channel_user_id
        FOREIGN KEY(channel_user_id) REFERENCES channel_users (id),
    CONSTRAINT fk_messages_turn_id FOREIGN KEY(turn_id) REFERENCES turns (id)
);
CREATE INDEX ix_messages_pending
    ON messages (channel_user_id, order_at, seq) WHERE state = 'pending';
CREATE INDEX ix_messages_turn_id ON messages (turn_id) WHERE turn_id IS NOT NULL;
"""
REPLIES = """
CREATE TABLE replies (
    id bigint GENERATED ALWAYS AS IDENTITY,
    turn_id bigint NOT NULL,
    text text NOT NULL,
    source text NOT NULL,
    created_at timestamptz DEFAULT service_now() NOT NULL,
    CONSTRAINT pk_replies PRIMARY KEY (id),
    CONSTRAINT uq_replies_turn_id UNIQUE (turn_id),
    CONSTRAINT ck_replies_source CHECK (source IN ('call', 'adopted', 'fallback', 'human')),
    CONSTRAINT fk_replies_turn_id FOREIGN KEY(turn_id) REFERENCES turns (id)
);
"""
TOOL_CALLS = """
CREATE TABLE tool_calls (
    id bigint GENERATED ALWAYS AS IDENTITY,
    turn_id bigint NOT NULL,
    round bigint DEFAULT 0 NOT NULL,
    call_id text NOT NULL,
    name text NOT NULL,
    arguments text NOT NULL,
    output text,
    state text DEFAULT 'started' NOT NULL,
    started_at timestamptz DEFAULT service_now() NOT NULL,
    finished_at timestamptz,
    CONSTRAINT pk_tool_calls PRIMARY KEY (id),
    CONSTRAINT uq_tool_calls_turn_id_call_id UNIQUE (turn_id, call_id),
    CONSTRAINT ck_tool_calls_state CHECK (state IN ('started', 'done', 'failed', 'unknown')),
    CONSTRAINT fk_tool_calls_turn_id FOREIGN KEY(turn_id) REFERENCES turns (id)
);
"""
DELIVERIES = """
CREATE TABLE deliveries (
    id bigint GENERATED ALWAYS AS IDENTITY,
    reply_id bigint NOT NULL,
    channel_user_id bigint NOT NULL,
    channel text NOT NULL,
    idempotency_key uuid DEFAULT gen_random_uuid() NOT NULL,
    state text DEFAULT 'pending' NOT NULL,
    attempts bigint DEFAULT 0 NOT NULL,
    due_at timestamptz,
    first_attempt_at timestamptz,
    lease_token bigint DEFAULT 0 NOT NULL,
    lease_until timestamptz,
    provider_id text,
    provider_status text,
    created_at timestamptz DEFAULT service_now() NOT NULL,
    finished_at timestamptz,
    CONSTRAINT pk_deliveries PRIMARY KEY (id),
    CONSTRAINT uq_deliveries_reply_id UNIQUE (reply_id),
    CONSTRAINT ck_deliveries_state
        CHECK (state IN ('pending', 'sending', 'sent', 'failed', 'unknown', 'withheld',
            'superseded', 'expired', 'cancelled')),
    CONSTRAINT fk_deliveries_reply_id FOREIGN KEY(reply_id) REFERENCES replies (id),
    CONSTRAINT fk_deliveries_channel_user_id
        FOREIGN KEY(channel_user_id) REFERENCES channel_users (id)
);
CREATE INDEX ix_deliveries_due_at ON deliveries (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX ix_deliveries_undone
    ON deliveries (channel_user_id, id) WHERE state IN ('pending', 'sending');
"""
DEAD_LETTERS = """
CREATE TABLE dead_letters (
    id bigint GENERATED ALWAYS AS IDENTITY,
    kind text NOT NULL,
    message_row_id bigint,
    delivery_id bigint,
    raw bytea,
    queue text DEFAULT '' NOT NULL,
    reason text NOT NULL,
    detail text DEFAULT '' NOT NULL,
    created_at timestamptz DEFAULT service_now() NOT NULL,
    resolution text,
    resolved_at timestamptz,
    CONSTRAINT pk_dead_letters PRIMARY KEY (id),
    CONSTRAINT ck_dead_letters_kind CHECK (kind IN ('envelope', 'message', 'delivery')),
    CONSTRAINT ck_dead_letters_resolution
        CHECK (resolution IN ('replayed', 'dismissed') AND resolved_at IS NOT NULL
            OR resolution IS NULL AND resolved_at IS NULL),
    CONSTRAINT ck_dead_letters_one_subject
        CHECK (num_nonnulls(message_row_id, delivery_id, raw) = 1),
    CONSTRAINT fk_dead_letters_message_row_id
        FOREIGN KEY(message_row_id) REFERENCES messages (id),
    CONSTRAINT fk_dead_letters_delivery_id FOREIGN KEY(delivery_id) REFERENCES deliveries (id)
);
CREATE INDEX ix_dead_letters_unresolved ON dead_letters (id) WHERE resolution IS NULL;
CREATE UNIQUE INDEX uq_dead_letters_message
    ON dead_letters (message_row_id) WHERE resolution IS NULL AND message_row_id IS NOT NULL;
"""


def upgrade() -> None:
    for statements in (
        SERVICE_NOW,
        ATTEMPT_LOG,
        GATES,
        INBOX,
        WORKERS,
        CHANNEL_USERS,
        CONVERSATIONS,
        TURNS,
        CALLS,
        MESSAGES,
        REPLIES,
        TOOL_CALLS,
        DELIVERIES,
        DEAD_LETTERS,
    ):
        op.execute(statements)


def downgrade() -> None:
    for table in (
        "dead_letters",
        "deliveries",
        "tool_calls",
        "replies",
        "messages",
        "calls",
        "turns",
        "conversations",
        "channel_users",
        "workers",
        "inbox",
        "gates",
        "attempt_log",
    ):
        op.drop_table(table)
    op.execute("DROP FUNCTION service_now()")
