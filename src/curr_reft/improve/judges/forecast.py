"""What a judge behind a server will be asked, and cost at most: told before anything is sampled.

Every sampled answer is counted at its longest and every reply too, and no answer is taken for a near-duplicate or known
already. So it is a bound, as far as the estimate of tokens is (``spending.py``) and the judge keeps to its form: an
unusable reply is asked for once more, and that comes on top.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from curr_reft.improve.config import SelfImprovementConfig
from curr_reft.improve.judges.spending import cost_of, estimate_tokens
from curr_reft.improve.records import Candidate
from curr_reft.improve.rubric import load_rubric
from curr_reft.improve.sample import draw_queries
from curr_reft.questions.question import Question
from curr_reft.rewards.grade import Grade, Status


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """At most, over all rounds."""

    model: str
    answers: int
    prompt_tokens: int  # images and answers included
    reply_tokens: int
    cost: float | None  # in the currency of the recipe's prices; None: it names none
    budget: float | None


def forecast_judging(
    config: SelfImprovementConfig, questions: Sequence[Question], seed: int, longest_answer: int
) -> Forecast | None:
    """Of the queries that the run will draw from ``questions``, ``longest_answer`` tokens for each answer; None for a
    judge that asks no server. Raises DataError for a pool that is too small, UsageError for an unknown rubric."""
    endpoint = config.judge.endpoint
    if config.judge.kind != "endpoint" or endpoint is None:
        return None
    rubric = load_rubric(config.judge.rubric)
    answers = prompt_tokens = 0
    for turn in range(1, config.rounds + 1):
        for query in draw_queries(questions, config.pools, seed, turn):
            prompt = rubric.prompt(_empty(query))
            answers += config.samples
            prompt_tokens += config.samples * (estimate_tokens(prompt, endpoint.image_max_pixels) + longest_answer)
    replies = answers * endpoint.max_tokens
    return Forecast(
        model=endpoint.model,
        answers=answers,
        prompt_tokens=prompt_tokens,
        reply_tokens=replies,
        cost=None if endpoint.prices is None else cost_of(endpoint.prices, prompt_tokens, replies),
        budget=endpoint.budget,
    )


def forecast_line(found: Forecast) -> str:
    """The forecast in a line."""
    text = (
        f"judge {found.model}: at most {found.answers:,} answers, {found.prompt_tokens:,} tokens of prompts and "
        f"{found.reply_tokens:,} of replies"
    )
    if found.cost is None:
        return f"{text}; self_improvement.judge.endpoint.prices would say what that costs"
    text += f", {found.cost:.2f} at the prices of the recipe"
    if found.budget is None:
        return f"{text}; no budget"
    short = "; it may stop there before the end" if found.cost > found.budget else ""
    return f"{text}; budget {found.budget:g}{short}"


def _empty(query: Question) -> Candidate:
    grade = Grade(status=Status.NO_TRUTH, format=0.0, accuracy=None)
    return Candidate(question=query, sample=0, completion="", truncated=False, grade=grade)
