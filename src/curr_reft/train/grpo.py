"""GRPO on groups: draw questions, roll out, grade, turn rewards into advantages, pack, and the loss of a micro-batch.

One packed row holds a prompt once and its G completions, so a step pays for each prompt once (see policy/packing.py).
"""

import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from copy import deepcopy
from dataclasses import replace
from functools import partial
from typing import Any, Protocol

import torch

from curr_reft import processes
from curr_reft.policy.beginnings import shown_by, together
from curr_reft.policy.config import SamplingConfig
from curr_reft.policy.dealing import deal_questions, share_groups
from curr_reft.policy.logprobs import packed_logprobs
from curr_reft.policy.out_of_memory import in_short, is_out_of_memory, make_room
from curr_reft.policy.packing import PackedBatch, pack, split_groups
from curr_reft.policy.policy import Policy
from curr_reft.policy.rollout import Among, rollout
from curr_reft.policy.types import Completion, Group
from curr_reft.questions.question import Question
from curr_reft.rewards.config import RewardsConfig
from curr_reft.rewards.custom import Logged, TrainerState
from curr_reft.rewards.grading import Completed, grade_all, total
from curr_reft.rewards.parts import Parts
from curr_reft.seeding import derive_seed
from curr_reft.train.config import RlConfig
from curr_reft.train.graded import GradedGroup, rollout_records, step_metrics
from curr_reft.train.losses import group_advantages, k3, log_ratio, policy_loss, token_weights
from curr_reft.train.objective import MicroBatch, StepBatch, idle_calls
from curr_reft.train.one_pass import kept_graph, worth_continuing
from curr_reft.train.resample import Replacement, Round, resample_metrics, sample, sampled_records
from curr_reft.train.reward_faults import RewardFaults
from curr_reft.train.token_budget import TokenBudget


class Sampler(Protocol):
    """Draws the questions of a step."""

    def draw(self, step: int) -> list[Question]: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...


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
        replacement: Replacement | None = None,
    ) -> None:
        assert (reference is not None) == (config.objective.beta > 0), "a reference model is kept exactly when beta > 0"
        assert config.resample is None or replacement is not None, "resampling asks for other questions"
        self.policy = policy
        self.sampler = sampler
        self.config = config
        self.sampling = sampling
        self.rewards = rewards
        self.parts = Parts(rewards)
        self.faults = RewardFaults(rewards)
        self.temperature = sampling.temperature
        self.seed = seed
        self.budget = budget  # updates of the stage, whether or not a gate ends it before
        self.reference = reference
        self.replacement = replacement
        self.tokens = TokenBudget(config.micro_batch_tokens)
        self.updates_per_batch = config.objective.updates_per_batch

    def prepare(self, step: int) -> StepBatch:
        sampled = sample(partial(self._ask, step), self.sampler.draw(step), self.config.resample, self.replacement)
        first = sampled.rounds[0]
        metrics = step_metrics(first.graded, first.logged)
        self.faults.count(step, metrics["parts"], sum(metrics["statuses"].values()), first.graded)
        if self.config.resample is not None:
            metrics["resample"] = resample_metrics(sampled)
        packing = time.perf_counter()
        micro_batches = self.pack(sampled.trained)
        seconds = {name: sum(each.seconds[name] for each in sampled.rounds) for name in first.seconds}
        return StepBatch(
            micro_batches=micro_batches,
            metrics=metrics,
            seconds={**seconds, "pack": time.perf_counter() - packing},
            tokens=sum(completion.length for g in sampled.groups for completion in g.group.completions),
            records=tuple(
                rollout_records(step, first.graded, first.logged)
                if self.config.resample is None
                else sampled_records(step, sampled)
            ),
        )

    def _ask(self, step: int, questions: Sequence[Question], number: int) -> Round:
        """Rollout ``number`` of a step, graded. Of several processes, each samples and grades its share of the groups,
        and knows them all when this returns."""
        started = time.perf_counter()
        hands = deal_questions(questions, self.policy.frame)
        own = hands[processes.rank()]
        prompts = self.policy.processor.encode_questions([questions[place] for place in own])
        if step < self.budget:
            self.policy.processor.prefetch(self._peek(step + 1))
        names = ("rollout", step) if number == 0 else ("rollout", step, number)
        sampled = rollout(
            self.policy,
            prompts,
            self.sampling,
            seed=Among(seed=derive_seed(self.seed, *names), places=own, count=len(questions)),
            graph=kept_graph(self.policy, prompts, self.config, self.sampling, self.tokens.tokens),
        )
        rolled = time.perf_counter()
        groups = share_groups(hands, sampled)
        logged = Logged(count=sum(len(group.completions) for group in groups))
        graded = self.grade(questions, groups, step, logged)
        seconds = {"rollout": rolled - started, "grade": time.perf_counter() - rolled}
        return Round(graded=tuple(graded), logged=logged, seconds=seconds)

    def _peek(self, step: int) -> list[Question]:
        """What this process would be dealt of ``step`` if nothing came between. The sampler is left as it was."""
        state = deepcopy(self.sampler.state_dict())
        questions = self.sampler.draw(step)
        self.sampler.load_state_dict(state)
        return [questions[place] for place in deal_questions(questions, self.policy.frame)[processes.rank()]]

    def loss(self, micro_batch: MicroBatch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        objective = self.config.objective
        logprobs_S = packed_logprobs(self.policy, micro_batch.packed, temperature=self.temperature)
        assert micro_batch.advantages_S is not None
        ratio_S = log_ratio(logprobs_S, micro_batch.old_logprobs_S, micro_batch.completion_S, objective.loss)
        losses_S = policy_loss(ratio_S, micro_batch.advantages_S, objective.clip_low, objective.clip_high)
        parts: dict[str, torch.Tensor] = {}
        if micro_batch.reference_logprobs_S is not None:
            kl_S = k3(logprobs_S, micro_batch.reference_logprobs_S)
            losses_S = losses_S + objective.beta * kl_S
            parts["kl"] = (kl_S.detach() * micro_batch.weights_S).sum()
        return (losses_S * micro_batch.weights_S).sum(), parts

    def state_dict(self) -> dict[str, Any]:
        return {"sampler": self.sampler.state_dict(), **self.tokens.state_dict(), **self.faults.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.sampler.load_state_dict(state["sampler"])
        self.tokens.load_state_dict(state)
        self.faults.load_state_dict(state)

    def grade(
        self, questions: Sequence[Question], groups: Sequence[Group], step: int, logged: Logged
    ) -> list[GradedGroup]:
        """Grades of all completions, part by part; custom rewards note in ``logged`` what they have to say.

        Processes share the grading of answers; a custom reward is called by the main one, with all completions.
        """
        completed = [
            Completed(question, completion.text, completion.truncated, tuple(completion.tokens_T.tolist()))
            for question, group in zip(questions, groups, strict=True)
            for completion in group.completions
        ]
        # The share of the budget that is done is a function of the step alone: resume needs that.
        hands = processes.deal([1.0] * len(completed))
        own = [completed[place][:3] for place in hands[processes.rank()]]
        parts = processes.gather(grade_all(own, self.rewards, (step - 1) / self.budget))
        outcomes = processes.in_order(hands, parts)
        state = TrainerState(global_step=step - 1, max_steps=self.budget)
        added, said = processes.on_main(lambda: (self.parts.add(outcomes, completed, state, logged), logged))
        logged.metrics.update(said.metrics)
        logged.extra.update(said.extra)
        grades = iter(added)
        graded = []
        for question, group in zip(questions, groups, strict=True):
            of_group = tuple(next(grades) for _ in group.completions)
            rewards = tuple(total(grade, self.rewards) for grade in of_group)
            advantages = tuple(group_advantages(rewards, scale=self.config.objective.loss != "dr_grpo"))
            graded.append(
                GradedGroup(
                    question=question, group=group, grades_G=of_group, rewards_G=rewards, advantages_G=advantages
                )
            )
        return graded

    def pack(self, graded: Sequence[GradedGroup]) -> tuple[MicroBatch, ...]:
        """Micro-batches of the groups of this process that teach; with a KL penalty, of all that have a score.

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
            if id(g) in kept and g.group.here
        ]
        # What shows one image stands together: a micro-batch computes once what its prompts share.
        rows = [rows[place] for place in together([shown_by(group.prompt) for group, _ in rows])]
        parts = self.tokens.split(self.policy, [group for group, _ in rows])
        seen = [g.group.prompt for g in graded if g.group.here]
        if len(parts) != 1 or not worth_continuing(seen, [group.prompt for group in parts[0]]):
            self.policy.drop_graphs()
        idle = idle_calls(self.policy, len(parts))  # asked before the reference's forward calls, which wait alike
        batches, start = [], 0
        for part in parts:
            own = [entry for _, entries in rows[start : start + len(part)] for entry in entries]
            start += len(part)
            batches.append(self._micro_batch(part, own))
        batches += [self._idle(graded[0]) for _ in range(idle)]
        return tuple(batches)

    def _idle(self, graded: GradedGroup) -> MicroBatch:
        """A forward that adds nothing, of the least there is: one token."""
        prompt = self.policy.processor.encode_question(graded.question)
        token = Completion(
            tokens_T=torch.tensor([self.policy.end_ids[0]]), logprobs_T=torch.zeros(1), text="", truncated=False
        )
        return self._micro_batch([Group(prompt=prompt, completions=(token,))], [(token, 0.0, 0.0)])

    def _micro_batch(self, groups: Sequence[Group], entries: Sequence[tuple[Completion, float, float]]) -> MicroBatch:
        device = self.policy.device
        sizes = torch.tensor([completion.length for completion, *_ in entries])

        def spread(values: Sequence[float]) -> torch.Tensor:
            return torch.tensor(values, dtype=torch.float32).repeat_interleave(sizes).to(device)

        packed = pack(groups, self.policy.family).to(device)
        off_policy = self.updates_per_batch > 1
        return MicroBatch(
            packed=packed,
            weights_S=spread([weight for *_, weight in entries]),
            advantages_S=spread([advantage for _, advantage, _ in entries]),
            old_logprobs_S=packed.sampled_logprobs_S if off_policy else None,
            reference_logprobs_S=self._reference_logprobs(packed) if self.reference is not None else None,
            completion_S=torch.arange(len(entries)).repeat_interleave(sizes).to(device),
        )

    def _reference_logprobs(self, packed: PackedBatch) -> torch.Tensor:
        """Of the KL anchor, (S); in parts where memory runs out."""
        assert self.reference is not None
        try:
            with self.reference() as anchor, torch.no_grad():
                return packed_logprobs(anchor, packed, temperature=self.temperature)
        except (RuntimeError, MemoryError) as error:
            if self.policy.sharding is not None or not is_out_of_memory(error):
                raise
            why = in_short(error)
        make_room(self.policy)
        self.tokens.lower([packed.groups], why)
        rows = [pack(part, self.policy.family) for part in split_groups(packed.groups, self.tokens.limit)]
        return torch.cat([self._reference_logprobs(row.to(self.policy.device)) for row in rows])
