"""The measured process of our side: the real loop on the real objective, told when to make a step.

Only two things are replaced: questions are those of the subject, and a completion's reward is a number drawn from its
tokens, so that no group is left out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from curr_reft.bench.link import Link
from curr_reft.bench.shape import Shape
from curr_reft.bench.subject import build_processor, image_of, reward_of, suppressed_ids, text_of
from curr_reft.bench.work import PROMPTS, Options
from curr_reft.policy.config import LoraConfig, ModelConfig, SamplingConfig
from curr_reft.policy.policy import Policy, wrap_model
from curr_reft.policy.types import Group
from curr_reft.questions.question import Question
from curr_reft.rewards.config import RewardsConfig
from curr_reft.rewards.custom import Logged
from curr_reft.rewards.grade import Grade, Status
from curr_reft.train.config import CheckpointConfig, ObjectiveConfig, OptimizerConfig, RlConfig
from curr_reft.train.graded import GradedGroup
from curr_reft.train.grpo import GrpoObjective
from curr_reft.train.loop import Journal, Plan, Validation, train_loop
from curr_reft.train.losses import group_advantages
from curr_reft.train.objective import StepBatch

LR = 1e-6


@dataclass(frozen=True, kw_only=True)
class Picture:
    """An image in memory."""

    shape: Shape
    number: int

    @property
    def key(self) -> str:
        return f"bench-{self.number}"

    @property
    def size(self) -> tuple[int, int]:
        return self.shape.image_size

    def open(self) -> Image.Image:
        return image_of(self.shape, self.number)


@dataclass(frozen=True, kw_only=True)
class SubjectSampler:
    """Two new prompts, each with an image of its own, for every step."""

    shape: Shape

    def draw(self, step: int) -> list[Question]:
        return [self._question(PROMPTS * (step - 1) + place) for place in range(PROMPTS)]

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        pass

    def _question(self, number: int) -> Question:
        return Question(
            id=f"bench-{number}/open",
            origin=f"bench-{number}",
            task="math",
            form="open",
            prompt=text_of(self.shape, number),
            truth="0",
            images=(Picture(shape=self.shape, number=number),),
        )


class SubjectObjective(GrpoObjective):
    """GRPO as it is, with rewards from tokens."""

    def grade(
        self, questions: Sequence[Question], groups: Sequence[Group], step: int, logged: Logged
    ) -> list[GradedGroup]:
        return [self._graded(question, group) for question, group in zip(questions, groups, strict=True)]

    def _graded(self, question: Question, group: Group) -> GradedGroup:
        rewards = tuple(reward_of(completion.tokens_T.tolist()) for completion in group.completions)
        return GradedGroup(
            question=question,
            group=group,
            grades_G=tuple(Grade(status=Status.OK, format=1.0, accuracy=reward) for reward in rewards),
            rewards_G=rewards,
            advantages_G=tuple(group_advantages(rewards, scale=self.config.objective.loss != "dr_grpo")),
        )


class DrivenObjective(SubjectObjective):
    """Makes a step when it is ordered."""

    link: Link
    shape: Shape

    def prepare(self, step: int) -> StepBatch:
        self.link.begin()
        batch = super().prepare(step)
        assert len(batch.micro_batches) == 1
        return batch

    def grade(
        self, questions: Sequence[Question], groups: Sequence[Group], step: int, logged: Logged
    ) -> list[GradedGroup]:
        assert all(group.prompt.length == self.shape.P for group in groups)
        assert all(completion.length == self.shape.C for group in groups for completion in group.completions)
        graded = super().grade(questions, groups, step, logged)
        self.link.generated()
        return graded


def build_policy(model: Any, options: Options) -> Policy:
    """The subject's model as a policy that never ends a completion."""
    config = ModelConfig(
        device="cpu",
        lora=LoraConfig() if options.lora else None,
        gradient_checkpointing=options.gradient_checkpointing,
    )
    policy = wrap_model(model, build_processor(), config)
    policy.token_bias_V[suppressed_ids()] = torch.finfo(torch.float32).min
    return policy


def run(policy: Policy, shape: Shape, options: Options, steps: int, folder: Path, link: Link) -> None:
    """``steps`` steps, each when it is ordered."""
    objective = DrivenObjective(
        policy,
        SubjectSampler(shape=shape),
        RlConfig(
            prompts_per_step=PROMPTS,
            micro_batch_tokens=1 << 30,
            one_prompt_pass=options.one_prompt_pass,
            objective=ObjectiveConfig(beta=0.0),
        ),
        SamplingConfig(group_size=shape.G, max_new_tokens=shape.C),
        RewardsConfig(),
        seed=0,
        budget=steps,
        reference=None,
    )
    objective.link, objective.shape = link, shape

    def log(row: Mapping[str, Any]) -> None:
        if row["kind"] == "train":
            link.finish()

    plan = Plan(
        folder=folder,
        budget=steps,
        optimizer=OptimizerConfig(lr=LR, schedule="constant"),
        checkpoint=CheckpointConfig(every=steps),
        seed=0,
        validate=lambda _: Validation(accuracy=0.0, score=0.0),
        journal=Journal(log=log, rewind=lambda *_: None, sync=lambda: None),
    )
    train_loop(policy, objective, plan)
