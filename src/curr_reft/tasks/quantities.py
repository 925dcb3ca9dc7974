"""Plain numbers and units in an answer: exact fractions, ``12 cm^2`` and ``30 people`` as a value with its unit.

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
    rf"(?P<whole>{_INTEGER})\s+(?:(?P<and>and)\s+)?(?P<mixed_top>\d+)\s*/\s*(?P<mixed_bottom>\d+)"
    rf"|(?P<top>{_INTEGER}(?:\.\d+)?)\s*/\s*(?P<sign_bottom>-?)(?P<bottom>{_INTEGER}(?:\.\d+)?)"
    rf"|(?P<decimal>{_INTEGER}(?:\.\d*)?|\.\d+)(?:[eE](?P<exponent>[-+]?\d{{1,2}}))?"
    r")\s*(?P<percent>\\?%|\\?\s*percent)?",
    re.ASCII,
)
_FRACTION = re.compile(r"([-+]?)\s*\\[dt]?frac\s*\{\s*([-+]?\d{1,40})\s*\}\s*\{\s*([-+]?\d{1,40})\s*\}", re.ASCII)
_REPEATING = re.compile(
    r"(?P<sign>[-+]?)\s*(?P<whole>\d{0,30})\.(?P<fixed>\d{0,30})"
    r"(?:\\(?:overline|bar|dot)\s*\{?(?P<barred>\d{1,30})\}?|\((?P<bracketed>\d{1,30})\)"
    r"|(?P<combined>(?:\d[\u0304\u0305\u0307]){1,30}))",
    re.ASCII,
)
_NOT_DIGIT = re.compile(r"\D", re.ASCII)


@dataclass(frozen=True)
class PlainNumber:
    """An exact value with how it was written."""

    value: Fraction
    decimals: int  # digits behind the decimal point; 0 for whole numbers and fractions, which are exact
    percent: bool
    fraction: bool = False  # written with a bar


@lru_cache(maxsize=4096)  # a truth is read again for every answer to it, and for every false claim made of it
def plain_number(text: str) -> PlainNumber | None:
    """``42``, ``-1,234.5``, ``3/4``, ``1 1/2``, ``\\frac{3}{4}``, ``50%``, ``6e3``, ``0.\\overline{3}``; else None."""
    fraction = _FRACTION.fullmatch(text)
    if fraction:
        bottom = int(fraction.group(3))
        if bottom == 0:
            return None
        value = Fraction(int(fraction.group(2)), bottom)
        return PlainNumber(-value if fraction.group(1) == "-" else value, decimals=0, percent=False, fraction=True)
    found = _NUMBER.fullmatch(text) if len(text) <= 80 else None
    if found is None:
        repeating = _REPEATING.fullmatch(text) if len(text) <= 120 else None
        return _repeating_decimal(repeating) if repeating else None
    if found["and"] and int(found["mixed_top"]) >= int(found["mixed_bottom"]):
        return None  # "4 and 3/2" are two numbers
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


def _repeating_decimal(found: re.Match[str]) -> PlainNumber:
    block = found["barred"] or found["bracketed"] or _NOT_DIGIT.sub("", found["combined"])
    fixed = found["fixed"]
    value = Fraction(int(found["whole"] or 0)) + Fraction(int(fixed or 0), 10 ** len(fixed))
    value += Fraction(int(block), (10 ** len(block) - 1) * 10 ** len(fixed))
    return PlainNumber(-value if found["sign"] == "-" else value, decimals=0, percent=False)


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


# --- units --------------------------------------------------------------------------------------------------------

# Abbreviations are read in their case: mW is no MW, and Mm no mm. A few that are only ever written wrong are added.
_ABBREVIATIONS = {
    "in": "in", "ft": "ft", "yd": "yd", "yds": "yd", "mi": "mi", "lb": "lb", "lbs": "lb", "oz": "oz", "gal": "gal",
    "sec": "s", "secs": "s", "min": "min", "mins": "min", "h": "h", "hr": "h", "hrs": "h", "wk": "week",
    "wks": "week", "mo": "month", "yr": "year", "yrs": "year", "mph": "mi/h", "kmh": "km/h", "kph": "km/h",
    "kmph": "km/h", "rpm": "rpm", "cc": "cm3", "ha": "ha", "rad": "rad", "deg": "deg", "°": "deg", "\\circ": "deg",
    "\\degree": "deg", "°C": "°C", "℃": "°C", "°F": "°F", "℉": "°F", "°c": "°C", "°f": "°F", "L": "l", "KG": "kg",
    "Kg": "kg", "CM": "cm", "Cm": "cm", "MM": "mm", "KM": "km", "Km": "km", "ML": "ml", "Ml": "ml", "FT": "ft",
    "LBS": "lb", "OZ": "oz", "SEC": "s", "Sec": "s", "MIN": "min", "Min": "min", "HRS": "h", "Hrs": "h",
    "KMH": "km/h", "Km/h": "km/h", "MPH": "mi/h", "KW": "kW", "dB": "dB", "cal": "cal", "kcal": "kcal", "eV": "eV",
    "amu": "amu", "atm": "atm", "bpm": "bpm", "USD": "dollar", "¢": "cent", "€": "euro", "EUR": "euro",
    "£": "pound sterling", "GBP": "pound sterling", "₹": "rupee", "¥": "yen", "Ω": "Ω", "\\Omega": "Ω", "kΩ": "kΩ",
    "MΩ": "MΩ", "u": "amu",
}  # fmt: skip
_WORDS = {
    "inch": "in", "inche": "in", "foot": "ft", "feet": "ft", "yard": "yd", "mile": "mi", "pound": "lb", "ounce": "oz",
    "gallon": "gal", "second": "s", "minute": "min", "hour": "h", "day": "day", "week": "week", "month": "month",
    "year": "year", "degree": "deg", "radian": "rad", "unit": "unit", "dollar": "dollar", "cent": "cent",
    "euro": "euro", "rupee": "rupee", "yen": "yen", "hectare": "ha", "acre": "acre", "ton": "ton", "tonne": "tonne",
    "ohm": "Ω", "calorie": "cal", "kilocalorie": "kcal", "celsius": "°C", "fahrenheit": "°F", "kelvin": "K",
    "hertz": "Hz", "atmosphere": "atm", "decibel": "dB",
}  # fmt: skip
_METRIC = {
    "m": ("meter", "metre"), "g": ("gram", "gramme"), "l": ("liter", "litre"), "s": (), "Hz": (), "N": ("newton",),
    "J": ("joule",), "W": ("watt",), "V": ("volt",), "A": ("ampere", "amp"), "Pa": ("pascal",), "mol": ("mole",),
    "B": ("byte",), "Wh": ("watt-hour", "watt hour"),
}  # fmt: skip
_PREFIXES = {
    "": "", "n": "nano", "μ": "micro", "m": "milli", "c": "centi", "d": "deci", "k": "kilo", "M": "mega", "G": "giga",
    "T": "tera",
}  # fmt: skip


def _unit_names() -> tuple[dict[str, str], dict[str, str]]:
    """Abbreviations, in their case, and words, in lower case: each with the name it is compared by."""
    short, words = dict(_ABBREVIATIONS), dict[str, str]()
    for name, unit in _WORDS.items():
        words |= {name: unit, name + "s": unit}
    for base, names in _METRIC.items():
        for prefix, prefix_name in _PREFIXES.items():
            short[prefix + base] = prefix + base
            for name in names:
                words |= {prefix_name + name: prefix + base, prefix_name + name + "s": prefix + base}
    for prefix in _PREFIXES:
        short[prefix + "L"] = prefix + "l"
    short |= {"µ" + unit[1:]: name for unit, name in short.items() if unit.startswith("μ")}
    for degree in ("degrees", "degree", "°", "deg"):
        words |= {f"{degree} celsius": "°C", f"{degree} fahrenheit": "°F", f"{degree} c": "°C", f"{degree} f": "°F"}
    short |= {"K": "K", "C": "°C", "F": "°F"}
    return short, words


_SHORT_UNITS, _WORD_UNITS = _unit_names()
_WEAK = frozenset({"N", "J", "W", "V", "A", "B", "K", "C", "F", "T", "u", "M", "G"})
"""Units that a letter of an option, a point or an unknown is written like: read beside a truth with that unit only."""


def _alternatives(names: dict[str, str]) -> str:
    return "|".join(sorted((re.escape(name).replace("\\ ", r"\s+") for name in names), key=len, reverse=True))


def _one_unit(n: int) -> str:
    return (
        rf"(?:(?P<square{n}>(?i:square|cubic|sq\.?|cu\.?))\s+)?"
        rf"(?:(?P<word{n}>(?i:{_alternatives(_WORD_UNITS)}))|(?P<short{n}>{_alternatives(_SHORT_UNITS)}))(?![A-Za-z°])"
        rf"(?:\s*\^?\s*\{{?\s*(?P<power{n}>-?[1-4])\s*\}}?|\s+(?P<spelled{n}>(?i:squared|cubed)))?\.?"
    )


def _further_unit(n: int) -> str:
    return rf"\s*(?P<join{n}>/|\b(?i:per)\b|·|\*|\\cdot|-|\s)\s*" + _one_unit(n)


_TAIL = rf"(?P<inverse>(?i:per)\s+)?{_one_unit(0)}(?:{_further_unit(1)}(?:{_further_unit(2)})?)?"
_UNIT = re.compile(_TAIL, re.ASCII)
_UNIT_TEXT = re.compile(r"\\(?:text|textrm|mathrm|mbox|rm)\s*\{([^{}]{1,60})\}")
_DEGREES = re.compile(r"\^\s*(?:\{\s*(?:\\circ|°)\s*\}|\\circ(?![A-Za-z])|°)\s*")
_THIN_SPACE = re.compile(r"\\[,;:! ]|(?<=\d)~(?=[A-Za-z\\])")
_VALUE_END = re.compile(r"(?:[\d})\]π]\.?|\\pi|(?<![A-Za-z\\])pi|\\infty)(?=[^\d.])|[%](?=\s)", re.ASCII)
LONGEST_UNIT = 60  # characters
_CURRENCY = re.compile(r"(?P<sign>[-+]?)\s*(?P<currency>\\?\$|€|£|₹|¥|USD|EUR)\s*(?=[\d.\\])")
_COUNT = re.compile(
    r"(?P<value>[-+]?\d[\d,]*(?:\.\d+)?(?:(?:\s\d+)?/\d+)?)\s+(?P<noun>[A-Za-z]{3,}(?:\s+[A-Za-z]{2,}){0,2})", re.ASCII
)
_NOT_COUNTED = """dozen hundred thousand million billion trillion tens ones pair couple score gross percent half
halves third quarter fourth fifth sixth seventh eighth ninth tenth hundredth thousandth squared
cubed factorial over out of or and to plus minus times less more point below above under negative
positive zero ago bc bce ad ce am pm north south east west left right remainder mod if not per
double twice triple is are was wrong false true base by with without than equals divided
multiplied power into maybe about lakh crore percentage points pack bunch"""
_NO_NOUNS = frozenset(_NOT_COUNTED.split())


@lru_cache(maxsize=4096)
def split_unit(text: str, known: str = "", trusted: str = "") -> tuple[str, str]:
    """``12 cm^2`` becomes ("12", "cm2"); the second is empty without a unit.

    A unit of one letter needs a space or ``\\text`` before it: ``5m`` may well be five times m. ``known`` is the unit
    of the other side; beside it ``5m`` and ``5 N`` are read as a unit, too, and letters in ``trusted`` behind a space.
    """
    plain = _DEGREES.sub("°", _THIN_SPACE.sub(" ", _UNIT_TEXT.sub(_bare_unit, text)))
    for end in _VALUE_END.finditer(plain, max(0, len(plain) - LONGEST_UNIT)):
        tail = plain[end.end() :].strip()
        found = _UNIT.fullmatch(tail)
        if found is None:
            continue
        name = _name_of(found)
        glued = not plain[end.end()].isspace() and len(tail) == 1 and tail.isalpha()
        weak = tail in _WEAK and tail not in trusted
        if (glued or weak) and name != known:
            return text, ""
        return plain[: end.end()].strip(), name
    return text, ""


def is_unit(text: str) -> bool:
    """Whether a text is a unit, a sign of percent or of degrees, and nothing else."""
    plain = _DEGREES.sub("°", _THIN_SPACE.sub(" ", _UNIT_TEXT.sub(_bare_unit, text))).strip()
    return plain in ("%", "\\%", "percent") or (len(plain) <= LONGEST_UNIT and bool(_UNIT.fullmatch(plain)))


def split_currency(text: str) -> tuple[str, str]:
    """``€5`` becomes ("5", "euro"): the sign of a currency before a value is its unit."""
    found = _CURRENCY.match(text)
    if not found:
        return text, ""
    sign = found["currency"].removeprefix("\\")
    return found["sign"] + text[found.end() :], "dollar" if sign == "$" else _ABBREVIATIONS[sign]


def split_count(text: str) -> tuple[str, str]:
    """``30 people`` becomes ("30", "people"); words that change the number (dozen, million, below) are no noun."""
    found = _COUNT.fullmatch(text) if len(text) <= 80 else None
    if not found:
        return text, ""
    nouns = found["noun"].lower().split()
    if any(noun in _NO_NOUNS or noun.removesuffix("s") in _NO_NOUNS for noun in nouns):
        return text, ""
    return found["value"], " ".join([*nouns[:-1], nouns[-1].removesuffix("s")])


def _bare_unit(found: re.Match[str]) -> str:
    """A unit in ``\\text{}`` without it; other text stays marked as text."""
    inside = found.group(1).strip()
    return f" {inside}" if _UNIT.fullmatch(inside.rstrip(".")) else found.group()


def _name_of(found: re.Match[str]) -> str:
    above: list[tuple[str, int]] = []
    below: list[tuple[str, int]] = []
    sign = -1 if found["inverse"] else 1
    for n in range(3):
        word, short = found[f"word{n}"], found[f"short{n}"]
        if not (word or short):
            break
        if n and found[f"join{n}"] in ("/", "per", "Per", "PER"):
            sign = -1
        name = _WORD_UNITS[" ".join(word.lower().split())] if word else _SHORT_UNITS[short]
        square, spelled = (found[f"square{n}"] or "").lower(), found[f"spelled{n}"]
        power = int(found[f"power{n}"] or 1)
        if square:
            power = 3 if square.startswith("cu") else 2
        elif spelled:
            power = 2 if spelled == "squared" else 3
        power *= sign
        (above if power > 0 else below).append((name, abs(power)))
    top = "*".join(name + (str(power) if power > 1 else "") for name, power in sorted(above))
    bottom = "/".join(name + (str(power) if power > 1 else "") for name, power in sorted(below))
    return f"{top}/{bottom}" if bottom else top


_QUANTITY = re.compile(r"\s*(?:,\s*|and\s+)?(\d+(?:\.\d+)?)\s*([A-Za-z]+)\.?", re.ASCII)


def mixed_quantity(text: str) -> tuple[tuple[str, str], ...] | None:
    """``1 hour 30 min`` as (("1", "h"), ("30", "min")); None unless two or three values each have a unit."""
    pairs: list[tuple[str, str]] = []
    position = 0
    while position < len(text):
        found = _QUANTITY.match(text, position)
        if not found or len(pairs) == 3:
            return None
        unit = _SHORT_UNITS.get(found[2]) or _WORD_UNITS.get(found[2].lower())
        if unit is None:
            return None
        pairs.append((found[1], unit))
        position = found.end()
    return tuple(pairs) if len(pairs) > 1 else None
