"""Plain numbers and units in an answer: exact fractions, and ``12 cm^2`` as a value with its unit.

The fast path of verification: most truths of the data are plain numbers and never need computer algebra.
"""

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

ROUNDED_DIGITS = 6
"""A decimal with so many decimals and significant digits may stand for a value that rounds to it: 0.333333 is 1/3,
0.33 is not (math-verify: six decimals)."""

_INTEGER = r"(?:\d{1,3}(?:,\d{3})+|\d+)"
_NUMBER = re.compile(
    rf"(?P<sign>[-+]?)\s*\\?\$?\s*(?:"
    rf"(?P<whole>{_INTEGER})\s+(?P<mixed_top>\d+)\s*/\s*(?P<mixed_bottom>\d+)"
    rf"|(?P<top>{_INTEGER}(?:\.\d+)?)\s*/\s*(?P<sign_bottom>-?)(?P<bottom>{_INTEGER}(?:\.\d+)?)"
    rf"|(?P<decimal>{_INTEGER}(?:\.\d*)?|\.\d+)(?:[eE](?P<exponent>[-+]?\d{{1,2}}))?"
    r")\s*(?P<percent>\\?%|\\?\s*percent)?",
    re.ASCII,
)
_FRACTION = re.compile(r"([-+]?)\s*\\[dt]?frac\s*\{\s*([-+]?\d{1,40})\s*\}\s*\{\s*([-+]?\d{1,40})\s*\}", re.ASCII)


@dataclass(frozen=True)
class PlainNumber:
    """An exact value with how it was written."""

    value: Fraction
    decimals: int  # digits behind the decimal point; 0 for whole numbers and fractions, which are exact
    percent: bool
    fraction: bool = False  # written with a bar


@lru_cache(maxsize=4096)  # a truth is read again for every answer to it, and for every false claim made of it
def plain_number(text: str) -> PlainNumber | None:
    """``42``, ``-1,234.5``, ``3/4``, ``1 1/2``, ``\\frac{3}{4}``, ``50%``, ``6e3``; None for anything else."""
    fraction = _FRACTION.fullmatch(text)
    if fraction:
        bottom = int(fraction.group(3))
        if bottom == 0:
            return None
        value = Fraction(int(fraction.group(2)), bottom)
        return PlainNumber(-value if fraction.group(1) == "-" else value, decimals=0, percent=False, fraction=True)
    found = _NUMBER.fullmatch(text) if len(text) <= 80 else None
    if found is None:
        return None
    part = {key: (value or "").replace(",", "") for key, value in found.groupdict().items()}
    try:
        if part["whole"]:
            value = int(part["whole"]) + Fraction(int(part["mixed_top"]), int(part["mixed_bottom"]))
        elif part["top"]:
            value = Fraction(part["top"]) / Fraction(part["bottom"])
            value = -value if part["sign_bottom"] else value
        else:
            value = Fraction(part["decimal"].rstrip(".") or "0") * Fraction(10) ** int(part["exponent"] or 0)
    except ZeroDivisionError:
        return None
    value = -value if part["sign"] == "-" else value
    decimals = len(part["decimal"].partition(".")[2]) if not part["exponent"] else 0
    barred = bool(part["whole"] or part["top"])
    return PlainNumber(value, decimals=decimals, percent=bool(part["percent"]), fraction=barred)


def same_number(truth: PlainNumber, answer: PlainNumber) -> bool:
    """Exactly equal, or one is the other rounded (or cut) to six decimals. ``50%`` is 50 percent or the value 0.5.

    A truth that is a fraction counts no percents: beside 1/2, ``50%`` is equal and ``0.5%`` is not.
    """
    if answer.percent and not truth.percent and truth.fraction:
        return truth.value == answer.value / 100
    if truth.value == answer.value or _is_rounded(truth, answer) or _is_rounded(answer, truth):
        return True
    if answer.percent and not truth.percent:
        return truth.value == answer.value / 100
    return truth.percent and not answer.percent and truth.value == answer.value * 100


def _is_rounded(number: PlainNumber, exact: PlainNumber) -> bool:
    """Whether ``number`` is written with enough digits to stand for ``exact``, and does."""
    if number.decimals < ROUNDED_DIGITS or 0 < exact.decimals < number.decimals:
        return False
    unit = Fraction(1, 10**number.decimals)
    return abs(number.value) >= unit * 10 ** (ROUNDED_DIGITS - 1) and abs(number.value - exact.value) < unit


_UNIT_NAMES = {
    "mm": "mm", "millimeter": "mm", "millimeters": "mm", "millimetres": "mm",
    "cm": "cm", "centimeter": "cm", "centimeters": "cm", "centimetre": "cm", "centimetres": "cm",
    "dm": "dm", "km": "km", "kilometer": "km", "kilometers": "km", "kilometres": "km",
    "m": "m", "meter": "m", "meters": "m", "metre": "m", "metres": "m",
    "inch": "in", "inches": "in", "ft": "ft", "foot": "ft", "feet": "ft",
    "yd": "yd", "yard": "yd", "yards": "yd", "mile": "mi", "miles": "mi",
    "kg": "kg", "kilograms": "kg", "g": "g", "gram": "g", "grams": "g",
    "ml": "ml", "l": "l", "liters": "l", "litres": "l",
    "lb": "lb", "lbs": "lb", "pounds": "lb", "oz": "oz", "ounces": "oz",
    "s": "s", "sec": "s", "second": "s", "seconds": "s", "minute": "min", "minutes": "min", "min": "min",
    "hour": "h", "hours": "h", "hr": "h", "hrs": "h", "h": "h", "day": "day", "days": "day", "year": "year",
    "years": "year", "km/h": "km/h", "kilometers per hour": "km/h", "m/s": "m/s", "meters per second": "m/s",
    "mph": "mph", "miles per hour": "mph",
    "degree": "deg", "degrees": "deg", "deg": "deg", "°": "deg", "\\circ": "deg", "^\\circ": "deg", "^{\\circ}": "deg",
    "\\degree": "deg", "radians": "rad", "rad": "rad",
    "unit": "unit", "units": "unit", "dollars": "dollar", "cents": "cent",
}  # fmt: skip
_ANY_UNIT = "|".join(sorted(map(re.escape, _UNIT_NAMES), key=len, reverse=True))
_UNIT = re.compile(
    r"(?P<value>.*(?:[\d})\]π]|\d\.|(?<![A-Za-z])pi))"
    r"(?P<gap>\s*(?:\\[,;! ])*\s*)(?P<open>\\(?:text|mathrm|mbox)\s*\{\s*)?"
    rf"(?P<square>square\s+|cubic\s+|sq\.?\s+)?(?P<name>{_ANY_UNIT})"
    r"(?P<early>\.?\s*\})?(?P<power>\s*\^\s*\{?\s*[23]\s*\}?)?(?P<late>\.?\s*\})?",
    re.IGNORECASE | re.ASCII,
)


def split_unit(text: str) -> tuple[str, str]:
    """``12 cm^2`` becomes ("12", "cm2"); the second is empty without a unit.

    A unit of one letter needs a space or ``\\text`` before it: ``5m`` may well be five times m.
    """
    found = _UNIT.fullmatch(text)
    if not found:
        return text, ""
    name = found.group("name").lower()
    if len(name) == 1 and name.isalpha() and not (found.group("gap") or found.group("open")):
        return text, ""
    if bool(found.group("open")) != bool(found.group("early") or found.group("late")):
        return text, ""
    power = "".join(character for character in found.group("power") or "" if character.isdigit())
    square = (found.group("square") or "").strip().lower()
    if square:
        power = "3" if square == "cubic" else "2"
    return found.group("value").strip(), _UNIT_NAMES[name] + power
