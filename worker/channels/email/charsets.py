"""Bytes to text, whatever charset a mail declares."""

import re
from email.errors import HeaderParseError
from email.header import decode_header
from typing import Final

from message_worker_client.envelope.storable import replace_unstorable

_ALIASES: Final = {
    "ansi": "windows-1252",
    "x-ansi": "windows-1252",
    "cp-850": "cp850",
    "utf8mb4": "utf-8",
    "utf-8mb4": "utf-8",
    "utf8mb3": "utf-8",
    "iso-8859-8-i": "iso-8859-8",
    "iso-8859-8-e": "iso-8859-8",
    "iso-8859-6-i": "iso-8859-6",
    # Mails that declare one of these often hold characters of the larger set.
    "ks_c_5601-1987": "cp949",
    "euc-kr": "cp949",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "x-gbk": "gb18030",
    "iso-8859-1": "windows-1252",
    "latin1": "windows-1252",
    "us-ascii": "utf-8",
    "ascii": "utf-8",
    "iso-2022-jp": "iso2022_jp_ext",
    "x-sjis": "cp932",
    "shift_jis": "cp932",
    "x-windows-949": "cp949",
    "windows-31j": "cp932",
    "x-mac-roman": "mac-roman",
    "x-mac-cyrillic": "mac-cyrillic",
}
_BAD_SHARE: Final = 0.02
_NOT_A_LINE: Final = re.compile("[\x01-\x08\x0b-\x1f\x7f\x85\u2028\u2029]+")


def to_text(data: bytes, charset: str | None) -> str:
    """Decode as declared, else as UTF-8, else as Windows-1252. Never raises.

    Postgres cannot store a NUL or half of a surrogate pair: they are left out.
    """
    declared = (charset or "").strip().strip("\"'").lower()
    named = _ALIASES.get(declared, declared)
    for name, errors in ((named, "strict"), ("utf-8", "strict"), (named, "replace")):
        text = _decoded(data, name, errors)
        # A few bad characters, such as those of a cut mail, say nothing against the charset.
        if text is None:
            continue
        if errors == "strict" or text.count("\ufffd") <= len(text) * _BAD_SHARE:
            return replace_unstorable(text, by="")
    return replace_unstorable(data.decode("windows-1252", "replace"), by="")


def _decoded(data: bytes, name: str, errors: str) -> str | None:
    try:
        # Not all codecs are of text: "hex" and "zlib" are not.
        return data.decode(name, errors) if name else None
    except (LookupError, ValueError):
        return None


def header_text(value: str) -> str:
    """Decode the encoded words of a header value and its bare bytes, into one line."""
    try:
        pieces = decode_header(value) if "=?" in value else [(value, None)]
    except (HeaderParseError, ValueError, LookupError):
        pieces = [(value, None)]
    text = "".join(_piece(data, charset) for data, charset in pieces)
    return _NOT_A_LINE.sub(" ", text.replace("\t", " ").replace("\n", " ")).strip()


def _piece(data: bytes | str, charset: str | None) -> str:
    if isinstance(data, bytes) and charset is not None:
        return to_text(data, charset)
    # Without a charset, `decode_header` has escaped what was not ASCII.
    return _bare(data.decode("raw-unicode-escape") if isinstance(data, bytes) else data)


def _bare(text: str) -> str:
    """Decode bytes above 127, which the parser keeps as surrogates."""
    if text.isascii():
        return replace_unstorable(text, by="")
    return to_text(text.encode("utf-8", "surrogateescape"), None)
