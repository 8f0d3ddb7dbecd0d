"""The floor of the gateway: Starlette, the body as JSON, one insert per request, no guarantee.

FIXED: it checks no signature and no limit, and does not ask what an event is about.
"""

import asyncio
import os
import sys

import psycopg
import uvicorn
from psycopg.types.json import Jsonb
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

CONNECTIONS = 10
free: asyncio.Queue[psycopg.AsyncConnection] = asyncio.Queue()
opened = 0


async def _connection() -> psycopg.AsyncConnection:
    global opened  # noqa: PLW0603 - a pool of the simplest kind
    if free.empty() and opened < CONNECTIONS:
        opened += 1
        url = os.environ["DATABASE_URL"]
        return await psycopg.AsyncConnection.connect(url, autocommit=True, prepare_threshold=2)
    return await free.get()


async def take(request: Request) -> Response:
    """Insert the event."""
    document = await request.json()
    connection = await _connection()
    await connection.execute("INSERT INTO events (body) VALUES (%s)", (Jsonb(document),))
    free.put_nowait(connection)
    return Response(status_code=200)


if __name__ == "__main__":
    app = Starlette(routes=[Route("/telnyx/messaging", take, methods=["POST"])])
    uvicorn.run(app, port=int(sys.argv[1]), access_log=False, log_config=None, lifespan="off")
