"""The recipe as text, with a comment for everything that was chosen. What it says is read back before it is written."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from curr_reft.init.choices import Choice
from curr_reft.init.settings import Settings

WIDTH = 118


@dataclass(frozen=True, kw_only=True)
class Draft:
    """All that a recipe is written of."""

    name: str
    file: str  # the recipe, as a shell takes it
    model: str
    settings: Settings
    train: Mapping[str, Any]  # an entry
    test: Mapping[str, Any] | None  # an entry; None: split off train
    forms: Sequence[str]  # that questions can be made in
    bounds_pixels: bool = False  # whether the model's family knows max_pixels
    left_out: Mapping[str, str] = field(default_factory=dict)  # form -> why it has no stage
    steps: int = 100  # of a stage
    prompts_per_step: int = 8
    choices: Sequence[Choice] = ()


def recipe_text(draft: Draft) -> str:
    """YAML that ``load_recipe`` takes."""
    small = draft.settings.small
    lora = draft.settings.lora
    blocks = [
        *_comment(f"Written by curr-reft init. Next: curr-reft check {draft.file}"),
        f"name: {_value(draft.name)}",
        "seed: 0",
        f"output: {_value(f'runs/{draft.name}')}",
        "",
        "model:",
        f"  path: {_value(draft.model)}",
        *_of(draft, "memory", "  "),
        f"  dtype: {draft.settings.dtype}",
        *(["  lora: {rank: 16, alpha: 32}"] if lora else []),
        *(["  quantize: nf4"] if draft.settings.quantize else []),
        f"  gradient_checkpointing: {str(draft.settings.gradient_checkpointing).lower()}",
        *(["  max_pixels: 401408           # fewer: faster, coarser"] if draft.bounds_pixels and not small else []),
        "",
        "data:",
        "  kind: files",
        "  files:",
        "    train:",
        *_entry(draft.train, draft.choices),
        *_test(draft),
        *_of(draft, "few rows", "    "),
        "  bad_rows: fail               # skip: go on without rows that cannot be used, and count them",
        "",
        "sampling:",
        f"  group_size: {draft.settings.group_size}                # answers to each question, which are compared",
        f"  max_new_tokens: {draft.settings.max_new_tokens}",
        f"  rows_at_once: {draft.settings.rows_at_once}            # answers decoded together; fewer: less memory",
        "",
        "rl:",
        f"  prompts_per_step: {draft.prompts_per_step}",
        "  micro_batch_tokens: auto     # as many as fit; changes no result",
        f"  optimizer: {{lr: {_rate(small, lora)}}}       # {_why_rate(small, lora)}",
        "  objective: {beta: 0.0}       # above 0: a KL penalty; with full training the reference is a second model",
        "",
        "curriculum:",
        *_of(draft, "steps", "  "),
        f"  total_steps: {draft.steps * len(draft.forms)}",
        "  stages:",
        *_stages(draft),
        "",
        "checkpoint:",
        f"  every: {max(5, draft.steps // 4)}",
        "",
        "evaluation:",
        *_comment("sft needs a section sft, curr_reft a section self_improvement: docs/recipes.md", "  "),
        "  models: [base, curr_rl]",
    ]
    return "\n".join(blocks) + "\n"


def _entry(entry: Mapping[str, Any], choices: Sequence[Choice]) -> list[str]:
    """One key a line, with the comments of what was chosen before it."""
    about = {"columns": [choice for choice in choices if choice.what.startswith("column ")]}
    lines: list[str] = []
    for number, (key, value) in enumerate(entry.items()):
        for choice in about.get(key) or [choice for choice in choices if choice.what == key]:
            column = f"{choice.what.removeprefix('column ')} is " if key == "columns" else ""
            lines += _comment(column + _said(choice), "        ")
        lines.append(f"      {'-' if number == 0 else ' '} {key}: {_value(value)}")
    # What was chosen and is the default anyway has no key; it is said all the same.
    unsaid = [
        choice
        for choice in choices
        if choice.what in ("task", "boxes", "box_format", "image_root") and choice.what not in entry
    ]
    for choice in unsaid:
        lines += _comment(f"{choice.what}: {_said(choice)}", "        ")
    return lines


def _test(draft: Draft) -> list[str]:
    if draft.test is None:
        return [
            *_of(draft, "test", "    "),
            "    test_fraction: 0.1",
        ]
    return ["    test:", *_entry(draft.test, [])]


def _stages(draft: Draft) -> list[str]:
    lines: list[str] = []
    for form, why in draft.left_out.items():
        lines += _comment(f"no stage {form}: {why}", "    ")
    for number, form in enumerate(draft.forms):
        last = number == len(draft.forms) - 1
        steps = "rest" if last else str(draft.steps)
        gate = "" if last else ", gate: {accuracy: 0.8}"
        replay = "" if number == 0 else ", replay: 0.3"
        lines.append(f"    - {{name: {form}, forms: {{{form}: 1}}, steps: {steps}{gate}{replay}}}")
    return lines


def _rate(small: bool, lora: bool) -> str:
    return "1.0e-4" if small else "1.0e-5" if lora else "1.0e-6"


def _why_rate(small: bool, lora: bool) -> str:
    if small:
        return "tiny models learn with large steps"
    return "ten times that of full training" if lora else "Curr-ReFT's"


def _of(draft: Draft, what: str, indent: str) -> list[str]:
    return [line for choice in draft.choices if choice.what == what for line in _comment(_said(choice), indent)]


def _said(choice: Choice) -> str:
    instead = f". Instead: {choice.instead}" if choice.instead else ""
    return f"{choice.value}: {choice.why}{instead}"


def _comment(text: str, indent: str = "") -> list[str]:
    lines, line = [], f"{indent}#"
    for word in text.replace("\n", " ").split():
        if len(line) + 1 + len(word) > WIDTH and line != f"{indent}#":
            lines.append(line)
            line = f"{indent}#"
        line += f" {word}"
    return [*lines, line]


def _value(value: Any) -> str:
    """As JSON, which YAML is; plain words stay bare."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_value(key)}: {_value(each)}" for key, each in value.items()) + "}"
    text = str(value)
    plain = text.replace("-", "").replace("_", "").replace("/", "").replace(".", "")
    if (
        plain.isalnum()
        and text[0].isalpha()
        and text.lower() not in ("true", "false", "null", "yes", "no", "on", "off")
    ):
        return text
    return json.dumps(text, ensure_ascii=False)
