"""Math: counting, geometry, arithmetic. The answer is a number, an expression, a word or an option letter.

Curr-ReFT section 3: verified equal, 0 or 1. The reference code accepts substrings either way and empty answers; here
there is no substring rule, and what needs computer algebra is verified in a killable worker (``symbolic.py``).
"""

import math
import random
import re
import unicodedata
from fractions import Fraction
from typing import Any

from curr_reft.data.item import Item, Truth
from curr_reft.tasks.base import Pool, TaskDefaults, TaskOptions
from curr_reft.tasks.expression import Equality, clean, final_answer, is_copied, labelled_words, too_costly
from curr_reft.tasks.literals import normalised_text
from curr_reft.tasks.quantities import plain_number
from curr_reft.tasks.status import GradingTimeoutError, VerificationError
from curr_reft.tasks.symbolic import verify

CLAIM_TIMEOUT = 5.0  # seconds to verify that a false claim is false
_LETTER = re.compile(r"[A-Z]")
_INTEGER = re.compile(r"(?<![\d.,])\d{1,6}(?![\d.,]*\d)")
_OTHER_SIGNS = {"∥": "⊥", "⊥": "∥", "≤": "≥", "≥": "≤", "<": ">", ">": "<", "∪": "∩", "∩": "∪", "∈": "∉", "∉": "∈"} | {
    "\\parallel": "\\perp", "\\perp": "\\parallel", "\\cup": "\\cap", "\\cap": "\\cup", "→": "←", "≅": "∼", "∼": "≅",
    "=": "≠", "≠": "=",
}  # fmt: skip
_OPPOSITES = {"yes": "no", "no": "yes", "true": "false", "false": "true"}


def _is_foreign_digit(character: str) -> bool:
    """Whether it is a digit, and none of 0 to 9: full-width, Arabic, ... (those are never paid for plain ones)."""
    return character.isdecimal() and not character.isascii()


class Math(TaskDefaults):
    """One value per answer, as text."""

    name = "math"
    absent = "no value near the truth could be verified as wrong"

    def read_truth(self, raw: Any) -> str:
        """The text of a value, from text or a number. Raises ValueError."""
        if isinstance(raw, bool) or not isinstance(raw, str | int | float):
            raise ValueError(f"{raw!r} is no mathematical answer; write it as text or as a number")
        if isinstance(raw, float) and not math.isfinite(raw):
            raise ValueError(f"{raw!r} is not finite")
        text = clean(_write_float(raw) if isinstance(raw, float) else final_answer(str(raw)))
        odd = next((each for each in text if unicodedata.category(each) == "Cf" or _is_foreign_digit(each)), None)
        if odd is not None:
            name = unicodedata.name(odd, "a character without a name")
            raise ValueError(
                f"{raw!r} holds U+{ord(odd):04X} ({name.lower()}): answers are compared as they stand, so that no "
                "plain answer could equal it; write it without, and digits as 0 to 9"
            )
        if not any(character.isalnum() or character in "∞∅" for character in text) and normalised_text(text) != "∅":
            raise ValueError(f"{raw!r} holds no value; a truth is a number, an expression, a word or an option letter")
        label = labelled_words(text)
        if label:
            raise ValueError(
                f"{raw!r} is the letter of an option with its text, or a name with an initial, and an answer could be "
                f"either; write the letter alone ({label!r}) where the problem lists the options, else the text alone"
            )
        cost = too_costly(text)
        if cost:
            raise ValueError(f"{text[:60]!r} cannot be verified: {cost}")
        return text

    def parse(self, answer: str) -> str | None:
        """The cleaned expression; None when it is empty or too costly to verify."""
        if len(answer) > 4000:
            return None
        text = clean(answer)
        return None if not text or too_costly(text) else text

    def copied(self, parsed: str, truth: Truth, prompt: str) -> bool:
        return bool(prompt) and is_copied(str(truth), parsed, prompt)

    def score(self, parsed: str, truth: Truth, options: TaskOptions) -> float:
        return float(self.correct(parsed, truth, options))

    def correct(self, parsed: str, truth: Truth, options: TaskOptions) -> bool:
        pair = self.verification(parsed, truth)
        timeout = options.tasks.math.timeout
        equality = options.verdicts.get(pair) or verify(*pair, timeout=timeout)
        if equality is Equality.TIMED_OUT:
            raise GradingTimeoutError(f"verification exceeded {timeout:g} s")
        if equality is Equality.FAILED:
            raise VerificationError("the verification worker failed")
        return equality is Equality.EQUAL

    def write(self, truth: Truth) -> str:
        return str(truth)

    def claim(self, truth: Truth) -> str:
        return str(truth)

    def option(self, truth: Truth) -> str:
        return str(truth)

    def verification(self, parsed: str, truth: Truth) -> tuple[str, str]:
        return str(truth), parsed

    def pool(self, items: list[Item]) -> Pool:
        """Truths in words: the false claims of another truth in words."""
        words = {str(item.truth) for item in items if _is_word(str(item.truth))}
        return Pool(names=tuple(sorted(words)))

    def false_claims(self, item: Item, pool: Pool, rng: random.Random, n: int, apart: bool = False) -> list[Truth]:
        """Plausible near values, each verified not equal to the truth (and to each other with ``apart``)."""
        truth = str(item.truth)
        chosen: list[Truth] = []
        given = [clean(str(distractor)) for distractor in item.distractors]
        rng.shuffle(given)
        for candidate in (*given, *_near(truth, pool, rng)):
            if len(chosen) >= n:
                break
            # Unequal to each other as well for a single claim: two equal claims would be no choice at all.
            against = [truth, *(str(other) for other in chosen)] if apart else [truth]
            if candidate and not too_costly(candidate) and all(_differ(other, candidate) for other in against):
                chosen.append(candidate)
        return chosen

    def claim_kind(self, item: Item, claim: Truth, pool: Pool) -> str:
        if claim in {clean(str(distractor)) for distractor in item.distractors}:
            return "given by the row"
        truth = str(item.truth)
        if _LETTER.fullmatch(truth):
            return "another option letter"
        if _is_word(truth):
            return "another answer in words"
        return "near value" if plain_number(truth) is not None else "altered expression"


def _differ(truth: str, candidate: str) -> bool:
    """Verified unequal: a time-out or a failure is no proof."""
    return verify(truth, candidate, timeout=CLAIM_TIMEOUT) is Equality.DIFFERENT


def _is_word(truth: str) -> bool:
    return len(truth) > 1 and plain_number(truth) is None and normalised_text(truth).replace(" ", "").isalpha()


def _near(truth: str, pool: Pool, rng: random.Random) -> list[str]:
    """Candidates in random order of plausibility: not verified yet."""
    if _LETTER.fullmatch(truth):
        candidates = [letter for letter in "ABCD" if letter != truth]
        rng.shuffle(candidates)
        return candidates
    number = plain_number(truth)
    if number is not None:
        return _near_numbers(truth, number.value, rng)
    if _is_word(truth):
        opposite = _OPPOSITES.get(normalised_text(truth))
        others = [name for name in pool.names if normalised_text(name) != normalised_text(truth)]
        rng.shuffle(others)
        return [opposite] if opposite else others
    return _near_expressions(truth, rng)


def _near_numbers(truth: str, value: Fraction, rng: random.Random) -> list[str]:
    """Values a slip gives: off by one or two, by ten, doubled, halved; written as the truth is written."""
    if value.denominator == 1 and "." not in truth and "/" not in truth and "frac" not in truth:
        steps = [1, -1, 2, -2, 3, -3]
        if abs(value) >= 20:
            steps += [10, -10, 5, -5]
        candidates = [value + step for step in steps]
        if abs(value) >= 4:
            candidates += [value * 2, value / 2]
        rng.shuffle(candidates)
        # A count is never negative, so a negative option would give itself away.
        allowed = [c for c in candidates if c.denominator == 1 and (value < 0 or c >= 0)]
        return [_like(truth, str(c)) for c in allowed]
    if "/" in truth or "frac" in truth:
        return _near_expressions(truth, rng)
    digits = len(truth.rstrip("%\\ ").rpartition(".")[2])
    unit = Fraction(1, 10**digits)
    scale = max(unit, Fraction(round(abs(value) / 10 / unit)) * unit)
    candidates = [value + factor * scale for factor in (1, -1, 2, -2, 3, -3)] + [value * 2, value + unit, value - unit]
    rng.shuffle(candidates)
    return [_like(truth, f"{float(c):.{digits}f}") for c in candidates if value < 0 or c >= 0]


def _like(truth: str, text: str) -> str:
    return text + "%" if truth.endswith("%") else text


def _near_expressions(truth: str, rng: random.Random) -> list[str]:
    """The expression with one of its whole numbers off by a little; without a number, another relation or multiples."""
    found = list(_INTEGER.finditer(truth))
    if not found:
        turned = [truth.replace(sign, other, 1) for sign, other in _OTHER_SIGNS.items() if sign in truth]
        if turned:
            rng.shuffle(turned)
            return turned
        factors = [2, 3, 4, 5]
        rng.shuffle(factors)
        body = truth if re.fullmatch(r"\\?[A-Za-z]+|[π√]\S*", truth) else f"({truth})"
        return [f"{factor}{body}" for factor in factors]
    candidates: list[str] = []
    for number in found:
        value = int(number.group())
        others = sorted({value + 1, value + 2, value - 1, value + 3, value * 2} - {0, -1, value})
        candidates += [truth[: number.start()] + str(other) + truth[number.end() :] for other in others]
    rng.shuffle(candidates)
    return candidates


def _write_float(value: float) -> str:
    return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
