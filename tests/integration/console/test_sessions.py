"""Who gets into the console, for how long, and what a form of another site can do: nothing."""

from typing import Any

import pytest

from tests.support.asgi import Asgi
from tests.support.console import ANNA, BEN, Visitor, fields_of, running_console
from tests.support.world import World
from worker.domain.errors import SettingsError


def audits(world: World) -> list[tuple[Any, ...]]:
    rows = world.database.rows(
        "SELECT who, action, channel_user_id, subject_id FROM audits ORDER BY id"
    )
    return [tuple(row.values()) for row in rows]


def test_a_stranger_sees_the_login_alone_and_comes_to_the_page_they_wanted(app: Asgi) -> None:
    stranger = Visitor(app=app)
    answer = stranger.get("/people/7?before=x")
    assert (answer.status, answer.headers["location"]) == (
        303,
        "/login?next=/people/7%3Fbefore%3Dx",
    )
    assert "Log in" in stranger.get("/login?next=/people/7").body.decode()
    answer = stranger.log_in(wanted="/people/7")
    assert (answer.status, answer.headers["location"]) == (303, "/people/7")


@pytest.mark.parametrize("wanted", ["//evil.example", "/\\evil.example", "https://evil.example"])
def test_a_login_leads_to_no_other_site(app: Asgi, wanted: str) -> None:
    answer = Visitor(app=app).log_in(wanted=wanted)
    assert answer.headers["location"] == "/"


def test_the_cookie_has_the_flags_of_a_session_and_names_nobody_to_others(app: Asgi) -> None:
    answer = Visitor(app=app).log_in()
    name, _, rest = answer.headers["set-cookie"].partition("=")
    assert name == "__Host-console"
    flags = {one.strip().lower() for one in rest.split(";")[1:]}
    assert flags >= {"httponly", "samesite=strict", "secure", "path=/", "max-age=28800"}
    assert ANNA not in rest
    here = Visitor(app=app, headers={"host": "127.0.0.1:8090"}).log_in()
    assert here.headers["set-cookie"].startswith("console=")
    assert "secure" not in here.headers["set-cookie"].lower()


def test_a_wrong_token_is_refused_and_then_slowed_down_for_its_source_alone(app: Asgi) -> None:
    stranger = Visitor(app=app)
    statuses = [stranger.log_in(token=f"wrong-{n}").status for n in range(8)]
    assert statuses[:4] == [403] * 4
    assert statuses[-1] == 429
    assert stranger.log_in().status == 429, "the right one has to wait, too"
    assert Visitor(app=app, client="192.0.2.3").log_in("anna", token=BEN).status == 403
    assert Visitor(app=app, client="192.0.2.2").log_in().status == 303


def test_a_session_ends_after_a_working_day(world: World, anna: Visitor) -> None:
    world.clock.advance(8 * 3600 - 60)
    assert anna.get("/").status == 200
    world.clock.advance(120)
    assert anna.get("/").headers["location"] == "/login?next=/"


def test_a_logout_ends_the_sessions_of_its_person_and_of_nobody_else(
    app: Asgi, anna: Visitor
) -> None:
    ben = Visitor(app=app)
    ben.log_in("ben")
    at_home = Visitor(app=app)
    at_home.log_in()
    stolen = dict(anna.cookies)
    assert anna.submit("/", "/logout").headers["location"] == "/login"
    assert anna.cookies == {}
    anna.cookies = stolen
    assert anna.get("/").status == 303
    assert at_home.get("/").status == 303
    assert ben.get("/").status == 200
    assert anna.log_in().status == 303
    assert anna.get("/").status == 200


def test_a_cookie_that_was_changed_or_is_of_another_token_is_nobodys(
    world: World, app: Asgi, anna: Visitor
) -> None:
    (name, cookie), *_ = anna.cookies.items()
    who, login, signature = cookie.split(".")
    for changed in (
        f"{who}.{int(login) + 1}.{signature}",
        f"YmVu.{login}.{signature}",
        f"{who}.{login}.{'0' * 64}",
        f"{who}.{login}",
        "%%%.1." + "0" * 64,
        "",
    ):
        anna.cookies = {name: changed}
        assert anna.get("/").status == 303, changed
    anna.cookies = {name: cookie}
    assert anna.get("/").status == 200
    with running_console(world, console_tokens={"anna": BEN}) as other:
        assert Visitor(app=other, cookies={name: cookie}).get("/").status == 303
    with running_console(world) as restarted:
        assert Visitor(app=restarted, cookies={name: cookie}).get("/").status == 200


def test_a_form_without_the_sessions_token_changes_nothing(
    world: World, app: Asgi, anna: Visitor
) -> None:
    world.worker().receive(world.envelope("hello"))
    before = audits(world)
    ben = Visitor(app=app)
    ben.log_in("ben")
    of_ben = fields_of(ben.get("/people/1"), "/people/1/pause")
    pause = "/people/1/pause"
    good = fields_of(anna.get("/people/1"), pause)
    refused = [
        anna.post(pause, {}),
        anna.post(pause, {"csrf": "0" * 64}),
        anna.post(pause, of_ben),
        anna.post(pause, good, **{"sec-fetch-site": "cross-site"}),
        anna.post(pause, good, **{"sec-fetch-site": "same-site"}),
        anna.post("/logout", {}),
        Visitor(app=app).post(pause, good),
    ]
    assert [one.status for one in refused] == [403] * 7
    assert anna.post(pause, good, **{"content-type": "text/plain"}).status == 415
    assert world.database.value("SELECT paused_at FROM channel_users") is None
    assert {row[1] for row in audits(world)[len(before) :]} == {"login", "person"}
    assert anna.get(pause).status == 405
    assert anna.post(pause, good, **{"sec-fetch-site": "same-origin"}).status == 303
    assert world.database.value("SELECT paused_at FROM channel_users") is not None


def test_every_page_forbids_frames_scripts_and_caches(anna: Visitor, app: Asgi) -> None:
    for answer in (anna.get("/"), anna.get("/nothing"), Visitor(app=app).get("/login")):
        if answer.status == 404:
            continue
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert b"<script" not in answer.body
        assert b"style=" not in answer.body


def test_a_link_of_another_site_opens_although_its_cookie_is_kept_back(app: Asgi) -> None:
    stranger = Visitor(app=app)
    answer = stranger.get("/people/7", **{"sec-fetch-site": "cross-site"})
    assert answer.status == 200
    assert b'http-equiv="refresh" content="0; url=/people/7"' in answer.body


def test_behind_a_proxy_its_header_says_who_it_is(world: World) -> None:
    with running_console(world, console_tokens=None, console_user_header="X-User") as app:
        assert Visitor(app=app).get("/").status == 403
        anna = Visitor(app=app, headers={"x-user": "anna@example.com"})
        assert anna.get("/people").headers["location"] == "/people"
        page = anna.get("/people")
        assert page.status == 200
        assert b"Log out" not in page.body
        anna.headers = {"x-user": "ben@example.com"}
        assert anna.get("/people").status == 303, "the session is of somebody else"
        assert anna.get("/people").status == 200
        assert anna.log_in(token="x").status in {403, 429}
        for name, status in (("CN=" + "x" * 98, 403), ("É", 200)):
            other = Visitor(app=app, headers={"x-user": name})
            other.get("/people")
            assert other.get("/people").status == status, "and never an endless redirect"
    assert audits(world)[:2] == [
        ("anna@example.com", "login", None, None),
        ("anna@example.com", "people", None, None),
    ]
    assert audits(world)[-1] == ("É", "people", None, None)


@pytest.mark.parametrize(
    ("tokens", "header"), [(None, None), ({"anna": ANNA}, "X-User")], ids=["neither", "both"]
)
def test_it_starts_only_if_one_thing_says_who_somebody_is(
    world: World,
    tokens: dict[str, str] | None,
    header: str | None,
) -> None:
    with (
        pytest.raises(SettingsError, match="CONSOLE_TOKENS"),
        running_console(world, console_tokens=tokens, console_user_header=header),
    ):
        pass
