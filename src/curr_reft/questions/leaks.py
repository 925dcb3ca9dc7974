"""No picture and no text-only question stands in two splits. (The reference code trains on its own math test file.)

A picture is the same when its key is (the bytes of the file, the content of a drawn scene) or, among files, when the
pixels are those of a copy (``data/copies.py``). The same question with the same truth about another picture is no
leak ("how many circles are there?"); the card counts it.
"""

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from curr_reft.console import progress
from curr_reft.data.copies import MOST, verified_copies
from curr_reft.data.item import ImageSource, Item
from curr_reft.errors import DataError
from curr_reft.questions.survey import Survey, number_of

SHOWN = 10  # pairs named in a message and in the card; all are in the error's ``problems``
RANKS = {"train": 0, "validation": 1, "pool": 2}
"""What is learned from or chooses checkpoints, in this order; every other split is a test. An item leaks when it stands
in a split of lower rank too. Tests may share pictures with each other."""
WORTH = {"pool": 0, "train": 1, "validation": 2}
"""What is rather left out, where leaks are not refused: of items that share a picture those in the split of highest
worth stay, which is a test wherever there is one. A test never loses an item."""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two items that share what they may not."""

    first: str  # file:line of the one that stays, stands in the split of lower rank, or earlier in the same one
    first_split: str
    second: str
    second_split: str
    reason: str

    def to_dict(self) -> dict[str, str]:
        return dict(vars(self))


@dataclass(frozen=True, kw_only=True)
class Repeats:
    """What repeats in the items of a recipe."""

    leaks: tuple[Pair, ...]
    duplicates: tuple[Pair, ...]  # the same task, pictures and question twice in one split
    same_question: int  # items whose question and truth also stand in a split of lower rank, on another picture
    dispensable: Mapping[int, Pair]  # place of an item -> the item that stays; without them nothing leaks
    cut_short: int = 0  # pictures that were not compared with all that resemble them: their copies may be missing

    def shortfall(self) -> str | None:
        """What the search for copies may have missed; None if nothing."""
        if not self.cut_short:
            return None
        return (
            f"{self.cut_short} picture(s) resemble more than {MOST} others and were compared with {MOST} of them: a "
            "copy of one under other bytes may be in two splits. Keep pictures of one scene in one split"
        )

    def refuse_leaks(self) -> None:
        """Raises DataError with every leak in ``problems``."""
        if not self.leaks:
            return
        problems = tuple((pair.second, _told(pair)) for pair in self.leaks)
        listed = "".join(f"\n  {source}: {reason}" for source, reason in problems[:SHOWN])
        more = f"\n  ... and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
        raise DataError(
            problems[0][0],
            f"{len(problems)} item(s) leak between splits, which would make every test result worthless:{listed}{more}"
            "\nRemove them from one of the splits, or set data.leaking_rows: skip to leave them out of what is learned "
            "from; curr-reft data build writes all pairs to leaks.jsonl",
            problems,
        )


def _told(pair: Pair) -> str:
    return f"{pair.reason} {pair.first} (split {pair.first_split})"


def check_ids(survey: Survey, items: Iterable[Item]) -> None:
    """Raises DataError for unknown tasks and for ids that stand twice, whatever their splits: an id carries all forms
    of an item, so it may be in one split only."""
    problems = list(survey.unknown)
    twice = {survey.ids[found[0]] for found in _groups(np.asarray(survey.ids, dtype=np.uint64))}
    if twice:
        seen: dict[str, str] = {}
        for item in items:
            if number_of(item.id) not in twice:
                continue
            source = item.source or item.id
            if item.id in seen:
                problems.append(
                    (source, f"id {item.id!r} is also that of {seen[item.id]}; ids are unique over all splits")
                )
            seen.setdefault(item.id, item.source or "another row")
    if problems:
        raise DataError(*problems[0], tuple(problems))


def find_repeats(survey: Survey, items: Iterable[Item]) -> Repeats:
    """Reads ``items`` again only where something repeats. Raises DataError for an image that cannot be opened."""
    copies, cut_short = _copies(survey, items)
    exact_N = np.asarray(survey.pictures, dtype=np.uint64)
    pictures_N = exact_N.copy()
    for place in np.flatnonzero(np.isin(exact_N, np.array([*copies], dtype=np.uint64))).tolist():
        pictures_N[place] = copies[int(exact_N[place])]
    ends_N = np.asarray(survey.picture_end, dtype=np.int64)
    owners_N = np.repeat(np.arange(len(ends_N)), np.diff(ends_N, prepend=0))
    leaks: dict[int, tuple[int, str]] = {}
    dispensable: dict[int, tuple[int, str]] = {}
    # Equal bytes first: an item that repeats a file is named with that file, not with another copy of the picture.
    for keys_N, also in ((exact_N, "also"), (pictures_N, "also, in other bytes,")):
        for found in _groups(keys_N):
            places = sorted(set(owners_N[found].tolist()))
            for kept, place in _dispensable(survey, places):
                dispensable.setdefault(place, (kept, f"its image is {also} in"))
            for first, second in _leaking(survey, places):
                same = survey.questions[first] == survey.questions[second]
                leaks.setdefault(second, (first, f"its {'image and question are' if same else 'image is'} {also} in"))
    for found in _groups(np.asarray(survey.questions, dtype=np.uint64)):
        text_only = [place for place in found.tolist() if not survey.pictures_of(place)]
        for kept, place in _dispensable(survey, text_only):
            dispensable.setdefault(place, (kept, "its question is also in"))
        for first, second in _leaking(survey, text_only):
            leaks.setdefault(second, (first, "its question is also in"))
    same_question: set[int] = set()
    for found in _groups(np.asarray(survey.answers, dtype=np.uint64)):
        same_question.update(second for _, second in _leaking(survey, found.tolist()) if second not in leaks)
    duplicates: dict[int, tuple[int, str]] = {}
    whole = array("Q")
    for place, end in enumerate(ends_N.tolist()):
        start = int(ends_N[place - 1]) if place else 0
        shown = sorted(pictures_N[start:end].tolist())
        whole.append(number_of(survey.split_of[place], survey.asked[place], *shown))
    for found in _groups(np.asarray(whole, dtype=np.uint64)):
        first, *others = found.tolist()
        duplicates.update(dict.fromkeys(others, (first, "repeats")))
    named = _named(survey, items, (leaks, duplicates, dispensable))
    return Repeats(
        leaks=tuple(named[0].values()),
        duplicates=tuple(named[1].values()),
        same_question=len(same_question),
        dispensable=named[2],
        cut_short=cut_short,
    )


def _leaking(survey: Survey, places: Sequence[int]) -> Iterator[tuple[int, int]]:
    """(place in the split of lowest rank, place of an item that leaks), one pair for every item that does."""
    ranks = {place: RANKS.get(survey.splits[survey.split_of[place]], len(RANKS)) for place in places}
    first = min(places, key=lambda place: (ranks[place], place), default=0)
    return ((first, place) for place in places if ranks[place] > ranks[first])


def _dispensable(survey: Survey, places: Sequence[int]) -> Iterator[tuple[int, int]]:
    """(place of an item that stays, place of one that would not leak if it were gone), one pair for every such item."""
    worths = {place: WORTH.get(survey.splits[survey.split_of[place]], len(WORTH)) for place in places}
    kept = max(places, key=lambda place: (worths[place], -place), default=0)
    return ((kept, place) for place in places if worths[place] < worths[kept])


def _groups(keys_N: np.ndarray) -> Iterator[np.ndarray]:
    """The places of each key that stands more than once, in order."""
    order = np.argsort(keys_N, kind="stable")
    starts = np.flatnonzero(np.diff(keys_N[order], prepend=~keys_N[order[:1]]))
    counts = np.diff(starts, append=len(order))
    return (order[start : start + count] for start, count in zip(starts[counts > 1], counts[counts > 1], strict=True))


def _copies(survey: Survey, items: Iterable[Item]) -> tuple[dict[int, int], int]:
    """(key of a picture -> key of the first one that it is a copy of, pictures whose search was cut short). Only
    candidates are compared."""

    def pictures() -> Iterator[tuple[int, ImageSource]]:
        return ((number_of(image.key), image) for item in items for image in item.images)

    with progress("comparing pictures", len(survey.prints)) as advance:
        copies = verified_copies(survey.printed, survey.prints, pictures, advance)
    return {second: first for first, second in copies.pairs}, copies.cut_short


def _named(
    survey: Survey, items: Iterable[Item], found: Sequence[Mapping[int, tuple[int, str]]]
) -> list[dict[int, Pair]]:
    """Places become sources, by one more pass over the items if there is anything to name."""
    wanted = {place for pairs in found for second, (first, _) in pairs.items() for place in (first, second)}
    sources = {place: item.source or item.id for place, item in enumerate(items) if place in wanted} if wanted else {}
    return [
        {
            second: Pair(
                first=sources[first],
                first_split=survey.splits[survey.split_of[first]],
                second=sources[second],
                second_split=survey.splits[survey.split_of[second]],
                reason=reason,
            )
            for second, (first, reason) in sorted(pairs.items())
        }
        for pairs in found
    ]
