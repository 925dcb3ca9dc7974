"""Who scores the answers. A judge takes candidates and gives each a verdict or says why there is none."""

from collections import Counter
from collections.abc import Callable, Sequence

from curr_reft.errors import JudgeError
from curr_reft.improve.config import JudgeConfig
from curr_reft.improve.judges.base import RETRY, Judge, Judged, Workplace
from curr_reft.improve.judges.endpoint import EndpointJudge, require_key
from curr_reft.improve.judges.local import LocalJudge
from curr_reft.improve.judges.own import OwnJudge, load_judge
from curr_reft.improve.judges.rules import RulesJudge
from curr_reft.improve.records import CRITERIA, Candidate, Verdict
from curr_reft.improve.reply import quoted
from curr_reft.improve.rubric import load_rubric

__all__ = ["JUDGES", "Judge", "Judged", "Workplace", "judge_all", "require_judge", "require_verdicts"]

JUDGES: dict[str, Callable[[JudgeConfig, Workplace], Judge]] = {
    "rules": lambda config, workplace: RulesJudge(),
    "endpoint": EndpointJudge,
    "local": LocalJudge,
    "own": OwnJudge,
}
"""A new judge is one file and one line here."""


def require_judge(config: JudgeConfig) -> None:
    """What can be known before anything is sampled: the rubric is there, so is the key, the client is installed.

    Raises UsageError.
    """
    if config.kind in ("endpoint", "local"):
        load_rubric(config.rubric)
    if config.kind == "own":
        load_judge(config)
    if config.endpoint is not None and config.kind == "endpoint":
        require_key(config.endpoint)


def judge_all(config: JudgeConfig, candidates: Sequence[Candidate], workplace: Workplace) -> Judged:
    """The verdicts of the recipe's judge.

    Raises UsageError for a judge that cannot begin, JudgeError when it stops or breaks its contract.
    """
    judge = JUDGES[config.kind](config, workplace)
    verdicts = judge.judge(candidates)
    if [verdict.candidate_id for verdict in verdicts] != [candidate.id for candidate in candidates]:
        raise JudgeError(f"judge {judge.name} did not return one verdict for each candidate, in order")
    for verdict in verdicts:
        _check(judge.name, verdict)
    failures = Counter(verdict.failure.split(":")[0] for verdict in verdicts if verdict.failure is not None)
    account = {
        "judge": judge.name,
        "candidates": len(candidates),
        "verdicts": sum(verdict.failure is None for verdict in verdicts),
        "failures": dict(sorted(failures.items())),
        **judge.account(),
    }
    return Judged(verdicts=tuple(verdicts), account=account)


def require_verdicts(judged: Judged) -> None:
    """Raise JudgeError where a judge that is asked gave no verdict at all: nothing can be selected by that, and the
    judge is wrong rather than the answers. Rules depend on the data alone, and are no judge to correct."""
    failed = [verdict for verdict in judged.verdicts if verdict.failure is not None]
    if judged.account["judge"] == RulesJudge.name or not failed or len(failed) < len(judged.verdicts):
        return
    first = next((verdict for verdict in failed if verdict.reply), failed[0])
    raise JudgeError(
        f"none of {len(failed)} answers got a verdict of the judge {judged.account['judge']} ({first.failure})."
        + (f" The first reply: {quoted(first.reply)}." if first.reply else "")
        + f" What was judged is kept; {RETRY}"
    )


def _check(name: str, verdict: Verdict) -> None:
    if verdict.failure is not None:
        if not isinstance(verdict.failure, str):
            raise JudgeError(
                f"judge {name}: the failure of {verdict.candidate_id} is {verdict.failure!r}; write why in words, "
                "as 'kind: what was found'"
            )
        return
    numbers = {**verdict.scores, "total": verdict.total}
    strange = next((value for value in numbers.values() if not isinstance(value, int | float | None)), None)
    if strange is not None:
        raise JudgeError(
            f"judge {name} scored {verdict.candidate_id} by {strange!r} ({type(strange).__name__}); write plain "
            "numbers, as float(score)"
        )
    off = [key for key, value in numbers.items() if value is None or not 0 <= value <= 100]
    if off or set(verdict.scores) != set(CRITERIA):
        raise JudgeError(f"judge {name} scored {verdict.candidate_id} off the scale 0 to 100: {numbers}")
