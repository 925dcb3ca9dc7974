"""The transparent judge: scores an answer by rules that anyone can read. It needs a truth for each query.

accuracy: 100 if the answer is verified right, else 0. logic: the share of the answer's words and numbers that the
think block names: an answer that its own reasoning does not mention was not reasoned. format: 100 for the exact form.
fluency: 100, less what is repeated; 0 for a cut answer or one beyond ``MOST_WORDS``. The total is the mean of the four,
so a verified answer without reasons (at most 75) does not pass the paper's threshold of 85, and neither does a wrong
one.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from curr_reft.improve.records import CRITERIA, Candidate, Verdict
from curr_reft.rewards.format import answer_block
from curr_reft.rewards.grade import Status

MOST_WORDS = 400
RUN = 4  # words in a row that count as repeated when they come again
_THINK = re.compile(r"<think>(.*?)</think>", re.DOTALL)
_WORD = re.compile(r"\w+")
_KEYS = {"bbox_2d", "bbox", "box"}  # names of fields, not content


class RulesJudge:
    """Implements ``judges.Judge``."""

    name = "rules"

    def judge(self, candidates: Sequence[Candidate]) -> list[Verdict]:
        return [self._verdict(candidate) for candidate in candidates]

    def account(self) -> Mapping[str, Any]:
        return {}

    def _verdict(self, candidate: Candidate) -> Verdict:
        if candidate.grade.status is Status.NO_TRUTH:
            failure = "no truth: rules give a verdict only where the answer can be verified"
            return Verdict(candidate_id=candidate.id, scores={}, total=None, failure=failure)
        if candidate.grade.correct is None:
            failure = f"no score: {candidate.grade.status} {candidate.grade.reason}".strip()
            return Verdict(candidate_id=candidate.id, scores={}, total=None, failure=failure)
        scores = {
            "accuracy": 100.0 * bool(candidate.grade.correct),
            "logic": 100.0 * consistency(candidate.completion),
            "format": 100.0 * candidate.grade.format,
            "fluency": 0.0 if candidate.truncated else 100.0 * fluency(candidate.completion),
        }
        return Verdict(
            candidate_id=candidate.id, scores=scores, total=sum(scores[name] for name in CRITERIA) / len(CRITERIA)
        )


def consistency(completion: str) -> float:
    """Share of the different words and numbers of the answer that stand in the think block; 0 without either block."""
    answer, think = answer_block(completion), _THINK.search(completion)
    if answer is None or think is None:
        return 0.0
    said = _words(think[1])
    content = _words(answer) - _KEYS
    return len(content & said) / len(content) if content else 0.0


def fluency(completion: str) -> float:
    """1 less the share of runs of four words that came before; 0 beyond ``MOST_WORDS`` words."""
    words = _WORD.findall(_THINK.sub(lambda match: match[1], completion.split("<answer>")[0]).lower())
    if len(words) > MOST_WORDS:
        return 0.0
    runs = [tuple(words[i : i + RUN]) for i in range(len(words) - RUN + 1)]
    return len(set(runs)) / len(runs) if runs else 1.0


def _words(text: str) -> set[str]:
    return set(_WORD.findall(text.lower()))
