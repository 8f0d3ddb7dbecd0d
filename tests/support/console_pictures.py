"""Takes the pictures of the console in docs/how-to/images.

    python -m tests.support.console_pictures

A real worker answers some people, a real Chromium opens the pages; needs Debian's `chromium`.
"""

from playwright.sync_api import Page

from tests.support.browser import PHONE, Office, open_office, tab
from tests.support.databases import ROOT, make_template
from tests.support.processes import open_folder
from worker.sandbox.postgres import EmbeddedPostgres
from worker.sandbox.redis import EmbeddedRedis
from worker.sandbox.simulator import Script

FOLDER = ROOT / "docs/how-to/images"
NAMES = ("console-waiting", "console-draft", "console-person")
_AGENTS = """
[agents.helper.hand_over]
notify = "desk"
text = "A colleague of ours will answer you."
[channels.help]
agent = "helper"
[routes.desk.delivery]
task = "desk.told"
queue = "desk"
[channels.shop]
approve = "all"
"""
_SIZE = {"width": 820, "height": 640}


_TALK = (
    ("ada", "web", "When do you close today?", "At six. Shall I reserve something for you?"),
    ("ada", "web", "Yes, the blue lamp, please.", "It is yours until Saturday."),
    ("ben", "help", "HUMAN", ""),
    ("cleo", "shop", "My parcel is broken.", "I am sorry. You get your 24.90 back by Friday."),
)


def _talk(office: Office) -> dict[str, int]:
    """Let people write; return their numbers."""
    people = {}
    for name, channel, text, reply in _TALK:
        office.ground.simulator.script(Script(text=text, reply=reply))
        people[name] = office.hear(f"{name}@example.org", text, channel=channel)
    return people


def _take(page: Page, name: str) -> None:
    page.screenshot(path=FOLDER / f"{name}.png", full_page=name == "console-draft")


def main() -> None:
    """Run the servers, let people write, take the pictures."""
    with (
        open_folder() as folder,
        EmbeddedPostgres(folder / "postgres", fast=True) as postgres,
        EmbeddedRedis(folder / "redis") as redis,
    ):
        make_template(postgres)
        with open_office(postgres, redis.url, _AGENTS) as office:
            people = _talk(office)
            with tab(office.browser, office.console.url, viewport=_SIZE) as page:
                _take(page, "console-waiting")
                page.get_by_role("link", name="Draft").first.click()
                _take(page, "console-draft")
            with tab(office.browser, office.console.url, viewport=PHONE) as page:
                page.goto(f"/people/{people['ada']}")
                _take(page, "console-person")


if __name__ == "__main__":
    main()
