"""Supervised fine-tuning as an objective of the same loop: cross-entropy on the answers' tokens, prompts not scored.

Examples that share a prompt (several kept answers of one query) share its packed row.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from curr_reft import processes
from curr_reft.errors import DataError
from curr_reft.policy.counting import TokenCounter
from curr_reft.policy.dealing import deal_questions
from curr_reft.policy.logprobs import packed_logprobs
from curr_reft.policy.packing import pack, split_groups
from curr_reft.policy.policy import Policy
from curr_reft.policy.types import Completion, Group
from curr_reft.questions.question import Question
from curr_reft.seeding import stream
from curr_reft.train.config import SftConfig
from curr_reft.train.objective import MicroBatch, StepBatch, idle_calls
from curr_reft.train.token_budget import TokenBudget

LOSS_TOKENS = 16_384  # of one forward without gradients


@dataclass(frozen=True, kw_only=True)
class SftExample:
    """A question and the completion to learn."""

    question: Question
    completion: str


def hold_out(examples: Sequence[SftExample], share: float, seed: int) -> tuple[list[SftExample], list[SftExample]]:
    """(to learn, to look at). All are learned with share 0; else at least one example is on each side.

    Raises DataError for a single example that cannot be on both.
    """
    if share == 0:
        return list(examples), []
    if len(examples) < 2:
        raise DataError("validation_share", f"{share:g} of {len(examples)} example(s) cannot be held out; set it to 0")
    count = min(max(1, round(share * len(examples))), len(examples) - 1)
    out = set(stream(seed, "held out").sample(range(len(examples)), count))
    return [e for n, e in enumerate(examples) if n not in out], [e for n, e in enumerate(examples) if n in out]


def require_length(policy: Policy, examples: Sequence[SftExample], most: int) -> None:
    """Raises DataError with every example of more than ``most`` tokens, or that the model cannot take."""
    counts = TokenCounter(policy.processor).count([example.question for example in examples])
    problems = []
    for example, count in zip(examples, counts, strict=True):
        source = example.question.source or example.question.id
        tokens = count.tokens + policy.completion_tokens(example.completion).shape[0]
        if count.problem is not None:
            problems.append((source, count.problem))
        elif tokens > most:
            problems.append((source, f"has {tokens} tokens, more than max_length {most}; leave it out, or raise it"))
    if problems:
        raise DataError(*problems[0], tuple(problems))


def mean_loss(policy: Policy, examples: Sequence[SftExample]) -> float:
    """Mean cross-entropy a token of the examples' answers, end tokens included. Nothing is learned."""
    total, count = 0.0, 0
    was_training = policy.model.training
    policy.model.eval()
    try:
        with torch.no_grad():
            for groups in split_groups([group_of(policy, example) for example in examples], LOSS_TOKENS):
                packed = pack(groups, policy.family).to(policy.device)
                logprobs_S = packed_logprobs(policy, packed, temperature=1.0)
                total -= float(logprobs_S.double().sum())
                count += logprobs_S.shape[0]
    finally:
        policy.model.train(was_training)
    return total / count


def group_of(policy: Policy, example: SftExample) -> Group:
    """The example as a prompt with one completion, which nobody sampled."""
    prompt = policy.processor.encode_question(example.question)
    tokens_T = policy.completion_tokens(example.completion)
    completion = Completion(
        tokens_T=tokens_T,
        logprobs_T=torch.zeros(tokens_T.shape[0]),  # nobody sampled it; no objective reads it
        text=example.completion,
        truncated=False,
    )
    return Group(prompt=prompt, completions=(completion,))


class SftObjective:
    """Mean cross-entropy over the tokens of a batch, the end token included."""

    updates_per_batch = 1

    def __init__(self, policy: Policy, examples: Sequence[SftExample], config: SftConfig, *, seed: int) -> None:
        assert examples, "the caller refuses an empty set"
        require_length(policy, examples, config.max_length)
        self.policy = policy
        self.examples = tuple(examples)
        self.config = config
        self.seed = seed
        self.tokens = TokenBudget(config.micro_batch_tokens)

    def prepare(self, step: int) -> StepBatch:
        started = time.perf_counter()
        drawn = self._draw(step)
        hands = deal_questions([example.question for example in drawn], self.policy.frame)
        groups = [group_of(self.policy, drawn[place]) for place in hands[processes.rank()]]
        tokens = sum(processes.gather(sum(group.completions[0].length for group in groups)))
        parts = self.tokens.split(self.policy, groups)
        batches = [self._micro_batch(part, 1 / tokens) for part in parts]
        idle = range(idle_calls(self.policy, len(parts)))
        batches += [self._micro_batch([group_of(self.policy, drawn[0])], 0.0) for _ in idle]
        return StepBatch(
            micro_batches=tuple(batches),
            metrics={"length": tokens / len(drawn)},
            seconds={"pack": time.perf_counter() - started},
            tokens=tokens,
        )

    def _micro_batch(self, groups: Sequence[Group], weight: float) -> MicroBatch:
        count = sum(completion.length for group in groups for completion in group.completions)
        weights = torch.full((count,), weight, device=self.policy.device)
        return MicroBatch(packed=pack(groups, self.policy.family).to(self.policy.device), weights_S=weights)

    def loss(self, micro_batch: MicroBatch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        logprobs_S = packed_logprobs(self.policy, micro_batch.packed, temperature=1.0)
        return -(logprobs_S * micro_batch.weights_S).sum(), {}

    def state_dict(self) -> dict[str, Any]:
        return self.tokens.state_dict()  # the examples of a step are a function of the seed and the step

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.tokens.load_state_dict(state)

    def _draw(self, step: int) -> list[SftExample]:
        """Every example once an epoch, in an order of its own for each epoch."""
        first = (step - 1) * self.config.batch_size
        places = range(first, first + self.config.batch_size)
        count = len(self.examples)
        orders = {epoch: self._order(epoch) for epoch in {place // count for place in places}}
        return [self.examples[orders[place // count][place % count]] for place in places]

    def _order(self, epoch: int) -> list[int]:
        order = list(range(len(self.examples)))
        stream(self.seed, "sft", epoch).shuffle(order)
        return order
