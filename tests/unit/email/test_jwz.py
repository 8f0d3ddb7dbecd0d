"""The threader that judges our headers: it must see a thread that is broken."""

from tests.support.jwz import threads
from tests.support.mails import mail_of


def mail(name: str, **headers: str) -> bytes:
    return mail_of(message_id=f"<{name}>", subject="Re: one subject for all", **headers)


def test_mails_are_one_thread_by_their_references_whatever_their_order() -> None:
    mails = [
        mail("c", References="<a> <b>"),
        mail("d", References="<c>"),
        mail("a"),
        mail("e", References="<gone> <also-gone>"),
        mail("f", References="<gone>"),
    ]
    assert threads(mails) == [{"<c>", "<d>", "<a>"}, {"<e>", "<f>"}]


def test_what_names_no_other_mail_is_a_thread_of_its_own() -> None:
    mails = [mail("a"), mail("b", In_Reply_To="<a>"), mail("c", References="<x>")]
    assert len(threads(mails)) == 3


def test_a_circle_ends() -> None:
    assert len(threads([mail("a", References="<b>"), mail("b", References="<a>")])) == 1
