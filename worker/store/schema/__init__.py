"""The tables. Names are the contract with operators."""

from worker.store.schema.base import Base
from worker.store.schema.limits import BudgetDay, Rate
from worker.store.schema.operations import AttemptLog, DeadLetter, Erasure, Gate, RetentionPass
from worker.store.schema.replies import Delivery, Reply
from worker.store.schema.turns import Call, Conversation, ToolCall, Turn
from worker.store.schema.users import ChannelUser, InboxEntry, Message, Worker

__all__ = [
    "AttemptLog",
    "Base",
    "BudgetDay",
    "Call",
    "ChannelUser",
    "Conversation",
    "DeadLetter",
    "Delivery",
    "Erasure",
    "Gate",
    "InboxEntry",
    "Message",
    "Rate",
    "Reply",
    "RetentionPass",
    "ToolCall",
    "Turn",
    "Worker",
]
