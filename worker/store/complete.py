"""Whether every conversation of this installation at Telnyx is in the table `conversations`.

A mapping is committed before its conversation is created. So once all of Telnyx's were found here,
that stays true while this Postgres runs. Another run of it may lack commits: a restored snapshot of
the disk looks like the same Postgres.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from worker.domain.ids import TelnyxConversationId
from worker.store.database import Database, Store
from worker.store.sql import sql

_RUN = "postgres_run() || ' ' || CAST(:installation AS text)"


def _is_known(run: str) -> str:
    return f"""coalesce(complete_on = {run}
        AND complete_at > coalesce(replaced_at, '-infinity'), false)"""


IS_COMPLETE = f"EXISTS (SELECT FROM cluster WHERE one AND {_is_known(_RUN)})"
"""A condition, true if no conversation lacks its mapping. It takes :installation.

It is never true where Postgres hides what it is.
"""
# All that Postgres has lost is newer than `complete_at`, so this moves it on. The newest mapping is
# no measure: it may be younger than the loss. Clocks may differ by an hour.
_ASK = sql(f"""
WITH here AS MATERIALIZED (SELECT {_RUN} AS run), asked AS (
    UPDATE cluster SET
        complete_at = CASE WHEN {_is_known("run")} THEN service_now() ELSE complete_at END,
        asked_at = CASE WHEN {_is_known("run")} THEN asked_at ELSE service_now() END
    FROM here WHERE one AND CASE
        WHEN {_is_known("run")} THEN complete_at < service_now() - interval '10 minutes'
        ELSE run IS NOT NULL
            AND coalesce(asked_at < greatest(service_now() - :again, replaced_at,
                pg_postmaster_start_time()), true)
            AND coalesce(replaced_at < service_now() - :settle, true)
            AND pg_postmaster_start_time() < service_now() - :settle END
    RETURNING run, asked_at AS at, {_is_known("run")} AS known,
        CASE WHEN right(complete_on, 36) = CAST(:installation AS text)
            THEN complete_at - interval '1 hour' END AS since
)
SELECT run, at, since FROM asked WHERE NOT known
""")
_STATE = sql(f"""
SELECT CASE WHEN {_is_known("run")} THEN 'complete' WHEN run IS NULL THEN 'hidden'
    WHEN asked_at >= greatest(replaced_at, pg_postmaster_start_time()) THEN 'incomplete'
    ELSE 'not_asked' END
FROM (SELECT {_RUN} AS run) AS here LEFT JOIN cluster ON one
""")
_UNKNOWN = sql("""
SELECT found.id FROM unnest(CAST(:ids AS uuid[]), CAST(:keys AS uuid[])) AS found (id, key)
WHERE NOT EXISTS (SELECT FROM conversations WHERE telnyx_conversation_id = found.id)
  AND NOT EXISTS (SELECT FROM conversations WHERE remote_key = found.key)
""")
_RECORD = sql(f"""
UPDATE cluster SET complete_on = :run, complete_at = service_now()
WHERE one AND CAST(:run AS text) = {_RUN} AND asked_at = :at
  AND coalesce(replaced_at < asked_at, true)
""")


class Completeness(StrEnum):
    """Whether each conversation at Telnyx has its mapping."""

    COMPLETE = "complete"
    INCOMPLETE = "incomplete"
    """One has none, or Telnyx did not list them."""
    NOT_ASKED = "not_asked"
    """Telnyx was not asked about this run of Postgres yet."""
    HIDDEN = "hidden"
    """Postgres hides which run of it this is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What Telnyx has to be asked, by this process."""

    run: str
    """The run of Postgres that it is about."""
    at: datetime
    since: datetime | None
    """Older conversations are known; None = none is."""


class CompletenessStore(Store):
    """What the row of `cluster` says about the conversations at Telnyx."""

    def __init__(self, database: Database, *, installation: UUID, settle_s: float) -> None:
        """`settle_s`: what Telnyx has stored may be listed that much later."""
        super().__init__(database)
        self._values: dict[str, object] = {
            "installation": installation,
            "settle": timedelta(seconds=settle_s),
        }

    def ask(self, *, every_s: float) -> Question | None:
        """Return what is unknown; None = nothing, or another process has asked lately.

        Where all is known, this commits that it still is. Call it every few minutes.
        """
        values = self._values | {"again": timedelta(seconds=every_s)}
        found = self._found(Question, _ASK, values)
        return found[0] if found else None

    def state(self) -> Completeness:
        """Return what is known; asks nobody."""
        return Completeness(self._rows(_STATE, self._values)[0][0])

    def unknown(
        self, found: Sequence[tuple[TelnyxConversationId, UUID | None]]
    ) -> list[TelnyxConversationId]:
        """Return the conversations without a mapping here; each comes with its `remote_key`."""
        ids, keys = [one for one, _ in found], [key for _, key in found]
        return [row.id for row in self._rows(_UNKNOWN, {"ids": ids, "keys": keys})]

    def record(self, question: Question) -> bool:
        """Commit that all conversations are known; False = Postgres is another one by now."""
        values = self._values | {"run": question.run, "at": question.at}
        return self._change(_RECORD, values) == 1
