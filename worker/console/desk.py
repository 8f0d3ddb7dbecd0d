"""What the pages work with: the use cases of the operators' commands."""

from collections.abc import Callable, Collection
from dataclasses import dataclass

from worker.domain.reports.explain_ended import Explanation
from worker.domain.reports.message_history import MessageHistory
from worker.handlers.operators.consents import Consents
from worker.handlers.operators.drafts import Drafts
from worker.handlers.operators.say import SayToUser
from worker.store.dead_letters import DeadLetterStore
from worker.store.operators.users import UserStore
from worker.store.reports.message_history import MessageReports
from worker.store.reports.recent import RecentStore
from worker.store.reports.threads import ThreadStore


@dataclass(frozen=True, kw_only=True)
class Desk:
    """The use cases; each is safe on several threads."""

    threads: ThreadStore
    users: UserStore
    recent: RecentStore
    messages: MessageReports
    explain: Callable[[MessageHistory], Explanation]
    tools: Collection[str]
    """Names of tools that may be shown; any other is one that the model invented."""
    drafts: Drafts
    letters: DeadLetterStore
    replay: Callable[..., None]
    consents: Consents
    say: SayToUser
    set_paused: Callable[..., bool]
