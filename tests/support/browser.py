"""Debian's Chromium, driven by Playwright."""

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, sync_playwright

from tests.support.console import TOKENS
from tests.support.fleet import Ground, agents_file, fresh_ground
from tests.support.gateway import ConsoleProcess
from worker.sandbox.postgres import EmbeddedPostgres
from worker.sandbox.simulator import SimulatorConfig

PHONE = {"width": 360, "height": 740}
DESK = {"width": 1100, "height": 800}


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start the browser."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class Office:
    """The service, the console, and a browser."""

    ground: Ground
    console: ConsoleProcess
    browser: Browser

    def hear(self, user: str, text: str, **fields: object) -> int:
        """Let somebody write, and wait for the outcome; returns the channel user."""
        before = len(self.ground.outcomes(user))
        self.ground.fleet.send(self.ground.envelope(text, user=user, **fields))
        self.ground.wait_until_final(user, messages=before + 1)
        found: int = self.ground.database.value(
            "SELECT id FROM channel_users WHERE address = %s", user
        )
        return found


@contextmanager
def open_office(
    postgres: EmbeddedPostgres, broker_url: str, more_agents: str = ""
) -> Iterator[Office]:
    """Start a worker, the console and the browser."""
    simulated = SimulatorConfig(list_visible_after_s=0, show_prefix=False)
    agents = agents_file(more=more_agents)
    with (
        fresh_ground(postgres, broker_url=broker_url, agents=agents, simulated=simulated) as ground,
        ExitStack() as stack,
    ):
        ground.fleet.start()
        tokens = " ".join(f"{name}:{token}" for name, token in TOKENS.items())
        console = ConsoleProcess.beside(ground.fleet, CONSOLE_TOKENS=tokens)
        stack.callback(console.kill)
        yield Office(ground, console, stack.enter_context(chromium()))


@contextmanager
def tab(browser: Browser, url: str, *, name: str = "anna", **options: Any) -> Iterator[Page]:  # noqa: ANN401
    """Open a browser of its own and log in. Fails if the browser complains about a page."""
    context = browser.new_context(base_url=url, **options)
    context.set_default_timeout(10_000)
    complaints: list[str] = []
    page = context.new_page()
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    try:
        page.goto("/")
        page.get_by_label("Your name").fill(name)
        page.get_by_label("Your token").fill(TOKENS[name])
        page.get_by_role("button", name="Log in").click()
        page.get_by_role("heading", name="What waits for you").wait_for()
        yield page
        found = [one for one in complaints if "status of 4" not in one]
        assert not found, found
    finally:
        context.close()


def faults_of(page: Page) -> list[str]:
    """Return what axe-core finds wrong with a page, and whether it scrolls sideways."""
    found = [
        f"{one['id']} ({one['impact']}): {one['nodes'][0]['html'][:120]}"
        for one in Axe().run(page).response["violations"]
    ]
    if page.evaluate("document.documentElement.scrollWidth > window.innerWidth"):
        found.append(f"it scrolls sideways: {page.url}")
    return found
