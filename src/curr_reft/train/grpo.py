"""GRPO on groups: draw questions, roll out, grade, turn rewards into advantages, pack, and the loss of a micro-batch.

One packed row holds a prompt once and its G completions, so a step pays for each prompt once (see policy/packing.py).
"""

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch

from curr_reft.policy.config import SamplingConfig
from curr_reft.policy.logprobs import packed_logprobs
from curr_reft.policy.packing import pack, split_groups
from curr_reft.policy.policy import Policy
from curr_reft.policy.rollout import rollout
from curr_reft.policy.types import Completion, Group
from curr_reft.questions.question import Question
from curr_reft.rewards.config import RewardsConfig
from curr_reft.rewards.grade import Grade
from curr_reft.rewards.grading import grade_all, total
from curr_reft.seeding import derive_seed
from curr_reft.train.config import RlConfig
from curr_reft.train.losses import group_advantages, k3, log_ratio, policy_loss, token_weights
from curr_reft.train.objective import MicroBatch, StepBatch


class Sampler(Protocol):
    """Draws the questions of a step."""

    def draw(self, step: int) -> list[Question]: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...


@dataclass(frozen=True, kw_only=True)
class GradedGroup:
    """A group with what its completions earned. Lists run over the G completions."""

    question: Question
    group: Group
    grades_G: tuple[Grade, ...]
    rewards_G: tuple[float | None, ...]
    advantages_G: tuple[float | None, ...]

    @property
    def teaches(self) -> bool:
        """Whether any completion has an advantage other than 0."""
        return any(self.advantages_G)


class GrpoObjective:
    """One update of GRPO per batch of rollouts (or ``updates_per_batch``, clipped)."""

    def __init__(
        self,
        policy: Policy,
        sampler: Sampler,
        config: RlConfig,
        sampling: SamplingConfig,
        rewards: RewardsConfig,
        *,
        seed: int,
        budget: int,
        reference: Callable[[], AbstractContextManager[Policy]] | None,
    ) -> None:
        assert (reference is not None) == (config.objective.beta > 0), "a reference model is kept exactly when beta > 0"
        self.policy = policy
        self.sampler = sampler
        self.config = config
        self.sampling = sampling
        self.rewards = rewards
        self.temperature = sampling.temperature
        self.seed = seed
        self.budget = budget  # updates of the stage, whether or not a gate ends it before
        self.reference = reference
        self.updates_per_batch = config.objective.updates_per_batch

    def prepare(self, step: int) -> StepBatch:
        started = time.perf_counter()
        questions = self.sampler.draw(step)
        prompts = [self.policy.processor.encode_question(question) for question in questions]
        groups = rollout(self.policy, prompts, self.sampling, seed=derive_seed(self.seed, "rollout", step))
        rolled = time.perf_counter()
        graded = self.grade(questions, groups, progress=(step - 1) / self.budget)
        grading = time.perf_counter()
        micro_batches = self.pack(graded)
        return StepBatch(
            micro_batches=micro_batches,
            metrics=step_metrics(graded),
            seconds={"rollout": rolled - started, "grade": grading - rolled, "pack": time.perf_counter() - grading},
            tokens=sum(completion.length for group in groups for completion in group.completions),
            records=tuple(_records(step, graded)),
        )

    def loss(self, micro_batch: MicroBatch) -> tuple[torch.Tensor, dict[str, float]]:
        objective = self.config.objective
        logprobs_S = packed_logprobs(self.policy, micro_batch.packed, temperature=self.temperature)
        assert micro_batch.advantages_S is not None
        ratio_S = log_ratio(logprobs_S, micro_batch.old_logprobs_S, micro_batch.completion_S, objective.loss)
        losses_S = policy_loss(ratio_S, micro_batch.advantages_S, objective.clip_low, objective.clip_high)
        parts: dict[str, float] = {}
        if micro_batch.reference_logprobs_S is not None:
            kl_S = k3(logprobs_S, micro_batch.reference_logprobs_S)
            losses_S = losses_S + objective.beta * kl_S
            parts["kl"] = float((kl_S.detach() * micro_batch.weights_S).sum())
        return (losses_S * micro_batch.weights_S).sum(), parts

    def state_dict(self) -> dict[str, Any]:
        return {"sampler": self.sampler.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.sampler.load_state_dict(state["sampler"])

    def grade(self, questions: Sequence[Question], groups: Sequence[Group], progress: float) -> list[GradedGroup]:
        """``progress`` is the share of the budget that is done: a function of the step alone, as resume needs it."""
        flat = [
            (question, completion.text, completion.truncated)
            for question, group in zip(questions, groups, strict=True)
            for completion in group.completions
        ]
        grades = iter(grade_all(flat, self.rewards, progress))
        graded = []
        for question, group in zip(questions, groups, strict=True):
            own = tuple(next(grades) for _ in group.completions)
            rewards = tuple(total(grade, self.rewards) for grade in own)
            advantages = tuple(group_advantages(rewards, scale=self.config.objective.loss != "dr_grpo"))
            graded.append(
                GradedGroup(question=question, group=group, grades_G=own, rewards_G=rewards, advantages_G=advantages)
            )
        return graded

    def pack(self, graded: Sequence[GradedGroup]) -> tuple[MicroBatch, ...]:
        """Micro-batches of the groups that teach; with a KL penalty, of all that have a score.

        The weights count every scored completion of the step, so leaving out groups of zero advantage changes nothing.
        """
        objective = self.config.objective
        scored = [
            (g, c, a) for g in graded for c, a in zip(g.group.completions, g.advantages_G, strict=True) if a is not None
        ]
        weights = (
            token_weights([c.length for _, c, _ in scored], objective.loss, self.sampling.max_new_tokens)
            if scored
            else []
        )
        kept: dict[int, list[tuple[Completion, float, float]]] = defaultdict(list)
        for (group, completion, advantage), weight in zip(scored, weights, strict=True):
            if group.teaches or objective.beta > 0:
                kept[id(group)].append((completion, advantage, weight))
        rows = [
            (replace(g.group, completions=tuple(c for c, *_ in kept[id(g)])), kept[id(g)])
            for g in graded
            if id(g) in kept
        ]
        parts = split_groups([group for group, _ in rows], self.config.micro_batch_tokens)
        batches, start = [], 0
        for part in parts:
            own = [entry for _, entries in rows[start : start + len(part)] for entry in entries]
            start += len(part)
            batches.append(self._micro_batch(part, own))
        return tuple(batches)

    def _micro_batch(self, groups: Sequence[Group], entries: Sequence[tuple[Completion, float, float]]) -> MicroBatch:
        device = self.policy.device
        sizes = torch.tensor([completion.length for completion, *_ in entries])

        def spread(values: Sequence[float]) -> torch.Tensor:
            return torch.tensor(values, dtype=torch.float32).repeat_interleave(sizes).to(device)

        packed = pack(groups, self.policy.family).to(device)
        reference = None
        if self.reference is not None:
            with self.reference() as anchor, torch.no_grad():
                reference = packed_logprobs(anchor, packed, temperature=self.temperature)
        off_policy = self.updates_per_batch > 1
        return MicroBatch(
            packed=packed,
            weights_S=spread([weight for *_, weight in entries]),
            advantages_S=spread([advantage for _, advantage, _ in entries]),
            old_logprobs_S=packed.sampled_logprobs_S if off_policy else None,
            reference_logprobs_S=reference,
            completion_S=torch.arange(len(entries)).repeat_interleave(sizes).to(device),
        )


def step_metrics(graded: Sequence[GradedGroup]) -> dict[str, Any]:
    """What a step's rollouts earned. Means run over completions with a score; shares over all completions."""
    pairs = [(g, grade, c) for g in graded for grade, c in zip(g.grades_G, g.group.completions, strict=True)]
    rewards = [reward for g in graded for reward in g.rewards_G if reward is not None]
    count = len(pairs)

    def by(key: str) -> dict[str, dict[str, float]]:
        cells: dict[str, list[float]] = defaultdict(list)
        for g, grade, _ in pairs:
            if grade.accuracy is not None:
                cells[getattr(g.question, key)].append(grade.accuracy)
        return {
            name: {"accuracy": sum(values) / len(values), "n": len(values)} for name, values in sorted(cells.items())
        }

    accuracies = [grade.accuracy for _, grade, _ in pairs if grade.accuracy is not None]
    tokens = sum(c.length for *_, c in pairs)
    return {
        "reward": sum(rewards) / len(rewards) if rewards else None,
        "format": sum(grade.format for _, grade, _ in pairs) / count,
        "accuracy": sum(accuracies) / len(accuracies) if accuracies else None,
        "entropy": -sum(float(c.logprobs_T.sum()) for *_, c in pairs) / tokens,
        "zero_variance": sum(not g.teaches for g in graded) / len(graded),
        "truncated": sum(c.truncated for *_, c in pairs) / count,
        "length": tokens / count,
        "statuses": dict(Counter(str(grade.status) for _, grade, _ in pairs)),
        "by_form": by("form"),
        "by_task": by("task"),
    }


def _records(step: int, graded: Sequence[GradedGroup]) -> list[dict[str, Any]]:
    return [
        {
            "step": step,
            "question": g.question.id,
            "task": g.question.task,
            "form": g.question.form,
            "prompt": g.question.prompt,
            "completion": completion.text,
            "status": str(grade.status),
            "format": grade.format,
            "accuracy": grade.accuracy,
            "reward": reward,
            "advantage": advantage,
            "length": completion.length,
            "truncated": completion.truncated,
        }
        for g in graded
        for completion, grade, reward, advantage in zip(
            g.group.completions, g.grades_G, g.rewards_G, g.advantages_G, strict=True
        )
    ]
