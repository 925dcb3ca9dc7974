"""What befell a run on its way, from its files alone: what it was gone on with, what it survived.

``status`` and the report tell the same of it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Faults:
    """What the run survived, counted over the steps that stand in the metrics."""

    failed_gradings: int  # completions without a score: a grader or a custom reward broke down
    timed_out_gradings: int
    failed_rewards: int  # breakdowns of custom rewards; those that are paid are failed gradings too
    out_of_memory: int  # back-offs to smaller micro-batches
    non_finite: int  # steps whose loss or gradient was not finite
    bad_rows_skipped: int | None  # none: the data is not read yet


@dataclass(frozen=True, kw_only=True)
class Changed:
    """What a resumed run was gone on with that was another when it began."""

    at: str  # ISO 8601, UTC
    changes: tuple[str, ...]  # each "what before -> now"
    after: int | None  # updates that had been made; none: not noted


def faults_of(steps: Sequence[Mapping[str, Any]], card: Mapping[str, Any] | None) -> Faults:
    """Of the rows of training in the metrics, and of the data card; none: it is not written yet."""
    # Of a step that was resampled, those of every round: what was replaced could not be graded either.
    graded = [_record(_record(row.get("resample") or row).get("statuses")) for row in steps]
    parts = [_record(part) for row in steps for part in _record(row.get("parts")).values()]
    return Faults(
        failed_gradings=sum(_count(statuses.get("grader_failed")) for statuses in graded),
        timed_out_gradings=sum(_count(statuses.get("timed_out")) for statuses in graded),
        failed_rewards=sum(_count(part.get("failed")) for part in parts),
        out_of_memory=sum(_count(row.get("out_of_memory")) for row in steps),
        non_finite=sum(row.get("loss", 0.0) is None or row.get("grad_norm", 0.0) is None for row in steps),
        bad_rows_skipped=None if card is None else _count(card.get("skipped_rows")),
    )


def extensions(run: Mapping[str, Any]) -> list[Changed]:
    """Every time that budgets grew, or models were added, when it was resumed. ``run``: the content of run.json."""
    return _changed(run.get("extended"))


def surroundings(run: Mapping[str, Any]) -> list[Changed]:
    """Every time that it was resumed with other versions of libraries, or another number of processes."""
    return _changed(run.get("resumed_with"))


def _changed(noted: Any) -> list[Changed]:
    return [
        Changed(at=str(each.get("at")), changes=tuple(map(str, each["changes"])), after=each.get("after"))
        for each in (noted if isinstance(noted, list) else ())
        if isinstance(_record(each).get("changes"), list)
    ]


def _record(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}  # a file that somebody wrote in


def _count(value: Any) -> int:
    return value if isinstance(value, int) else 0
