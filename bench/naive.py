"""A first implementation: prefork, the OpenAI SDK, an ORM session around the call.

One reply for each message, a conversation for each user, and no further guarantee.
"""

import os
from datetime import datetime

from celery import Celery
from openai import OpenAI
from sqlalchemy import ForeignKey, create_engine, func, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

app = Celery("naive", broker=os.environ["BROKER_URL"])
app.conf.update(
    task_ignore_result=True,
    task_default_queue="inbound",
    worker_concurrency=8,
    worker_send_task_events=True,
)
engine = create_engine(os.environ["DATABASE_URL"])
client = OpenAI(base_url=os.environ["TELNYX_BASE_URL"] + "/ai/openai", api_key="KEY")


class Base(DeclarativeBase):
    """All tables."""


class User(Base):
    """A user."""

    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)
    address: Mapped[str] = mapped_column(unique=True)
    conversation_id: Mapped[str]


class Message(Base):
    """An inbound message."""

    __tablename__ = "messages"
    id: Mapped[int] = mapped_column(primary_key=True)
    message_id: Mapped[str]
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"), index=True)
    text: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.statement_timestamp())


class Reply(Base):
    """A reply."""

    __tablename__ = "replies"
    id: Mapped[int] = mapped_column(primary_key=True)
    message_id: Mapped[int] = mapped_column(ForeignKey("messages.id"), index=True)
    text: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.statement_timestamp())


@app.task(name="messages.receive")  # type: ignore[untyped-decorator]
def receive(envelope: dict[str, str]) -> None:
    with Session(engine) as session:
        user = session.scalar(select(User).where(User.address == envelope["user"]))
        if user is None:
            made = client.post("/conversations", body={}, cast_to=dict[str, dict[str, str]])
            user = User(address=envelope["user"], conversation_id=made["data"]["id"])
            session.add(user)
            session.flush()
        message = Message(message_id=envelope["message_id"], user_id=user.id, text=envelope["text"])
        session.add(message)
        session.flush()
        response = client.responses.create(
            model="bench",
            input=envelope["text"],
            extra_body={"conversation": user.conversation_id},
        )
        session.add(Reply(message_id=message.id, text=response.output_text))
        session.commit()
