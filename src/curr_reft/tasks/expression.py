"""Mathematical answers as text: cleaning, comparing, and what must not reach a computer algebra system.

Everything here is string work in the parent process: nothing is evaluated, and sympy is not imported. What cannot be
decided by text or exact fractions becomes pairs of LaTeX for the workers of ``symbolic.py``.
"""

import math
import re
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction

from curr_reft.tasks.letters import read_letters
from curr_reft.tasks.quantities import plain_number, same_number, split_unit
from curr_reft.tasks.wrappers import punctuated

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
_EMPHASIS = re.compile(r"\*\*([A-Za-z ]{1,40}:?)\*\*")
_BOXED_SIDE = re.compile(r"=\s*\\boxed\s*\{([^{}]*(?:\{[^{}]*\}[^{}]*)*)\}$")
_SIGNS = str.maketrans(
    {"−": "-", "–": "-", "²": "^2", "³": "^3", "~": " ", "º": "°", "˚": "°"}
    | {"½": " 1/2", "⅓": " 1/3", "⅔": " 2/3", "¼": " 1/4", "¾": " 3/4"}
)
# Thousands as LaTeX and typesetting part them: 1\,234, 1{,}234, and 1 234 with a narrow space.
_THOUSANDS = re.compile(r"(?<=\d)(?:\\,|\\!|\{,\}|[\u2009\u202f\u00a0])(?=\d{3}(?!\d))", re.ASCII)


def clean(text: str) -> str:
    """The expression without what surrounds it: dollar signs, ``\\boxed``, "The answer is", a full stop."""
    text = " ".join(punctuated(_THOUSANDS.sub(",", text)).translate(_SIGNS).split())
    for _ in range(8):
        before = text
        for wrapper in _WRAPPERS:
            whole = wrapper.fullmatch(text)
            if whole:
                text = whole.group(1).strip()
        text = _LEAD.sub("", _EMPHASIS.sub(r"\1", text).removeprefix("\\therefore"), count=1)
        text = _BOXED_SIDE.sub(r"=\1", text)
        text = text.strip().removeprefix("=").rstrip(".;,").removesuffix("\\").strip()
        if "$" in text and text.count("$") % 2 == 0 and "\\$" not in text:
            text = " ".join(text.replace("$", " ").split())  # "$42$ cm" has a formula in it; a single sign is money
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


# --- answers that are the question's own ---------------------------------------------------------------------------

_WORKED = re.compile(r"(?<=[\w)}\]])[-+*/^×·÷!]|[√\\]", re.ASCII)  # something left to work out
_SIGN = re.compile(r"[-+*/^×·÷!√\\]")
_ARITHMETIC = re.compile(r"(?:[\d.,()+*/^×·÷-]|\\(?:times|cdot|div)(?![a-z]))+", re.ASCII)
_VALUE = re.compile(r"\d+(?:\.\d+)?", re.ASCII)
_FRACTION_BAR = re.compile(r"/|frac")
_NEUTRAL = frozenset({"0", "1"})  # 17*23+0 and 1*17*23 are 17*23


def is_copied(truth: str, answer: str, question: str) -> bool:
    """Whether an answer hands back an expression of the question unevaluated: ``17*23`` to "What is 17*23?".

    Any computer algebra verifies it equal, so it would be paid for no work. It is copied when it is not written as the
    truth is and stands in the question as it is, or when the truth is a number and the answer joins nothing but numbers
    of the question. A number that is worked out is never copied.
    """
    if not _SIGN.search(answer):
        return False
    written = normalised_text(clean(split_unit(clean(answer))[0]))
    number, true_number = plain_number(written), plain_number(clean(truth))
    if not _WORKED.search(written) or normalised_text(to_latex(written)) == normalised_text(to_latex(clean(truth))):
        return False
    below = Fraction(_VALUE.findall(written)[-1]) if number and _FRACTION_BAR.search(written) else 1
    if number and number.value.denominator == below:
        return False  # whole, or a fraction in lowest terms
    if re.search(r"(?<![\w.])" + r"\s*".join(map(re.escape, written)) + r"(?!\w|\.\d)", question.replace("$", " ")):
        return True
    if true_number is None or not _ARITHMETIC.fullmatch(written):
        return False
    return set(_VALUE.findall(written)) - _NEUTRAL <= set(_VALUE.findall(question))


# --- the plan of a comparison -------------------------------------------------------------------------------------

_LETTER = re.compile(r"[A-Z]")
_NAMING = (
    "angle|measuredangle|triangle|overline|widehat|odot|text|mathrm|mathbf|Delta|Theta|alpha|beta|gamma|delta|theta|phi"
    "|lambda|mu|rho|sigma|omega|left|right|parallel|perp|prime|circ"
)
_NAME = re.compile(rf"(?:∠|△|[A-Za-z0-9_'{{}}\s()]|\\(?:{_NAMING})(?![a-z])){{1,60}}", re.ASCII)
_WORDS = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{3,}")
_FUNCTIONS = frozenset(
    {"sin", "cos", "tan", "cot", "sec", "csc", "arcsin", "arccos", "arctan", "sinh", "cosh", "tanh"}
    | {"log", "exp", "sqrt", "frac", "min", "max", "gcd", "lcm"}
)
_NO_UNKNOWN = _FUNCTIONS | {"ln", "pi", "e", "i", "oo", "or", "and"}
_LETTERS = re.compile(r"(?<![\\A-Za-z])[A-Za-z]+")
_COMMAND_WITH_NAME = re.compile(r"\\(?:begin|end)\s*\{[a-z*]*\}|\\left|\\right|^\s*[A-Za-z]\s*(?:\\in(?![a-z])|∈)")
_SYMBOLIC = re.compile(r"[\d\\+*/^=<>√π∞-]", re.ASCII)
# Letters and digits beyond ASCII that are no mathematics: full-width digits, Cyrillic letters, zero-width characters.
_TEXT = re.compile(r"\\(?:text(?:bf|it|rm|sf)?|mathrm|mathbf|mbox|operatorname)\s*\{([^{}]*)\}")
_ORDERED = re.compile(r"(?:\\left\s*)?[(\[]")
_SET = re.compile(r"(?:\\left\s*)?(?:\\\{|\{)")
_FOREIGN = re.compile(r"[^\x20-\x7e√π∞×·⋅÷≤≥≠≈∠△°∪∩∈±∓α-ωΔΘΛΣΦΨΩ]")
_OPTION = re.compile(r"(?:option\s+)?(?:\(([A-Ha-h])\)[.:]?\s*|([A-Ha-h])[.):]\s+)(?=\S)", re.IGNORECASE)
# Of the index of a number, of a remainder and of what stands beside a box inside an answer, math-verify reads one half.
_PASSED_OVER = re.compile(r"\d\s*_|\\(?:boxed|fbox|[bp]?mod)(?![a-z])")
_NEAR = 0.02  # relative: a rounding is never further from its value
_MULTIPLE = re.compile(
    r"(?P<factor>\d{0,9}(?:\.\d{1,9})?)\s*\*?\s*"
    r"(?:\\sqrt\s*\{?(?P<root>\d{1,9})\}?|√\(?(?P<sign>\d{1,9})\)?|\\pi|π|pi)",
    re.ASCII,
)
_PERCENT = re.compile(r"%|percent\s*$", re.IGNORECASE)
_PRIME = re.compile(r"\d\s*['′″]")
_DOLLARS = re.compile(r"[-+]?\s*\\?\$")
_NAMED_VALUE = re.compile(r"\s*([A-Za-z]\w{0,3})\s*=([^=]+)", re.ASCII)
_BETWEEN_VALUES = re.compile(r",|;|\bor\b|\band\b")
_RELATION = re.compile(r"[<>≤≥≠]|\\(?:leq?|geq?|neq?|lt|gt)\b")
_EQUALS = re.compile(r"(?<![<>!:])=(?!=)")
_SPACED_DIGITS = re.compile(r"\d\s+\d", re.ASCII)
_FREE_SPACE = re.compile(r"(?<!\d)\s+|\s+(?!\d)", re.ASCII)
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
    if _is_whole(truth) and _is_whole(answer):  # most truths, and every near value a question set is made of
        return int(truth) == int(answer)
    truth, answer = clean(truth), clean(answer)
    if not answer or not truth:
        return False
    if _LETTER.fullmatch(truth):
        return read_letters(answer) == frozenset({truth})
    if normalised_text(truth) and normalised_text(truth) == normalised_text(answer):
        return True
    answer = _without_option(truth, answer)
    exact = _without_rounding(answer)
    if exact is None or exact.count("{") != exact.count("}") or _PASSED_OVER.search(exact):
        return False
    answer = _values_of_one_name(exact)
    truth, answer_parts = _sides(truth, answer)
    if _PRIME.search(answer) and not _PRIME.search(truth):
        return False  # minutes and seconds of arc, feet and inches: math-verify passes over the mark
    truth_value, truth_unit = _value_and_unit(truth)
    pairs: list[LatexPair] = []
    for part in answer_parts:
        value, unit = _value_and_unit(part)
        if unit and truth_unit and unit != truth_unit:
            return False
        if truth_unit and _PERCENT.search(value):
            return False
        decided = _compare_values(truth_value, value)
        if decided is False:
            return False
        if isinstance(decided, LatexPair):
            pairs.append(decided)
    return pairs or True


def _is_whole(text: str) -> bool:
    return len(text) <= 15 and text.isascii() and text.isdigit()


def _value_and_unit(text: str) -> tuple[str, str]:
    """``split_unit``, with the sign of dollars before the value as their unit."""
    value, unit = split_unit(text)
    return value, unit or ("dollar" if _DOLLARS.match(value) else "")


def _without_option(truth: str, answer: str) -> str:
    """``B. 42`` as ``42``: the letter of an option with its value, where the truth is a value."""
    label = _OPTION.match(answer)
    letter = (label.group(1) or label.group(2)) if label else ""
    return answer[label.end() :] if label and letter not in truth else answer


def _without_rounding(answer: str) -> str | None:
    """``2√3 ≈ 3.46`` as ``2√3``; None when what follows is no number, or not near a value that is plainly known."""
    sides = [side.strip() for side in _ABOUT.split(answer)]
    if len(sides) == 1 or (len(sides) == 2 and not all(sides)):
        return "".join(sides)  # "≈ 42" and "42 ≈" say one value
    rounded = plain_number(split_unit(sides[-1])[0]) if len(sides) == 2 else None
    if rounded is None:
        return None
    value = _rough_value(split_unit(sides[0])[0].rpartition("=")[2].strip())
    near = value is None or abs(value - float(rounded.value)) <= _NEAR * abs(value)
    return sides[0] if near else None


def _rough_value(text: str) -> float | None:
    """The value of a number, or of a number times a root or pi; None for anything else."""
    number = plain_number(text)
    if number:
        return float(number.value)
    found = _MULTIPLE.fullmatch(text)
    if not found:
        return None
    root = found["root"] or found["sign"]
    return float(found["factor"] or 1) * (math.sqrt(float(root)) if root else math.pi)


def _values_of_one_name(answer: str) -> str:
    """``x = 1, x = 2`` and ``x = 1 or x = 2`` as ``1, 2``: several values of one unknown."""
    parts = _BETWEEN_VALUES.split(answer)
    named = [_NAMED_VALUE.fullmatch(part) for part in parts]
    if len(parts) < 2 or any(found is None for found in named):
        return answer
    names = {found.group(1) for found in named if found}
    return ", ".join(found.group(2).strip() for found in named if found) if len(names) == 1 else answer


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
    if _FOREIGN.search(answer):
        return False  # look-alikes of digits and letters: computer algebra reads some as what they look like
    if _has_asides(truth, answer) or (_ORDERED.match(truth) and _SET.match(answer)):
        return False  # a set does not say which coordinate comes first
    if not _unknowns(answer) <= _unknowns(truth):
        return False  # math-verify takes "ab", "d" and "M" for units and passes over them: 2√3 ab would be 2√3
    if not _SYMBOLIC.search(truth) or _has_words(truth) or _has_words(answer):
        return False  # words are equal as text or not at all: algebra would take "on" for "no"
    if _RELATION.search(answer) and not _RELATION.search(truth):
        return False  # "x < 42" is no answer to a question after a value
    if _SPACED_DIGITS.search(answer) and not number:
        return False  # "17 42" would be read as its first or last number
    return LatexPair(to_latex(truth), to_latex(answer))


def _unknowns(text: str) -> set[str]:
    """The letters of an expression that stand for something: neither functions nor constants nor commands."""
    runs = _LETTERS.findall(_COMMAND_WITH_NAME.sub(" ", _TEXT.sub(r"\1", text)))
    return {letter for run in runs if run.lower() not in _NO_UNKNOWN for letter in run}


def _has_words(text: str) -> bool:
    return any(word.lower() not in _FUNCTIONS for word in _WORDS.findall(_TEXT.sub("", text)))


def _has_asides(truth: str, answer: str) -> bool:
    """Whether an answer holds text in LaTeX that math-verify would pass over: ``42 \\text{ or 17}``.

    Joining words, functions, single letters, and what stands in the truth as well are no asides.
    """
    allowed = {"", "or", "and", *_FUNCTIONS, *(text.strip().lower() for text in _TEXT.findall(truth))}
    texts = [text.strip().lower() for text in _TEXT.findall(answer)]
    return any(text not in allowed and not (len(text) == 1 and text.isalpha()) for text in texts)


_LIST = re.compile(r"\s*(?:\\left\s*)?(?:\\\{|[(\[{])")
_COMMA_OF_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))", re.ASCII)
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
    (re.compile(r"(?<!\\)%"), r"\\%"),
    (re.compile(r"\$"), ""),
)


def to_latex(text: str) -> str:
    """LaTeX of an expression that may be half plain text: ``2*sqrt(3)``, ``2√3``, ``2^10``, ``pi/4``."""
    if not _LIST.match(text):  # in (1,234) the comma parts two values
        text = _COMMA_OF_THOUSANDS.sub("", text)
    for pattern, replacement in _TO_LATEX:
        text = pattern.sub(replacement, text)
    return text.strip()
