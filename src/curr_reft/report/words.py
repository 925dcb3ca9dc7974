"""Values as the page writes them: shares, counts, times. A dash stands for what is not there."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from markupsafe import Markup

from curr_reft.report.read import number

DASH = "–"
LONG = 16  # characters of a heading


def breakable(name: str) -> Markup:
    """A name, escaped; a long one may go on in the next line after each of its underscores."""
    return Markup("_<wbr>").join(name.split("_")) if len(name) > LONG else Markup.escape(name)


def percent(value: Any, digits: int = 1) -> str:
    """A share as points of 100; a dash where there is none."""
    found = number(value)
    return DASH if found is None else f"{100 * found:.{digits}f}"


def decimal(value: Any, digits: int = 2) -> str:
    found = number(value)
    return DASH if found is None else f"{found:,.{digits}f}"


def whole(value: Any) -> str:
    found = number(value)
    return DASH if found is None else f"{found:,.0f}"


def duration(seconds: Any) -> str:
    """``3 h 5 min``, ``4 min 10 s``, ``12 s``."""
    found = number(seconds)
    if found is None:
        return DASH
    left = round(found)
    hours, minutes, rest = left // 3600, left % 3600 // 60, left % 60
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def moment(value: Any) -> str | None:
    """``2026-11-21 05:13 UTC`` of an ISO time; other text as it is."""
    if not isinstance(value, str):
        return None
    try:
        return datetime.fromisoformat(value).strftime("%Y-%m-%d %H:%M %Z").strip()
    except ValueError:
        return value


def times(count: int, what: str) -> str:
    """``1 time``, ``1,200 times``."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def listed(texts: Sequence[str], most: int = 5) -> str:
    """All of a few, else the first and how many more there are."""
    more = len(texts) - most
    return ", ".join(texts[:most]) + (f" and {more:,} more" if more > 0 else "")


def short_hash(value: Any) -> str:
    return str(value)[:12] if value else DASH
