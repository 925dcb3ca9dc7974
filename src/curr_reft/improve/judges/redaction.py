"""Takes a key out of text that a server or a library wrote, before that is cut, kept or shown.

A key is found as it is and escaped (repr, JSON, HTML, URL, nested in one another), in Base64 and hexadecimal, in other
cases, with line breaks in it, and in part: whatever has ``LEAST`` of its characters in a row is taken out, as a server
may have cut it before we could.
"""

import base64
import html
import re
from collections.abc import Iterator

MASK = "[key]"
LEAST = 6  # characters of the key in a row that are taken out
DUMMY = 7  # a key of at most so many characters ("EMPTY", "x") is a word of everyday texts: taken out as a word alone

_ESCAPE = re.compile(
    r"\\u([0-9a-f]{4})|\\x([0-9a-f]{2})|%([0-9a-f]{2})|(&(?:#[0-9]{1,7}|#x[0-9a-f]{1,6}|[a-z]{2,8});)"
    r"|([\s\\\u00ad\u200b-\u200f\u2060\ufeff])",  # white space, backslashes and what cannot be seen: left out
    re.IGNORECASE,
)
_NESTED = 3  # escapes of escapes that are read
_URL_SAFE = str.maketrans("+/", "-_")


class Redactor:
    """Call it with a text; it returns the text without the key."""

    def __init__(self, key: str | None) -> None:
        """``key`` None: nothing is taken out."""
        self._word = None if key is None or len(key) > DUMMY else re.compile(rf"(?<!\w){re.escape(key)}(?!\w)")
        self._runs: dict[int, set[str]] = {}  # length -> all runs of this length that give the key away
        if key is not None and self._word is None:
            for length, form in _forms(key):
                runs = self._runs.setdefault(length, set())
                for plain, _ in _levels(form):
                    folded = _fold(plain)
                    runs.update(folded[i : i + length] for i in range(len(folded) - length + 1))

    def __call__(self, text: str) -> str:
        if self._word is not None:
            return self._word.sub(MASK, text)
        while self._runs:
            found = set().union(*(self._find(plain, spans) for plain, spans in _levels(text)))
            if not found:
                break
            text = _cut_out(text, found)  # shorter by it, so this ends
        return text

    def _find(self, plain: str, spans: list[tuple[int, int]]) -> set[tuple[int, int]]:
        """The stretches of the text that hold a run of the key."""
        folded = _fold(plain)
        return {
            (spans[i][0], spans[i + length - 1][1])
            for length, runs in self._runs.items()
            for i in range(len(folded) - length + 1)
            if folded[i : i + length] in runs
        }


def _forms(key: str) -> Iterator[tuple[int, str]]:
    """Yield (the length of a run that gives the key away, the key in one form); escapes are undone in the text."""
    data = key.encode()
    yield LEAST, key
    yield 2 * LEAST, data.hex()
    for before in range(3):  # bytes before the key, as Base64 takes three at a time
        whole = base64.b64encode(bytes(before) + data).decode().rstrip("=")
        yield LEAST + 2, whole[(before * 8 + 5) // 6 : (before + len(data)) * 8 // 6]


def _fold(text: str) -> str:
    """``text`` in small letters and the URL's alphabet of Base64, of the same length."""
    lower = text.lower()
    if len(lower) != len(text):  # a few capital letters become two
        lower = "".join(each.lower() if len(each.lower()) == 1 else each for each in text)
    return lower.translate(_URL_SAFE)


def _levels(text: str) -> Iterator[tuple[str, list[tuple[int, int]]]]:
    """Yield ``text`` as it is, and with one level of escapes after the other undone; for every character its stretch in
    ``text``."""
    plain, spans = text, [(i, i + 1) for i in range(len(text))]
    for _ in range(_NESTED + 1):
        yield plain, spans
        before, (plain, spans) = plain, _unescape(plain, spans)
        if plain == before:
            return


def _unescape(text: str, spans: list[tuple[int, int]]) -> tuple[str, list[tuple[int, int]]]:
    """Return ``text`` with one level of escapes undone, and for every character the stretch that it came from."""
    parts: list[str] = []
    kept: list[tuple[int, int]] = []
    place = 0
    for match in _ESCAPE.finditer(text):
        parts.append(text[place : match.start()])
        kept += spans[place : match.start()]
        place = match.end()
        code = match[1] or match[2] or match[3]
        value = chr(int(code, 16)) if code else html.unescape(match[4]) if match[4] else ""
        if len(value) == 1 or not value:
            parts.append(value)
            kept += [(spans[match.start()][0], spans[place - 1][1])] if value else []
        else:  # no entity of HTML
            parts.append(match[0])
            kept += spans[match.start() : place]
    parts.append(text[place:])
    kept += spans[place:]
    return "".join(parts), kept


def _cut_out(text: str, found: set[tuple[int, int]]) -> str:
    """``text`` with every stretch of ``found`` masked; those that touch become one."""
    merged: list[tuple[int, int]] = []
    for begin, end in sorted(found):
        if merged and begin <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(end, merged[-1][1])
        else:
            merged.append((begin, end))
    parts, place = [], 0
    for begin, end in merged:
        parts += [text[place:begin], MASK]
        place = end
    return "".join([*parts, text[place:]])
