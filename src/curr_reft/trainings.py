"""The trainings of a run: GRPO on a mixture of forms, or supervised fine-tuning, from a start to a published model.

A stage, a baseline and the fine-tuning of phase 2 are the same thing here; what differs is handed in.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from curr_reft.console import Console
from curr_reft.curriculum.config import StageConfig
from curr_reft.curriculum.difficulty import Selection
from curr_reft.curriculum.gate import AccuracyGate
from curr_reft.curriculum.sampler import QuestionSampler
from curr_reft.curriculum.stage import Start, Training, run_training
from curr_reft.evaluate.forgetting import validate_sft
from curr_reft.evaluate.suites import validate
from curr_reft.evaluate.variants import first_of_each_task
from curr_reft.policy.config import ModelConfig
from curr_reft.policy.load import load_policy
from curr_reft.policy.policy import Policy
from curr_reft.prepare import Prepared
from curr_reft.recipe import Recipe
from curr_reft.run_dir import RunDir
from curr_reft.seeding import derive_seed
from curr_reft.train.checkpoint import MANIFEST
from curr_reft.train.config import HandOn, OptimizerConfig, SftConfig
from curr_reft.train.grpo import GrpoObjective
from curr_reft.train.loop import Gate, Journal, Validation
from curr_reft.train.no_signal import NoSignal
from curr_reft.train.objective import Objective
from curr_reft.train.publish import Published
from curr_reft.train.sft import SftExample, SftObjective, hold_out


@dataclass(frozen=True, kw_only=True)
class Trainings:
    """Trains what it is asked to, as the recipe says, and notes it in the run directory."""

    recipe: Recipe
    prepared: Prepared
    directory: RunDir
    console: Console
    base_start: Start
    sync: Callable[[], None]  # metrics and time so far to the disk, before the checkpoint they belong to
    note: Callable[..., None]  # marks a phase done: its name, its record, names of the files it wrote
    selection: Selection | None = None  # the training questions that GRPO asks; none: all, at random

    def rl(
        self, run: str, name: str, folder: Path, stage: StageConfig, budget: int, earlier: Sequence[str], start: Start
    ) -> Published:
        """GRPO on a mixture of forms from ``start``."""
        recipe = self.recipe
        seed = derive_seed(recipe.seed, run, name)
        shares = stage.shares(earlier)
        sampler = self.sampler(shares, seed, budget)
        gate = AccuracyGate(stage.gate, list(stage.forms)) if stage.gate is not None else None

        def objective(policy: Policy) -> Objective:
            reference = self.reference(policy, start)
            return GrpoObjective(
                policy,
                sampler,
                recipe.rl,
                recipe.sampling,
                recipe.rewards,
                seed=seed,
                budget=budget,
                reference=reference,
                replacement=sampler.replacement,
            )

        def account() -> dict[str, Any]:
            return {
                "shares": shares,
                "asked": sampler.asked,
                "replaced": sampler.replaced,
                "gate": gate.account() if gate is not None else None,
            }

        return self._train(
            run, name, folder, start, objective, budget, recipe.rl.optimizer, seed, list(stage.forms), gate, account
        )

    def sampler(self, shares: Mapping[str, float], seed: int, steps: int) -> QuestionSampler:
        """Draws the training questions of ``steps`` updates."""
        rl = self.recipe.rl
        draw = partial(
            QuestionSampler, prompts=rl.prompts_per_step, seed=seed, questions_per_image=rl.questions_per_image
        )
        if self.selection is None:
            return draw({form: self.prepared.of("train", form) for form in shares}, shares)
        return draw(self.selection.questions, shares, steps=steps, epoch=self.selection.epoch)

    def sft(self, run: str, folder: Path, examples: Sequence[SftExample], config: SftConfig, start: Start) -> Published:
        """Supervised fine-tuning on ``examples`` from ``start``. Raises DataError for examples that are too long."""
        recipe = self.recipe
        seed = derive_seed(recipe.seed, run)
        learned, held_out = hold_out(examples, config.validation_share, seed)
        model = recipe.model if config.freeze is None else recipe.model.model_copy(update={"freeze": config.freeze})

        def objective(policy: Policy) -> Objective:
            return SftObjective(policy, learned, config, seed=seed)

        look = partial(validate_sft, held_out=held_out, cells=self.prepared.general())
        return self._train(
            run,
            run,
            folder,
            start,
            objective,
            config.steps,
            config.optimizer,
            seed,
            ["open"],
            None,
            model=model,
            look=look,
            hand_on=config.hand_on,
        )

    def _train(
        self,
        run: str,
        name: str,
        folder: Path,
        start: Start,
        objective: Callable[[Policy], Objective],
        budget: int,
        optimizer: OptimizerConfig,
        seed: int,
        forms: Sequence[str],
        gate: Gate | None,
        account: Callable[[], Mapping[str, Any]] = dict,
        model: ModelConfig | None = None,
        look: Callable[..., Validation] = validate,
        hand_on: HandOn | None = None,
    ) -> Published:
        """Train, validate on the same forms by ``look``, publish. ``model``: as the recipe has it, or other parts of it
        frozen."""
        recipe = self.recipe
        checkpoint = recipe.checkpoint
        if hand_on is not None:
            checkpoint = checkpoint.model_copy(update={"hand_on": hand_on})
        self.console.begin(run, name, budget)
        asked = [
            question
            for form in forms
            for question in first_of_each_task(self.prepared.of("validation", form), recipe.curriculum.validation_items)
        ]

        no_signal = NoSignal()
        label = run if run == name else f"{run} {name}"

        def log(row: Mapping[str, Any]) -> None:
            full = {"run": run, "stage": name, "form": "+".join(forms), **row}
            self.directory.append_metrics([full])
            self.console.row(full)
            message = no_signal.update(full)
            if message is not None:
                self.console.say(f"warning: {label} step {full['step']}: {message}")

        training = Training(
            folder=folder,
            model=model or recipe.model,
            start=start,
            objective=objective,
            budget=budget,
            optimizer=optimizer,
            checkpoint=checkpoint,
            seed=seed,
            validate=partial(look, questions=asked, sampling=recipe.sampling, rewards=recipe.rewards),
            journal=Journal(
                log=log,
                rewind=partial(self.directory.truncate_after, run, name),
                sync=self.sync,
            ),
            gate=gate,
            record={"run": run, "stage": name, "form": "+".join(forms)},
            account=account,
        )
        try:
            done = run_training(training)
        finally:
            self.console.close()  # a bar that stays would leave the terminal without its cursor
        if done.record.get("unchanged") and not self.directory.phase_done(f"{run}/{name}"):
            kept = "no checkpoint is better than its start (step 0), which is kept"
            self.console.say(f"{label}: {kept if done.record['chosen_step'] == 0 else 'training changed no weight'}")
        manifest = (folder / MANIFEST).relative_to(self.directory.path).as_posix()
        record = {"weights_sha256": done.weights_sha256, "chosen_step": done.record["chosen_step"]}
        self.note(f"{run}/{name}", record, manifest)
        return done

    def load(self, start: Start) -> Policy:
        """Raises CheckpointError where the weights are not those of the start any more."""
        start.require_unchanged()
        return load_policy(self.recipe.model.model_copy(update={"path": start.path}))

    def reference(self, policy: Policy, start: Start) -> Callable[[], Any] | None:
        """The KL anchor: the frozen start of the stage (with LoRA: the adapter switched off), or the base."""
        objective = self.recipe.rl.objective
        if objective.beta == 0:
            return None
        if self.recipe.model.lora is not None and objective.reference == "stage":
            return policy.reference
        anchor = self.load(start if objective.reference == "stage" else self.base_start)
        anchor.model.requires_grad_(False)
        anchor.model.eval()
        return lambda: nullcontext(anchor)
