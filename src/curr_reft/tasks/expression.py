"""Mathematical answers as text: cleaning, comparing, and what must not reach a computer algebra system.

Everything here is string work in the parent process: nothing is evaluated, and sympy is not imported. What cannot be
decided by text or exact fractions becomes pairs of LaTeX for the workers of ``symbolic.py``.
"""

import re
from dataclasses import dataclass
from enum import StrEnum

from curr_reft.tasks.letters import read_letters
from curr_reft.tasks.quantities import plain_number, same_number, split_unit

LONGEST_EXPRESSION = 300  # characters; a final answer is far shorter


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
