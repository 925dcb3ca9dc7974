"""Category names in an answer: a JSON list, or names separated by commas, semicolons, slashes, lines, bullets or "and".

The reference code splits on white space, which makes two classes of "traffic light"; here names stay whole. A name may
hold what separates names elsewhere ("salt and pepper shaker", "AC/DC", "red, white and blue"). Whether it does is
decided where the truth is known (``resolve``).
"""

import json
import re
import unicodedata
from collections.abc import Collection, Iterable
from typing import Any

from curr_reft.tasks.wrappers import punctuated, unwrapped

LONGEST_ANSWER = 4000  # characters

_TRUTH_SEPARATORS = re.compile(r"[,;\n•|]+")  # without the slash: a class of a table is "AC/DC", not "AC" and "DC"
_SEPARATORS = re.compile(r"[,;\n/•|]+")
_LINES = re.compile(r" ?[\n•]+ ?")  # end a name always
_JOINS = re.compile(r"((?: ?[,;/|])+ ?(?:and |& ?)?| and | ?& ?)", re.IGNORECASE)
_SIGNS = re.compile(r"[-+#*]+")
_BULLET = re.compile(r"^\s*(?:[-*+–]\s+|[•●○◦▪■▸►‣✓✔✅]\s*)")
_NUMBER = re.compile(r"^\s*\(?\d{1,3}[.)]\s+")
_LEAD = re.compile(
    r"(?:the\s+)?(?:final\s+)?(?:answer|categor(?:y|ies)|objects?|classes|class|labels?|names?)"
    r"(?:\s+(?:present|shown|visible))?(?:\s+in\s+(?:the|this)\s+image)?(?:\s+(?:is|are|include))?\s*:"
    r"|the\s+image\s+(?:contains|shows)\s*:",
    re.IGNORECASE,
)
_COMMAND = re.compile(r"\\(?:text|textbf|textit|mathrm|mathbf)\s*\{([^{}]*)\}")
_SINGLE_QUOTED = re.compile(r"'([^'\"\\]*)'")
_INTERVAL = re.compile(r"\(\s*-?[\d.]+\s*,\s*-?[\d.]+\s*[)\]]|\[\s*-?[\d.]+\s*,\s*-?[\d.]+\s*\)")  # (25, 32), [0, 1)
_NAME_KEYS = frozenset({"label", "name", "category", "class", "object"})  # of an object that holds one name
_LIST_KEYS = frozenset({"labels", "names", "categories", "classes", "objects", "answer"})  # of one that holds a list
_PRESENCE = frozenset({"present", "visible", "exists", "found", "detected", "in_image"})  # false takes the name back

# --- the form in which names are compared -------------------------------------------------------------------------

_ALIKE = {
    "-": "‐‑‒–−﹣⁻",
    "+": "⁺",
    "'": "‘’‚‛′`",
    '"': "“”„‟″「」『』《》〈〉«»‹›",
    "[": "【〔〖",
    "]": "】〕〗",
    ",": "、،",
    ";": "؛",
    " ": "—―…\u00a0\u2002\u2003\u2009\u202f\u3000",
}
# Other writings of the same punctuation. Letters and digits are not among them: a look-alike is another name.
_FOLDED = str.maketrans(
    {other: sign for sign, others in _ALIKE.items() for other in others}
    | {chr(code): chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F) if not chr(code).isalnum()}
)
_PLAIN = re.compile(r"[a-z0-9 ]+")
_SUPERSCRIPT = re.compile(r"\$?\^\{?([-+*#]+)\}?\$?")  # of LaTeX: A^+ is A+
_QUOTED = re.compile(r"(?<!\w)(['\"])([^'\"]+)\1(?!\w)")
_EMPHASIZED = re.compile(r"(?<!\w)(\*+|\$)([^*$]+)\1(?!\w)")
_TAGGED = re.compile(r"<([^<>\d]+)>")
_BRACKETED = re.compile(r"\(([^()\[\]{}]*)\)|\[([^()\[\]{}]*)\]|\{([^()\[\]{}]*)\}")
_HALF_OPEN = re.compile(r"([(\[])(?=[^()\[\]]*\d[^()\[\]]*[)\]])|(?<=\d)([)\]])")  # of an interval: [0, 1)
_COMMA = re.compile(r" ?([,;])[ ,;]*")
_BETWEEN_DIGITS = re.compile(r"(?<=\d) ?([-,:/]) ?(?=\d)")
_SPACED_SIGN = re.compile(r" (?=[%/|])|(?<=[/|]) | (?=[-+#*]+$)|(?<=[<>=≤≥~±$€£]) (?=\d)")
_POSSESSIVE = re.compile(r"(?<=[^\W\d])'+(?=\w)|(?<=\w)'+(?=[^\W\d])")  # women's, rock'n'roll
_SIGN = re.compile(
    r"(?<=[\w+#*)\]])-+(?=$|[\s)\],;/|])"  # AB-, but not traffic-light
    r"|(?:^|(?<=[\s(\[<>=/]))-(?=\.?\d)"  # -1
    r"|(?<=\d)[-,:/.](?=\d)"  # 3-2, 2:10, 1.5
    r"|(?<=\S)[/|](?=\S)|(?<=\S)[,;](?= \S)"  # AC/DC, and the comma of "red, white and blue"
    r"|(?:^|(?<=[\s(\[/]))\.(?=\w)"  # .NET
    r"|(?<=\w)\*+(?!\w)"  # A*
    r"|(?<=\w)'+(?=$|[\s)\],;/|])|(?<=\d)\"|(?<=\d)'(?=\d)"  # A', 5'10"
    r"|(?<=\S)[#@%‰§†‡]|[#@%‰§†‡](?=\S)"  # C#, 5%
)
_NEVER_READ = frozenset("^`´¨©®™●○◦▪■▸►‣✓✔✅|\ufe0f")
_MOST_PASSES = 4  # brackets in one another; more is an attack on the reader


def normalise_name(name: str) -> str:
    """Return the name as it is compared: ``" 'Traffic-Light.' "`` becomes ``traffic light``.

    Case, surrounding quotes, a final period, brackets and repeated white space do not count, and a hyphen between words
    is a space. Signs with a meaning stay: ``A+`` and ``A-``, ``C++`` and ``C#``, ``.NET``, ``5'`` and ``5''``.
    Letters are not folded into others: a full-width or Cyrillic look-alike is another name, and so is a ligature.
    """
    text = unicodedata.normalize("NFC", name).translate(_FOLDED).lower()
    if _PLAIN.fullmatch(text):
        return " ".join(text.split())
    for _ in range(_MOST_PASSES):
        before, text = text, _one_pass(text)
        if text == before:
            return text
    return " ".join(re.sub(r"[^\w\s]+|_+", " ", text).split())


def _one_pass(text: str) -> str:
    text = " ".join(text.replace("_", " ").replace("&", " and ").split())
    if len(text) > 2 and text[0] == text[-1] and text[0] in "'\"":
        text = text[1:-1]
    text = _SUPERSCRIPT.sub(r"\1", _EMPHASIZED.sub(r"\2", _QUOTED.sub(r"\2", text)))
    text = _POSSESSIVE.sub("", text)
    text = _BRACKETED.sub(lambda found: f" {next(inner for inner in found.groups() if inner is not None)} ", text)
    text = " ".join(_TAGGED.sub(r" \1 ", text).split())
    text = _SPACED_SIGN.sub("", _BETWEEN_DIGITS.sub(r"\1", _COMMA.sub(r"\1 ", text)))
    kept = {found.start() + offset for found in _SIGN.finditer(text) for offset in range(len(found.group()))}
    kept |= {found.start() for found in _HALF_OPEN.finditer(text)}
    has_words = any(character.isalnum() for character in text)
    text = "".join(
        character if place in kept or _is_read(character, has_words) else " " for place, character in enumerate(text)
    )
    return unicodedata.normalize("NFC", " ".join(text.split()))


def _is_read(character: str, has_words: bool) -> bool:
    """Whether a character counts wherever it stands: letters, digits, marks of scripts, and symbols.

    An emoji beside words is an ornament; alone it is the name.
    """
    if character.isalnum() or character in "\u200c\u200d":  # the joiners of Persian and of Indian scripts
        return True
    category = unicodedata.category(character)
    if character in _NEVER_READ:
        return False
    return category[0] == "M" or (category[0] == "S" and not (has_words and ord(character) >= 0x1F000))


def spelling_key(name: str) -> str:
    """Return what two spellings of one class share: all but case, spaces, hyphens, quotes and a final period.

    Case counts where it tells classes apart: in a single letter, and in short names of mixed case (``mW``).
    """
    text = unicodedata.normalize("NFC", name).translate(_FOLDED).replace("&", " and ").strip()
    bare = re.sub(r"(?<=\w)[\s_-]+(?=\w)|[\s'\"]|\.(?=\s|$)", "", text)
    is_plain_case = bare in (bare.lower(), bare.upper(), bare.capitalize())
    return bare if bare.isalpha() and (len(bare) == 1 or (len(bare) <= 3 and not is_plain_case)) else bare.lower()


# --- lists of names -----------------------------------------------------------------------------------------------


class NameList(tuple[str, ...]):
    """The names of an answer as a reader takes them who knows no class, with the texts they were read from."""

    texts: tuple[str, ...]


def read_names(answer: str) -> NameList | None:
    """The normalised names of a list in text, each once, in order; None when there is none."""
    if len(answer) > LONGEST_ANSWER:
        return None
    texts = _listed(answer)
    names = (_unknown(part) for text in texts for part in _SEPARATORS.split(text))
    found = NameList(dict.fromkeys(name for name in names if name))
    found.texts = tuple(texts)
    return found or None


def read_spellings(truth: str) -> list[str]:
    """The names of a list that a row gives as text, as they are spelled there.

    A slash separates nothing, an interval is a name, and numbers go where every name has one: "1. FC Köln" is a name.
    """
    if len(truth) > LONGEST_ANSWER:
        return []
    if _INTERVAL.fullmatch(truth.strip()):
        return [truth.strip()]
    parts = [part.strip() for text in _listed(truth) for part in _TRUTH_SEPARATORS.split(text)]
    parts = [_BULLET.sub("", part) for part in parts if normalise_name(part)]
    if len(parts) > 1:
        parts = [re.sub(r"^and\s+", "", part, flags=re.IGNORECASE) for part in parts]
        if all(_NUMBER.match(part) for part in parts):
            parts = [_NUMBER.sub("", part) for part in parts]
    return [part for part in parts if normalise_name(part)]


def resolve(names: Iterable[str], known: Collection[str]) -> tuple[str, ...]:
    """The names of an answer where ``known`` names may hold separators; what is not known is taken apart.

    "dog and cat" are two names, and so are "dog and salt and pepper shaker" when "salt and pepper shaker" is known.
    "AC/DC" is one name when it is known, else two.
    """
    most_words = max((len(re.findall(r"\w+", name)) for name in known), default=1)
    letters = {_letters(name) for name in known}
    found: dict[str, None] = {}
    texts = names.texts if isinstance(names, NameList) else names
    for line in (line for text in texts for line in _LINES.split(text)):
        pieces = _JOINS.split(line)  # names at even places, separators at odd ones
        spelled = [_letters(piece) for piece in pieces]
        start = 0
        while start < len(pieces):
            number = _letters(number[0]) if (number := _NUMBER.match(pieces[start])) else ""
            longest = min(most_words, (len(pieces) - start + 1) // 2)
            for end in range(start + 2 * longest - 1, start, -2):
                joined = "".join(spelled[start:end])
                name = ""
                if joined in letters or (number and joined.removeprefix(number) in letters):
                    name = _known("".join(pieces[start:end]), known)
                if name:
                    break
            else:
                name, end = _unknown(pieces[start]), start + 1
            if name:
                found[name] = None
            start = end + 1
    return tuple(found)


def _letters(text: str) -> str:
    """The letters and digits alone: what two writings of one name share, so that few are compared in full."""
    return "".join(filter(str.isalnum, unicodedata.normalize("NFC", text).lower().replace("&", "and")))


def _known(text: str, known: Collection[str]) -> str:
    """The name that the whole text is, where it is known, its number with it or without; else nothing."""
    candidates = (text, _BULLET.sub("", text), _NUMBER.sub("", text))
    return next((name for name in map(normalise_name, dict.fromkeys(candidates)) if name in known), "")


def _unknown(text: str) -> str:
    name = normalise_name(_NUMBER.sub("", _BULLET.sub("", text)))
    if not name and _SIGNS.fullmatch(text.strip()):
        return text.strip()  # the second answer of "A+/-"
    return name.removeprefix("and ")  # "person, dog, and cat": the last comma separates, so the word only joins


def _listed(answer: str) -> list[str]:
    """The texts of a JSON list, or the one text without what surrounds a list."""
    text = unwrapped(punctuated(answer)).translate(_FOLDED)
    listed = _from_json(text)
    if listed is None:
        text = re.sub(r"[^\S\n]+", " ", _COMMAND.sub(r"\1", text)).strip()
        if len(text) >= 2 and (text[0], text[-1]) in {("[", "]"), ("{", "}"), ("(", ")")}:
            text = text[1:-1]
        if len(text) > 2 and text[0] == text[-1] and text[0] in "'\"" and text.count(text[0]) == 2:
            text = text[1:-1]
        lead = _LEAD.match(text)
        listed = [text[lead.end() :] if lead else text]
    return [" ".join(line.split()) if "\n" not in line else line for line in listed]


def _from_json(text: str) -> list[str] | None:
    """The texts of a JSON list of names, alone or in an object; None when the text is no such JSON."""
    if not text.startswith(("[", "{")):
        return None
    for candidate in (text, _SINGLE_QUOTED.sub(r'"\1"', text)):
        try:
            value = json.loads(candidate, object_pairs_hook=_Pairs)
        except (ValueError, RecursionError):  # no JSON: read as text
            continue
        return _named(value) if isinstance(value, _Pairs) else _named_in(value)
    return None


class _Pairs(list[tuple[str, Any]]):
    """A JSON object with its equal keys kept."""


def _named_in(values: list[Any]) -> list[str] | None:
    """The names of a JSON list: of texts, or of objects that each hold a name."""
    names: list[str] = []
    for value in values:
        own = [value] if isinstance(value, str) else _named(value) if isinstance(value, _Pairs) else None
        if not own:
            return None
        names += own
    return names or None


def _named(pairs: _Pairs) -> list[str] | None:
    """The names under the one key of an object that holds names. What else it says is not read, but for a denial."""
    keyed = [(key.strip().lower(), value) for key, value in pairs]
    named = [value for key, value in keyed if key in _NAME_KEYS | _LIST_KEYS]
    if len(named) != 1 or any(key in _PRESENCE and not value for key, value in keyed):
        return None
    return [named[0]] if isinstance(named[0], str) else _named_in(named[0]) if type(named[0]) is list else None
