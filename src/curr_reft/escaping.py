"""Text from outside, made safe to show: on a terminal and in a log (``visible``), on a page of Markdown (``markdown``).

HTML pages escape with Jinja's autoescape or ``html.escape``. Files for programs (JSON, Parquet) hold text as it is.
"""

import json
import re
import unicodedata
from collections.abc import Callable
from typing import Any

# Controls (C0, DEL, C1), formats (bidi, zero width, tags), halves of surrogate pairs, separators of lines.
_HIDDEN_CATEGORIES = {"Cc", "Cf", "Cs", "Zl", "Zp"}
# Joiners shape letters of Persian and Indic scripts, and emoji; they move nothing.
_SHOWN = {"\n", "\t", "\u200c", "\u200d"}

_MARKDOWN = re.compile(r"[\\`*{}\[\]|#!~$]|(?<![^\W_])_|_(?![^\W_])")  # within a word _ is text
_AUTOLINK = re.compile(r"(?i)(https?|ftp|mailto|xmpp|data|file|javascript):|(www)\.|//")
_BLOCK = re.compile(r"^(\d*)([.)](?= |$)|[-+=](?= |$|[-=]))")


def visible(text: str) -> str:
    """Return ``text`` with every character that acts or hides instead of being seen as its Python escape (``\\x1b``).

    Newlines and tabs stay. Text that is escaped already stays as it is.
    """
    return _escaped(text, _code)


def visible_json(text: str) -> str:
    """``visible`` of JSON: the escapes are JSON's, and the value stays the same."""
    return _escaped(text, lambda char: json.dumps(char)[1:-1])


def markdown(text: Any) -> str:
    """Return text that means nothing to Markdown or HTML: one line, special characters escaped, no link that forms
    by itself."""
    line = " ".join(visible(str(text)).split())
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    line = _MARKDOWN.sub(r"\\\g<0>", line)
    line = _AUTOLINK.sub(lambda match: re.sub(r"[:./]", r"\\\g<0>", match[0]), line)
    return _BLOCK.sub(r"\1\\\2", line)


def _escaped(text: str, code: Callable[[str], str]) -> str:
    return text if text.isprintable() else "".join(code(char) if _is_hidden(char) else char for char in text)


def _is_hidden(char: str) -> bool:
    return char not in _SHOWN and unicodedata.category(char) in _HIDDEN_CATEGORIES


def _code(char: str) -> str:
    number = ord(char)
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"
