"""What stands around an answer and is no part of it: a code fence, ``\\boxed{}``, bold, typographic punctuation.

Letters and digits are never folded: a full-width digit, a roman numeral or a mathematical bold letter is a look-alike
that no model needs (Unicode NFKC would turn the numeral for one hundred into option C). Everything is linear in time.
"""

import re

# Chinese and typographic punctuation that Qwen and InternVL write, and the spaces of typesetting.
_PUNCTUATION = str.maketrans(
    "，；：（）［］｛｝＜＞。！？＝＋＊“”„‘’‚、\u00a0\u2002\u2003\u2009\u202f\u3000",
    ",;:()[]{}<>.!?=+*\"\"\"''',      ",
)
_LANGUAGE = re.compile(r"[A-Za-z]*[ \t]*\n|(?:json|python|text|latex)\s")
_OPENERS = ("\\boxed{", "\\text{", "\\mathrm{", "\\textbf{", "\\mathbf{", "\\fbox{")
_DEEPEST = 6  # wrappers in one another: **$\boxed{\text{B}}$**


def punctuated(text: str) -> str:
    """The text with ASCII punctuation in the place of full-width and typographic punctuation."""
    return text.translate(_PUNCTUATION)


def unwrapped(text: str) -> str:
    """The text without what surrounds the whole of it: code fences, dollar signs, stars, ``\\boxed{...}``."""
    text = text.strip()
    for _ in range(_DEEPEST):
        inner = _inside(text).strip()
        if inner == text:
            break
        text = inner
    return text


def _inside(text: str) -> str:
    if len(text) >= 6 and text.startswith("```") and text.endswith("```"):
        body = text[3:-3]
        language = _LANGUAGE.match(body)
        return body[language.end() :] if language else body
    for mark in ("**", "$$", "$", "`"):
        size = len(mark)
        if len(text) > 2 * size and text.startswith(mark) and text.endswith(mark) and mark not in text[size:-size]:
            return text[size:-size]
    for opener in _OPENERS:
        if text.startswith(opener) and text.endswith("}") and _closes_last(text, len(opener) - 1):
            return text[len(opener) : -1]
    return text


def _closes_last(text: str, opening: int) -> bool:
    """Whether the brace at ``opening`` is closed by the last character and not before."""
    depth = 0
    for position in range(opening, len(text)):
        depth += (text[position] == "{") - (text[position] == "}")
        if depth == 0:
            return position == len(text) - 1
    return False
