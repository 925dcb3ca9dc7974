"""Mathematical answers as text: cleaning, plain numbers, units, and what must not reach a computer algebra system.

Everything here is string work in the parent process: nothing is evaluated, and sympy is not imported. What cannot be
decided by text or exact fractions becomes pairs of LaTeX for the workers of ``symbolic.py``.
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction

from curr_reft.tasks.letters import read_letters

LONGEST_EXPRESSION = 300  # characters; a final answer is far shorter
ROUNDED_DIGITS = 6
"""A decimal with so many decimals and significant digits may stand for a value that rounds to it: 0.333333 is 1/3,
0.33 is not (math-verify: six decimals)."""


class Equality(StrEnum):
    """The outcome of one verification."""

    EQUAL = "equal"
    DIFFERENT = "different"
    TIMED_OUT = "timed_out"  # the worker was killed at the limit
    FAILED = "failed"  # the worker died or reported an error of its own


@dataclass(frozen=True)
class LatexPair:
    """One comparison that needs computer algebra: the truth first, the answer second (math-verify is not symmetric)."""

    truth: str
    answer: str


# --- cleaning -----------------------------------------------------------------------------------------------------

_WRAPPERS = (
    re.compile(r"```[a-z]*\s*(.+?)\s*```", re.DOTALL),
    re.compile(r"\$\$(.+?)\$\$", re.DOTALL),
    re.compile(r"\$([^$]+)\$"),
    re.compile(r"\\\((.+?)\\\)", re.DOTALL),
    re.compile(r"\\\[(.+?)\\\]", re.DOTALL),
    re.compile(r"\*\*([^*]+)\*\*"),
    re.compile(r"`([^`]+)`"),
    re.compile(r"\\(?:boxed|fbox|text|textbf|mathrm|mathbf)\s*\{([^{}]*(?:\{[^{}]*\}[^{}]*)*)\}"),
)
_LEAD = re.compile(
    r"^(?:(?:so|thus|therefore|hence)\b[,:]?\s*)?(?:the\s+)?(?:final\s+|correct\s+)?answer\b\s*(?:is\b|:|=)?\s*:?\s*",
    re.IGNORECASE,
)
_SIGNS = str.maketrans({"−": "-", "–": "-", "＝": "=", "，": ",", "²": "^2", "³": "^3", "\u00a0": " ", "\u202f": " "})


def clean(text: str) -> str:
    """The expression without what surrounds it: dollar signs, ``\\boxed``, "The answer is", a full stop."""
    text = " ".join(text.translate(_SIGNS).split())
    for _ in range(8):
        before = text
        for wrapper in _WRAPPERS:
            whole = wrapper.fullmatch(text)
            if whole:
                text = whole.group(1).strip()
        text = _LEAD.sub("", text, count=1)
        text = text.strip().rstrip(".;,").removesuffix("\\").strip()
        if text == before:
            break
    return text


# --- what must not reach the workers ------------------------------------------------------------------------------

_POWER = r"(?:\^|\*\*)\s*[{(]*\s*"
_LARGE_EXPONENT = re.compile(_POWER + r"[-+]?[\d,]{5,}")
_TOWER = re.compile(rf"(\d+)\s*[)}}]*\s*{_POWER}[-+]?(\d+)\s*[)}}]*\s*{_POWER}[-+]?(\d+)(\s*[)}}]*\s*{_POWER})?")
_LARGE_FACTORIAL = re.compile(r"\d{4,}\s*[)}]*\s*!|!\s*[)}]*\s*!|[)}]\s*!|factorial", re.IGNORECASE)
_LONG_NUMBER = re.compile(r"\d{41,}")
_DEEP = re.compile(r"(?:[({\[][^(){}\[\]]*){21}")


def too_costly(text: str) -> str:
    """Why an expression is refused before any computer algebra sees it; empty when it is not.

    The limits are far above the answers of the data and far below what hangs or fills memory; what slips through is
    stopped by the worker's limits.
    """
    if len(text) > LONGEST_EXPRESSION:
        return f"longer than {LONGEST_EXPRESSION} characters"
    if _LONG_NUMBER.search(text):
        return "a number of more than 40 digits"
    if _LARGE_EXPONENT.search(text):
        return "an exponent of five digits or more"
    if _LARGE_FACTORIAL.search(text):
        return "a factorial of a large or nested number"
    if _DEEP.search(text):
        return "brackets nested more than 20 deep"
    for tower in _TOWER.finditer(text):
        middle, top, higher = tower.group(2), tower.group(3), tower.group(4)
        # b ** c has about c * digits(b) digits; as an exponent it may have four.
        if higher or len(top) > 2 or int(top) * len(middle) > 4:
            return "a tower of powers"
    return ""


# --- plain numbers and units --------------------------------------------------------------------------------------

_INTEGER = r"(?:\d{1,3}(?:,\d{3})+|\d+)"
_NUMBER = re.compile(
    rf"(?P<sign>[-+]?)\s*\\?\$?\s*(?:"
    rf"(?P<whole>{_INTEGER})\s+(?P<mixed_top>\d+)\s*/\s*(?P<mixed_bottom>\d+)"
    rf"|(?P<top>{_INTEGER}(?:\.\d+)?)\s*/\s*(?P<sign_bottom>-?)(?P<bottom>{_INTEGER}(?:\.\d+)?)"
    rf"|(?P<decimal>{_INTEGER}(?:\.\d*)?|\.\d+)(?:[eE](?P<exponent>[-+]?\d{{1,2}}))?"
    r")\s*(?P<percent>\\?%|\\?\s*percent)?"
)
_FRACTION = re.compile(r"([-+]?)\s*\\[dt]?frac\s*\{\s*([-+]?\d{1,40})\s*\}\s*\{\s*([-+]?\d{1,40})\s*\}")


@dataclass(frozen=True)
class PlainNumber:
    """An exact value with how it was written."""

    value: Fraction
    decimals: int  # digits behind the decimal point; 0 for whole numbers and fractions, which are exact
    percent: bool


def plain_number(text: str) -> PlainNumber | None:
    """``42``, ``-1,234.5``, ``3/4``, ``1 1/2``, ``\\frac{3}{4}``, ``50%``, ``6e3``; None for anything else."""
    fraction = _FRACTION.fullmatch(text)
    if fraction:
        bottom = int(fraction.group(3))
        if bottom == 0:
            return None
        value = Fraction(int(fraction.group(2)), bottom)
        return PlainNumber(-value if fraction.group(1) == "-" else value, decimals=0, percent=False)
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
    return PlainNumber(value, decimals=decimals, percent=bool(part["percent"]))


def same_number(truth: PlainNumber, answer: PlainNumber) -> bool:
    """Exactly equal, or one is the other rounded (or cut) to six decimals. ``50%`` is 50 percent or the value 0.5."""
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
    "mm": "mm", "millimeters": "mm", "millimetres": "mm",
    "cm": "cm", "centimeter": "cm", "centimeters": "cm", "centimetre": "cm", "centimetres": "cm",
    "dm": "dm", "km": "km", "kilometers": "km", "kilometres": "km",
    "m": "m", "meter": "m", "meters": "m", "metre": "m", "metres": "m",
    "inch": "in", "inches": "in", "ft": "ft", "foot": "ft", "feet": "ft", "yards": "yd", "miles": "mi",
    "kg": "kg", "g": "g", "grams": "g", "ml": "ml", "l": "l", "liters": "l", "litres": "l",
    "s": "s", "seconds": "s", "minutes": "min", "min": "min", "hours": "h", "h": "h", "days": "day", "years": "year",
    "km/h": "km/h", "m/s": "m/s", "mph": "mph",
    "degree": "deg", "degrees": "deg", "deg": "deg", "°": "deg", "\\circ": "deg", "^\\circ": "deg", "^{\\circ}": "deg",
    "\\degree": "deg", "radians": "rad", "rad": "rad",
    "unit": "unit", "units": "unit", "dollars": "dollar", "cents": "cent",
}  # fmt: skip
_ANY_UNIT = "|".join(sorted(map(re.escape, _UNIT_NAMES), key=len, reverse=True))
_UNIT = re.compile(
    r"(?P<value>.*(?:[\d})\]π.]|(?<![A-Za-z])pi))(?P<gap>\s*(?:\\[,;! ])*\s*)(?P<open>\\(?:text|mathrm|mbox)\s*\{\s*)?"
    rf"(?P<square>square\s+|cubic\s+|sq\.?\s+)?(?P<name>{_ANY_UNIT})"
    r"(?P<early>\.?\s*\})?(?P<power>\s*\^\s*\{?\s*[23]\s*\}?)?(?P<late>\.?\s*\})?",
    re.IGNORECASE,
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


# --- the plan of a comparison -------------------------------------------------------------------------------------

_LETTER = re.compile(r"[A-Z]")
_NAME = re.compile(r"(?:∠|△|[A-Za-z0-9_'{}\s()]|\\[a-z]+(?![a-z])){1,60}")
_WORDS = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{3,}")
_FUNCTIONS = frozenset(
    {"sin", "cos", "tan", "cot", "sec", "csc", "arcsin", "arccos", "arctan", "sinh", "cosh", "tanh"}
    | {"log", "exp", "sqrt", "frac", "min", "max", "gcd", "lcm"}
)
_SYMBOLIC = re.compile(r"[\d\\+*/^=<>√π∞-]")
_RELATION = re.compile(r"[<>≤≥≠]|\\(?:leq?|geq?|neq?|lt|gt)\b")
_EQUALS = re.compile(r"(?<![<>!:])=(?!=)")
_SPACED_DIGITS = re.compile(r"\d\s+\d")
_FREE_SPACE = re.compile(r"(?<!\d)\s+|\s+(?!\d)")
_ABOUT = re.compile(r"≈|\\approx")


def normalised_text(text: str) -> str:
    """For equality of text: words without case, formulas without white space."""
    if _SYMBOLIC.search(text):
        return _FREE_SPACE.sub("", text)  # not the space of "4 2", which is not 42
    return " ".join(re.sub(r"[^\w\s]", " ", text).casefold().split())


def compare(truth: str, answer: str) -> bool | list[LatexPair]:
    """Whether an answer equals the truth, or the pairs that must all be verified equal to know.

    Order (method of the docs): an option letter if the truth is one; exact fractions for plain numbers; computer
    algebra; equality of normalised text, which is tried early because equal text is equal by any means.
    """
    truth, answer = clean(truth), clean(answer)
    if not answer or not truth:
        return False
    if _LETTER.fullmatch(truth):
        return read_letters(answer) == frozenset({truth})
    if normalised_text(truth) and normalised_text(truth) == normalised_text(answer):
        return True
    answer = _ABOUT.split(answer)[0].strip() or _ABOUT.split(answer)[-1].strip()
    truth, answer_parts = _sides(truth, answer)
    truth_value, truth_unit = split_unit(truth)
    pairs: list[LatexPair] = []
    for part in answer_parts:
        value, unit = split_unit(part)
        if unit and truth_unit and unit != truth_unit:
            return False
        decided = _compare_values(truth_value, value)
        if decided is False:
            return False
        if isinstance(decided, LatexPair):
            pairs.append(decided)
    return pairs or True


def _sides(truth: str, answer: str) -> tuple[str, list[str]]:
    """Takes "x =" away. In "5 * 8 + 2 = 42" both sides have to be the truth, so that "17 = 42" earns nothing."""
    truth_sides = [side.strip() for side in _EQUALS.split(truth)]
    answer_sides = [side.strip() for side in _EQUALS.split(answer)]
    if len(truth_sides) > 1 and len(answer_sides) > 1:
        return truth, [answer]  # two equations: the workers compare them as equations
    if len(truth_sides) == 2 and _is_name(truth_sides[0]):
        truth = truth_sides[1]
    if len(answer_sides) == 1:
        return truth, answer_sides
    kept = [side for position, side in enumerate(answer_sides) if position or not _is_name(side)]
    return truth, kept


def _is_name(side: str) -> bool:
    """``x``, ``BC``, ``\\angle ABC``, ``Area``: something that is named, not a value of its own."""
    return bool(_NAME.fullmatch(side)) and not re.match(r"\s*[-\d(]", side)


def _compare_values(truth: str, answer: str) -> bool | LatexPair:
    if not answer:
        return False
    if normalised_text(truth) == normalised_text(answer):
        return True
    true_number, number = plain_number(truth), plain_number(answer)
    if true_number and number:
        return same_number(true_number, number)
    if not _SYMBOLIC.search(truth) or _has_words(truth) or _has_words(answer):
        return False  # words are equal as text or not at all: algebra would take "on" for "no"
    if _RELATION.search(answer) and not _RELATION.search(truth):
        return False  # "x < 42" is no answer to a question after a value
    if _SPACED_DIGITS.search(answer) and not number:
        return False  # "17 42" would be read as its first or last number
    return LatexPair(to_latex(truth), to_latex(answer))


def _has_words(text: str) -> bool:
    without_text = re.sub(r"\\(?:text|mathrm|operatorname)\s*\{[^{}]*\}", "", text)
    return any(word.lower() not in _FUNCTIONS for word in _WORDS.findall(without_text))


_TO_LATEX: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"√\s*\(([^()]*)\)|(?<![\\A-Za-z])sqrt\s*\(([^()]*)\)"), r"\\sqrt{\1\2}"),
    (re.compile(r"√\s*\{"), r"\\sqrt{"),
    (re.compile(r"√\s*(\d+|[a-zA-Z])"), r"\\sqrt{\1}"),
    (re.compile(r"(?<![\\A-Za-z])(sqrt)(?=\s*\{)"), r"\\sqrt"),
    (re.compile(r"\*\*"), "^"),
    (re.compile(r"\^\s*\(([^()]*)\)"), r"^{\1}"),
    (re.compile(r"\^\s*(-?\d+)"), r"^{\1}"),
    (re.compile(r"π|(?<![\\A-Za-z])pi(?![A-Za-z])"), r"\\pi "),
    (re.compile(r"∞"), r"\\infty "),
    (re.compile(r"[×·]"), r"\\cdot "),
    (re.compile(r"(?<!\\)\*"), r"\\cdot "),
    (re.compile(r"÷"), r"\\div "),
    (re.compile(r"≤"), r"\\leq "),
    (re.compile(r"≥"), r"\\geq "),
    (re.compile(r"(?<![\\A-Za-z])(sin|cos|tan|log|ln|exp)(?![A-Za-z])"), r"\\\1 "),
    (re.compile(r"(?<=\d),(?=\d{3}(?!\d))"), ""),
    (re.compile(r"(?<!\\)%"), r"\\%"),
    (re.compile(r"\$"), ""),
)


def to_latex(text: str) -> str:
    """LaTeX of an expression that may be half plain text: ``2*sqrt(3)``, ``2√3``, ``2^10``, ``pi/4``."""
    for pattern, replacement in _TO_LATEX:
        text = pattern.sub(replacement, text)
    return text.strip()
