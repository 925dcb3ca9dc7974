"""Encodings of text files: the one a byte order mark names, and the likeliest one of bytes that are not UTF-8."""

import codecs
import re
from pathlib import Path

SAMPLE = 1 << 16  # bytes of a file that are looked at

_MARKS = (  # UTF-32 first: its mark begins with that of UTF-16
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_CHINESE = re.compile(rb"[\xb0-\xd7][\xa1-\xfe]")  # the common characters of GB2312, in bytes of GBK too
_JAPANESE = re.compile(rb"[\x82\x83][\x40-\xf1]")  # kana in Shift-JIS


def marked_encoding(start: bytes) -> str | None:
    """The encoding that a byte order mark at the start of a file names."""
    return next((name for mark, name in _MARKS if start.startswith(mark)), None)


def likely_encoding(data: bytes) -> str:
    """The likeliest encoding of the first bytes of a text file, as Python names it.

    A byte order mark and valid UTF-8 are certain. The rest is a guess for a message, never a reason to decode: single
    bytes above 127 between letters are a language of western Europe, pairs of them are Chinese or Japanese.
    """
    marked = marked_encoding(data)
    if marked is not None:
        return marked
    zeros = data[0::2].count(0), data[1::2].count(0)
    if 4 * max(zeros) > len(data):  # plain letters have an empty byte in UTF-16
        return "utf-16-le" if zeros[1] > zeros[0] else "utf-16-be"
    try:
        # The sample may end inside a character.
        codecs.getincrementaldecoder("utf-8")().decode(data)
        return "utf-8"
    except UnicodeDecodeError:
        pass
    above = sum(byte > 127 for byte in data)
    if 2 * 2 * len(_JAPANESE.findall(data)) > above:
        return "shift_jis"
    if 2 * 2 * len(_CHINESE.findall(data)) > above:
        return "gb18030"
    return "cp1252"


def encoding_hint(path: Path, key: str = "options.encoding: ") -> str:
    """What to try for a file that is not UTF-8: the encoding, and its first line read so. Empty where it is UTF-8, or
    no encoding reads it."""
    with path.open("rb") as file:
        data = file.read(SAMPLE)
    if data.startswith(b"\x1f\x8b"):  # gz
        return ""
    name = likely_encoding(data)
    if name in ("utf-8", "utf-8-sig"):
        return ""
    text = codecs.getincrementaldecoder(name)("replace").decode(data).lstrip("\ufeff")
    line = next((line for line in text.splitlines() if not line.isascii()), text.partition("\n")[0].strip())
    return f"try {key}{name}, which reads {line[:80]!r}"
