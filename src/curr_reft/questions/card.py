"""The card of compiled question sets: what was made, how balanced it is, what was left out and why."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from curr_reft.questions.question import Question

TOTAL = "total"


@dataclass(frozen=True, kw_only=True)
class SplitCard:
    """The counts of one split. Keys of the mappings are tuples, given in the comments."""

    items: Mapping[str, int] = field(default_factory=dict)  # task
    questions: Mapping[tuple[str, str], int] = field(default_factory=dict)  # task, form
    decisions: Mapping[tuple[str, str], int] = field(default_factory=dict)  # task, "yes" or "no"
    letters: Mapping[tuple[str, str], int] = field(default_factory=dict)  # task, letter: how often it is right
    right_letters: Mapping[tuple[str, str], int] = field(default_factory=dict)  # task, number of right letters
    skipped: Mapping[tuple[str, str, str], int] = field(default_factory=dict)  # task, form, reason
    duplicates: int = 0  # items that repeat the images and question of another one

    def to_dict(self) -> dict[str, Any]:
        return {
            "items": dict(sorted(self.items.items())),
            "questions": _nested(self.questions),
            "decisions": _nested(self.decisions),
            "letters": _nested(self.letters),
            "right_letters": _nested(self.right_letters),
            "skipped": _nested(self.skipped),
            "duplicates": self.duplicates,
        }


@dataclass(frozen=True, kw_only=True)
class Card:
    """One ``SplitCard`` per split, and the total. Leaks stop the build, so a card always stands for none."""

    splits: Mapping[str, SplitCard]
    total: SplitCard
    seed: int
    style: str
    leaks: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON: ``{"seed", "style", "leaks", "splits": {name: {...}}, "total": {...}}``."""
        return {
            "seed": self.seed,
            "style": self.style,
            "leaks": self.leaks,
            "splits": {name: card.to_dict() for name, card in sorted(self.splits.items())},
            "total": self.total.to_dict(),
        }


def split_card(
    tasks: Iterable[str], questions: Iterable[Question], skipped: Iterable[tuple[str, str, str]], duplicates: int
) -> SplitCard:
    """Counts questions; ``tasks`` holds the task of every item, ``skipped`` a (task, form, reason) per question."""
    counted: Counter[tuple[str, str]] = Counter()
    decisions: Counter[tuple[str, str]] = Counter()
    letters: Counter[tuple[str, str]] = Counter()
    right: Counter[tuple[str, str]] = Counter()
    for question in questions:
        counted[question.task, question.form] += 1
        if isinstance(question.truth, bool):
            decisions[question.task, "yes" if question.truth else "no"] += 1
        elif isinstance(question.truth, frozenset):
            letters.update((question.task, letter) for letter in question.truth)
            right[question.task, str(len(question.truth))] += 1
    return SplitCard(
        items=Counter(tasks),
        questions=counted,
        decisions=decisions,
        letters=letters,
        right_letters=right,
        skipped=Counter(skipped),
        duplicates=duplicates,
    )


def total_card(cards: Iterable[SplitCard]) -> SplitCard:
    """The sum over splits."""
    sums: dict[str, Counter[Any]] = {
        name: Counter() for name in ("items", "questions", "decisions", "letters", "right_letters", "skipped")
    }
    duplicates = 0
    for card in cards:
        duplicates += card.duplicates
        for name, total in sums.items():
            total.update(getattr(card, name))
    return SplitCard(**sums, duplicates=duplicates)


def _nested(counts: Mapping[Any, int]) -> dict[str, Any]:
    """``{("math", "open"): 3}`` becomes ``{"math": {"open": 3}}``."""
    tree: dict[str, Any] = {}
    for keys, count in sorted(counts.items()):
        branch = tree
        for key in keys[:-1]:
            branch = branch.setdefault(key, {})
        branch[keys[-1]] = count
    return tree
