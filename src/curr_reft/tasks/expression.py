"""Mathematical answers as text: cleaning, comparing, and what must not reach a computer algebra system.

Everything here is string work in the parent process: nothing is evaluated, and sympy is not imported. What cannot be
decided by text or exact fractions becomes pairs of LaTeX for the workers of ``symbolic.py``.
"""

import math
import re
import unicodedata
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction

from curr_reft.tasks.letters import read_letters
from curr_reft.tasks.literals import (
    FUNCTIONS,
    GREEK,
    SIZE_SIGN,
    normalised_text,
    one_matrix,
    read_literal,
    same_literal,
)
from curr_reft.tasks.quantities import (
    is_unit,
    mixed_quantity,
    plain_number,
    same_number,
    split_count,
    split_currency,
    split_unit,
)
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
_BOX = re.compile(r"\\(?:boxed|fbox)\s*\{([^{}]*(?:\{[^{}]*(?:\{[^{}]*\}[^{}]*)*\}[^{}]*)*)\}")
_BEFORE_BOX = re.compile(r"(?:[^\\{}]{0,40}=)?\s*(?:\\?\$|€|£)?\s*")
_OPTION_IN_TEXT = re.compile(
    r"\\(?:text(?:bf|it|rm)?|mathrm|mathbf)\s*\{\s*(?:\(([A-H])\)|([A-H])[.):])\s*\}"
    r"(?:\\[ ,;:!]|\\q?quad(?![a-z])|~|\s)*(?=\S)"
)
_FRACTIONS = {sign: " " + unicodedata.normalize("NFKD", sign).replace("⁄", "/") for sign in "½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅐⅛⅜⅝⅞⅑⅒"}
_SIGNS = str.maketrans(dict.fromkeys("−–‐‑‒—", "-") | {"º": "°", "˚": "°", "…": "…"} | _FRACTIONS)
_RAISED, _LOWERED = "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ", "₀₁₂₃₄₅₆₇₈₉₊₋"
_PLAIN = str.maketrans(_RAISED + _LOWERED, "0123456789+-n0123456789+-")
# Raised digits behind nothing are a look-alike of digits, not a power.
_POWERS = re.compile(rf"(?<=[A-Za-z0-9)\]}}πθΩ°|α-ω'])[{_RAISED}]+")
_INDICES = re.compile(rf"(?<=[A-Za-z)\]])[{_LOWERED}]+")
_TIE = re.compile(r"(?<=[\d}.,])~(?=[\w\\])")
_ABOUT_FIRST = re.compile(r"~\s*(?=[\d$.])")
_DOTS = re.compile(r"\.{3,}|\\[lc]?dots(?![a-z])")
_REPEATED = re.compile(
    r"(?P<whole>\d{0,20}\.\d{0,20}?)(?:(?P<one>\d)(?P=one){2,40}|(?P<block>\d{2,6})(?P=block){1,20})…", re.ASCII
)
_QUOTED = re.compile(r"\"([^\"]+)\"|'([^'\"]+)'")
# Thousands as LaTeX and typesetting part them: 1\,234, 1{,}234, and 1 234 with a narrow space.
_THOUSANDS = re.compile(r"(?<=\d)(?:\\,|\\!|\{,\}|[\u2009\u202f\u00a0])(?=\d{3}(?!\d))", re.ASCII)


def clean(text: str) -> str:
    """The expression without what surrounds it: dollar signs, ``\\boxed``, quotes, "The answer is", a full stop."""
    if text.isascii() and text.isalnum():
        return text
    text = " ".join(punctuated(_THOUSANDS.sub(",", text)).translate(_SIGNS).split())
    text = _DOTS.sub("…", _INDICES.sub(_index, _POWERS.sub(_power, text)))
    for _ in range(8):
        before = text
        for wrapper in _WRAPPERS:
            whole = wrapper.fullmatch(text)
            if whole:
                text = whole.group(1).strip()
        text = _LEAD.sub("", _EMPHASIS.sub(r"\1", text).removeprefix("\\therefore"), count=1)
        text = _without_box(text)
        text = text.strip().removeprefix("####").removeprefix("=").rstrip(".;,").removesuffix("\\").strip()
        quoted = _QUOTED.fullmatch(text)
        text = (quoted[1] or quoted[2]).strip() if quoted else text
        if "$" in text and text.count("$") % 2 == 0 and "\\$" not in text:
            text = " ".join(text.replace("$", " ").split())  # "$42$ cm" has a formula in it; a single sign is money
        if text.count("\\(") == text.count("\\)") == 1:
            text = " ".join(text.replace("\\(", " ").replace("\\)", " ").split())
        text = _ABOUT_FIRST.sub("", _TIE.sub(" ", text)) if text.count("~") == 1 else _TIE.sub(" ", text)
        text = _OPTION_IN_TEXT.sub(lambda found: f"({found[1] or found[2]}) ", text, count=1)
        text = _without_dots(text)
        if text == before:
            break
    return text


_SENTENCE = re.compile(r"[A-Za-z]{2}")
_END_TOKEN = re.compile(
    r"(?:<\|[a-z_]{2,30}\|>|<｜[^<>｜]{2,40}｜>|</?s>|<(?:eos|pad|end_of_turn|end_of_utterance|eot|unk)>|\s)+$"
)


def final_answer(text: str) -> str:
    """Return the answer of a row that is written as a model writes it: without a chat template's end token, the text
    behind ``####``, or the content of the only box of a sentence."""
    if text.rstrip().endswith(">"):
        text = _END_TOKEN.sub("", text)
    before, mark, after = text.rpartition("####")
    if mark and after.strip() and "####" not in before:
        text = after.strip()
    boxes = list(_BOX.finditer(text))
    if len(boxes) == 1 and _SENTENCE.search(text[: boxes[0].start()]) and _BOX.search(clean(text)):
        text = boxes[0].group(1)
    return text


def labelled_words(text: str) -> str:
    """The letter of ``B. cat``; empty for ``B. 12 cm`` and ``(B) cat``, which are plainly an option with its value."""
    label = _LABELLED.match(text)
    if not label or label.group(3) not in (".", ":") or _VALUE_FIRST.match(text[label.end() :]):
        return ""
    return label.group(2)


def _power(found: re.Match[str]) -> str:
    raised = found.group().translate(_PLAIN)
    return f"^{raised}" if len(raised) == 1 else f"^{{{raised}}}"


def _index(found: re.Match[str]) -> str:
    lowered = found.group().translate(_PLAIN)
    return f"_{lowered}" if len(lowered) == 1 else f"_{{{lowered}}}"


def _without_box(text: str) -> str:
    """``x = \\boxed{60}\\%`` as ``x = 60\\%``: only a name, a currency or a unit may stand beside the one box."""
    box = _BOX.search(text)
    if not box or _BOX.search(text, box.end()):
        return text
    before, inside, after = text[: box.start()], box.group(1), text[box.end() :].strip()
    if not _BEFORE_BOX.fullmatch(before) or (after and not is_unit(after)):
        return text
    gap = " " if after[:1].isalpha() else ""
    return f"{before}{inside.strip()}{gap}{after}"


def _without_dots(text: str) -> str:
    """``0.333…`` as a repeating decimal. Dots behind a word or a whole number are no part of it."""
    if not text.endswith("…"):
        return text
    found = _REPEATED.fullmatch(text)
    if found:
        return f"{found['whole']}\\overline{{{found['one'] or found['block']}}}"
    stem = text[:-1].rstrip()
    return stem if len(stem) > 1 and stem[-1].isalnum() and "." not in stem and "," not in stem else text


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
    written = _unspaced(clean(split_unit(clean(answer))[0]))
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


def _unspaced(text: str) -> str:
    return _FREE_SPACE.sub("", text)  # not the space of "4 2", which is not 42


# --- the plan of a comparison -------------------------------------------------------------------------------------

_LETTER = re.compile(r"[A-Z]")
_NAMING = (
    "angle|measuredangle|triangle|overline|widehat|odot|text|mathrm|mathbf|Delta|Theta|alpha|beta|gamma|delta|theta|phi"
    "|lambda|mu|rho|sigma|omega|left|right|parallel|perp|prime|circ"
)
_NAME = re.compile(rf"(?:∠|△|[A-Za-z0-9_'{{}}\s()]|\\(?:{_NAMING})(?![a-z])){{1,60}}", re.ASCII)
_WORDS = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{3,}")
_NO_UNKNOWN = FUNCTIONS | {"ln", "pi", "e", "i", "oo", "or", "and"}
_GREEK_NAME = re.compile(rf"\\({'|'.join(GREEK)})(?![A-Za-z])")
_LETTERS = re.compile(r"(?<![\\A-Za-z])[A-Za-z]+")
_COMMAND_WITH_NAME = re.compile(r"\\(?:begin|end)\s*\{[a-z*]*\}|\\left|\\right|^\s*[A-Za-z]\s*(?:\\in(?![a-z])|∈)")
_SYMBOLIC = re.compile(r"[\d\\+*/^=<>≤≥≠|√π∞-]", re.ASCII)
_LONE_UNITS = "NJWV"  # read as units of a truth without further help: 20 N is no product
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
_NAME_AND_VALUE = re.compile(r"\s*([^=<>≤≥≠,;\d(][^=<>≤≥≠,;]{0,40}?)\s*=([^=<>≤≥≠]+)")
_BASE = re.compile(r"([A-Za-z]{1,3}|\\[A-Za-z]{2,8}\s*)_?\s*\{?\s*\d{1,3}\s*\}?", re.ASCII)
_SEPARATOR = re.compile(
    r"\s*(?:[,;]\s*(?:\\text\s*\{\s*)?(?:(?:and|or)(?![A-Za-z])\s*\}?)?|\\text\s*\{\s*(?:and|or)\s*\}"
    r"|\\(?:quad|lor|vee)(?![a-z])|(?<![A-Za-z\\])(?:and|or)(?![A-Za-z])|\\\\)\s*"
)
_SYSTEM = re.compile(r"(?:\\left\s*\\\{\s*)?\\begin\{(cases|array)\}(?:\{[clr]*\})?(.*)\\end\{\1\}(?:\s*\\right\s*\.)?")
_LABELLED = re.compile(r"(?:\(([A-H])\)[.:]?\s+|([A-H])([.):])\s+)(?=[^\s+*/^=<>-]|-\d)")
_VALUE_FIRST = re.compile(r"[-+]?\s*(?:[\d.$€£√π\\(\[{|∠△-]|[A-Za-z](?![A-Za-z]))|.*\d")
_SMALL_OPTION = re.compile(r"(?:option\s+)?\(?([a-z])[.):]?", re.IGNORECASE)
_SIGNED_LETTER = re.compile(r"[A-Za-z]\s*['+*|#^_]|[|'+]\s*[A-Za-z]")
_RELATION = re.compile(r"[<>≤≥≠]|\\(?:leq?|geq?|neq?|lt|gt)\b")
_EQUALS = re.compile(r"(?<![<>!:])=(?!=)")
_SPACED_DIGITS = re.compile(r"\d\s+\d", re.ASCII)
_FREE_SPACE = re.compile(r"(?<!\d)\s+|\s+(?!\d)", re.ASCII)
_ABOUT = re.compile(r"≈|\\approx")


# What computer algebra passes over or does not know: primes, arrows, relations of lines, logic, marks on letters.
_NO_ALGEBRA = re.compile(
    r"['′″\"~…?#&@;]|frac\s*\{\s*d[A-Za-z]?\s*[A-Za-z]?\s*\}|\\(?:prime|perp|parallel|angle|measuredangle|triangle|odot|cong|sim|simeq|equiv|propto|to|mapsto|iff"
    r"|implies|(?:long)?(?:left|right)+arrow|(?:Left|Right|Leftright)arrow|neg|lnot|land|wedge|vee|lor|subset|supset"
    r"|subseteq|supseteq|notin|ni|overrightarrow|overleftarrow|overleftrightarrow|widehat|hat|bar|overline|tilde|dot|ddot"
    r"|underline|dagger|forall|exists|nabla|partial|sum|prod|int|lim|lfloor|rfloor|lceil|rceil|complement|top)(?![A-Za-z])"
    r"|\\vec\s*\{?\s*[A-Za-z]\s*[A-Za-z]|\^\s*\{?\s*[Tc*]\s*\}?(?![A-Za-z])"
)
_MARKS = re.compile(r"\\(?:vec|mathbb|mathcal)(?![a-z])|[|]|\\[lr]?vert(?![a-z])|\\left\s*\||\\right\s*\|")


def compare(truth: str, answer: str) -> bool | list[LatexPair]:
    """Return whether an answer equals the truth, or the pairs that must all be verified equal to know.

    Order (method of the docs): an option letter if the truth is one; equality of normalised text, because equal text is
    equal by any means; times, dates, scores and the like as they are written; exact fractions for plain numbers;
    computer algebra.
    """
    # Most truths, and every near value a question set is made of. 007 is a code.
    if _is_whole(truth) and _is_whole(answer) and (truth[0] != "0" or len(truth) == 1):
        return int(truth) == int(answer)
    truth, answer = clean(truth), clean(answer)
    if not answer or not truth:
        return False
    if len(truth) == 1 and truth.isascii() and truth.isalpha():
        return _is_letter(truth, answer)
    written = normalised_text(truth)
    if written and written == normalised_text(answer):
        return True
    label = _LABELLED.match(truth)
    if label:
        return _compare_option(label.group(1) or label.group(2), truth[label.end() :], answer)
    return _compare_expressions(truth, _without_option(truth, answer))


def _is_letter(truth: str, answer: str) -> bool:
    """An option letter in any of its writings; a small letter, which may be an unknown, in its case."""
    if _SIGNED_LETTER.search(answer):
        return False  # A', A+ and |A| are not A
    if truth.isupper():
        return read_letters(answer) == frozenset({truth}) and (truth in _CAPITALS or truth in answer)
    small = _SMALL_OPTION.fullmatch(answer)
    return small is not None and small.group(1) == truth


def _compare_option(letter: str, value: str, answer: str) -> bool | list[LatexPair]:
    """A truth with its letter, ``B. 12 cm``: the letter, the value, or both are right."""
    label = _OPTION.match(answer)
    if label:
        if (label.group(1) or label.group(2)).upper() != letter:
            return False
        return compare(value, answer[label.end() :])
    letters = None if _SIGNED_LETTER.search(answer) else read_letters(answer)
    return letters == frozenset({letter}) if letters is not None else compare(value, answer)


def _compare_expressions(truth: str, answer: str) -> bool | list[LatexPair]:
    exact = _without_rounding(answer)
    if exact is None or exact.count("{") != exact.count("}") or _PASSED_OVER.search(exact):
        return False
    answer = exact
    for compared in (_compare_named, _compare_lists, _compare_ratios, _compare_sizes, _compare_mixed_quantities):
        several = compared(truth, answer)
        if several is not None:
            return several
    truth, answer_parts = _sides(truth, answer)
    pairs: list[LatexPair] = []
    for part in answer_parts:
        decided = _compare_quantities(truth, part)
        if decided is False:
            return False
        if isinstance(decided, LatexPair):
            pairs.append(decided)
    return pairs or True


def _is_whole(text: str) -> bool:
    return len(text) <= 15 and text.isascii() and text.isdigit()


# --- named values and lists ---------------------------------------------------------------------------------------


def _parts(text: str) -> list[str]:
    """What commas, semicolons, "and" and "or" part, where no bracket is open."""
    parts: list[str] = []
    depth = start = position = 0
    for found in re.finditer(r"[(\[{]|[)\]}]|" + _SEPARATOR.pattern, text):
        if found.start() < position:
            continue
        sign = text[found.start()]
        if sign in "([{":
            depth += 1
        elif sign in ")]}":
            depth -= 1
        elif depth == 0 and found.group().strip():
            parts.append(text[start : found.start()])
            start = found.end()
        position = found.end()
    return [*(part.strip() for part in parts), text[start:].strip()]


def _named_values(text: str) -> list[tuple[str, str]] | None:
    """``x = 2, y = 5`` as names with their values, ``x = 3, -4`` as one name with two; None for anything else."""
    if "=" not in text:
        return None
    system = _SYSTEM.fullmatch(text)
    parts = _parts(system.group(2).replace("&", "") if system else text)
    named: list[tuple[str, str]] = []
    for part in parts:
        found = _NAME_AND_VALUE.fullmatch(part)
        if found and _is_label(found.group(1)):
            named.append((normalised_text(found.group(1)), found.group(2).strip()))
        elif named and "=" not in part and part and not _RELATION.search(part):
            named.append((named[-1][0], part))
        else:
            return None
    return named if len(named) > 1 else None


def _is_label(name: str) -> bool:
    return not re.search(r"[-+*/^×·÷√]|\\frac|\\sqrt", name)


def _compare_named(truth: str, answer: str) -> bool | list[LatexPair] | None:
    """Values by their names; None where neither side names several."""
    true_values, values = _named_values(truth), _named_values(answer)
    if true_values is None:
        return _compare_unnamed(truth, values) if values else None
    names = [name for name, _ in true_values]
    if len(set(names)) == 1:  # solutions of one unknown
        listed = ", ".join(value for _, value in true_values)
        if values is None:
            return _compare_expressions(listed, _without_name(answer, names[0]))
        same = {names[0]} == {name for name, _ in values} or _bases(values) == {names[0]}
        return same and _compare_expressions(listed, ", ".join(value for _, value in values))
    if len(set(names)) != len(names):
        return False
    if values is not None:
        if sorted(name for name, _ in values) != sorted(names):
            return False
        by_name = dict(values)
        return _all_of([(value, by_name[name]) for name, value in true_values])
    before, equals, after = answer.rpartition("=")
    point, order = _coordinates(after.strip()), names
    if equals:  # (x, y) = (2, 5)
        order = [normalised_text(name) for name in _coordinates(before.strip()) or ()]
    elif point and set(names) <= {"x", "y", "z"}:
        order = sorted(names)  # a point gives x before y
    elif point and names != sorted(names):
        return False
    given = point or _parts(after)
    if len(given) != len(names) or sorted(order) != sorted(names):
        return False
    expected = dict(true_values)
    return _all_of([(expected[name], value) for name, value in zip(order, given, strict=True)])


def _compare_unnamed(truth: str, values: list[tuple[str, str]]) -> bool | list[LatexPair] | None:
    """Named values beside a truth without names: solutions of one unknown, or the coordinates of a point."""
    if len({name for name, _ in values}) == 1 or len(_bases(values)) == 1:
        return _compare_expressions(truth, ", ".join(value for _, value in values))
    point = _coordinates(truth.rpartition("=")[2].strip())
    names = [name for name, _ in values]
    if point is None or len(point) != len(names) or len(set(names)) != len(names):
        return False
    return _all_of([(value, given) for value, (_, given) in zip(point, sorted(values), strict=True)])


def _bases(values: list[tuple[str, str]]) -> set[str]:
    """The names without an index: ``x_1`` and ``x_2`` are values of x. Empty where one has none or two have one."""
    found = [_BASE.fullmatch(name) for name, _ in values]
    if any(base is None for base in found) or len({name for name, _ in values}) != len(values):
        return set()
    return {base.group(1).strip() for base in found if base}


def _without_name(answer: str, name: str) -> str:
    """``x = 3, -4`` and ``x \\in \\{3, -4\\}`` without their name."""
    before, sign, after = answer.partition("=") if "=" in answer else _ELEMENT.sub("\x00", answer, 1).partition("\x00")
    return after.strip() if sign and "=" not in after and normalised_text(before) == name else answer


def _coordinates(text: str) -> list[str] | None:
    inner = re.fullmatch(r"(?:\\left\s*)?\((.*?)(?:\\right\s*)?\)", text.strip())
    parts = _parts(inner.group(1)) if inner and inner.group(1).count("(") == inner.group(1).count(")") else []
    return parts if len(parts) > 1 else None


def _all_of(pairs: list[tuple[str, str]]) -> bool | list[LatexPair]:
    needed: list[LatexPair] = []
    for truth, answer in pairs:
        decided = _compare_quantities(truth, answer) if answer else False
        if decided is False:
            return False
        if isinstance(decided, LatexPair):
            needed.append(decided)
    return needed or True


def _compare_lists(truth: str, answer: str) -> bool | list[LatexPair] | None:
    """Values between commas or words, in any order; None where the truth is one value, an equation or a set."""
    if _is_one_number(truth) or "=" in truth or "=" in answer or "…" in truth or _BOTH_SIGNS.search(answer):
        return None
    true_parts = _parts(truth)
    if len(true_parts) < 2 or not all(true_parts):
        return None
    if all(len(part) == 1 and part in _CAPITALS for part in true_parts):
        return not _SIGNED_LETTER.search(answer) and read_letters(answer) == frozenset(true_parts)
    bare = re.fullmatch(r"(?:\\left\s*)?\\\{(.*?)(?:\\right\s*)?\\\}", answer)
    parts = _parts(bare.group(1) if bare else answer)
    if len(parts) != len(true_parts) or not all(parts):
        return False
    if [normalised_text(part) for part in parts] == [normalised_text(part) for part in true_parts]:
        return True
    if all(plain_number(split_unit(part)[0]) for part in (*true_parts, *parts)):
        return _matched(true_parts, parts)
    if any(read_literal(part) for part in (*true_parts, *parts)):  # scores of sets, points in time: in their order
        return _all_of(list(zip(true_parts, parts, strict=True)))
    decided = _compare_values(", ".join(true_parts), ", ".join(parts))
    return [decided] if isinstance(decided, LatexPair) else decided


_CAPITALS = "ABCDEFGHIJ"
_ELEMENT = re.compile(r"\\in(?![a-z])|∈")
_BOTH_SIGNS = re.compile(r"±|\\pm(?![a-z])")


def _is_one_number(text: str) -> bool:
    """Whether it is one number, with a unit or what it counts: the comma of "1,234 people" parts thousands."""
    return any(plain_number(value) for value in (text, split_unit(text)[0], split_count(text)[0]))


def _matched(truths: list[str], answers: list[str]) -> bool:
    """Whether each value of one list stands in the other, each once."""
    left = list(answers)
    for truth in truths:
        same = next((answer for answer in left if _compare_quantities(truth, answer) is True), None)
        if same is None:
            return False
        left.remove(same)
    return True


def _compare_ratios(truth: str, answer: str) -> bool | list[LatexPair] | None:
    """``1:\\sqrt{3}:2`` part by part; None where the truth is no ratio, or one of plain numbers, which is a literal."""
    if ":" not in truth or "=" in truth or _SET.match(truth) or read_literal(truth):
        return None
    parts, true_parts = answer.split(":"), truth.split(":")
    return len(parts) == len(true_parts) and _all_of(list(zip(true_parts, map(str.strip, parts), strict=True)))


def _compare_sizes(truth: str, answer: str) -> bool | list[LatexPair] | None:
    """``5 cm × 3 cm`` part by part; None where not every part of the truth has a unit."""
    sides = SIZE_SIGN.split(truth)
    if len(sides) < 2 or not all(split_unit(side)[1] for side in sides):
        return None
    parts = SIZE_SIGN.split(answer)
    return len(parts) == len(sides) and _all_of(list(zip(sides, parts, strict=True)))


def _compare_mixed_quantities(truth: str, answer: str) -> bool | None:
    """``1 hour 30 minutes``: unit by unit; None where the truth is no such quantity."""
    expected = mixed_quantity(truth)
    return None if expected is None else mixed_quantity(answer) == expected


# --- one value ----------------------------------------------------------------------------------------------------


def _compare_quantities(truth: str, answer: str) -> bool | LatexPair:
    """One value with its unit. A unit may be left out of an answer or added to it; two must be the same."""
    true_value, true_unit = _value_and_unit(truth)
    value, unit = _value_and_unit(answer, true_unit)
    if unit and not true_unit:
        true_value, true_unit = split_unit(truth, unit)  # the truth "5m", when the answer says metres
    if not true_unit:
        true_value, noun = split_count(truth)
        if noun:
            counted, other = split_count(value)
            counts = not unit and (not other or other == noun) and not _PERCENT.search(counted)
            return counts and _compare_values(true_value, counted)
    if unit and true_unit and unit != true_unit and not (true_unit in ("°C", "°F") and unit == "deg"):
        return False
    if (true_unit and _PERCENT.search(value)) or (unit and _PERCENT.search(true_value)):
        return False
    return _compare_values(true_value, value)


def _value_and_unit(text: str, known: str = "") -> tuple[str, str]:
    """``split_unit``, with the sign of a currency before the value as its unit."""
    value, unit = split_unit(text, known, "" if known else _LONE_UNITS)
    bare, currency = split_currency(value)
    return (bare, currency) if currency and not unit else (value, unit)


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
    point = _coordinates(side)
    if point:  # (x, y) = (2, 5), not (y, x)
        return point == sorted(point) and all(part.isalpha() and len(part) == 1 for part in point)
    return bool(_NAME.fullmatch(side)) and not re.match(r"\s*[-\d(]", side)


def _compare_values(truth: str, answer: str) -> bool | LatexPair:
    if not answer:
        return False
    if normalised_text(truth) == normalised_text(answer):
        return True
    literal = read_literal(truth)
    true_number, number = plain_number(truth), plain_number(answer)
    if literal:
        if literal.kind == "ratio" and len(literal.parts) == 2 and number and (number.fraction or number.decimals):
            ratio = plain_number("/".join(literal.parts))
            return bool(ratio) and not number.percent and ratio.value == number.value if ratio else False
        return same_literal(literal, answer)
    if true_number and number:
        return same_number(true_number, number)
    if ":" in answer and ":" not in truth:
        return bool(true_number and true_number.fraction) and "".join(answer.split()).replace(":", "/") == truth
    if _FOREIGN.search(answer) or _FOREIGN.search(truth):
        return False  # look-alikes of digits and letters: computer algebra reads some as what they look like
    if _NO_ALGEBRA.search(answer) or _NO_ALGEBRA.search(truth) or _marks(truth) != _marks(answer):
        return False
    if "\\vec" in truth and "\\times" in truth:
        return False  # the product of vectors changes its sign with their order
    if _has_asides(truth, answer) or {_ordered(truth), _ordered(answer)} == {True, False}:
        return False  # a set does not say which coordinate comes first, and is no interval
    if not _unknowns(answer) <= _unknowns(truth):
        return False  # math-verify takes "ab", "d" and "M" for units and passes over them: 2√3 ab would be 2√3
    if number and _unknowns(truth):
        return False  # math-verify passes over the letters of "5th" and "1990s"
    if not _SYMBOLIC.search(truth) or _has_words(truth) or _has_words(answer):
        return False  # words are equal as text or not at all: algebra would take "on" for "no"
    if _RELATION.search(answer) and not _RELATION.search(truth):
        return False  # "x < 42" is no answer to a question after a value
    if _SPACED_DIGITS.search(answer) and not number:
        return False  # "17 42" would be read as its first or last number
    return LatexPair(to_latex(truth), to_latex(answer))


def _marks(text: str) -> list[str]:
    """The signs of an expression that computer algebra may pass over, each as often as it stands there."""
    return sorted("|" if "|" in mark or "vert" in mark else mark for mark in _MARKS.findall(text))


def _ordered(text: str) -> bool | None:
    """Whether an expression opens as a tuple or an interval (True) or as a set (False)."""
    return True if _ORDERED.match(text) and "," in text else False if _SET.match(text) else None


def _unknowns(text: str) -> set[str]:
    """The letters of an expression that stand for something: neither functions nor constants nor commands."""
    runs = _LETTERS.findall(_COMMAND_WITH_NAME.sub(" ", _TEXT.sub(r"\1", text)))
    greek = {name for name in _GREEK_NAME.findall(text) if name != "pi"}  # math-verify takes Delta for delta
    return {letter for run in runs if run.lower() not in _NO_UNKNOWN for letter in run} | greek


def _has_words(text: str) -> bool:
    return any(word.lower() not in FUNCTIONS for word in _WORDS.findall(_TEXT.sub("", text)))


def _has_asides(truth: str, answer: str) -> bool:
    """Whether an answer holds text in LaTeX that math-verify would pass over: ``42 \\text{ or 17}``.

    Joining words, functions, single letters, and what stands in the truth as well are no asides.
    """
    allowed = {"", "or", "and", *FUNCTIONS, *(text.strip().lower() for text in _TEXT.findall(truth))}
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
    (re.compile(r"(?<![A-Za-z\d.])(\d[\d.]{0,20})[eE]([-+]?\d{1,2})(?![\w.])"), r"\1\\cdot 10^{\2}"),
    (re.compile(r"(?<![\\A-Za-z])((?<!\d)[eE]|[A-DF-Za-df-z])(\d+)"), r"\1_{\2}"),  # x1 is a name, not x times 1
)


def to_latex(text: str) -> str:
    """LaTeX of an expression that may be half plain text: ``2*sqrt(3)``, ``2√3``, ``2^10``, ``pi/4``."""
    text = one_matrix(text)
    if not _LIST.match(text):  # in (1,234) the comma parts two values
        text = _COMMA_OF_THOUSANDS.sub("", text)
    for pattern, replacement in _TO_LATEX:
        text = pattern.sub(replacement, text)
    return text.strip()
