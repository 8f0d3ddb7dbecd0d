"""The console in a real browser: a worker, the console, Postgres and Redis run as processes."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.support.browser import DESK, PHONE, Office, faults_of, open_office, tab
from tests.support.console import ANNA
from tests.support.programs import are_installed
from worker.sandbox.postgres import EmbeddedPostgres
from worker.sandbox.redis import EmbeddedRedis
from worker.sandbox.simulator import Script

pytestmark = pytest.mark.skipif(not are_installed("chromium"), reason="chromium is not installed")
AGENTS = """
[agents.helper.hand_over]
notify = "desk"
text = "A colleague of ours will answer you."
[channels.help]
agent = "helper"
[channels.shop]
approve = "all"
[routes.desk.delivery]
task = "desk.told"
queue = "desk"
"""
LONG = "A-very-long-word-without-any-break-" * 6


@pytest.fixture(scope="module")
def office(shared_postgres: EmbeddedPostgres, shared_redis: EmbeddedRedis) -> Iterator[Office]:
    with open_office(shared_postgres, shared_redis.url, AGENTS) as office:
        yield office


@pytest.fixture
def anna(office: Office) -> Iterator[Page]:
    # Without scripts, as all of it has to work.
    with tab(office.browser, office.console.url, java_script_enabled=False) as page:
        yield page


def test_somebody_takes_over_answers_and_hands_back(office: Office, anna: Page) -> None:
    person = office.hear("ada@example.org", "I want to talk to a human, please.")
    anna.get_by_role("link", name="People").click()
    anna.get_by_label("Find somebody").fill("ada@example.org")
    anna.get_by_role("button", name="Find").click()
    expect(anna.get_by_role("heading", level=1)).to_have_text("ada@example.org")
    expect(anna.get_by_role("listitem").first).to_contain_text("I want to talk to a human")
    anna.get_by_role("button", name="Take over").click()
    expect(anna.get_by_role("status")).to_contain_text("You have taken over")
    anna.get_by_label("Your message").fill("This is Anna. What is it about?")
    anna.get_by_role("button", name="Send").click()
    expect(anna.get_by_role("status")).to_contain_text("on its way")
    expect(anna.get_by_role("listitem").filter(has_text="Our staff")).to_contain_text("Anna")
    assert office.hear("ada@example.org", "My parcel.") == person
    assert office.ground.outcomes("ada@example.org")[-1] == "human"
    anna.goto("/")
    anna.get_by_role("link", name="ada@example.org").click()
    anna.get_by_role("button", name="Hand back to the model").click()
    expect(anna.get_by_role("status")).to_contain_text("answers new messages again")
    office.ground.simulator.script(Script(text="And now?", reply="It is on its way."))
    office.hear("ada@example.org", "And now?")
    anna.reload()
    last = anna.get_by_role("listitem").filter(has_text="It is on its way.")
    expect(last).to_contain_text("The agent default")
    last.get_by_role("link").click()
    expect(anna.get_by_role("heading", name="Its life")).to_be_visible()
    expect(anna.get_by_text("reply written, source call")).to_be_visible()


def test_a_draft_is_approved_and_another_one_is_changed(office: Office, anna: Page) -> None:
    office.ground.simulator.script(Script(text="refund", reply="You get 100 dollars."))
    office.hear("buyer@example.org", "I want a refund.", channel="shop")
    anna.goto("/")
    anna.get_by_role("listitem").filter(has_text="buyer@example.org").get_by_role("link").click()
    expect(anna.get_by_text("I want a refund.")).to_be_visible()
    expect(anna.get_by_label("What goes out")).to_have_value("You get 100 dollars.")
    anna.get_by_role("button", name="Send", exact=True).click()
    expect(anna.get_by_role("status")).to_contain_text("The draft goes out")
    office.ground.simulator.script(Script(text="When?", reply="In a year."))
    person = office.hear("buyer@example.org", "When?", channel="shop")
    anna.goto(f"/people/{person}")
    anna.get_by_role("link", name="decide").click()
    anna.get_by_label("What goes out").fill("Within a week.")
    anna.get_by_role("button", name="Send", exact=True).click()
    expect(anna.get_by_role("status")).to_contain_text("Your text goes out")
    anna.goto(f"/people/{person}")
    expect(anna.get_by_role("listitem").filter(has_text="Within a week.")).to_contain_text("sent")
    expect(anna.get_by_text("In a year.")).to_have_count(0)


def test_the_model_hands_over_and_gets_the_thread_back(office: Office, anna: Page) -> None:
    why = '{"reason": "He wants <b>his money</b> back."}'
    office.ground.simulator.script(Script(text="angry", calls=(("hand_over", why),)))
    person = office.hear("guy@example.org", "I am angry.", channel="help")
    anna.goto("/")
    expect(anna.get_by_role("heading", name="Handed over to you")).to_be_visible()
    waiting = anna.get_by_role("listitem").filter(has_text="guy@example.org")
    expect(waiting).to_contain_text("the model asked for a person")
    waiting.get_by_role("link").click()
    expect(anna.get_by_text("He wants <b>his money</b> back.")).to_be_visible()
    expect(anna.get_by_text("A colleague of ours will answer you.")).to_be_visible()
    anna.get_by_label("Your message").fill("Sorry. You get it back today. Anna")
    anna.get_by_role("button", name="Send").click()
    anna.get_by_role("button", name="Hand back to the model").click()
    anna.goto("/")
    expect(anna.get_by_text("guy@example.org")).to_have_count(0)
    office.hear("guy@example.org", "Thank you.", channel="help")
    anna.goto(f"/people/{person}")
    expect(anna.get_by_role("listitem").filter(has_text="The agent helper")).to_be_visible()
    asked = office.ground.database.value("SELECT input_text FROM turns ORDER BY id DESC LIMIT 1")
    assert "has handed it back to you" in asked


def test_what_looks_like_a_page_is_text(office: Office, anna: Page) -> None:
    evil = '<script>document.title = "taken"</script><h1>Log in again</h1>'
    person = office.hear("eve@example.org", evil)
    anna.goto(f"/people/{person}")
    expect(anna.get_by_role("listitem").first).to_contain_text(evil)
    assert anna.locator("h1").count() == 1
    assert "taken" not in anna.title()


def test_a_link_from_elsewhere_leads_to_the_page(office: Office) -> None:
    person = office.hear("ida@example.org", "hello")
    with tab(office.browser, office.console.url) as page:
        elsewhere = f"<a href='{office.console.url}/people/{person}'>somebody waits</a>"
        page.route(
            "http://chat.test/",
            lambda route: route.fulfill(body=elsewhere, content_type="text/html"),
        )
        page.goto("http://chat.test/")
        page.get_by_role("link", name="somebody waits").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("ida@example.org")


@pytest.mark.parametrize(
    ("size", "scheme"),
    [
        pytest.param(PHONE, "dark", id="phone"),
        pytest.param(DESK, "light", id="desk", marks=pytest.mark.slow),
    ],
)
def test_no_page_has_a_fault_that_axe_finds_or_scrolls_sideways(
    office: Office, size: dict[str, int], scheme: str
) -> None:
    office.hear("draft@example.org", f"{LONG} refund", channel="shop")
    person = office.hear("long@example.org", f"{LONG} <b>bold</b>\n\nنص عربي")
    office.ground.fleet.send(office.ground.envelope(LONG, user="x@example.org", agent=LONG[:60]))
    office.ground.fleet.wait_for(
        lambda: office.ground.database.value("SELECT count(*) FROM dead_letters") > 0
    )
    draft = office.ground.database.value(
        "SELECT max(reply_id) FROM deliveries WHERE state = 'held'"
    )
    message = office.ground.database.value("SELECT max(id) FROM messages")
    letter = office.ground.database.value("SELECT max(id) FROM dead_letters")
    options = {"viewport": size, "color_scheme": scheme}
    with tab(office.browser, office.console.url, **options) as page:
        page.goto(f"/people/{person}")
        page.get_by_role("button", name="Take over").click()
        paths = (
            "/",
            "/people",
            f"/replies/{draft}",
            f"/people/{person}?done=said",
            f"/messages/{message}",
        )
        letters = ("/dead-letters", f"/dead-letters/{letter}", "/people/999999")
        faults = {}
        for path in (*paths, *letters):
            page.goto(path)
            for closed in page.locator("details:not([open]) > summary").all():
                closed.click()
            faults[path] = faults_of(page)
        page.goto(f"/people/{person}")
        page.get_by_role("button", name="Hand back to the model").click()
        page.get_by_role("button", name="Log out").click()
        page.get_by_role("button", name="Log in").wait_for()
        faults["login"] = faults_of(page)
    assert {path: found for path, found in faults.items() if found} == {}


def test_the_first_key_leads_past_the_menu(office: Office) -> None:
    with tab(office.browser, office.console.url) as page:
        page.goto("/people")
        page.keyboard.press("Tab")
        focused = page.locator(":focus")
        expect(focused).to_have_text("Skip to the content")
        expect(focused).to_be_in_viewport()
        page.keyboard.press("Enter")
        page.keyboard.press("Tab")
        expect(page.get_by_label("Find somebody")).to_be_focused()


def test_nothing_that_people_wrote_is_in_the_log(office: Office, anna: Page) -> None:
    person = office.hear("canary@example.org", "canary in the text")
    anna.goto(f"/people/{person}")
    anna.get_by_label("Your message").fill("canary of our staff")
    anna.get_by_role("button", name="Send").click()
    anna.get_by_role("link", name="People").click()
    anna.get_by_label("Find somebody").fill("canary@example.org")
    anna.get_by_role("button", name="Find").click()
    log = office.console.output()
    assert '"event": "console.answered"' in log
    assert '"action": "person.say"' in log
    for word in ("canary", "example.org", ANNA, '"anna"', "Traceback"):
        assert word not in log
