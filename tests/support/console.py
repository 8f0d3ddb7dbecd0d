"""The console without a server: visits of our staff, with the cookies of a browser."""

import html
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlencode

from tests.support.asgi import Answer, Asgi
from tests.support.world import World
from worker.bootstrap.console import build_console

ANNA, BEN = "anna-token-0123456789", "ben-token-0123456789"
TOKENS = {"anna": ANNA, "ben": BEN}
FORM = "application/x-www-form-urlencoded"


@dataclass(kw_only=True)
class Visitor:
    """A browser."""

    app: Asgi
    headers: Mapping[str, str] = field(default_factory=dict)
    cookies: dict[str, str] = field(default_factory=dict)
    client: str = "192.0.2.1"

    def get(self, path: str, **headers: str) -> Answer:
        return self._send("GET", path, b"", headers)

    def post(self, path: str, fields: Mapping[str, str], **headers: str) -> Answer:
        body = urlencode(fields).encode()
        return self._send("POST", path, body, {"content-type": FORM, **headers})

    def log_in(self, name: str = "anna", *, token: str = "", wanted: str = "/") -> Answer:
        fields = {"name": name, "token": token or TOKENS[name], "next": wanted}
        return self.post("/login", fields)

    def submit(self, page: str, action: str, **fields: str) -> Answer:
        """Send the form of a page as a browser does, with its hidden fields."""
        shown = self.get(page)
        assert shown.status == 200, shown.body
        return self.post(action, fields_of(shown, action) | fields)

    def _send(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        sent = {"host": "console.example.com", **self.headers, **headers}
        if self.cookies:
            sent["cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        answer = self.app(path, body, method=method, headers=sent, client=self.client)
        found = re.match(r"([^=]+)=([^;]*)", answer.headers.get("set-cookie", ""))
        if found:
            self.cookies = {found[1]: found[2]} if found[2].strip('"') else {}
        return answer


def fields_of(page: Answer, action: str) -> dict[str, str]:
    """Return the hidden fields of a form."""
    text = page.body.decode()
    form = re.search(rf'(?s)<form[^>]*action="{re.escape(action)}".*?</form>', text)
    assert form, f"no form {action}"
    pairs = re.findall(r'<input type="hidden" name="([^"]*)" value="([^"]*)">', form[0])
    return {name: html.unescape(value) for name, value in pairs}


@contextmanager
def running_console(world: World, config: str = "", **changed: Any) -> Iterator[Asgi]:  # noqa: ANN401
    """Build the console of a world."""
    agents = world.folder / "console.toml"
    agents.write_text(config)
    given = {"console_tokens": TOKENS, **changed}
    built = build_console(replace(world.settings(agents), **given))
    try:
        with Asgi(built.app) as app:
            yield app
    finally:
        built.close()
