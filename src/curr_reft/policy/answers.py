"""A model's answers to questions, sampled or greedy, with their grades: what evaluation and self-improvement ask."""

from collections.abc import Sequence
from dataclasses import dataclass

from curr_reft import processes
from curr_reft.console import Advance, progress
from curr_reft.policy.config import SamplingConfig
from curr_reft.policy.dealing import by_image, deal_questions
from curr_reft.policy.policy import Policy
from curr_reft.policy.rollout import Among, rollout
from curr_reft.questions.question import Question
from curr_reft.rewards.config import RewardsConfig
from curr_reft.rewards.grade import Grade
from curr_reft.rewards.grading import grade_all
from curr_reft.seeding import derive_seed

CHUNK = 256  # questions whose prompts are held in memory at a time


@dataclass(frozen=True, kw_only=True)
class Answered:
    """One question, its completion, and what it is worth."""

    question: Question
    completion: str
    truncated: bool
    grade: Grade
    tokens: int | None = None  # of the completion; None where no model wrote it here

    @property
    def correct(self) -> float:
        """1 if right by the strict rule (IoU > 0.5, the same set, verified), else 0; 0 too where grading failed."""
        return float(bool(self.grade.correct))

    @property
    def score(self) -> float:
        """The grade's accuracy (of greedy answers: IoU, Jaccard, verified); 0 where grading failed (see its status)."""
        return self.grade.accuracy or 0.0


def answer_all(
    policy: Policy,
    questions: Sequence[Question],
    sampling: SamplingConfig,
    rewards: RewardsConfig,
    seed: int | Sequence[Among] | Sequence[Sequence[int]] = 0,
) -> list[list[Answered]]:
    """``sampling.group_size`` answers to each question, in order; ``seed`` is one for all, or one for each answer, or
    says for each question which one of a longer list it is (``among``).

    Questions about one image are asked together, whatever their order: what they share is computed once. The processes
    of a run share the questions, and all get all answers.
    """
    answered: dict[int, list[Answered]] = {}
    order = by_image(questions)
    with progress("answering questions", len(questions)) as shown:
        for start in range(0, len(questions), CHUNK):
            places = order[start : start + CHUNK]
            part = [questions[place] for place in places]
            hands = deal_questions(part, policy.frame)
            own = [places[number] for number in hands[processes.rank()]]
            seeds: Sequence[Among] | Sequence[Sequence[int]]
            if isinstance(seed, int):
                seeds = [among(seed, place, len(questions)) for place in own]
            else:
                seeds = [seed[place] for place in own]  # type: ignore[assignment]  # all of one kind
            asked = [questions[place] for place in own]
            found = processes.gather(_answers(policy, asked, sampling, rewards, seeds, shown))
            for place, group in zip(places, processes.in_order(hands, found), strict=True):
                answered[place] = [
                    Answered(question=questions[place], completion=text, truncated=cut, grade=grade, tokens=tokens)
                    for text, cut, tokens, grade in group
                ]
            shown.reach(start + len(places))  # those of the other processes too
    return [answered[place] for place in range(len(questions))]


def among(seed: int, place: int, count: int) -> Among:
    """What a question is answered with is a matter of its place among ``count``, not of what is asked beside it."""
    start = place - place % CHUNK
    return Among(seed=derive_seed(seed, start), places=(place - start,), count=min(CHUNK, count - start))


def _answers(
    policy: Policy,
    questions: Sequence[Question],
    sampling: SamplingConfig,
    rewards: RewardsConfig,
    seeds: Sequence[Among] | Sequence[Sequence[int]],
    advance: Advance,
) -> list[list[tuple[str, bool, int, Grade]]]:
    """(completion, truncated, tokens, grade) of every answer to the questions that fell to this process."""
    prompts = policy.processor.encode_questions(questions)
    groups = rollout(policy, prompts, sampling, seed=seeds, advance=advance)
    rows = [(q, c.text, c.truncated) for q, g in zip(questions, groups, strict=True) for c in g.completions]
    grades = iter(grade_all(rows, rewards))
    return [[(c.text, c.truncated, c.length, next(grades)) for c in g.completions] for g in groups]


def answer_greedily(
    policy: Policy, questions: Sequence[Question], sampling: SamplingConfig, rewards: RewardsConfig
) -> list[Answered]:
    """One greedy answer to each question, scored by the soft measures of evaluation (IoU, F1, Jaccard)."""
    greedy = sampling.model_copy(update={"group_size": 1, "temperature": 0.0})
    return [group[0] for group in answer_all(policy, questions, greedy, rewards.for_evaluation())]
