"""Answers that are compared as they are written: words, names, relations, and digits that are no value.

``normalised_text`` makes one text of the ways to write the same thing. ``read_literal`` recognises times, dates,
scores, ranges, phone numbers, versions, sizes and formulas of substances: computer algebra would calculate them.
Every pattern takes time linear in the text.
"""

import math
import re
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

# --- one text for the ways to write the same thing ----------------------------------------------------------------

_GREEK_NAMES = """alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi pi rho sigma tau upsilon phi
chi psi omega Gamma Delta Theta Lambda Xi Pi Sigma Phi Psi Omega varepsilon varphi vartheta"""
GREEK = dict(zip(_GREEK_NAMES.split(), "αβγδεζηθικλμνξπρστυφχψωΓΔΘΛΞΠΣΦΨΩεφθ", strict=True))
_SIGNS = GREEK | {
    "parallel": "∥", "perp": "⊥", "angle": "∠", "measuredangle": "∠", "triangle": "△", "bigtriangleup": "△",
    "cong": "≅", "sim": "∼", "equiv": "≡", "approx": "≈", "propto": "∝", "odot": "⊙",
    "leq": "≤", "le": "≤", "leqslant": "≤", "geq": "≥", "ge": "≥", "geqslant": "≥", "neq": "≠", "ne": "≠",
    "lt": "<", "gt": ">", "to": "→", "rightarrow": "→", "longrightarrow": "→", "leftarrow": "←", "gets": "←",
    "leftrightarrow": "↔", "Rightarrow": "⇒", "implies": "⇒", "Leftarrow": "⇐", "Leftrightarrow": "⇔", "iff": "⇔",
    "mapsto": "↦", "in": "∈", "notin": "∉", "subset": "⊂", "supset": "⊃", "subseteq": "⊆", "supseteq": "⊇",
    "cup": "∪", "cap": "∩", "setminus": "∖", "emptyset": "∅", "varnothing": "∅", "neg": "¬", "lnot": "¬",
    "land": "∧", "wedge": "∧", "lor": "∨", "vee": "∨", "forall": "∀", "exists": "∃", "pm": "±", "mp": "∓",
    "times": "×", "cdot": "·", "div": "÷", "infty": "∞", "degree": "°", "prime": "'", "ast": "*",
    "lvert": "|", "rvert": "|", "vert": "|", "mid": "|", "lVert": "‖", "rVert": "‖", "Vert": "‖",
    "left": "", "right": "", "big": "", "Big": "", "quad": " ", "qquad": " ", "displaystyle": "", "limits": "",
    "dfrac": "\\frac", "tfrac": "\\frac", "lbrace": "\\{", "rbrace": "\\}",
}  # fmt: skip
_COMMAND = re.compile(r"\\([A-Za-z]+)\s*|\\[,;:! ]")
_FONT = re.compile(r"\\(?:text(?:bf|it|rm|sf)?|mathrm|mathbf|mathit|mbox|operatorname|ce|rm)\s*\{([^{}]*)\}")
_MATRIX = re.compile(r"\\(begin|end)\s*\{(?:[bp]?matrix|smallmatrix)\}")
_ARRAY = re.compile(r"\\left\s*[\[(]\s*\\begin\{(array|matrix)\}(?:\{[clr|\s]*\})?(.*?)\\end\{\1\}\s*\\right\s*[\])]")
_TYPED: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"<->"), "↔"),
    (re.compile(r"->"), "→"),
    (re.compile(r"<=|[≦⩽]"), "≤"),
    (re.compile(r">=|[≧⩾]"), "≥"),
    (re.compile(r"!="), "≠"),
    (re.compile(r"~"), "∼"),
    (re.compile(r"(?<=[A-Z])\s*\|\|\s*(?=[A-Z])|//(?=[A-Z]{2})"), "∥"),
    (re.compile(r"\^\s*\{?\s*(?:°|\\circ(?![A-Za-z]))\s*\}?"), "°"),
    (re.compile(r"\^\s*\{?((?:\s*')+)\s*\}?"), r"\1"),
    (re.compile(r"''|″"), '"'),
    (re.compile(r"\bangle\s+(?=[A-Z]{1,3}\b)", re.IGNORECASE), "∠"),
    (re.compile(r"\btriangle\s+(?=[A-Z]{3}\b)", re.IGNORECASE), "△"),
    (re.compile(r"(?:\bis\s+)?\bparallel\s+to\b"), "∥"),
    (re.compile(r"(?:\bis\s+)?\bperpendicular\s+to\b"), "⊥"),
    (re.compile(r"([A-Za-z]{3,9}\.?\s+\d{1,2}),\s*(?=\d{4}(?!\d))"), r"\1 "),  # May 5, 2020
    (re.compile(r"\^\s*\{?\s*(\d?[+-])\s*\}?$"), r"\1"),  # Na^{+}
    (re.compile(r"([_^])\{(\w)\}(?!\d)"), r"\1\2"),
    (re.compile(r"([_^])\{(-?\w{1,20})\}(?!\w)"), r"\1\2"),
)
_EMPTY_SET = re.compile(r"\\?\{\s*\\?\}|(?:the\s+)?empty\s+set", re.IGNORECASE)
_RUN = re.compile(r"\\[A-Za-z]+|[∠△⊙]\s*[^\W\d_]+|[^\W\d_]+")
_SHORT_WORDS = frozenset(
    {"no", "on", "up", "in", "ok", "to", "is", "it", "at", "by", "of", "or", "am", "pm", "if", "we", "he", "an", "as"}
)
_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_LETTER_AND_WORD = re.compile(r"(?<![\w\\])([A-Za-z])-([A-Za-z]{3,})(?!\w)")
_BETWEEN_WORDS = re.compile(r"(?<=[^\W\d_]{3})(?:-|,\s*)(?=[^\W\d_]{3})")
_EXCLAMATION = re.compile(r"(?<=[^\W\d_]{3})!$")
_LAST_RUN = re.compile(r"[^\W\d_]+$")
_FIRST_RUN = re.compile(r"^[^\W\d_]+")


def one_matrix(text: str) -> str:
    """Return the text with ``pmatrix`` for every way to draw a matrix in brackets; a determinant stays one."""
    if "\\" not in text:
        return text
    text = _ARRAY.sub(r"\\begin{pmatrix}\2\\end{pmatrix}", text)
    return _MATRIX.sub(r"\\\1{pmatrix}", text)


@lru_cache(maxsize=4096)  # a truth is compared with every answer to it
def normalised_text(text: str) -> str:
    """Return one text for the ways to write the same thing: signs for LaTeX commands, words in lower case.

    Signs, primes, brackets and the case of symbols, units and points stay, because they carry meaning. Spaces go, but
    not between digits ("4 2" is not 42) nor between words.
    """
    if text.isalnum() and text.isascii() and not text.isalpha():
        return text
    text = text.strip()
    if _EMPTY_SET.fullmatch(text):
        return "∅"
    if "\\" in text:
        text = _COMMAND.sub(_sign, _FONT.sub(r" \1 ", one_matrix(text)))
    text = text.replace("′", "'").replace("$", "")
    for pattern, sign in _TYPED:
        text = pattern.sub(sign, text)
    text = _LETTER_AND_WORD.sub(_lower_compound, text)
    text = _EXCLAMATION.sub("", _BETWEEN_WORDS.sub(" ", text))
    text = _RUN.sub(_folded_run, text)
    if text.startswith("(") and text.endswith(")") and text[1:-1].replace(" ", "").isalpha() and len(text) > 4:
        text = text[1:-1]  # a word in brackets; (ab) is a product
    return _without_free_space(text)


def _sign(command: re.Match[str]) -> str:
    name = command.group(1)
    if name is None:
        return " "
    if name in FUNCTIONS and name not in ("frac", "sqrt"):
        return name + " "
    return _SIGNS.get(name, command.group().rstrip() + " ")


def _lower_compound(found: re.Match[str]) -> str:
    """``X-ray`` in lower case; ``x-sin`` is no word."""
    return found.group() if found.group(2).lower() in FUNCTIONS else found.group().lower()


def _folded_run(run: re.Match[str]) -> str:
    text = run.group()
    return text if text[0] in "\\∠△⊙" else _folded(text)


def _folded(word: str) -> str:
    """A word in lower case. Symbols, units, names of points and elements (``mW``, ``AB``, ``ABC``, ``Co``) stay."""
    lower = word.lower()
    if len(word) < 3:
        return lower if lower in _SHORT_WORDS else word
    if word[1:].islower():
        return lower
    if word.isupper() and not {"a", "e", "i", "o", "u", "y"}.isdisjoint(lower) and word not in _ALPHABET:
        return lower
    return word


def _without_free_space(text: str) -> str:
    parts = text.split()
    joined: list[str] = parts[:1]
    for before, after in pairwise(parts):
        if before[-1].isdigit() and after[0].isdigit():
            joined.append(" ")
        elif before[-1].isalpha() and after[0].isalpha():
            last, first = _LAST_RUN.search(before[-30:]), _FIRST_RUN.match(after[:30])
            longest = max(len(last.group()) if last else 1, len(first.group()) if first else 1)
            joined.append(" " if longest > 2 else "")
        joined.append(after)
    return "".join(joined)


FUNCTIONS = frozenset(
    {"sin", "cos", "tan", "cot", "sec", "csc", "arcsin", "arccos", "arctan", "sinh", "cosh", "tanh"}
    | {"log", "exp", "sqrt", "frac", "min", "max", "gcd", "lcm"}
)

# --- digits that are no value -------------------------------------------------------------------------------------

LONGEST_LITERAL = 60  # characters

_CLOCK = re.compile(
    r"(\d{1,2})(?::(\d{2}))?(?::(\d{2}))?\s*(?:([ap])\.?\s?m\.?|(o'clock)|(?:hours|hrs|h)\b)?", re.IGNORECASE | re.ASCII
)
_PART = r"[$€£]?\d+(?:[.,]\d+)*%?"
_RATIO = re.compile(r"\d+(?:\.\d+)?(?:\s*:\s*\d+(?:\.\d+)?)+", re.ASCII)
_DASHED = re.compile(rf"{_PART}(?:\s*-\s*{_PART})+", re.ASCII)
_TO = re.compile(rf"(?:from\s+)?([-+]?{_PART})\s+(?:to|through)\s+([-+]?{_PART})", re.ASCII)
_SLASHED = re.compile(r"\d+(?:\s*/\s*\d+)+", re.ASCII)
_DOTTED = re.compile(r"[vV]\d+(?:\.\d+)+|\d+(?:\.\d+){2,}", re.ASCII)
_ZERO_FIRST = re.compile(r"0\d+", re.ASCII)
_TIMES = r"\s*(?:×|x|X|\*|·|\bby\b|\\times(?![a-z])|\\cdot(?![a-z]))\s*"
_SIZE = re.compile(rf"\d+(?:\.\d+)?(?:{_TIMES}\d+(?:\.\d+)?)+", re.ASCII)
SIZE_SIGN = re.compile(_TIMES, re.ASCII)
_PHONE = re.compile(r"\+?(?:\(?\d{1,6}\)?[\s./-]*){2,8}", re.ASCII)
_PHONE_GROUPS = frozenset({(3, 4), (3, 3, 4), (1, 3, 3, 4), (1, 3, 3, 3)})
_DIGITS = re.compile(r"\d+", re.ASCII)
_MIXED_WITH_DASH = re.compile(r"\d+\s*-\s*\d+\s*/\s*\d+", re.ASCII)
_CODE_MARKS = re.compile(r"[\s_^{}$]|\\(?:text|mathrm|ce|mathbf|rm)(?![a-z])")
_CODE = re.compile(r"[A-Za-z(\[][A-Za-z0-9()\[\]·]{0,40}(?:\d*[+-]{1,3})?", re.ASCII)
_INDEXED = re.compile(r"[A-Za-z)\]]\d", re.ASCII)
_FIRST_LETTERS = re.compile(r"[A-Za-z]+")
_ELEMENTS = (
    "He|Li|Be|Ne|Na|Mg|Al|Si|Cl|Ar|Ca|Sc|Ti|Cr|Mn|Fe|Co|Ni|Cu|Zn|Ga|Ge|As|Se|Br|Kr|Rb|Sr|Zr|Nb|Mo|Ru|Rh|Pd|Ag|Cd|In|Sn|"
    "Sb|Te|Xe|Cs|Ba|La|Ce|Pt|Au|Hg|Tl|Pb|Bi|Rn|Ra|Th|H|B|C|N|O|F|P|S|K|V|I|W|U"
)
_SUBSTANCE = re.compile(rf"(?:(?:{_ELEMENTS}|[()\[\]])\d{{0,3}}){{1,30}}(?:\d?[+-]{{1,2}})?")


@dataclass(frozen=True)
class Literal:
    """What a text of digits and separators is, and its parts as they are compared."""

    kind: str
    parts: tuple[str, ...]


@lru_cache(maxsize=4096)
def read_literal(text: str) -> Literal | None:
    """Return what a text is when it must not be calculated; None for a value, an expression or words.

    A fraction is a value; ``20/20``, ``120/80`` and ``2019/20`` are none (equal parts, two parts of two digits that
    could be reduced, or a season). Of ``2:10`` a clock and a ratio are written alike.
    """
    text = text.strip()
    if len(text) > LONGEST_LITERAL or not any(character.isdigit() for character in text):
        return None
    if not text[0].isalpha() or text[0] in "vVfb":
        return _read_digits(text)
    return _read_code(text)


def _read_digits(text: str) -> Literal | None:
    clock = _CLOCK.fullmatch(text)
    if clock and (clock[2] or clock[4] or clock[5]) and int(clock[1]) <= 24 and int(clock[2] or 0) < 60:
        return Literal("clock", _clock_parts(clock))
    if _RATIO.fullmatch(text):
        return Literal("ratio", tuple("".join(part.split()) for part in text.split(":")))
    phone = _read_phone(text)
    if phone:
        return phone
    if _DASHED.fullmatch(text):
        return Literal("dash", _date_parts([part.strip() for part in text.split("-")]))
    between = _TO.fullmatch(text)
    if between:
        return Literal("to", (between[1], between[2]))
    if _SLASHED.fullmatch(text):
        return _read_slashes([part.strip() for part in text.split("/")])
    if _DOTTED.fullmatch(text):
        return Literal("dots", tuple(text.lower().removeprefix("v").split(".")))
    if _ZERO_FIRST.fullmatch(text):
        return Literal("code", (text,))
    if _SIZE.fullmatch(text):
        return Literal("size", tuple(part.strip() for part in SIZE_SIGN.split(text)))
    if _MIXED_WITH_DASH.fullmatch(text):
        return Literal("code", ("".join(text.split()),))
    return _read_code(text) if text[0] in "([vVfb\\" else None


def _clock_parts(clock: re.Match[str]) -> tuple[str, ...]:
    hour = int(clock[1])
    if clock[4]:
        hour = hour % 12 + (12 if clock[4] in "pP" else 0)
    return str(hour), clock[2] or "00", *([clock[3]] if clock[3] else [])


def _read_phone(text: str) -> Literal | None:
    if not _PHONE.fullmatch(text):
        return None
    groups = tuple(len(digits) for digits in _DIGITS.findall(text))
    marked = text[0] == "+" or (text[0] == "(" and groups == (3, 3, 4))
    listed = "/" not in text and "(" not in text[1:] and (groups in _PHONE_GROUPS or len(groups) >= 4)
    if not (marked or listed) or sum(groups) < 7 or "." in text:
        return None
    return Literal("phone", (text[0] if text[0] == "+" else "", *_DIGITS.findall("".join(_DIGITS.findall(text)))))


def _date_parts(parts: list[str]) -> tuple[str, ...]:
    """Three parts of which one is a year lose their leading zeros; all others keep what is written."""
    date = len(parts) == 3 and any(len(part) == 4 for part in parts) and all(part.isdigit() for part in parts)
    return tuple(part.lstrip("0") if date else part for part in parts)


def _read_slashes(parts: list[str]) -> Literal | None:
    if len(parts) > 2:
        return Literal("slash", _date_parts(parts))
    top, bottom = map(int, parts)
    shared = math.gcd(top, bottom)
    season = len(parts[0]) == 4 and len(parts[1]) == 2 and (top + 1) % 100 == bottom
    reducible = shared > 1 and min(top, bottom) >= 10
    return Literal("slash", tuple(parts)) if season or reducible or top == bottom else None


def _read_code(text: str) -> Literal | None:
    """``B12``, ``CO2``, ``SO4^{2-}``: letters with digits behind them. ``2x`` and ``log2`` are expressions."""
    code = _CODE_MARKS.sub("", text)
    letters = _FIRST_LETTERS.match(code)
    if not _CODE.fullmatch(code) or not _INDEXED.search(code) or (letters and letters.group() in _NO_CODE):
        return None
    direct = _INDEXED.search(text) and not re.search(r"[_^\\]", text)
    return Literal("code", (code,)) if direct or _SUBSTANCE.fullmatch(code) else None


_NO_CODE = FUNCTIONS | {"pi", "ln"}
_TWO_PARTS = frozenset({"ratio", "dash"})


def same_literal(truth: Literal, answer: str) -> bool:
    """Return whether an answer is the same time, date, score, ...: part by part, never by value."""
    if truth.kind == "code":
        return _CODE_MARKS.sub("", answer) == truth.parts[0]
    other = read_literal(answer) or _plain_slashes(answer)
    if other is None:
        return False
    if truth.parts != other.parts:
        return False
    kinds = {truth.kind, other.kind}
    return len(kinds) == 1 or ("to" in kinds and bool(kinds & _TWO_PARTS)) or kinds == {"ratio", "slash"}


def _plain_slashes(text: str) -> Literal | None:
    found = re.fullmatch(r"\s*(\d{1,20})\s*/\s*(\d{1,20})\s*|\\[dt]?frac\s*\{(\d{1,20})\}\s*\{(\d{1,20})\}", text)
    return Literal("slash", tuple(part for part in found.groups() if part)) if found else None
