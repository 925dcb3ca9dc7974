"""The final answer that a worked solution states, where it states one: a text or nothing, never a guess.

A wrong truth teaches a wrong thing for as long as training lasts, while a row that is left out costs one row. So the
answer must be announced ("Answer: B", "The answer is 12", a box of LaTeX), stand at the very end, be short, and be no
letter without an option or with other words than its own; what is announced before it must not name another letter.
"""

import re
from collections.abc import Iterator

LONGEST = 60  # characters of an answer; beyond, it is a sentence

_ANNOUNCED = re.compile(
    r"\b(?:the\s+)?(?:final\s+|correct\s+|right\s+)?(?:answer|option|choice)\s*(?:is\s*:?|:)\s*(?:option\s+)?",
    re.IGNORECASE,
)
_BOXED = re.compile(r"\\boxed\s*\{")
# "B", "(B)", "B. 12", "(B) 12", "B: 12"; not "A dog", where A is an article.
_LETTER = re.compile(r"(?:\(([A-Z])\)|([A-Z])(?:[.:)]|$))\s*(.*)", re.DOTALL)
_EARLY_LETTER = re.compile(r"\(?([A-Z])\)?(?=\s*(?:[.,:;)\n]|$))")
_OWN_LETTER = re.compile(r"\(?([A-Z])\)?[.)]?")
_OPTION = re.compile(r"(?:^|[\s(])([A-Z])\s*[.:)](?=\s*\S)", re.MULTILINE)


def final_answer(solution: str, question: str) -> str:
    """The answer as a letter if the question lists lettered options, else as the text it is. Raises ValueError."""
    options = listed_letters(question)
    announced = list(_announced(solution.strip()))
    if not announced:
        raise ValueError(f"its solution announces no answer (Answer: ..., the answer is ...): {_end(solution)}")
    answer = _trimmed(announced[-1])
    if not answer:
        raise ValueError(f"its solution ends where the answer should stand: {_end(solution)}")
    if len(answer) > LONGEST or "\n" in answer or ". " in answer.removeprefix(answer[:1] + ". "):
        raise ValueError(f"what follows the announced answer is no short answer: {_end(solution)}")
    if not options:
        if _OWN_LETTER.fullmatch(answer):
            raise ValueError(f"the answer is the letter {answer!r}, but the question lists no options")
        return answer
    letter = _letter(answer, question)
    if letter not in options:
        raise ValueError(f"the answer {answer!r} is none of the options {', '.join(options)} of the question")
    others = {other for text in announced[:-1] if (other := _early_letter(text)) in options} - {letter}
    if others:
        raise ValueError(f"its solution announces {', '.join(sorted(others))} and then {letter}: {_end(solution)}")
    return letter


def listed_letters(question: str) -> tuple[str, ...]:
    """The letters of the options a question lists, in order from A; empty for fewer than two."""
    found = _OPTION.findall(question)
    letters: list[str] = []
    for letter in found:
        if letter == chr(ord("A") + len(letters)):
            letters.append(letter)
    return tuple(letters) if len(letters) >= 2 else ()


def _announced(solution: str) -> Iterator[str]:
    """What follows each announcement, to the end of the text; the content of a box of LaTeX that ends the text."""
    for match in _ANNOUNCED.finditer(solution):
        yield solution[match.end() :]
    boxes = list(_BOXED.finditer(solution))
    if boxes:
        content = _braced(solution, boxes[-1].end())
        if content is not None and not solution[boxes[-1].end() + len(content) + 1 :].strip(" .$\n)]\\"):
            yield content


def _braced(text: str, start: int) -> str | None:
    """The text up to the brace that closes the one before ``start``."""
    depth = 1
    for place in range(start, len(text)):
        depth += {"{": 1, "}": -1}.get(text[place], 0)
        if depth == 0:
            return text[start:place]
    return None


def _trimmed(answer: str) -> str:
    return answer.strip().strip("*").removesuffix(".").strip()


def _letter(answer: str, question: str) -> str | None:
    """The letter of an answer; words that follow it must stand in the question, as those of its option do."""
    match = _LETTER.fullmatch(answer)
    if match is None or " ".join(match[3].split()) not in " ".join(question.split()):
        return None
    return match[1] or match[2]


def _early_letter(text: str) -> str | None:
    """The letter an earlier announcement begins with, whatever follows it."""
    match = _EARLY_LETTER.match(text)
    return match[1] if match else None


def _end(text: str, limit: int = 80) -> str:
    text = text.strip()
    return repr(text if len(text) <= limit else "…" + text[-limit:])
