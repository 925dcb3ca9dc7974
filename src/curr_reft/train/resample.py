"""Dynamic sampling: groups that agree in their outcome are replaced by other questions before the update.

A group whose completions are all right, or all wrong, has nothing to compare. DAPO (Yu et al., arXiv 2503.14476,
section 3.2) samples until a batch is full of groups that differ. Here the rounds are bounded, and every place of the
step keeps the last group it got, so that a step never starves and never runs for ever. What decides is the accuracy
alone: shaping tells completions apart in groups that have nothing to teach about the task.

What a step reports is another matter. Round 0 is what the sampler dealt, a fair draw; a mean over all rounds is not,
since it counts those kinds of questions more often whose groups agree. So metrics and gates read round 0.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from curr_reft.questions.question import Question
from curr_reft.rewards.custom import Logged
from curr_reft.train.config import ResampleConfig
from curr_reft.train.graded import GradedGroup, rollout_records

Replacement: TypeAlias = Callable[[Question], Question]
"""A question that was asked -> what is asked in its place."""


@dataclass(frozen=True, kw_only=True)
class Round:
    """One rollout of a step, graded; round 0 asks what the sampler dealt."""

    graded: tuple[GradedGroup, ...]
    logged: Logged
    seconds: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Sampled:
    """All rollouts of a step."""

    rounds: tuple[Round, ...]
    trained: tuple[GradedGroup, ...]  # one for each question that was dealt, in order

    @property
    def groups(self) -> list[GradedGroup]:
        """Of all rounds, in order."""
        return [group for each in self.rounds for group in each.graded]


def sample(
    ask: Callable[[Sequence[Question], int], Round],
    questions: Sequence[Question],
    config: ResampleConfig | None,
    replacement: Replacement | None,
) -> Sampled:
    """Ask ``questions``; then, as far as ``config`` allows, others in place of those whose group agrees.

    ``ask`` is told the questions and the number of the round.
    """
    rounds = [ask(questions, 0)]
    trained = list(rounds[0].graded)
    while config is not None and len(rounds) <= config.rounds:
        if sum(group.differs for group in trained) / len(trained) >= config.enough:
            break
        agreeing = [place for place, group in enumerate(trained) if not group.differs]
        assert replacement is not None
        rounds.append(ask([replacement(trained[place].question) for place in agreeing], len(rounds)))
        for place, group in zip(agreeing, rounds[-1].graded, strict=True):
            trained[place] = group
    return Sampled(rounds=tuple(rounds), trained=tuple(trained))


def resample_metrics(sampled: Sampled) -> dict[str, Any]:
    """Counts of groups, and what all completions earned; ``differ`` of those ``kept`` have something to compare.

    ``accuracy`` is the mean over every scored completion of every round: what the rollouts were like, replaced ones
    and replacements counted, and no estimate of how good the policy is.
    """
    groups, kept = sampled.groups, sampled.trained
    grades = [grade for group in groups for grade in group.grades_G]
    accuracies = [grade.accuracy for grade in grades if grade.accuracy is not None]
    return {
        "rounds": len(sampled.rounds) - 1,
        "sampled": len(groups),
        "replaced": len(groups) - len(kept),
        "kept": len(kept),
        "differ": sum(group.differs for group in kept),
        "accuracy": sum(accuracies) / len(accuracies) if accuracies else None,
        "statuses": dict(Counter(str(grade.status) for grade in grades)),
    }


def sampled_records(step: int, sampled: Sampled) -> list[dict[str, Any]]:
    """A row for every completion of every round, with the round and whether its group was replaced."""
    kept = {id(group) for group in sampled.trained}
    rows = []
    for number, each in enumerate(sampled.rounds):
        replaced = [id(group) not in kept for group in each.graded for _ in group.grades_G]
        for row, gone in zip(rollout_records(step, each.graded, each.logged), replaced, strict=True):
            rows.append({**row, "round": number, "replaced": gone})
    return rows
