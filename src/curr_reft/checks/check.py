"""``curr-reft check``: all that can be found wrong before a run costs anything, and what it will cost.

No weights are loaded: the processor says how prompts become tokens, and the sizes of the model are read off its
configuration.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curr_reft import disk_plan
from curr_reft.checks import costs, histogram, memory
from curr_reft.checks.costs import Disk, Steps
from curr_reft.checks.few import few_items
from curr_reft.checks.findings import Findings, look_at_data
from curr_reft.checks.memory import Memory, Prompt
from curr_reft.checks.model import ModelFacts, describe_model
from curr_reft.console import show
from curr_reft.data.frame import BoxFrame
from curr_reft.data.stream import what_to_do_about_rows
from curr_reft.errors import CheckpointError, UsageError
from curr_reft.files import write_json
from curr_reft.improve.judges import require_judge
from curr_reft.improve.judges.forecast import Forecast, forecast_judging, forecast_line
from curr_reft.policy.adapters import require_peft
from curr_reft.policy.config import ModelConfig
from curr_reft.policy.processor import ChatProcessor
from curr_reft.prepare import query_pool
from curr_reft.recipe import Recipe

NOT_CHECKED = "tokens of prompts, time, memory and disk"
WAYS_OUT = {
    "leaks": "leaks would make every test result worthless. Remove them from one of the splits, or set "
    "data.leaking_rows: skip; curr-reft data build writes all pairs to leaks.jsonl",
    "model": "model: --no-model checks the rest without it",
}
"""For problems whose reasons name none: kind -> what to do about all of them."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """What was found, and what a run will use as far as that could be told."""

    recipe: Recipe
    found: Findings
    judging: Forecast | None = None
    facts: ModelFacts | None = None
    longest: Prompt | None = None
    steps: Steps | None = None
    seconds: float | None = None
    disk: Disk | None = None
    memory: Memory | None = None
    fits: str = ""


def check(recipe: Recipe, *, with_model: bool = True, gpu_memory: int | None = None, json: Path | None = None) -> None:
    """Print what a run will use. Raises RecipeError, and UsageError with everything that was found wrong."""
    report = examine(recipe, with_model=with_model, gpu_memory=gpu_memory)
    for line in told(report):
        show(line)
    if json is not None:
        write_json(json, to_dict(report))
    if report.found.problems:
        raise UsageError(complaint(report.found))


def complaint(found: Findings) -> str:
    """Every problem on a line of its own, and what can be done about them. There is at least one."""
    problems = [f"{problem.place}: {problem.reason}" for problem in found.problems]
    if len(problems) > 1:
        problems.insert(0, f"{len(problems):,} problems")
    return "\n".join([*problems, *remedies(found)])


def remedies(found: Findings) -> list[str]:
    """What to do about the problems, by kind."""
    ways = [way for kind, way in WAYS_OUT.items() if found.of(kind)]
    if found.of("rows"):
        ways.insert(0, f"rows: {what_to_do_about_rows(found.data.mostly_bad if found.data else ())}")
    return ways


def examine(recipe: Recipe, *, with_model: bool = True, gpu_memory: int | None = None) -> Report:
    """Everything of ``check`` but printing. ``gpu_memory`` (bytes) stands for the device of a run elsewhere.

    Raises RecipeError for code of the recipe's own that does not load.
    """
    found = Findings()
    found.add("judge", _judge(recipe))
    known = _model(recipe.model, found) if with_model else None
    processor, facts = known or (None, None)
    box_frame = recipe.model.box_frame
    frame = processor.frame if processor else BoxFrame("pixels" if box_frame == "auto" else box_frame)
    look_at_data(recipe, frame, processor, found)
    longest = _longest(found)
    judging = _judging(recipe, found)
    if facts is None or longest is None:
        return Report(recipe=recipe, found=found, judging=judging, facts=facts)
    room, where = (gpu_memory, "--gpu-memory") if gpu_memory is not None else memory.present_memory()
    estimated = memory.estimate(recipe, facts, longest, on_gpu=not where.endswith("(no GPU)"))
    fits, impossible = memory.verdict(recipe, estimated, room, where)
    if impossible:
        found.add("memory", [("model", fits)])
    disk = costs.disk_of(recipe, facts)
    problem = costs.disk_problem(recipe, disk)
    found.add("disk", [problem] if problem else [])
    steps = costs.steps_of(recipe, longest)
    return Report(
        recipe=recipe,
        found=found,
        judging=judging,
        facts=facts,
        longest=longest,
        steps=steps,
        seconds=costs.seconds_of(recipe, facts, steps, longest),
        disk=disk,
        memory=estimated,
        fits=fits,
    )


def _judge(recipe: Recipe) -> Iterator[tuple[str, str]]:
    """What keeps the judge from beginning, long before it would: no key, no client."""
    if recipe.self_improvement is not None:
        try:
            require_judge(recipe.self_improvement.judge)
        except UsageError as error:
            yield "self_improvement.judge", str(error)


def _judging(recipe: Recipe, found: Findings) -> Forecast | None:
    """What a judge behind a server will be asked, where its queries could be drawn and it can begin."""
    config = recipe.self_improvement
    if config is None or found.prepared is None or found.of("questions") or found.of("judge"):
        return None
    return forecast_judging(config, query_pool(found.prepared), recipe.seed, recipe.sampling.max_new_tokens)


def _model(config: ModelConfig, found: Findings) -> tuple[ChatProcessor, ModelFacts] | None:
    try:
        require_peft(config)
        return describe_model(config)
    except (UsageError, CheckpointError) as error:
        place, colon, reason = str(error).partition(": ")
        found.add("model", [(place, reason) if colon else ("model", place)])
        return None


def _longest(found: Findings) -> Prompt | None:
    """The most that a prompt takes of those that the model can take."""
    if found.tokens is None:
        return None
    usable = [each for counts in found.tokens.by_form.values() for each in counts if each.problem is None]
    if not usable:
        return None
    return Prompt(tokens=max(each.tokens for each in usable), image_tokens=max(each.image_tokens for each in usable))


def told(report: Report) -> Iterator[str]:
    """The page, line by line."""
    recipe, facts, found = report.recipe, report.facts, report.found
    size = f", {facts.parameters / 1e6:,.1f} M parameters" if facts else " (not looked at)"
    yield f"recipe {recipe.name}: model {recipe.model.path}{size}"
    if found.data is not None and found.data.mostly_bad and recipe.data.bad_rows == "skip":
        yield f"  bad rows: {what_to_do_about_rows(found.data.mostly_bad)}"
    if facts and facts.trained != facts.parameters:
        yield f"  trained: {facts.trained / 1e6:,.1f} M parameters"
    yield from _questions(report)
    if found.tokens is not None and facts is not None and found.tokens.by_form:
        yield from histogram.lines(found.tokens.by_form, facts.longest)
        tight = sum(
            facts.longest - recipe.sampling.max_new_tokens < each.tokens <= facts.longest
            for counts in found.tokens.by_form.values()
            for each in counts
        )
        if tight:
            yield (
                f"    {tight:,} prompts leave fewer than sampling.max_new_tokens ({recipe.sampling.max_new_tokens}) to "
                "the model's limit"
            )
    yield from _stages(report)
    if report.judging is not None:
        yield f"  {forecast_line(report.judging)}"
    if report.memory is not None:
        what = "a group" if recipe.rl.micro_batch_tokens == "auto" else f"{recipe.rl.micro_batch_tokens:,} tokens"
        yield f"  memory of one process, micro-batches of {what}: {report.fits}"
        yield from memory.lines(report.memory)
    if report.disk is not None:
        yield f"  {disk_plan.told(report.disk, recipe.output)}"
    if report.seconds is not None:
        yield (
            f"  time: very roughly {report.seconds / 60:.0f} min at most for the curriculum on this machine's default "
            "device"
        )
    if report.memory is None:
        yield f"  not checked: {NOT_CHECKED}"


def _questions(report: Report) -> Iterator[str]:
    recipe, found = report.recipe, report.found
    if found.prepared is None:
        return
    prepared = found.prepared
    for split, forms in sorted(prepared.questions.items()):
        yield f"  {split}: " + ", ".join(f"{len(asked)} {form}" for form, asked in forms.items())
    splits = prepared.card["questions"]["splits"]
    for sentence in few_items(splits):
        yield f"  few: {sentence}"
    for split, card in splits.items():
        for task, by_form in card["skipped"].items():
            for form, reasons in by_form.items():
                for reason, count in reasons.items():
                    yield f"  {split}: {count} {task} items cannot be asked as {form}: {reason}"
    if recipe.difficulty is not None:
        asked = sum(len(prepared.of("train", form)) for form in recipe.curriculum.trained_forms())
        yield f"  difficulty: at most {asked * recipe.difficulty.samples:,} answers of the base before training"
    card = prepared.card
    bad = "bad, which stop a run," if recipe.data.bad_rows == "fail" and card["skipped_rows"] else "skipped"
    yield (
        f"  rows {bad} {card['skipped_rows']}, repaired {card['repaired_rows']}, listed twice {card['repeated_rows']}"
    )
    if card["unverified_rows"]:
        yield f"    of those skipped, the truths of {card['unverified_rows']} could not be verified in time"
    for what, count in card["repairs"].items():
        yield f"    repaired {count}: {what}"


def _stages(report: Report) -> Iterator[str]:
    recipe, steps = report.recipe, report.steps
    for stage in recipe.curriculum.scheduled():
        forms = ", ".join(f"{form} {share:.0%}" for form, share in stage.shares([]).items())
        updates = "the rest of the" if stage.steps == "rest" else f"{stage.steps}"
        yield f"  stage {stage.name}: {forms}; {updates} updates, replay {stage.replay:.0%}"
    if steps is None:
        return
    yield (
        f"  curriculum: {steps.updates} updates, {steps.completions:,} completions of at most "
        f"{recipe.sampling.max_new_tokens} tokens"
    )
    if steps.resampled:
        yield f"  resampling: up to {steps.resampled:,} completions more, in place of others"


def to_dict(report: Report) -> dict[str, Any]:
    """All numbers, for ``--json``."""
    found = report.found
    by_form = found.tokens.by_form if found.tokens else {}
    return {
        "recipe": report.recipe.name,
        "model": report.recipe.model.path,
        "problems": [vars(problem) for problem in found.problems],
        "rows": found.data.account() if found.data else None,
        "questions": found.prepared.card["questions"] if found.prepared else None,
        "tokens": {"limit": report.facts.longest, **histogram.numbers(by_form)} if by_form and report.facts else None,
        "parameters": {"all": report.facts.parameters, "trained": report.facts.trained} if report.facts else None,
        "judging": vars(report.judging) if report.judging else None,
        "steps": vars(report.steps) if report.steps else None,
        "seconds": report.seconds,
        "memory": {**report.memory.to_dict(), "verdict": report.fits} if report.memory else None,
        "disk": {**vars(report.disk), "needed": report.disk.needed} if report.disk else None,
    }
