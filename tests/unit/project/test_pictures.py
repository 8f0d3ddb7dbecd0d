"""Pictures that scripts draw: the recording in the tutorial, the dashboard."""

import html
import re
from xml.etree import ElementTree as ET

from tests.support import dashboard_picture
from tests.support.databases import ROOT
from tests.support.pages import blocks_of
from tests.support.recording import COMMAND, PICTURE, drawn
from worker.cli.local.demo_view import SCRIPT
from worker.cli.local.service import TRY_IT


def lines_of(picture: str) -> str:
    ET.fromstring(picture)  # noqa: S314 - our own file
    texts = re.findall(r"<text [^>]*>([^<]*)</text>", picture)
    return "\n".join(html.unescape(one).replace("\xa0", " ") for one in texts)


def test_the_recording_is_of_the_tutorials_command_and_todays_demo() -> None:
    shown = lines_of(PICTURE.read_text())
    tutorial = (ROOT / "docs/tutorial/first-steps.md").read_text()
    assert f"{COMMAND}\n" in blocks_of(tutorial, "sh")
    assert shown.splitlines()[1] == f"$ {COMMAND}"
    for line in SCRIPT:
        assert f"{line.user}: {line.text}" in shown
    assert f"worker {TRY_IT}" in shown
    assert "worker schema envelope" in shown
    assert len(PICTURE.read_bytes()) < 25_000


def test_the_script_draws_each_line_at_its_time() -> None:
    picture = drawn([(0.0, "$ worker demo"), (1.5, "✓ kept"), (2.0, "a long line " * 10)])
    assert lines_of(picture).splitlines()[1:3] == ["$ worker demo", "✓ kept"]
    assert re.findall(r"animation-delay: ([\d.]+)s", picture) == ["0.0", "1.5", "2.0", "2.0"]


def test_the_picture_of_the_dashboard_has_todays_panels_and_says_that_it_is_drawn() -> None:
    shown = lines_of(dashboard_picture.PICTURE.read_text()).splitlines()
    assert shown[0] == dashboard_picture.CAPTION
    panels = dashboard_picture.panels()
    titles = [panel["title"] for panel in panels]
    assert [line for line in shown if line in titles] == titles
    drawn_now = dashboard_picture.drawn({panels[1]["id"]: [("age", [(0.0, 1.5)])]})
    assert "1.5 s" in lines_of(drawn_now)
