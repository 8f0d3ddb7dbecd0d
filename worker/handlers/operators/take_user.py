"""Takes a channel user for an operator, unless a worker or Telnyx is busy with them."""

from worker.domain.errors import PermanentError, RetryableError
from worker.domain.ids import ChannelUserId
from worker.store.operators.interventions import InterventionStore, LockedUser


class NotNowError(RetryableError):
    """A worker or Telnyx has to finish first; `retry_after_s` None = soon, at an unknown time."""


class NotPossibleError(PermanentError):
    """The command does not fit the state of the channel user."""


def take_free(store: InterventionStore, user_id: ChannelUserId) -> LockedUser:
    """Take a channel user who is free. Raises `NotNowError`, with the time if it is known."""
    user = store.take(user_id)
    if user.held_until is not None:
        raise NotNowError(f"a worker is at work on channel user {user_id}: try again soon")
    if user.doubt_until is not None:
        seconds = (user.doubt_until - user.now).total_seconds()
        raise NotNowError(
            f"Telnyx may still carry out a call of channel user {user_id}: try again in"
            f" {seconds:.0f} s, at {user.doubt_until:%H:%M:%S} UTC",
            retry_after_s=seconds,
        )
    return user


def take_for_changes(store: InterventionStore, user_id: ChannelUserId) -> LockedUser:
    """Take a user who is not being erased. Raises `NotNowError` and `NotPossibleError`."""
    user = take_free(store, user_id)
    if user.erasing:
        raise NotPossibleError(
            f"channel user {user_id} is being erased: run `worker erase {user_id}` again"
        )
    return user


def agent_of(user: LockedUser, named: str | None) -> str:
    """Return the agent of the conversation to change. Raises `NotPossibleError` if unclear."""
    turn, names = user.turn, [one.agent for one in user.open]
    if user.diverged and turn is not None:
        if named not in {None, turn.agent}:
            raise NotPossibleError(f"it is the conversation with agent {turn.agent} that diverged")
        return turn.agent
    if named is not None:
        return named
    if turn is not None:
        return turn.agent
    if len(names) == 1:
        return names[0]
    if names:
        raise NotPossibleError(f"several are open: give --agent, one of {', '.join(names)}")
    raise NotPossibleError("no conversation is open: give --agent")
