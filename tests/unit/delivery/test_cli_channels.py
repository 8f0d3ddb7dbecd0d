"""`worker channels try`: what becomes of a message, without any server."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.cli import Said, invoke

AGENTS = """
[agents.default]
model = "m/default"
[channels.sms]
driver = "telnyx"
[channels.sms.telnyx]
max_parts = 1
[channels.sms.screening]
help_text = "Example Shop. Write to help@example.com, or reply STOP to end."
[channels.whatsapp]
driver = "telnyx_whatsapp"
"""
OURS, THEIRS = "+13125550199", "+13125550001"


def webhook(text: str, event: str = "message.received", **fields: object) -> dict[str, Any]:
    payload = {
        "id": "84cca175-9755-4859-b67f-4730d7f58aa3",
        "type": "SMS",
        "direction": "inbound",
        "from": {"phone_number": THEIRS},
        "to": [{"phone_number": OURS}],
        "text": text,
        **fields,
    }
    return {"data": {"event_type": event, "payload": payload}}


def tried(folder: Path, document: object, *options: str, agents: str = AGENTS) -> Said:
    (folder / "agents.toml").write_text(agents)
    (folder / "message.json").write_text(json.dumps(document))
    env = {"AGENTS_FILE": str(folder / "agents.toml"), "SANDBOX_DIR": str(folder / "none")}
    return invoke("channels", "try", folder / "message.json", *options, env=env)


def facts(folder: Path, document: object, *options: str, agents: str = AGENTS) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(
        tried(folder, document, "--json", *options, agents=agents).stdout
    )
    return found


def test_a_question_goes_to_the_model_and_its_answer_to_telnyx(tmp_path: Path) -> None:
    found = facts(tmp_path, webhook("Are you open?"), "--reply", "**Yes**, until \u20185\u2019.")
    assert (found["verdict"], found["rule"]) == ("answered", None)
    content = [{"type": "input_text", "text": "Are you open?"}]
    assert found["model_input"] == {"role": "user", "content": content}
    (request,) = found["requests"]
    assert (request["path"], request["encoding"], request["parts"]) == ("/messages", "GSM-7", 1)
    body = json.loads(request["body"])
    told = "You are writing with an AI assistant.\nYes, until '5'."
    assert (body["from"], body["to"], body["text"]) == (OURS, THEIRS, told)


def test_stop_is_recognised_by_telnyx_and_by_us(tmp_path: Path) -> None:
    theirs = facts(tmp_path, webhook("stop", autoresponse_type="STOP"), "--reply", "Sure.")
    assert (theirs["verdict"], theirs["why"]) == ("skipped", "opt_out")
    assert (theirs["model_input"], theirs["requests"]) == (None, [])
    ours = facts(tmp_path, webhook("STOPP"))
    assert (ours["why"], ours["rule"]) == ("opt_out", "stop_keyword")


def test_help_is_answered_with_the_configured_text(tmp_path: Path) -> None:
    found = facts(tmp_path, webhook("Help"), "--reply", "not this")
    assert (found["why"], found["model_input"]) == ("help", None)
    (request,) = found["requests"]
    assert json.loads(request["body"])["text"].startswith("Example Shop.")


def test_a_long_reply_is_cut_or_split(tmp_path: Path) -> None:
    text = "It is open from nine to five. " * 8
    (cut,) = facts(tmp_path, webhook("hi"), "--reply", text)["requests"]
    assert (cut["parts"], json.loads(cut["body"])["text"][-9:]) == (1, "five. ...")
    split = AGENTS.replace("max_parts = 1", "max_parts = 1\nsplit = true")
    pieces = facts(tmp_path, webhook("hi"), "--reply", text, agents=split)["requests"]
    texts = [json.loads(one["body"])["text"] for one in pieces]
    assert [one[:6] for one in texts] == ["(1/2) ", "(2/2) "]
    assert len({one["body"] for one in pieces}) == 2


def test_a_short_code_sends_ascii(tmp_path: Path) -> None:
    asked = webhook("hi", to=[{"phone_number": "55555"}])
    (request,) = facts(tmp_path, asked, "--reply", "[Yes]")["requests"]
    assert (request["encoding"], request["parts"]) == ("ASCII-7", 1)


def test_a_whatsapp_message_is_answered_on_its_channel(tmp_path: Path) -> None:
    body = {"type": "text", "text": {"body": "hi"}}
    document = webhook("", type="WHATSAPP", to=OURS, body=body)
    found = facts(tmp_path, document, "--reply", "Hello \N{WAVING HAND SIGN}")
    assert found["channel_user"]["channel"] == "whatsapp"
    (request,) = found["requests"]
    assert (request["path"], request["parts"]) == ("/messages/whatsapp", None)
    assert json.loads(request["body"])["whatsapp_message"]["text"]["body"].endswith(
        "\nHello \N{WAVING HAND SIGN}"
    )


def test_an_envelope_is_tried_as_it_is(tmp_path: Path) -> None:
    envelope = {"version": 1, "channel": "sms", "user": THEIRS, "recipient": OURS}
    envelope |= {"message_id": "m-1", "text": "hi"}
    assert facts(tmp_path, envelope, "--reply", "Hello")["requests"][0]["parts"] == 1
    wrong = tried(tmp_path, envelope | {"user": "3125550001"})
    assert wrong.returncode == 1
    assert "give E.164" in wrong.stderr


@pytest.mark.parametrize(
    ("document", "options", "said"),
    [
        (webhook("hi", "message.finalized"), (), "no message of a person: receipt"),
        (webhook("hi", "call.initiated"), (), "no message of a person: unknown_type"),
        (
            {"version": 1, "channel": "web", "user": "ann", "message_id": "m", "text": "hi"},
            ("--reply", "Hello"),
            "channel web has no driver of Telnyx",
        ),
    ],
)
def test_what_cannot_be_tried_is_said(
    tmp_path: Path, document: object, options: tuple[str, ...], said: str
) -> None:
    done = tried(tmp_path, document, *options)
    assert done.returncode != 0
    assert said in done.stderr


def test_lines_are_labelled(tmp_path: Path) -> None:
    said = tried(tmp_path, webhook("one\ntwo\x1b[2J"), "--reply", "three").stdout
    assert "verdict       the model is asked" in said
    assert "model gets    one\nmodel gets    two" in said
    assert "request 1     POST /messages, GSM-7, parts: 1\nbody          {" in said
    assert "\x1b" not in said
