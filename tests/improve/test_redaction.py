"""A key in text of servers and libraries: taken out in every form and in part, and nothing else is."""

import base64
import html
import json
import random
import string
import urllib.parse
from collections.abc import Callable

import pytest

from curr_reft.improve.judges.redaction import LEAST, MASK, Redactor

ALPHABET = string.ascii_letters + string.digits + "-_.~+/="


def key_of(length: int) -> str:
    return "".join(random.Random(length).choices(ALPHABET, k=length))


def longest_part(key: str, text: str) -> int:
    """Characters of the longest piece of ``key`` in ``text``."""
    return max(
        (n for n in range(1, len(key) + 1) if any(key[i : i + n] in text for i in range(len(key) - n + 1))), default=0
    )


@pytest.mark.parametrize("length", [20, 29, 51, 164, 200])
def test_a_key_that_was_cut_anywhere(length: int) -> None:
    key = key_of(length)
    redact = Redactor(key)
    assert redact(f"wrong key {key}.") == f"wrong key {MASK}."
    for cut in range(LEAST, length + 1):
        for part in (key[:cut], key[-cut:]):
            found = redact(f"wrong key «{part}»")
            assert found == f"wrong key «{MASK}»", cut


FORMS: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "repr": repr,
    "bytes": lambda key: repr(key.encode()),
    "header": lambda key: repr({"Authorization": f"Bearer {key}"}),
    "json": json.dumps,
    "json in json": lambda key: json.dumps(json.dumps({"key": key})),
    "json, slashes escaped": lambda key: json.dumps(key).replace("/", "\\/"),
    "all escaped": lambda key: "".join(f"\\u{ord(each):04x}" for each in key),
    "half of it escaped": lambda key: "".join(f"\\u{ord(c):04X}" if n % 2 else c for n, c in enumerate(key)),
    "escapes of Python": lambda key: "".join(f"\\x{ord(each):02x}" for each in key),
    "escaped twice": lambda key: json.dumps("".join(f"\\u{ord(each):04x}" for each in key)),
    "url": lambda key: urllib.parse.quote(key, safe=""),
    "form": urllib.parse.quote_plus,
    "url, all of it": lambda key: "".join(f"%{ord(each):02X}" for each in key),
    "url twice": lambda key: urllib.parse.quote(urllib.parse.quote(key, safe=""), safe=""),
    "html": lambda key: html.escape(key),
    "html, all of it": lambda key: "".join(f"&#{ord(each)};" for each in key),
    "html, hexadecimal": lambda key: "".join(f"&#x{ord(each):x};" for each in key),
    "base64": lambda key: base64.b64encode(key.encode()).decode(),
    "base64 for urls": lambda key: base64.urlsafe_b64encode(key.encode()).decode(),
    "base64 of a header": lambda key: base64.b64encode(f"Bearer {key}".encode()).decode(),
    "base64 of basic": lambda key: base64.b64encode(f":{key}:x".encode()).decode(),
    "base64 in lines": lambda key: base64.encodebytes(f"Authorization: Bearer {key}\n".encode()).decode(),
    "hexadecimal": lambda key: key.encode().hex(),
    "hexadecimal in capitals": lambda key: key.encode().hex().upper(),
    "small letters": str.lower,
    "capitals": str.upper,
    "in lines": lambda key: "\n".join(key[i : i + 7] for i in range(0, len(key), 7)),
    "with blanks nobody sees": lambda key: "\u200b".join(key),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("length", [20, 64, 200])
def test_a_key_in_every_form(form: str, length: int) -> None:
    key = key_of(length)
    written = FORMS[form](key)
    found = Redactor(key)(f"I was asked by {written}, and will not answer")
    assert MASK in found
    assert found.startswith("I was asked by ")
    assert found.endswith(", and will not answer")
    assert longest_part(key, found) < LEAST
    assert len(found) < len("I was asked by , and will not answer") + 50, "what is left gives parts of it away"


def test_a_key_that_looks_like_escapes() -> None:
    key = "a%41b&amp;c\\u0041d%2541e"
    for written in (key, repr(key), json.dumps(key), urllib.parse.quote(key, safe="")):
        assert "%41b" not in Redactor(key)(f"<{written}>")


@pytest.mark.parametrize(
    ("key", "text"),
    [
        (key_of(40), "The answer is right & clear: 50 % of 8\\4, caf\u00e9, \u0130stanbul &nbsp; &unknown; \\u00e9."),
        ("EMPTY", "empty reply: the EMPTYING of a box"),
        ("x", "x_1 = 3 and ex"),
        (None, "Bearer abcdefghijklmnop"),
    ],
)
def test_other_text_stays(key: str | None, text: str) -> None:
    assert Redactor(key)(text) == text


def test_a_word_that_serves_as_a_key_is_taken_out_as_a_word() -> None:
    assert Redactor("EMPTY")("Bearer EMPTY, emptY") == f"Bearer {MASK}, emptY"


def test_many_keys_in_a_text() -> None:
    key = key_of(30)
    assert Redactor(key)(f"{key} {key},{key}") == f"{MASK} {MASK},{MASK}"
