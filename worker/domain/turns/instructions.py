"""Decides which call has the agent's instructions: the first one of a thread and of each change.

Telnyx keeps them with the conversation; a stateless call carries them always.
"""

from worker.domain.routing import Agent
from worker.domain.turns.records import OpenConversation, OpenTurn


def instructions_for(
    agent: Agent, conversation: OpenConversation | None, turn: OpenTurn
) -> str | None:
    """Return the instructions to send with a call; None = none, or the thread has them."""
    known = conversation.instructions_hash if conversation else None
    if not agent.instructions or known == agent.instructions_hash or turn.is_in_thread:
        return None
    return agent.instructions
