"""Decides about drafts: the use case behind `worker replies`, the gateway and the console."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Final

from worker.domain.errors import NotFoundError
from worker.domain.ids import ChannelUserId, DeliveryId, ReplyId
from worker.domain.people.drafts import Decision, Draft, WaitingDraft
from worker.domain.routing import Routing
from worker.domain.states import DeliveryState
from worker.handlers.operators.say import check_text
from worker.handlers.operators.take_user import NotPossibleError
from worker.observability.logs import log
from worker.store.operators.drafts import DraftState, DraftStore

MAX_NAME: Final = 100
_EVENTS: Final = {
    Decision.APPROVED: "draft.approved",
    Decision.EDITED: "draft.edited",
    Decision.REJECTED: "draft.rejected",
}
_ENDED: Final = {
    DeliveryState.SUPERSEDED: "newer messages came, and the next reply covers them",
    DeliveryState.EXPIRED: "nobody decided in time (draft_max_age_s)",
    DeliveryState.OPTED_OUT: "this person has opted out",
}


class AlreadyDecidedError(NotPossibleError):
    """Somebody has decided before. The name is not in the text, which may be logged."""

    def __init__(self, decision: Decision, by: str, at: datetime) -> None:
        super().__init__(f"it was {decision} already")
        self.decision = decision
        self.by = by
        self.at = at


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """A committed decision, with the fields of its JSON."""

    id: ReplyId
    user: ChannelUserId
    delivery: DeliveryId
    decision: Decision
    state: DeliveryState
    """`pending` = workers deliver it now. `sent` = its channel has no delivery: the row is it."""


@dataclass(frozen=True, kw_only=True)
class Drafts:
    """Lists drafts, shows them, and commits decisions.

    `by`: who decides. Every method that takes an id raises `NotFoundError`; those that decide raise
    `AlreadyDecidedError`, and `NotPossibleError` for another reason: then nothing was changed.
    """

    store: DraftStore
    routing: Callable[[], Routing]

    def waiting(
        self,
        *,
        agent: str | None = None,
        channel: str | None = None,
        after: int = 0,
        limit: int = 100,
    ) -> tuple[WaitingDraft, ...]:
        """Return the drafts that wait, oldest first, without texts; those after an id."""
        return self.store.waiting(agent=agent, channel=channel, after=after, limit=limit)

    def show(self, reply: ReplyId) -> Draft:
        """Return a draft, with the texts of the person and the model."""
        found = self.store.get(reply)
        if found is None:
            raise NotFoundError(f"reply {reply} is no draft")
        return found

    def approve(self, reply: ReplyId, *, by: str) -> Decided:
        """Let it go out as it is."""
        return self._decide(reply, Decision.APPROVED, by)

    def edit(self, reply: ReplyId, text: str, *, by: str) -> Decided:
        """Let this text go out in its place. The model is told before the next message."""
        check_text(text)
        return self._decide(reply, Decision.EDITED, by, text)

    def reject(self, reply: ReplyId, *, by: str) -> Decided:
        """Let nothing go out. The model is told before the next message."""
        return self._decide(reply, Decision.REJECTED, by)

    def _decide(
        self, reply: ReplyId, decision: Decision, by: str, text: str | None = None
    ) -> Decided:
        by = by.strip()
        if not 1 <= len(by) <= MAX_NAME or not by.isprintable():
            raise NotPossibleError(f"by: name who decides, in at most {MAX_NAME} characters")
        check = partial(_check, decision)
        scopes = self.routing().scopes
        found = self.store.decide(reply, decision, by=by, text=text, check=check, scopes=scopes)
        if found is None:
            raise NotFoundError(f"reply {reply} is no draft")
        draft, state = found
        log.info(_EVENTS[decision], user=draft.user, reply=reply, delivery=draft.delivery)
        return Decided(
            id=reply, user=draft.user, delivery=draft.delivery, decision=decision, state=state
        )


def _check(decision: Decision, draft: DraftState) -> None:
    """Raise `NotPossibleError` if this can no longer be decided."""
    if draft.decision is not None and draft.reviewed_by is not None and draft.reviewed_at:
        raise AlreadyDecidedError(draft.decision, draft.reviewed_by, draft.reviewed_at)
    if draft.state is not DeliveryState.HELD:
        raise NotPossibleError(_ENDED.get(draft.state, f"it is {draft.state}"))
    if decision is Decision.REJECTED:
        return
    if draft.has_newer:
        raise NotPossibleError("newer messages have come: their reply will take its place")
    if draft.opted_out:
        raise NotPossibleError("this person has opted out, see `worker consent show`")
    if draft.is_erasing:
        raise NotPossibleError(f"channel user {draft.user} is being erased")
