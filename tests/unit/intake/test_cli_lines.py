import os
from pathlib import Path

import pytest

from message_worker_client import MessageKey
from worker.cli.console import escape_for_terminal
from worker.cli.errors import CommandError
from worker.cli.send.message_file import (
    FileSend,
    address,
    count_lines,
    identity,
    read_lines,
    reader,
)

KEY = MessageKey(channel="web", user="user0000", message_id="m")


def written(folder: Path, name: str, content: bytes) -> Path:
    file = folder / name
    file.write_bytes(content)
    return file


def texts(file: Path) -> list[object]:
    read = reader(file)
    return [read(line)["text"] for _, line in read_lines(file)]


def test_the_last_column_of_a_tsv_is_the_text_and_crlf_is_no_part_of_it(tmp_path: Path) -> None:
    file = written(tmp_path, "a.tsv", b'ham\tsay "hi"\r\nspam\tfree \xe2\x82\xac\r\n')
    assert texts(file) == ['say "hi"', "free €"]


def test_the_mark_of_windows_editors_is_no_part_of_the_first_line(tmp_path: Path) -> None:
    file = written(tmp_path, "a.jsonl", b'\xef\xbb\xbf{"text": "x"}\n{"text": "y"}\n')
    assert (texts(file), count_lines(file)) == (["x", "y"], 2)


def test_a_line_that_cannot_be_read_is_a_fault_that_quotes_nothing(tmp_path: Path) -> None:
    file = written(tmp_path, "a.jsonl", b'{"text": "x"}\n{secret\n\n[1]\n\xff\n' + b"[" * 99_999)
    lines = dict(read_lines(file))
    assert list(lines) == [1, 2, 4, 5, 6]
    read = reader(file)
    assert read(lines.pop(1)) == {"text": "x"}
    for line in lines.values():
        with pytest.raises(CommandError) as caught:
            read(line)
        assert "secret" not in str(caught.value)
    assert count_lines(file) == 5


def test_a_line_separator_within_a_text_does_not_end_the_line(tmp_path: Path) -> None:
    file = written(tmp_path, "a.tsv", "x\tone\u2028two\x85three\n".encode())
    assert texts(file) == ["one\u2028two\x85three"]


def test_a_header_names_the_fields_and_an_empty_column_gives_none(tmp_path: Path) -> None:
    file = written(tmp_path, "a.tsv", b"user\ttext\tthread\nann\thello\t\n+1\tone\ttwo\tthree\n")
    lines = read_lines(file)
    read = reader(file, next(lines)[1])
    assert read(next(lines)[1]) == {"user": "ann", "text": "hello"}
    with pytest.raises(CommandError, match="4 columns, and the header has 3"):
        read(next(lines)[1])


@pytest.mark.parametrize(
    ("name", "header", "said"),
    [
        ("a.tsv", b"usr\ttext", "the header names usr: give "),
        ("a.jsonl", b"{}", "--header is for a .tsv file"),
    ],
)
def test_a_wrong_header_is_refused(tmp_path: Path, name: str, header: bytes, said: str) -> None:
    with pytest.raises(CommandError, match=said):
        reader(written(tmp_path, name, header), header)


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=r"give a \.jsonl or \.tsv file"):
        reader(written(tmp_path, "a.csv", b"x\n"))


def test_who_a_line_is_from_and_when_depends_on_name_time_and_number_alone(tmp_path: Path) -> None:
    file = written(tmp_path, "a.tsv", b"x\n")
    os.utime(file, (1_790_000_000, 1_790_000_000))
    assert identity(file)(7) == identity(file)(7)
    assert identity(file)(7) == {
        "message_id": "a.tsv:7",
        "sent_at": "2026-09-21T14:13:20.007000+00:00",
    }


def test_lines_go_round_the_users(tmp_path: Path) -> None:
    file = written(tmp_path, "a.tsv", b"one\ntwo\nthree\n")
    sent = FileSend(file=file, flags={"channel": "web"}, users=2).envelopes(lambda _: KEY)
    assert [one["user"] for one in sent] == ["user0000", "user0001", "user0000"]


@pytest.mark.parametrize(
    ("channel", "expected"),
    [("sms", "+13125550007"), ("email", "user0007@example.com"), ("web", "user0007")],
)
def test_an_invented_user_has_an_address_that_fits_the_channel(channel: str, expected: str) -> None:
    assert address(channel, 7) == expected


def test_a_reply_cannot_steer_the_terminal_or_the_markup() -> None:
    assert (
        escape_for_terminal("\x1b]0;title\x07 [red]x[/] a\tb\nc\r")
        == "�]0;title� \\[red]x\\[/] a\tb⏎c�"
    )
