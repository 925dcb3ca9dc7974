"""LaTeX whose backslash a string reader took for its own: ``"\\frac"`` in JSON is a form feed and ``rac``.

JSON, YAML and Python read ``\\b``, ``\\f``, ``\\n``, ``\\r`` and ``\\t`` as control characters, and Python ``\\a`` and
``\\v`` too. A control character that no plain text holds is always refused. A tab, a new line or a carriage return is
refused only before letters that are the rest of a command and no beginning of a word, or inside of a formula.
"""

import re

_LETTER_OF = {"\a": "a", "\b": "b", "\t": "t", "\n": "n", "\v": "v", "\f": "f", "\r": "r"}
_NAMES = {
    "\x00": "a zero character",
    "\a": "a bell character",
    "\b": "a backspace",
    "\t": "a tab",
    "\n": "a new line",
    "\v": "a vertical tab",
    "\f": "a form feed",
    "\r": "a carriage return",
    "\x1b": "an escape character",
    "\x7f": "a delete character",
}
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f]")

_END = r"(?![A-Za-z])"
_OPERAND = r"(?:(?<![A-Za-z])[A-Za-z]|[\d)}\]]) ?"  # what stands before a relation: a letter, a number, a bracket
_VALUE = rf"(?=\s*(?:[-+\d\\({{]|[A-Za-z]{_END}))"
# Remains that begin no word of a text, with what follows them in LaTeX where they nearly do.
_REMAINS = re.compile(
    rf"\t(?:imes{_END}|heta{_END}|herefore{_END}|riangle(?:q|left|right|lefteq|righteq)?{_END}|wohead\w+"
    rf"|frac(?=[{{\d\s])|binom(?=[{{\d])|ilde(?=[{{\s])|ext(?:bf|it|rm|sf|tt|normal)?\{{|extstyle{_END})"
    rf"|\n(?:otin{_END}|onumber{_END}|ewcommand{_END}|subseteq{_END}|earrow{_END}|warrow{_END}|abla{_VALUE}|abla[_^$])"
    rf"|{_OPERAND}\neq{_VALUE}"
    rf"|\r(?!\n)(?:ight(?:arrow|harpoonup|harpoondown|leftharpoons|rightarrows)?{_END}|ceil{_END}|m\{{"
    rf"|(?:angle|floor|brace|vert|Vert){_END}(?=\s*[\\$}}])|ho{_END}(?=\s*[=_^\\$\d+-]))"
)
# Remains that a text may hold: refused inside of a formula alone. No single letter after a new line is among them but
# for "$\nu$" and "\ne 0", since a line of a long formula may begin with one.
_IN_FORMULA = re.compile(
    rf"\t(?:an(?=\s*(?:[\d\\({{^]|[A-Za-z]{_END}))|anh{_END}|au{_END}|o(?=\s*(?:-?\d|[-+]?\\infty))|ag\{{)|(?<=[\^{{])\top{_END}"
    rf"|\n(?:eq|ot|eg|leq|geq|cong|sim|gtr){_END}|\ne(?= ?-?\d)|(?<=[^$]\$)\nu(?=\$)|^\$\nu(?=\$)"
    rf"|\r(?!\n)(?:ho|angle|floor|brace|brack|m|ef|oot|ule){_END}"
)
# Inside of the dollars there is no space, and no digit follows: "$5 or $6" is money.
_FORMULA = re.compile(
    r"\$\$[^$]*\$\$|\$(?=\S|[\t\n\r][a-z])[^$]*(?<=\S)\$(?!\d)"
    r"|\\\((?:[^\\]|\\(?![()]))*\\\)|\\\[(?:[^\\]|\\(?![\[\]]))*\\\]"
)
_SPACED_FORMULA = re.compile(r"\$ [^$]* \$(?!\d)")
_NO_WORD = re.compile(rf"\n(?:eq|leq|geq|cong){_END}|\t(?:au|anh){_END}|\r(?!\n)(?:ho|brack){_END}")
_COMMAND = re.compile(r"[A-Za-z]*")


def eaten_escape(text: str) -> str:
    """Return why a text of a row holds a backslash that its reader ate, with the remedy; empty where it does not.

    The words follow what names the text: "the truth holds a form feed ...".
    """
    found = _CONTROL.search(text) or _REMAINS.search(text) or _in_formula(text)
    if found is None:
        return ""
    place = next(place for place in range(found.start(), found.end()) if not text[place].isprintable())
    return _reason(text[place], found.string[place + 1 : place + 40])


def _in_formula(text: str) -> re.Match[str] | None:
    if not any(mark in text for mark in "$\\") or not any(eaten in text for eaten in "\t\n\r"):
        return None
    for formulas, remains in ((_FORMULA, _IN_FORMULA), (_SPACED_FORMULA, _NO_WORD)):
        for formula in formulas.finditer(text):
            found = remains.search(text, formula.start(), formula.end())
            if found is not None:
                return found
    return None


def _reason(character: str, rest: str) -> str:
    name = _NAMES.get(character, "a control character")
    letters = _COMMAND.match(rest)
    command = letters[0] if letters else ""
    code = f"U+{ord(character):04X}"
    if character in _LETTER_OF and command:
        command = _LETTER_OF[character] + command
        return (
            f"holds {name} ({code}) before {rest[:12]!r}: a single backslash of \\{command} was read as an escape; "
            f"write \\\\{command} in JSON"
        )
    return (
        f"holds {name} ({code}), which no plain text holds; remove it, or write every backslash of LaTeX twice in JSON "
        "(\\\\frac)"
    )
