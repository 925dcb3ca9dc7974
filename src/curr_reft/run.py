"""The whole method, top to bottom: check, profile, stages, baselines, self-improvement, evaluation, report.

Every phase leaves its result in the run directory before the next one begins, and a phase whose result is there is
not repeated. So ``--resume`` is the same walk through the same phases.
"""

import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

from transformers.utils import logging as transformers_logging

from curr_reft import processes, rounds
from curr_reft.checks.costs import disk_of
from curr_reft.checks.model import describe_model
from curr_reft.console import Console
from curr_reft.curriculum.stage import Start
from curr_reft.difficulty import training_questions
from curr_reft.disk_plan import require_room, told
from curr_reft.evaluate.differences import differences
from curr_reft.evaluate.general import evaluate_general, general_table
from curr_reft.evaluate.profile import profile, stages_at_chance, with_plan
from curr_reft.evaluate.suites import SUITES
from curr_reft.evaluate.summary import summarise, table
from curr_reft.evaluate.variants import evaluate_variant
from curr_reft.files import (
    folder_size,
    read_json,
    reporting_full_disk,
    require_space,
    sha256_file,
    sync_tree,
    write_json,
)
from curr_reft.improve.judges import require_judge
from curr_reft.improve.judges.forecast import forecast_judging, forecast_line
from curr_reft.improve.kept import KEPT
from curr_reft.improve.phase import keep_best_answers
from curr_reft.policy.adapters import require_peft
from curr_reft.policy.load import load_chat_processor
from curr_reft.policy.policy import Policy
from curr_reft.policy.rollout import rollout
from curr_reft.policy.selfcheck import check_packed
from curr_reft.prepare import (
    Prepared,
    check_examples,
    check_prompts,
    judge_code,
    load_items,
    prepare,
    query_pool,
    recipe_code,
    written_examples,
)
from curr_reft.questions.forms import FORMS
from curr_reft.recipe import Recipe
from curr_reft.report import build_report, write_card
from curr_reft.run_dir import RunDir
from curr_reft.run_record import LAST_PHASE
from curr_reft.train.publish import Published
from curr_reft.trainings import Trainings


def run(recipe: Recipe, resume: bool = False) -> Path:
    """Carry out the method as the recipe says. Returns the path of the report.

    Raises UsageError, DataError, RecipeError before anything expensive; TrainingError, CheckpointError, DiskFullError.
    """
    with RunDir.open(recipe.output, recipe, resume) as directory:
        if directory.finished:
            Console(quiet=not processes.is_main()).result(
                f"this run is finished, nothing is left to do; report: {directory.path / 'report.html'}"
            )
            return directory.path / "report.html"
        return Run(recipe, directory).carry_out()


class Run:
    """One walk through the phases. What has been done stands in the run directory, not here."""

    def __init__(self, recipe: Recipe, directory: RunDir) -> None:
        transformers_logging.disable_progress_bar()
        self.recipe = recipe
        self.directory = directory
        self.folder = directory.path
        self.console = Console(quiet=not processes.is_main())
        self.started = time.perf_counter()
        self.seconds_before = directory.seconds
        if recipe.self_improvement is not None:
            require_judge(recipe.self_improvement.judge)
        require_peft(recipe.model)
        data = load_items(recipe)
        self.base_start = Start.of_model(recipe.model.path)
        # All that can be wrong with the data is found before weights are read.
        self.processor = load_chat_processor(recipe.model)
        self.prepared: Prepared = prepare(recipe, data, self.processor.frame)
        check_prompts(self.prepared, self.processor)
        check_examples(recipe, self.prepared, self.processor)
        directory.require_same("the code that the recipe names", "code_sha256", recipe_code(recipe))
        if "judge_sha256" in directory.run:
            self.require_same_judge()
        directory.require_same("the base model", "model_sha256", self.base_start.sha256)
        directory.require_same("the data", "data_sha256", self.prepared.sha256)
        self.write("data/card.json", self.prepared.card)
        self.forecast_judging()
        self.evaluation: dict[str, Any] = {}
        self.general: dict[str, Any] = {}  # scores on the general pool, by model
        self.improved: list[tuple[Published | None, dict[str, Any]]] = []  # a round each: the last stage again, account
        self.trainings = Trainings(
            recipe=recipe,
            prepared=self.prepared,
            directory=directory,
            console=self.console,
            base_start=self.base_start,
            sync=self.sync,
            note=self.note,
        )

    def carry_out(self) -> Path:
        wanted = self.recipe.evaluation.models
        cells = self.measure_base()
        stages, left_out = self.curriculum(cells)
        for name, train in (("rl", self.plain_rl), ("sft", self.plain_sft)):
            if name in wanted:
                self.evaluate_published(name, train())
        last = stages[-1]
        if "curr_rl" in wanted:
            self.evaluate_published("curr_rl", last)
        if self.recipe.self_improvement is not None:
            last = self.rounds(last)
        return self.finish(stages, left_out, last)

    def require_same_judge(self) -> None:
        """The code of a judge of the recipe's own is noted once it has judged: one that breaks down may be corrected,
        and what was trained before is kept."""
        code = judge_code(self.recipe)
        if code is not None:
            self.directory.require_same("the code of the judge", "judge_sha256", code)

    def forecast_judging(self) -> None:
        """What a judge behind a server may cost, before anything has."""
        config = self.recipe.self_improvement
        if config is not None:
            asked, longest = query_pool(self.prepared), self.recipe.sampling.max_new_tokens
            found = forecast_judging(config, asked, self.recipe.seed, longest)
            if found is not None:
                self.console.say(forecast_line(found))

    def measure_base(self) -> list[dict[str, Any]]:
        """Check the base, profile it, evaluate it. Its weights are held no longer than that."""
        base = self.trainings.load(self.base_start)
        self.check_disk()
        self.check_policy(base)
        cells = self.profile_base(base)
        if self.recipe.difficulty is not None:
            self.measure_difficulty(base)
        if "base" in self.recipe.evaluation.models:
            self.evaluate("base", lambda: base, self.base_start.sha256)
        return cells

    def check_disk(self) -> None:
        """Say what the run needs and what is free; go no further where two checkpoints do not fit."""

        def check() -> None:
            _, facts = describe_model(self.recipe.model)
            disk = disk_of(self.recipe, facts)
            self.console.say(told(disk, self.folder))
            require_room(self.recipe, self.directory.run["phases"], disk)

        processes.on_main(check)

    def check_policy(self, policy: Policy) -> None:
        """One group, packed and plain, must give the same log-probabilities on this very model and machine."""
        if policy.packed:
            prompt = policy.processor.encode_question(self.prepared.of("train")[0])
            sampling = self.recipe.sampling.model_copy(update={"group_size": 2, "temperature": 1.0})
            check_packed(policy, rollout(policy, [prompt], sampling, seed=0)[0])

    def profile_base(self, base: Policy) -> list[dict[str, Any]]:
        """What the base can do in each (task, form), by sampling."""
        path = self.folder / "eval" / "profile.json"
        recipe = self.recipe
        per_step = recipe.rl.prompts_per_step * recipe.sampling.group_size
        planned = {form: round(steps * per_step) for form, steps in recipe.curriculum.planned_updates().items()}
        if not processes.on_main(path.is_file):
            self.console.say("profiling the base by sampling")
            cells = profile(
                base,
                {form: self.prepared.of("train", form) for form in FORMS if self.prepared.of("train", form)},
                recipe.evaluation.profile,
                recipe.sampling,
                recipe.rewards,
                recipe.seed,
            )
            self.write("eval/profile.json", {"cells": with_plan(cells, planned)})
        measured = processes.on_main(lambda: read_json(path)["cells"])
        found = with_plan(measured, planned)
        if found != measured:  # a budget grew since
            self.write("eval/profile.json", {"cells": found})
        for cell in found:
            self.console.say(
                f"base {cell['task']} {cell['form']}: pass rate {cell['pass_rate']:.2f}, chance {cell['chance']:.2f}"
                + (" (at chance)" if cell["at_chance"] else "")
            )
        return found

    def measure_difficulty(self, base: Policy) -> None:
        """From here on training asks the questions that the section difficulty leaves, in its order."""
        selection = training_questions(
            self.recipe, self.prepared, lambda: base, self.folder / "difficulty", self.say_held
        )
        self.trainings = replace(self.trainings, selection=selection)
        self.write("data/card.json", {**self.prepared.card, "difficulty": selection.account})
        self.note("difficulty", {})

    def curriculum(self, cells: Sequence[Mapping[str, Any]]) -> tuple[list[Published], list[str]]:
        """(the published stages in order, the names of those left out). Each starts from the one before.

        What the curriculum is for, its last stage as written, is never left out, wherever the schedule puts it.
        """
        config = self.recipe.curriculum
        scheduled = config.scheduled()
        published: list[Published] = []
        left_out: list[str] = []
        earlier: list[str] = []
        start = self.base_start
        for number, stage in enumerate(scheduled, start=1):
            needed = stage.name == config.stages[-1].name or stage is scheduled[-1]
            if config.skip_at_chance and not needed and stages_at_chance(cells, list(stage.forms)):
                left_out.append(stage.name)
                self.console.say(f"stage {stage.name} is left out: the base is at chance in every task of its forms")
                continue
            used = sum(int(done.record["steps"]) for done in published)
            budget = config.total_steps - used if stage.steps == "rest" else stage.steps
            name = f"{number:02d}-{stage.name}"
            done = self.trainings.rl("curr_rl", name, self.folder / "stages" / name, stage, budget, earlier, start)
            published.append(done)
            earlier += stage.forms
            start = Start.of_published(done)
        return published, left_out

    def plain_rl(self) -> Published:
        """The baseline: the forms of the last stage as written, whatever the schedule; all updates, from the base."""
        stage = self.recipe.curriculum.stages[-1].model_copy(update={"replay": 0.0, "gate": None, "name": "rl"})
        budget = self.recipe.curriculum.total_steps
        return self.trainings.rl("rl", "rl", self.folder / "baselines" / "rl", stage, budget, [], self.base_start)

    def plain_sft(self) -> Published:
        """The baseline: supervised fine-tuning on the written answers of the same items."""
        assert self.recipe.sft is not None
        examples = written_examples(self.prepared)
        return self.trainings.sft("sft", self.folder / "baselines" / "sft", examples, self.recipe.sft, self.base_start)

    def rounds(self, curr_rl: Published) -> Published:
        """Phase 2; and as often as the recipe says, the last stage and phase 2 again, each from what the one before
        came to. Every one is evaluated."""
        config, wanted = self.recipe.self_improvement, self.recipe.evaluation.models
        assert config is not None
        last = curr_rl
        for number in range(rounds.FIRST, config.rounds + 1):
            again = None if number == rounds.FIRST else self.last_stage_again(number, last)
            if again is not None:
                last = again
                if "curr_rl" in wanted:
                    self.evaluate_published(rounds.named("curr_rl", number), last)
            last, account = self.self_improvement(number, last)
            self.improved.append((again, account))
            if "curr_reft" in wanted:
                self.evaluate_published(rounds.named("curr_reft", number), last)
        return last

    def last_stage_again(self, number: int, before: Published) -> Published:
        """GRPO on the forms of the last stage as written, from what the round before came to."""
        assert self.recipe.self_improvement is not None
        stage = self.recipe.curriculum.stages[-1].model_copy(update={"replay": 0.0})
        budget = self.recipe.self_improvement.round_steps or self.recipe.curriculum.steps()[-1]
        name, folder = rounds.rl_stage(number, stage.name), rounds.rl_folder(self.folder, number)
        return self.trainings.rl("curr_rl", name, folder, stage, budget, [], Start.of_published(before))

    def self_improvement(self, number: int, curr_rl: Published) -> tuple[Published, dict[str, Any]]:
        """Phase 2: the curr_rl model answers, a judge scores, the best are kept and learned."""
        config = self.recipe.self_improvement
        assert config is not None
        run, folder = rounds.named("self_improvement", number), rounds.improve_folder(self.folder, number)
        processes.on_main(partial(folder.mkdir, parents=True, exist_ok=True))
        self.say_held("self-improvement: sampling, judging, selecting")
        start = Start.of_published(curr_rl)
        examples, account = keep_best_answers(
            partial(self.trainings.load, start),
            query_pool(self.prepared),
            folder,
            config,
            self.recipe.sampling,
            self.recipe.rewards,
            self.recipe.seed,
            start.sha256,
            self.processor,
            self.say_held,
            number,
        )
        self.require_same_judge()
        self.console.say(f"kept {account['kept']} of {account['candidates']} answers to {account['queries']} queries")
        if not examples:
            self.console.say(
                f"nothing to learn, {rounds.named('curr_reft', number)} is {rounds.named('curr_rl', number)} "
                f"({folder / 'account.json'} says what became of the answers)"
            )
            return curr_rl, account
        if not self.directory.phase_done(f"{run}/{run}"):
            rows = processes.on_main(partial(sha256_file, folder / KEPT))
            self.directory.require_same(f"the kept answers ({folder / KEPT})", f"{run}_rows_sha256", rows)
        sft = config.sft
        if len(examples) == 1 and sft.validation_share:  # not a reason to end a run that came so far
            self.console.say("the one answer kept is learned; none is left for self_improvement.sft.validation_share")
            sft = sft.model_copy(update={"validation_share": 0.0})
        return self.trainings.sft(run, folder, examples, sft, start), account

    def evaluate_published(self, name: str, published: Published) -> None:
        self.evaluate(name, partial(self.trainings.load, Start.of_published(published)), published.weights_sha256)

    def evaluate(self, name: str, load: Callable[[], Policy], sha256: str | None) -> None:
        """Greedy answers to both test splits and to the general pool; a variant evaluated before is read, and its
        weights are not."""
        self.say_held(f"evaluating {name}")
        recipe, load = self.recipe, cache(load)
        self.evaluation[name] = evaluate_variant(
            name,
            load,
            {split: self.prepared.of(split) for split in SUITES},
            self.folder / "eval",
            recipe.evaluation,
            recipe.sampling,
            recipe.rewards,
            sha256,
        )
        cells = self.prepared.general()
        if cells:
            self.general[name] = evaluate_general(
                name,
                load,
                cells,
                self.folder / "eval",
                recipe.sampling,
                recipe.rewards,
                recipe.evaluation.bootstrap,
                sha256,
            )
        self.note(f"eval/{name}", {})

    def finish(self, stages: Sequence[Published], left_out: Sequence[str], last: Published) -> Path:
        """The final model, the summary, the report, the card: by one process for all."""
        self.directory.require_held()
        Start.of_published(last).require_unchanged()
        return processes.on_main(partial(self._finish, stages, left_out, last))

    def _finish(self, stages: Sequence[Published], left_out: Sequence[str], last: Published) -> Path:
        _copy_model(last.model, self.folder / "model")
        summary = summarise(
            seconds=self.elapsed(),
            model=self.recipe.model.path,
            seed=self.recipe.seed,
            stages=[stage.record for stage in stages],
            left_out=left_out,
            rounds=[(again.record if again else None, account) for again, account in self.improved],
            evaluation={name: self.evaluation[name] for name in self.recipe.evaluation.models} | self.evaluation,
            general={name: self.general[name] for name in self.recipe.evaluation.models if self.general} | self.general,
            differences=differences(self.folder / "eval", list(self.evaluation), self.recipe.evaluation.bootstrap),
        )
        write_json(self.folder / "summary.json", summary)
        self.directory.set_state("done")  # before the report, which says it
        report = build_report(self.folder)
        write_card(self.folder)
        self.note(LAST_PHASE, {})
        lines = table(summary["evaluation"]) + (general_table(summary["general"]) if summary["general"] else [])
        for line in lines:
            self.console.result(line)
        self.console.result(f"report: {report}")
        return report

    def write(self, name: str, value: Mapping[str, Any]) -> None:
        """A JSON file of the run directory, whole when this returns."""
        self.directory.require_held()

        def write() -> None:
            path = self.folder / name
            path.parent.mkdir(exist_ok=True)
            write_json(path, value)

        processes.on_main(write)

    def say_held(self, line: str) -> None:
        """Say a line of work that writes files on its way, if the directory is still this run's alone."""
        self.directory.require_held()
        self.console.say(line)

    def elapsed(self) -> float:
        return self.seconds_before + time.perf_counter() - self.started

    def sync(self) -> None:
        """Metrics and the time so far are on the disk before the checkpoint that they belong to."""
        self.directory.sync_metrics()
        self.directory.note_seconds(self.elapsed())

    def note(self, phase: str, record: Mapping[str, Any]) -> None:
        """Mark a phase done, once, with the seconds of work so far."""
        if not self.directory.phase_done(phase):
            self.directory.mark_done(phase, {**record, "seconds": round(self.elapsed(), 1)})
            self.directory.note_seconds(self.elapsed())


def _copy_model(source: Path, target: Path) -> None:
    for leftover in target.parent.glob(f".{target.name}-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    aside = target.with_name(f".{target.name}-{os.getpid()}")
    needed = folder_size(source)
    require_space(target, needed)
    with reporting_full_disk(target, needed):
        shutil.copytree(source, aside)
        sync_tree(aside)
    shutil.rmtree(target, ignore_errors=True)
    aside.rename(target)
