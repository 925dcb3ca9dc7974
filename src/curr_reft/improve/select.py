"""Which answers are kept: strictly above the threshold, of the right form, verified; best of N; quotas by domain.

Within its quota a domain keeps the highest totals, spread over the lengths of its answers when the recipe asks for
bands, and no more near-duplicates of one another than the recipe allows. What became of every candidate is counted.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from curr_reft.improve.alike import Likeness
from curr_reft.improve.config import SelfImprovementConfig
from curr_reft.improve.records import Candidate, Verdict
from curr_reft.rewards.grade import Status
from curr_reft.seeding import derive_seed
from curr_reft.train.learnable import SPECIAL_TEXT, TOO_LONG

REFUSED = ("no_verdict", "not_above", "bad_form", "not_verified", TOO_LONG, SPECIAL_TEXT)
FATES = ("kept", *REFUSED, "not_best", "alike", "over_quota")
"""What may become of a candidate, in the order in which it is asked; each has exactly one."""


@dataclass(frozen=True, kw_only=True)
class Kept:
    """One answer to learn from."""

    candidate: Candidate
    verdict: Verdict

    @property
    def total(self) -> float:
        assert self.verdict.total is not None, "what has no verdict is not kept"
        return self.verdict.total


@dataclass(frozen=True, kw_only=True)
class Selected:
    """What came of the candidates."""

    kept: list[Kept]
    fates: dict[str, str]  # candidate id -> one of FATES
    account: dict[str, Any]


def select(
    candidates: Sequence[Candidate],
    verdicts: Sequence[Verdict],
    config: SelfImprovementConfig,
    seed: int,
    unlearnable: Mapping[str, str] = MappingProxyType({}),
) -> Selected:
    """Every query gives at most its best answer, the first of equals. Among equal totals at a quota's edge the seed
    draws. ``unlearnable``: candidate id -> TOO_LONG or SPECIAL_TEXT, of answers that no training can read
    (``train/learnable.py``)."""
    fates: dict[str, str] = {}
    best: dict[str, Kept] = {}
    for candidate, verdict in zip(candidates, verdicts, strict=True):
        refused = _refused(candidate, verdict, config.threshold) or unlearnable.get(candidate.id)
        if refused is not None:
            fates[candidate.id] = refused
            continue
        entry = Kept(candidate=candidate, verdict=verdict)
        held = best.get(candidate.question.id)
        if held is None or entry.total > held.total:
            best[candidate.question.id] = entry
    kept: list[Kept] = []
    for domain, pool in config.pools.items():
        own = [entry for entry in best.values() if entry.candidate.question.domain == domain]
        taken = _within_quota(_in_order(own, config.selection.length_bands, seed), pool.quota, config, fates)
        kept += sorted(taken, key=lambda entry: _rank(entry, seed))
    fates |= {entry.candidate.id: "kept" for entry in kept}
    fates = {candidate.id: fates.get(candidate.id, "not_best") for candidate in candidates}
    return Selected(kept=kept, fates=fates, account=_account(candidates, verdicts, fates, config))


def _refused(candidate: Candidate, verdict: Verdict, threshold: float) -> str | None:
    """Why an answer is not even considered. Where a truth exists, verification is above the judge: a wrong answer is
    never kept, and neither is one whose grading broke down."""
    if verdict.total is None:
        return "no_verdict"
    if verdict.total <= threshold:
        return "not_above"
    if candidate.grade.format != 1:
        return "bad_form"
    if candidate.grade.correct is not True and candidate.grade.status is not Status.NO_TRUTH:
        return "not_verified"
    return None


def _rank(entry: Kept, seed: int) -> tuple[float, int]:
    return -entry.total, derive_seed(seed, "quota", entry.candidate.question.id)


def _in_order(entries: Sequence[Kept], bands: int, seed: int) -> list[Kept]:
    """The best first; with several bands of length (equally many answers each) the best of each band in turns."""
    ranked = sorted(entries, key=lambda entry: _rank(entry, seed))
    by_length = sorted(ranked, key=lambda entry: words(entry.candidate.completion))
    place_of = {id(entry): place * bands // len(by_length) for place, entry in enumerate(by_length)}
    waiting: list[list[Kept]] = [[entry for entry in ranked if place_of[id(entry)] == band] for band in range(bands)]
    order = []
    while any(waiting):
        order += [band.pop(0) for band in waiting if band]
    return order


def _within_quota(
    entries: Sequence[Kept], quota: int, config: SelfImprovementConfig, fates: dict[str, str]
) -> list[Kept]:
    """The first ``quota`` of them; of long answers that are near-duplicates of each other only as many as allowed."""
    most, least_words = config.selection.most_alike, config.selection.alike_words
    taken: list[Kept] = []
    long: list[Likeness] = []
    for entry in entries:
        if len(taken) == quota:
            fates[entry.candidate.id] = "over_quota"
            continue
        likeness = Likeness.of(entry.candidate.completion)
        if most is not None and likeness.words >= least_words:
            if sum(likeness.same_as(other) for other in long) >= most:
                fates[entry.candidate.id] = "alike"
                continue
            long.append(likeness)
        taken.append(entry)
    return taken


def words(completion: str) -> int:
    """The length of an answer, in words."""
    return len(completion.split())


def _account(
    candidates: Sequence[Candidate],
    verdicts: Sequence[Verdict],
    fates: Mapping[str, str],
    config: SelfImprovementConfig,
) -> dict[str, Any]:
    """Counts that add up: the fates of a domain's candidates are all of its candidates."""
    domains = {}
    for domain, pool in config.pools.items():
        own = [candidate for candidate in candidates if candidate.question.domain == domain]
        counts = Counter(fates[candidate.id] for candidate in own)
        passed = [candidate for candidate in own if fates[candidate.id] not in REFUSED]
        kept = [candidate for candidate in own if fates[candidate.id] == "kept"]
        domains[domain] = {
            "queries": pool.queries,
            "candidates": len(own),
            "above": len(passed),
            "queries_answered": len({candidate.question.id for candidate in passed}),
            "kept": len(kept),
            "quota": pool.quota,
            "short": max(0, pool.quota - len(kept)),
            "fates": {fate: counts[fate] for fate in FATES},
            "words_above": _quantiles(passed),
            "words_kept": _quantiles(kept),
        }
    return {
        "queries": sum(pool.queries for pool in config.pools.values()),
        "candidates": len(candidates),
        "kept": sum(domain["kept"] for domain in domains.values()),
        "threshold": config.threshold,
        "judge": config.judge.kind,
        "failed_verdicts": sum(verdict.failure is not None for verdict in verdicts),
        "by_domain": domains,
    }


def _quantiles(candidates: Sequence[Candidate]) -> list[float]:
    """Shortest, lower quartile, median, upper quartile, longest, in words; empty without answers."""
    lengths = [words(candidate.completion) for candidate in candidates]
    return [float(value) for value in np.quantile(lengths, (0, 0.25, 0.5, 0.75, 1))] if lengths else []


def told_short(account: Mapping[str, Any]) -> list[str]:
    """A line for each domain that kept less than its quota: what was short, and where the answers went."""
    words_of = {fate: fate.replace("_", " ") for fate in FATES}
    words_of |= {"not_above": f"not above {account['threshold']:g}", "not_best": "not the best of their query"}
    words_of |= {TOO_LONG: "longer than sft.max_length", SPECIAL_TEXT: "with text that stands for something else"}
    lines = []
    for domain, counts in account["by_domain"].items():
        if not counts["short"]:
            continue
        lost = ", ".join(f"{n} {words_of[fate]}" for fate, n in counts["fates"].items() if n and fate != "kept")
        lines.append(
            f"{domain}: {counts['kept']} of {counts['quota']} kept, {counts['short']} short; "
            f"{counts['queries_answered']} of {counts['queries']} queries have an answer that passes; "
            f"of {counts['candidates']} answers {lost or 'none was lost'}"
        )
    return lines
