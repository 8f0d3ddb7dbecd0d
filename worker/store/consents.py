"""The ledger of opt-outs and opt-ins: asked before each call of the model and each delivery.

An address is looked up by its HMAC, so that a person who is erased stays opted out. What they have
waiting on other channel users is cancelled with the opt-out, as far as nobody holds these rows at
that moment; the rest ends with its next claim. So no two transactions wait for each other.
"""

import hmac
import json
from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple

from worker.domain.screening.consents import OPTED_OUT, LedgerEntry, Person
from worker.domain.states import ConsentSource
from worker.store.locks import wait_lock
from worker.store.rows import PENDING
from worker.store.sql import Connection, sql

EXEMPT = "interval '5 minutes'"
"""How long the answer to STOP or HELP may go out to somebody who has opted out. 47 CFR
64.1200(a)(12): a confirmation within five minutes."""


def stopped(address_hash: str = ":address_hash") -> str:
    """Return SQL that says whether somebody has opted out; a NULL for the hash = they have not."""
    return f"""coalesce((SELECT ledger.stopped FROM consents ledger
        WHERE ledger.address_hash = {address_hash} ORDER BY ledger.id DESC LIMIT 1), false)"""


# HMAC as RFC 2104 defines it: a claim knows its user's address only inside the statement.
STOPPED_USER = stopped(
    """sha256(:outer || sha256(:inner || convert_to(
            coalesce(CAST(:scopes AS jsonb) ->> u.channel, u.channel), 'UTF8')
        || CAST('\\x00' AS bytea) || convert_to(u.address, 'UTF8')))"""
)
"""Whether the channel user `u` has opted out; takes `values_of_users`."""
_STOPPED = sql(f"SELECT {stopped()}")
_STANDING = sql("""
SELECT source, max(created_at) AS newest FROM consents
WHERE address_hash = :address_hash AND stopped
  AND id > coalesce((SELECT max(id) FROM consents
                     WHERE address_hash = :address_hash AND NOT stopped), 0)
GROUP BY source
""")
_APPEND = sql("""
INSERT INTO consents (scope, address_hash, address, stopped, source, channel, recipient, created_at)
VALUES (:scope, :address_hash, :address, :stopped, :source, :channel, :recipient,
    coalesce(least(CAST(:since AS timestamptz), service_now()), service_now()))
""")
# A reply that may be at its channel stays unclear. A notice of a refusal goes to a producer.
_CANCEL = sql(f"""
WITH theirs AS MATERIALIZED (
    SELECT id FROM channel_users WHERE address_group = ANY(:groups) AND address = :address
    ORDER BY id FOR NO KEY UPDATE SKIP LOCKED
), waiting AS (
    UPDATE messages SET state = 'skipped', outcome = :outcome, finished_at = service_now(),
        dropped_at = service_now()
    FROM theirs WHERE channel_user_id = theirs.id AND {PENDING}
), replies_ended AS (
    UPDATE deliveries d SET state = CASE state WHEN 'pending' THEN 'opted_out' ELSE 'unknown' END,
        due_at = NULL, lease_until = NULL, lease_token = lease_token + 1,
        finished_at = service_now()
    FROM theirs WHERE d.channel_user_id = theirs.id AND state IN ('pending', 'sending')
      AND (lease_until IS NULL OR lease_until < service_now())
      AND coalesce(exempt_until <= service_now(), true)
      AND num_nonnulls(reply_id, part_of) > 0
    RETURNING d.reply_id, d.state
), drafts_ended AS (
    UPDATE deliveries d SET state = 'opted_out', due_at = NULL, finished_at = service_now()
    FROM theirs WHERE d.channel_user_id = theirs.id AND d.state = 'held'
    RETURNING d.reply_id, d.state
)
UPDATE messages m SET outcome = :outcome
FROM (TABLE replies_ended UNION ALL TABLE drafts_ended) AS ended
    JOIN replies r ON r.id = ended.reply_id
WHERE ended.state = 'opted_out' AND m.turn_id = r.turn_id AND m.state = 'answered'
""")


class Turned(NamedTuple):
    """Whether a person had opted out before a change and has after it."""

    before: bool
    after: bool


def address_hash(key: bytes, scope: str, address: str) -> bytes:
    """Return the name of an address in the ledger."""
    return hmac.digest(key, f"{scope}\0{address}".encode(), "sha256")


def values_of_users(key: bytes, scopes: Mapping[str, str]) -> dict[str, object]:
    """Return the values that `STOPPED_USER` takes; `scopes`: those that are not channels' names."""
    block = key.ljust(64, b"\0")
    inner, outer = (bytes(one ^ pad for one in block) for pad in (0x36, 0x5C))
    return {"inner": inner, "outer": outer, "scopes": json.dumps(dict(scopes))}


def has_opted_out(connection: Connection, address_hash: bytes) -> bool:
    """Return whether somebody has opted out."""
    return bool(connection.execute(_STOPPED, {"address_hash": address_hash}).scalar_one())


def standing(connection: Connection, address_hash: bytes) -> dict[ConsentSource, datetime]:
    """Return the sources of somebody's opt-outs that are not lifted, and when they were said."""
    rows = connection.execute(_STANDING, {"address_hash": address_hash})
    return {ConsentSource(row.source): row.newest for row in rows}


def record(
    connection: Connection, key: bytes, change: LedgerEntry, *, since: datetime | None = None
) -> Turned:
    """Append a change if it says something new; an opt-out cancels what waits of the person.

    `since`: when it was said; None = now. After an outage the older of two may come last: an opt-in
    lifts no opt-out that was said after it.
    """
    person = change.person
    hashed = address_hash(key, person.scope, person.address)
    values: dict[str, object] = {
        "address_hash": hashed,
        "scope": person.scope,
        "address": person.address,
        "stopped": change.stopped,
        "source": change.source,
        "channel": change.channel,
        "recipient": change.recipient,
        "since": since,
    }
    # Of two changes of one person at the same time, the second one sees the first.
    wait_lock(connection, f"consent {hashed[0]:02x}")
    sources = standing(connection, hashed)
    before = bool(sources)
    said_after = [one for one in sources.values() if since is not None and one > since]
    if not change.is_new(sources) or (said_after and not change.stopped):
        return Turned(before, before)
    connection.execute(_APPEND, values)
    if change.stopped:
        cancel(connection, person)
    return Turned(before, change.stopped)


def cancel(connection: Connection, person: Person) -> None:
    """End what waits of somebody who has opted out, but for answers that are exempt."""
    values = {"groups": list(person.groups), "address": person.address, "outcome": OPTED_OUT}
    connection.execute(_CANCEL, values)
