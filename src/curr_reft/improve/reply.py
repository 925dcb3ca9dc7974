"""Reads a judge's reply. What breaks the form is no verdict, with its reason, and never a number.

Thoughts are removed before anything is searched or cut: tags of reasoning models (``<think>``, Kimi's ``◁think▷``,
Mistral's ``[THINK]``, the channels of gpt-oss), nested, or without their opening tag, which many chat templates write
into the prompt. A thought that never ends leaves no verdict. Tags inside the strings of a JSON object, in backticks or
in quotes are talk about tags, as judges comment on answers that hold them.

The last JSON object with scores counts: models put words, a code fence or a draft before it. It must be unambiguous: no
key twice, nothing broken behind it, and a total that its own criteria allow (``_require_consistent``).
"""

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from curr_reft.improve.records import CRITERIA

EXCERPT = 2000  # characters of a raw reply without a verdict that are kept
LONGEST = 20_000  # characters of a reply without its thoughts; a verdict has some hundreds
SCORES = (*CRITERIA, "total")
WRONG, WRONG_AT_MOST = 50, 75  # accuracy below the first: the total may not exceed the second
FINE, FINE_AT_LEAST = 85, 50  # every criterion above the first: the total may not be below the second

_NAMES = r"(?:think|thinking|thought|thoughts|reasoning|reason|reflection|analysis|scratchpad)"
_TAG = re.compile(
    rf"""(?P<open> <\s*(?:[a-z]+:)?{_NAMES}(?:\s[^<>/]*)?> | ◁\s*{_NAMES}\s*▷ | (?-i:\[THINK\])
        | <\|(?:begin_of_thought|start_thinking)\|> | <\|channel>\s*thought\b )
    | (?P<close> <\s*/\s*(?:[a-z]+:)?{_NAMES}\s*> | ◁\s*/\s*{_NAMES}\s*▷ | (?-i:\[/THINK\])
        | <\|(?:end_of_thought|end_thinking)\|> | <channel\|> )
    | (?P<channel> <\|channel\|>\s*(?P<marked>\w+)(?:\s*<\|constrain\|>\s*\w+)?(?:\s*<\|message\|>)?
        | (?-i:\A\s*(?P<first>analysis)(?=[A-Z{{<"'“]))
        | (?-i:assistant(?P<plain>analysis|commentary|final)) )
    | (?P<object> \{{(?=\s*["}}]) )""",
    re.VERBOSE | re.IGNORECASE,
)
_QUOTES = {"`": "`", '"': '"', "'": "'", "“": "”", "‘": "’", "«": "»"}
_MOST_DIGITS = 4000  # of a whole number; Python converts no more


class UnusableReplyError(Exception):
    """The reply holds no verdict; the text says why. The judges turn it into a failure of the item."""


@dataclass(frozen=True, kw_only=True)
class Scores:
    """A verdict as it was read."""

    criteria: Mapping[str, float]
    total: float
    comment: str


@dataclass(frozen=True, kw_only=True)
class _Found:
    """A JSON object of a reply, whole or broken."""

    value: dict[str, Any] | None  # None: it cannot be read
    length: int  # characters; of a broken one those that could be read
    broken: bool = False  # JSON that cannot be read, or that holds its scores one level deeper
    twice: str | None = None  # a key that it holds twice, at any depth


def read_reply(text: str, redact: Callable[[str], str] = str) -> Scores:
    """Return the scores of a reply. ``redact`` takes secrets out of what is quoted, before that is cut.

    Raises UnusableReplyError.
    """
    answer, last = _split(text)
    if not answer.strip():
        raise UnusableReplyError("empty reply")
    if len(answer) > LONGEST:
        raise UnusableReplyError(
            f"no JSON verdict: too long, {len(answer):,} characters without the thoughts, at most {LONGEST:,}"
        )
    if last is None:
        raise UnusableReplyError(f"no JSON verdict: the reply is {_short(answer, redact)}")
    if last.broken or last.value is None:
        raise UnusableReplyError(f"no JSON verdict: its last object is broken or nested: {_short(answer, redact)}")
    if last.twice is not None:
        raise UnusableReplyError(f"ambiguous: the key {_short(last.twice, redact)} stands twice")
    numbers = {name: _number(last.value, name, redact) for name in SCORES}
    _require_consistent(numbers)
    comment = last.value.get("comment")
    return Scores(
        criteria={name: numbers[name] for name in CRITERIA},
        total=numbers["total"],
        # Half of a surrogate pair, which JSON may hold and no file may.
        comment=redact(comment).encode(errors="replace").decode() if isinstance(comment, str) else "",
    )


def excerpt(text: str, redact: Callable[[str], str] = str) -> str:
    """Return the beginning and the end of a raw reply, without secrets."""
    for length, clean in ((LONGEST, str), (EXCERPT, redact)):  # what is cleaned has a bound, and is cut after it
        text = clean(text)
        if len(text) > length:
            text = f"{text[: length // 2]} [...] {text[-length // 2 :]}"
    return text


def quoted(reply: str) -> str:
    """Return an excerpt of a raw reply for a message: in one line, without control characters."""
    text = reply if len(reply) <= 500 else f"{reply[:400]} [...] {reply[-100:]}"
    return repr(text) if text else "empty"


def _require_consistent(numbers: Mapping[str, float]) -> None:
    """Raise UnusableReplyError where the criteria contradict the total.

    The rubric gives no weights, so what no weights can give is refused: a total above every criterion. A wrong answer
    (accuracy below 50) has at most 75, which the mean of the four reaches (the rubric asks for 50), and an answer that
    is fine in every criterion (above 85) has at least 50.
    """
    total, criteria = numbers["total"], [numbers[name] for name in CRITERIA]
    reason = None
    if total > max(criteria):
        reason = f"no criterion is above {max(criteria):g}"
    elif numbers["accuracy"] < WRONG and total > WRONG_AT_MOST:
        reason = f"accuracy is {numbers['accuracy']:g}"
    elif min(criteria) > FINE and total < FINE_AT_LEAST:
        reason = f"every criterion is at least {min(criteria):g}"
    if reason is not None:
        raise UnusableReplyError(f"contradiction: total is {total:g}, and {reason}")


def _number(verdict: Mapping[str, Any], name: str, redact: Callable[[str], str]) -> float:
    if name not in verdict:
        raise UnusableReplyError(f"missing score: {name}")
    value = verdict[name]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UnusableReplyError(f"not a number: {name} is {_short(value, redact)}")
    if not 0 <= value <= 100 or math.isnan(value):
        raise UnusableReplyError(f"off the scale: {name} is {_short(value, redact)}, not from 0 to 100")
    return float(value)


def _split(text: str) -> tuple[str, _Found | None]:
    """Return the reply behind its thoughts, and the last object there that is meant as a verdict.

    Raises UnusableReplyError for a thought that never ends, and for brackets nested beyond what can be read.
    """
    depth, in_channel, begin = 0, False, 0
    last: _Found | None = None
    scores_until = max(text.rfind(f'"{name}"') for name in SCORES)
    for mark, found in _marks(text):
        if found is not None:
            if _is_meant(found, mark.start() < scores_until):
                last = found
            continue
        if mark["open"]:
            depth += 1
        elif mark["close"]:
            depth = max(0, depth - 1)
        else:
            in_channel = (mark["marked"] or mark["first"] or mark["plain"]).lower() != "final"
        if not mark["open"] and depth == 0 and not in_channel:
            last, begin = None, mark.end()  # all before was thought, whether or not its beginning was marked
    if depth or in_channel:
        raise UnusableReplyError("unfinished thought: the reply ends inside its reasoning")
    return text[begin:], last


def _is_meant(found: _Found, scores_follow: bool) -> bool:
    """Whether an object is a verdict, or a broken or nested one that would have been the last."""
    return scores_follow if found.broken else not set(SCORES).isdisjoint(found.value or {})


def _marks(text: str) -> Iterator[tuple[re.Match[str], _Found | None]]:
    """Yield, in order, the tags of thoughts (without what only talks about tags) and the outermost objects. Takes time
    in proportion to the text."""
    twice: list[str] = []
    decoder = _decoder(twice)
    place = unread = 0  # no object begins before ``unread``: it would lie inside a broken one
    while mark := _TAG.search(text, place):
        place = mark.end()
        if not mark["object"]:
            before, after = text[mark.start() - 1 : mark.start()], text[place : place + 1]
            if _QUOTES.get(before) != after:
                yield mark, None
                unread = place  # an object that breaks off in a thought ends with it
        elif mark.start() >= unread:
            twice.clear()
            found = _decode(decoder, text[mark.start() : mark.start() + LONGEST])
            unread = mark.start() + found.length
            if found.value is not None:
                place = unread
            yield mark, replace(found, twice=twice[0] if twice else None)


def _decoder(twice: list[str]) -> json.JSONDecoder:
    """A decoder that notes the keys which one object holds twice."""

    def build(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        seen: set[str] = set()
        for key, _ in pairs:
            plain = key.strip().casefold()
            if plain in seen:
                twice.append(key)
            seen.add(plain)
        return dict(pairs)

    return json.JSONDecoder(object_pairs_hook=build, parse_int=_integer, strict=False)


def _decode(decoder: json.JSONDecoder, text: str) -> _Found:
    """Read the object at the beginning of ``text``."""
    try:
        value, length = decoder.raw_decode(text)
    except json.JSONDecodeError as error:
        return _Found(value=None, length=max(1, error.pos), broken=True)
    except RecursionError as error:
        raise UnusableReplyError("no JSON verdict: its brackets are nested too deeply") from error
    nested = not value.keys() & set(SCORES) and any(
        isinstance(inner, dict) and inner.keys() & set(SCORES) for inner in value.values()
    )
    return _Found(value=value, length=length, broken=nested)


def _integer(digits: str) -> int | float:
    return int(digits) if len(digits) <= _MOST_DIGITS else float(digits)


def _short(value: Any, redact: Callable[[str], str]) -> str:
    try:
        text = redact(repr(value))
    except (ValueError, RecursionError):  # a whole number of more digits than Python prints, a list without end
        text = "a value without end"
    return text if len(text) <= 80 else text[:77] + "..."
