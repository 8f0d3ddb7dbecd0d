"""A tool behind a URL: verifies the signature, executes each call once. Needs `standardwebhooks`.

ORDER_TOOLS_SECRET=whsec_... python order_server.py orders.db 8020
"""

import json
import os
import sqlite3
import sys
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from standardwebhooks import Webhook, WebhookVerificationError

MAX_BODY_BYTES = 1024 * 1024

TABLES = """
CREATE TABLE IF NOT EXISTS orders (number TEXT PRIMARY KEY, customer TEXT, status TEXT);
CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, status INTEGER, body TEXT);
INSERT OR IGNORE INTO orders
VALUES ('4711', 'visitor-1', 'shipped'), ('4712', 'visitor-1', 'packed');
"""


def cancel(database: sqlite3.Connection, call: dict) -> tuple[int, dict]:
    """Cancel the order, inside the caller's transaction."""
    number = call["arguments"].get("number")
    # `user` is signed by the worker; the model derived `arguments` from a stranger's text.
    found = database.execute(
        "SELECT status FROM orders WHERE number = ? AND customer = ?", (str(number), call["user"])
    ).fetchone()
    if found is None:
        return 404, {"error": "this customer has no such order"}
    if found[0] == "shipped":
        # Not 409: with a key it would mean "the same call is still running".
        return 422, {"error": "the order is shipped already"}
    database.execute("UPDATE orders SET status = 'cancelled' WHERE number = ?", (str(number),))
    return 200, {"number": number, "status": "cancelled"}


def answer_once(path: Path, key: str, call: dict) -> tuple[int, str]:
    """Commit the change together with its answer; return the same answer for the same key."""
    with closing(sqlite3.connect(path, timeout=5, isolation_level=None)) as database:
        # Lock first: of two calls at once with one key, the second sees the change of the first.
        database.execute("BEGIN IMMEDIATE")
        known = database.execute("SELECT status, body FROM answers WHERE key = ?", (key,))
        if (before := known.fetchone()) is not None:
            return before
        status, document = cancel(database, call)
        body = json.dumps(document)
        database.execute("INSERT INTO answers VALUES (?, ?, ?)", (key, status, body))
        database.execute("COMMIT")
        return status, body


class Handler(BaseHTTPRequestHandler):
    """Handles POST."""

    def do_POST(self) -> None:
        """Verify the signature before reading the body."""
        size = int(self.headers.get("Content-Length", "0"))
        if size > MAX_BODY_BYTES:
            self.reply(413, json.dumps({"error": "too large"}))
            return
        body = self.rfile.read(size)
        try:
            # ValueError: raised by the library for a header that is not base64.
            call = self.server.webhook.verify(body, dict(self.headers))
        except (WebhookVerificationError, ValueError):
            self.reply(401, json.dumps({"error": "bad signature"}))
            return
        # webhook-id is the same key, and unlike Idempotency-Key it is signed.
        self.reply(*answer_once(self.server.path, self.headers["webhook-id"], call))

    def reply(self, status: int, body: str) -> None:
        """Send JSON."""
        raw = body.encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, *_: object) -> None:
        """Log nothing: lines would contain addresses."""


def main(path: Path, port: int) -> None:
    """Serve until interrupted."""
    with closing(sqlite3.connect(path)) as database:
        database.executescript(TABLES)
    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.path = path
    server.webhook = Webhook(os.environ["ORDER_TOOLS_SECRET"])
    print(f"listening on port {server.server_port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
