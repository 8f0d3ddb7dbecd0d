"""Real mails that public projects test with, where a copy lies beside the checkout.

Without one there are no tests here. `make corpora` prints what is measured. What these mails teach
is also in tests/fixtures/mails, in mails of our own.
"""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.support.databases import ROOT
from worker.channels.email.new_text import new_text
from worker.channels.email.received import Received, open_mail
from worker.domain.routing import ChannelPolicy

FOLDER: Final = Path(os.environ.get("MAIL_CORPORA") or ROOT.parent / "shared" / "mail-corpora")
__test__ = FOLDER.is_dir()  # else pytest would report tests that have nothing to test with

BOUNCES: Final = (
    "sisimai/maildir/bsd",
    "sisimai/maildir/err",
    "ruby-mail/spec/fixtures/emails/multipart_report_emails",
)
ORDINARY: Final = (
    "stalwart-mail-parser/resources/eml",
    "ruby-mail/spec/fixtures/emails",
    "cpython-test-email",
    "sisimai/maildir/not",
)
_RUBY: Final = "ruby-mail/spec/fixtures/emails"
MACHINES: Final = frozenset(
    {
        # Of mailing lists, and one of bulk advertising.
        "stalwart-mail-parser/resources/eml/thirdparty/014.eml",
        "cpython-test-email/msg_02.txt",
        "cpython-test-email/msg_32.txt",
        "cpython-test-email/msg_33.txt",
        f"{_RUBY}/error_emails/empty_in_reply_to.eml",
        f"{_RUBY}/error_emails/bad_date_header.eml",
        # From "noreply" addresses.
        f"{_RUBY}/plain_emails/raw_email_trailing_dot.eml",
        f"{_RUBY}/mime_emails/raw_email_encoded_stack_level_too_deep.eml",
        f"{_RUBY}/error_emails/encoding_madness.eml",
        # Reports of mail servers.
        f"{_RUBY}/mime_emails/raw_email_with_mimepart_without_content_type.eml",
        "cpython-test-email/msg_05.txt",
        "cpython-test-email/msg_16.txt",
        "cpython-test-email/msg_25.txt",
        "cpython-test-email/msg_43.txt",
    }
)
"""Mails among the ordinary ones that machines have sent, as reading them shows."""


def mails(*folders: str) -> Iterator[tuple[str, Received]]:
    for folder in folders:
        for file in sorted((FOLDER / folder).rglob("*")):
            name = str(file.relative_to(FOLDER))
            if (
                file.is_file()
                and file.suffix in {".eml", ".txt"}
                and "multipart_report" not in name
            ):
                yield name, open_mail(file.read_bytes(), ChannelPolicy(name="email")).judged()


def is_of_machine(one: Received) -> bool:
    return one.verdict is not None and one.verdict.tier is not None


def test_no_file_raises_or_is_given_up() -> None:
    files = [file for file in FOLDER.rglob("*") if file.is_file()]
    given_up = {
        str(file)
        for file in files
        if "parts" in open_mail(file.read_bytes(), ChannelPolicy(name="email")).judged().mail.cut
    }
    print(f"\n{len(files)} files: 0 exceptions, {len(given_up)} given up")
    assert given_up == set()


def test_bounces_are_caught() -> None:
    found = {
        str(file): open_mail(file.read_bytes(), ChannelPolicy(name="email")).judged()
        for folder in BOUNCES
        for file in (FOLDER / folder).iterdir()
    }
    missed = {name for name, one in found.items() if not is_of_machine(one)}
    hard = sum(one.verdict is not None and one.verdict.tier == "hard" for one in found.values())
    share = 1 - len(missed) / len(found)
    print(f"\nbounces: {share:.1%} of {len(found)} caught (bar 98.5 %), {hard} by hard rules")
    assert share >= 0.985, missed


def test_ordinary_mails_are_not_taken_for_machines() -> None:
    found = {name: one for name, one in mails(*ORDINARY) if name not in MACHINES}
    wrong = {name: one.verdict for name, one in found.items() if is_of_machine(one)}
    print(f"\nordinary mails: {len(wrong) / len(found):.1%} of {len(found)} silenced (bar 1 %)")
    assert len(wrong) <= 0.01 * len(found), wrong


def lines_of(text: str) -> Counter[str]:
    return Counter(" ".join(line.split()) for line in text.splitlines() if line.strip())


def test_new_text_keeps_what_the_author_wrote_and_leaves_out_what_they_quote() -> None:
    folder = FOLDER / "email_reply_trimmer" / "test"
    lost = left = wanted = quoted = 0
    for file in sorted((folder / "emails").iterdir()):
        quote = (folder / "elided" / file.name).read_text()
        author, others = lines_of((folder / "trimmed" / file.name).read_text()), lines_of(quote)
        text = lines_of(new_text(file.read_text(), parent=quote).text)
        wanted, quoted = wanted + author.total(), quoted + others.total()
        lost += (author - text).total()
        left += ((text - author) & others).total()
    print(f"\nauthor's lines lost: {lost / wanted:.1%} of {wanted} (bar 6 %)")
    print(f"quoted lines left: {left / quoted:.1%} of {quoted} (bar 7 %)")
    assert lost <= 0.06 * wanted
    assert left <= 0.07 * quoted
