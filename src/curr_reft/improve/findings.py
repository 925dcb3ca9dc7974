"""What there is to see in judged candidates: how scores spread, the judge beside the truth, kept beside rejected."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from curr_reft.improve.records import CRITERIA, Candidate, Verdict
from curr_reft.improve.select import Kept, Selected

BINS = 10  # of the scale 0 to 100; 100 itself is in the last
EXAMPLES = 8


def findings(candidates: Sequence[Candidate], verdicts: Sequence[Verdict], selected: Selected) -> dict[str, Any]:
    """For the account of the phase: plain data."""
    return {
        "histograms": histograms(verdicts),
        "against_truth": against_truth(candidates, verdicts, selected.account["threshold"]),
        "examples": examples(candidates, verdicts, selected),
    }


def histograms(verdicts: Sequence[Verdict]) -> dict[str, list[int]]:
    """Criterion, and the total -> verdicts in each tenth of the scale. Failures are in none."""
    counts = {name: [0] * BINS for name in (*CRITERIA, "total")}
    for verdict in verdicts:
        if verdict.total is None:
            continue
        for name, value in {**verdict.scores, "total": verdict.total}.items():
            counts[name][min(int(value * BINS / 100), BINS - 1)] += 1
    return counts


def against_truth(
    candidates: Sequence[Candidate], verdicts: Sequence[Verdict], threshold: float
) -> dict[str, dict[str, int]]:
    """Where both are known: above the threshold or not -> verified right or wrong; and how many have no truth."""
    counts = {"above": {"right": 0, "wrong": 0}, "not_above": {"right": 0, "wrong": 0}, "unknown": {"answers": 0}}
    for candidate, verdict in zip(candidates, verdicts, strict=True):
        if verdict.total is None or candidate.grade.correct is None:
            counts["unknown"]["answers"] += 1
            continue
        row = "above" if verdict.total > threshold else "not_above"
        counts[row]["right" if candidate.grade.correct else "wrong"] += 1
    return counts


def examples(
    candidates: Sequence[Candidate], verdicts: Sequence[Verdict], selected: Selected, limit: int = EXAMPLES
) -> list[dict[str, Any]]:
    """Kept answers beside the refused one of the same query with the lowest total, one without a verdict where no
    other is; domains in turns."""
    refused: dict[str, tuple[Candidate, Verdict]] = {}
    for candidate, verdict in zip(candidates, verdicts, strict=True):
        if selected.fates[candidate.id] in ("kept", "not_best"):
            continue
        held = refused.get(candidate.question.id)
        if held is None or _low(verdict) < _low(held[1]):
            refused[candidate.question.id] = candidate, verdict
    queues: dict[str, list[Kept]] = {}
    for entry in selected.kept:
        if entry.candidate.question.id in refused:
            queues.setdefault(entry.candidate.question.domain, []).append(entry)
    picked: list[Kept] = []
    while len(picked) < limit and any(queues.values()):
        picked += [queue.pop(0) for queue in queues.values() if queue]
    return [
        {
            "domain": entry.candidate.question.domain,
            "prompt": entry.candidate.question.prompt,
            "kept": _answer(entry.candidate, entry.verdict, selected.fates),
            "refused": _answer(*refused[entry.candidate.question.id], selected.fates),
        }
        for entry in picked[:limit]
    ]


def _low(verdict: Verdict) -> float:
    return math.inf if verdict.total is None else verdict.total


def _answer(candidate: Candidate, verdict: Verdict, fates: Mapping[str, str]) -> dict[str, Any]:
    return {
        "completion": candidate.completion,
        "fate": fates[candidate.id],
        "total": verdict.total,
        "scores": dict(verdict.scores),
        "failure": verdict.failure,
    }
