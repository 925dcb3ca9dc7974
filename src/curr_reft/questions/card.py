"""The card of compiled question sets: what was made, how balanced it is, what was left out and why."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from curr_reft.questions.leaks import SHOWN, Pair, Repeats
from curr_reft.questions.question import Question
from curr_reft.questions.survey import Survey
from curr_reft.tasks.letters import letter_of

QUANTILES = {"min": 0.0, "5%": 0.05, "median": 0.5, "95%": 0.95, "max": 1.0}


@dataclass(kw_only=True)
class SplitCard:
    """Counts of one split, while questions are added to it. What the keys hold stands in the comments."""

    items: Counter[str] = field(default_factory=Counter)  # task
    questions: Counter[tuple[str, str]] = field(default_factory=Counter)  # task, form
    decisions: Counter[tuple[str, str]] = field(default_factory=Counter)  # task, "yes" or "no"
    letters: Counter[tuple[str, str]] = field(default_factory=Counter)  # task, letter: how often it is right
    own_letters: Counter[tuple[str, str]] = field(default_factory=Counter)  # the same where the row lists its options
    right_letters: Counter[tuple[str, str]] = field(default_factory=Counter)  # task, number of right letters
    claims: Counter[tuple[str, str, str]] = field(default_factory=Counter)  # task, form, kind of a false claim
    skipped: Counter[tuple[str, str, str]] = field(default_factory=Counter)  # task, form, reason
    duplicates: int = 0  # items that repeat the task, pictures and question of an earlier one

    def add(self, question: Question) -> None:
        task = question.task
        self.questions[task, question.form] += 1
        self.claims.update((task, question.form, kind) for kind in question.wrong_kinds)
        if isinstance(question.truth, bool):
            self.decisions[task, "yes" if question.truth else "no"] += 1
        elif isinstance(question.truth, frozenset):
            letters = self.letters if question.options else self.own_letters
            letters.update({(task, letter_of(place)): 0 for place in range(len(question.options))})
            letters.update((task, letter) for letter in question.truth)
            self.right_letters[task, str(len(question.truth))] += 1

    def include(self, other: "SplitCard") -> None:
        """Adds the counts of another split."""
        for name, counts in vars(other).items():
            if isinstance(counts, Counter):
                getattr(self, name).update(counts)
        self.duplicates += other.duplicates

    def to_dict(self) -> dict[str, Any]:
        return {
            "items": dict(sorted(self.items.items())),
            "questions": _nested(self.questions),
            "decisions": _nested(self.decisions),
            "letters": _nested(self.letters),
            "own_letters": _nested(self.own_letters),
            "right_letters": _nested(self.right_letters),
            "balance": {"yes_off": self.yes_off(), "letters_off": self.letters_off()},
            "claims": _nested(self.claims),
            "skipped": _nested(self.skipped),
            "duplicates": self.duplicates,
        }

    def yes_off(self) -> dict[str, float]:
        """Task -> how far the share of yes is from one half."""
        return {
            task: abs(counts.get("yes", 0) / sum(counts.values()) - 0.5)
            for task, counts in _nested(self.decisions).items()
        }

    def letters_off(self) -> dict[str, float]:
        """Task -> how far the share of a letter among all right ones is from equal shares, at most. Only letters that
        were dealt count, not those of rows that list their options themselves."""
        return {
            task: max(abs(count / sum(counts.values()) - 1 / len(counts)) for count in counts.values())
            for task, counts in _nested(self.letters).items()
        }


@dataclass(frozen=True, kw_only=True)
class Card:
    """One ``SplitCard`` per split, and what holds for all."""

    splits: Mapping[str, SplitCard]
    seed: int
    style: str
    frame: str  # what boxes are written in: pixels (of the image as shown), thousand, unit
    pictures: Mapping[str, Any]  # split -> number, width, height, aspect
    repeats: Repeats
    left_out: tuple[Pair, ...] = ()  # items that leaked (second), each with one that stayed

    @property
    def total(self) -> SplitCard:
        """The sum over splits."""
        total = SplitCard()
        for card in self.splits.values():
            total.include(card)
        return total

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {
            "seed": self.seed,
            "style": self.style,
            "frame": self.frame,
            "leaks": len(self.repeats.leaks),
            **({"cut_short": self.repeats.cut_short} if self.repeats.cut_short else {}),
            "left_out": dict(sorted(Counter(pair.second_split for pair in self.left_out).items())),
            "left_out_first": [pair.to_dict() for pair in self.left_out[:SHOWN]],
            "same_question_and_truth": self.repeats.same_question,
            "duplicates_first": [pair.to_dict() for pair in self.repeats.duplicates[:SHOWN]],
            "pictures": dict(self.pictures),
            "splits": {name: card.to_dict() for name, card in sorted(self.splits.items())},
            "total": self.total.to_dict(),
        }


def picture_statistics(survey: Survey) -> dict[str, Any]:
    """Split -> how many pictures its items show, how many different ones, and quantiles of their width, height and
    aspect (width over height)."""
    size_N2 = np.asarray(survey.sizes, dtype=np.int64).reshape(-1, 2)
    key_N = np.asarray(survey.pictures, dtype=np.uint64)
    ends_N = np.asarray(survey.picture_end, dtype=np.int64)
    per_item = np.diff(ends_N, prepend=np.int64(0))
    split_N = np.repeat(np.asarray(survey.split_of, dtype=np.int64), per_item)
    statistics: dict[str, Any] = {}
    for number, split in enumerate(survey.splits):
        own = split_N == number
        if not own.any():
            continue
        width_N, height_N = size_N2[own].T
        measured = {"width": width_N, "height": height_N, "aspect": width_N / height_N}
        statistics[split] = {"shown": int(own.sum()), "different": len(np.unique(key_N[own]))} | {
            name: {label: round(float(np.quantile(values, at)), 3) for label, at in QUANTILES.items()}
            for name, values in measured.items()
        }
    return statistics


def _nested(counts: Mapping[Any, int]) -> dict[str, Any]:
    """``{("math", "open"): 3}`` becomes ``{"math": {"open": 3}}``."""
    tree: dict[str, Any] = {}
    for keys, count in sorted(counts.items()):
        branch = tree
        for key in keys[:-1]:
            branch = branch.setdefault(key, {})
        branch[keys[-1]] = count
    return tree
