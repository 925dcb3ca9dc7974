"""Which answers are kept: strictly above the threshold, of the right form, verified; best of N; quotas by domain."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from curr_reft.improve.config import SelfImprovementConfig
from curr_reft.improve.records import Candidate, Verdict
from curr_reft.seeding import derive_seed


@dataclass(frozen=True, kw_only=True)
class Kept:
    """One answer to learn from."""

    candidate: Candidate
    verdict: Verdict

    def to_dict(self) -> dict[str, Any]:
        question = self.candidate.question
        return {
            "id": question.id,
            "domain": question.domain,
            "task": question.task,
            "prompt": question.prompt,
            "completion": self.candidate.completion,
            "scores": {**self.verdict.scores, "total": self.verdict.total},
        }


def select(
    candidates: Sequence[Candidate], verdicts: Sequence[Verdict], config: SelfImprovementConfig, seed: int
) -> tuple[list[Kept], dict[str, Any]]:
    """(what is kept, the account of it). Every query gives at most its best answer.

    Over its quota a domain keeps the highest totals; equal ones in an order drawn by the seed.
    """
    best: dict[str, Kept] = {}
    above: dict[str, int] = dict.fromkeys(config.pools, 0)
    for candidate, verdict in zip(candidates, verdicts, strict=True):
        if not _passes(candidate, verdict, config.threshold):
            continue
        above[candidate.question.domain] += 1
        held = best.get(candidate.question.id)
        if held is None or (verdict.total or 0) > (held.verdict.total or 0):
            best[candidate.question.id] = Kept(candidate=candidate, verdict=verdict)
    kept: list[Kept] = []
    for domain, pool in config.pools.items():
        own = [entry for entry in best.values() if entry.candidate.question.domain == domain]
        own.sort(
            key=lambda entry: (-(entry.verdict.total or 0), derive_seed(seed, "quota", entry.candidate.question.id))
        )
        kept += own[: pool.quota]
    return kept, _account(candidates, verdicts, kept, above, config)


def _passes(candidate: Candidate, verdict: Verdict, threshold: float) -> bool:
    """Where a truth exists, verification is above the judge: a wrong answer is never kept."""
    if verdict.total is None or verdict.total <= threshold:
        return False
    return candidate.grade.format == 1 and candidate.grade.correct is True


def _account(
    candidates: Sequence[Candidate],
    verdicts: Sequence[Verdict],
    kept: Sequence[Kept],
    above: Mapping[str, int],
    config: SelfImprovementConfig,
) -> dict[str, Any]:
    domains = {}
    for domain, pool in config.pools.items():
        own = sum(candidate.question.domain == domain for candidate in candidates)
        count = sum(entry.candidate.question.domain == domain for entry in kept)
        domains[domain] = {
            "queries": pool.queries,
            "candidates": own,
            "above": above[domain],
            "kept": count,
            "quota": pool.quota,
            "short": max(0, pool.quota - count),
        }
    return {
        "queries": sum(pool.queries for pool in config.pools.values()),
        "candidates": len(candidates),
        "kept": len(kept),
        "threshold": config.threshold,
        "judge": config.judge.kind,
        "failed_verdicts": sum(verdict.failure is not None for verdict in verdicts),
        "by_domain": domains,
    }
