"""The run's schema: one frozen class put together from the sections of all rooms, read from YAML and flags.

Nothing heavy is imported: a wrong recipe is refused in well under a second, with every problem in one message.
"""

import difflib
import hashlib
import json
import os
import re
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, get_args

import pydantic
import pydantic_core
from pydantic import Field, field_validator, model_validator

from curr_reft import recipe_source
from curr_reft.config import Config
from curr_reft.curriculum.config import CurriculumConfig, DifficultyConfig
from curr_reft.data.config import DataConfig
from curr_reft.errors import RecipeError
from curr_reft.evaluate.config import EvaluationConfig
from curr_reft.improve.config import SelfImprovementConfig
from curr_reft.policy.config import EMBEDDED, ModelConfig, Part, SamplingConfig
from curr_reft.questions.config import QuestionsConfig
from curr_reft.recipe_schema import complete, is_text, suggestion
from curr_reft.recipe_source import Key, Source, split_flags
from curr_reft.rewards.config import RewardsConfig
from curr_reft.train.config import CheckpointConfig, RlConfig, SftConfig
from curr_reft.user_code import is_file, split_call

FORMS = ("binary", "choice", "open")
_SECRET = re.compile("api_?key|token$|secret|password|authorization|base_url", re.IGNORECASE)


def _default_output(data: dict[str, Any]) -> Any:
    return str(Path(f"runs/{data['name']}").absolute())  # text, as strict JSON takes no Path


class Recipe(Config):
    """Everything that decides a run, but for the machine it runs on."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="names the run and its directory")
    seed: int = Field(0, ge=0, description="every random draw is a function of it and of the draw's place")
    output: Path = Field(
        default_factory=_default_output,
        description="the run directory",
        json_schema_extra={"default": "runs/NAME"},
    )
    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    tasks: tuple[str, ...] = Field(
        (), description="classes of tasks of your own: path/to/file.py:Class or package.module:Class"
    )
    forms: tuple[str, ...] = Field(
        (), description="classes of forms of your own: path/to/file.py:Class or package.module:Class"
    )
    questions: QuestionsConfig = QuestionsConfig()
    rewards: RewardsConfig = RewardsConfig()
    sampling: SamplingConfig = SamplingConfig()
    rl: RlConfig = RlConfig()
    curriculum: CurriculumConfig
    difficulty: DifficultyConfig | None = Field(
        None, description="filter and order training questions by the base's pass rates; null: ask all, at random"
    )
    checkpoint: CheckpointConfig = CheckpointConfig()
    sft: SftConfig | None = Field(None, description="the SFT baseline; needed when evaluation.models names sft")
    self_improvement: SelfImprovementConfig | None = Field(
        None, description="phase 2; needed when evaluation.models names curr_reft"
    )
    evaluation: EvaluationConfig = EvaluationConfig()

    @field_validator("output", mode="before")
    @classmethod
    def _check_output(cls, output: Any) -> Any:
        if output == "":
            raise ValueError("must name a folder")
        return output

    @field_validator("tasks", "forms")
    @classmethod
    def _check_calls(cls, calls: tuple[str, ...]) -> tuple[str, ...]:
        for call in calls:
            split_call(call)
        return calls

    @model_validator(mode="after")
    def _check(self) -> "Recipe":
        problems = [f"{key}: {rule}" for key, rule in _contradictions(self)]
        if problems:
            raise ValueError("\n".join(problems))
        return self


def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe in the YAML file ``path`` with the flags ``overrides`` (``["--rl.optimizer.lr", "1e-6"]``) over it.

    Paths of data files are taken from the recipe's folder (in flags: from the working directory) and made absolute.
    Raises RecipeError with every problem: file and line or flag, dotted key, value, rule, nearest valid key.
    """
    path = Path(path)
    flags = split_flags(overrides)
    source = recipe_source.read(path)
    complete(Recipe, source.data)
    problems = source.override(flags, partial(is_text, Recipe))
    complete(Recipe, source.data)
    _anchor_paths(source, path.parent)
    try:
        # Strict, by way of JSON: there text is no number and true is not 1, but a list may fill a tuple.
        recipe = Recipe.model_validate_json(pydantic_core.to_json(source.data), strict=True)
    except pydantic.ValidationError as error:
        problems += _problems(error, source)
    if problems:
        if len(problems) == 1:
            raise RecipeError(problems[0])
        raise RecipeError(f"{path}: {len(problems)} problems\n" + "\n".join(f"  {problem}" for problem in problems))
    return recipe


def dump_recipe(recipe: Recipe) -> str:
    """The resolved recipe as YAML, every key with its value; ``load_recipe`` reads it back equal."""
    return recipe_source.write(recipe.model_dump(mode="json"))


def recipe_sha256(recipe: Recipe) -> str:
    """Hash of everything in the recipe but ``output``."""
    data = recipe.model_dump(mode="json", exclude={"output"})
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()


def flatten(data: Any, prefix: str = "") -> dict[str, Any]:
    """Dotted key -> value of nested plain data; lists of plain values and empty sections are values."""
    pairs: Iterator[tuple[Any, Any]]
    if isinstance(data, dict) and data:
        pairs = iter(data.items())
    elif isinstance(data, list) and any(isinstance(each, dict | list) for each in data):
        pairs = enumerate(data)
    else:
        return {prefix.removesuffix("."): data}
    flat = {}
    for key, value in pairs:
        flat.update(flatten(value, f"{prefix}{key}."))
    return flat


def _contradictions(recipe: Recipe) -> Iterator[tuple[str, str]]:
    """(dotted key, rule) of what no section can see alone."""
    models = recipe.evaluation.models
    if "sft" in models and recipe.sft is None:
        yield "evaluation.models", "names sft, which needs the section sft (sft: {steps: N})"
    if "curr_reft" in models and recipe.self_improvement is None:
        yield "evaluation.models", "names curr_reft, which needs the section self_improvement"
    if len(set(models)) < len(models):
        yield "evaluation.models", "names a model twice"
    improvement = recipe.self_improvement
    for key, sft in (("sft", recipe.sft), ("self_improvement.sft", improvement.sft if improvement else None)):
        if sft is not None and sft.freeze is not None and _nothing_to_train(recipe.model, sft.freeze):
            yield f"{key}.freeze", "leaves nothing to train; take a part out of it"
    if recipe.sampling.group_size < 2:
        yield "sampling.group_size", "must be at least 2: an answer is paid by comparison with its group"
    if recipe.sampling.temperature == 0:
        yield "sampling.temperature", "must be above 0: training needs answers that differ"
    if recipe.rl.one_prompt_pass:
        yield from (
            ("rl.one_prompt_pass", f"{rule}; set it to false, or {way}") for rule, way in _no_prompt_pass(recipe.model)
        )
    for position, stage in enumerate(recipe.curriculum.stages):
        key = f"curriculum.stages.{position}"
        if not stage.forms:
            yield f"{key}.forms", "names no form; give for example {open: 1}"
        for form, weight in stage.forms.items():
            if form not in FORMS and not recipe.forms:  # else its name is known once the code is loaded
                near = difflib.get_close_matches(form, FORMS, 1, 0.5)
                yield (
                    f"{key}.forms.{form}",
                    "unknown form; " + (f"did you mean {near[0]}?" if near else f"forms are {', '.join(FORMS)}"),
                )
            elif not 0 < weight < float("inf"):
                yield f"{key}.forms.{form}", f"a weight must be above 0, not {weight}"
        if isinstance(stage.steps, int) and stage.steps < 1:
            yield f"{key}.steps", f"must be at least 1, not {stage.steps}"
        if position == 0 and stage.replay > 0:
            yield f"{key}.replay", "the first stage has no earlier forms to replay; set it to 0"
    budgets = [stage.steps for stage in recipe.curriculum.stages]
    fixed = sum(steps for steps in budgets if isinstance(steps, int))
    if budgets[-1] == "rest" and fixed == recipe.curriculum.total_steps:
        yield "curriculum.total_steps", f"the earlier stages take all {fixed} steps, none is left for the last one"


def _no_prompt_pass(model: ModelConfig) -> Iterator[tuple[str, str]]:
    """(rule, way out) of what forbids to train from the rollout's own forward over the prompts."""
    if not model.packed:
        yield "on the plain path every completion has a prompt of its own", "set model.packed to true"
    if model.gradient_checkpointing:
        yield "model.gradient_checkpointing keeps no activations of a forward", "set that to false"
    if model.lora is not None and model.lora.dropout > 0:
        yield "model.lora.dropout is not what a rollout computes with", "set that to 0"


def _nothing_to_train(model: ModelConfig, freeze: Sequence[str]) -> bool:
    if model.lora is not None:
        return not set(model.lora.parts) - set(freeze)
    return len(set(freeze)) == len(get_args(Part))


def _anchor_paths(source: Source, folder: Path) -> None:
    """Make paths absolute, in place, so that code which changes the working directory later moves none of them.

    Data files, images and code are looked for from the recipe's folder (in a flag: from the working directory), the run
    directory, models and caches always from the working directory.
    """
    for key, from_recipe in list(_paths(source.data)):
        holder: Any = source.data
        for part in key[:-1]:
            holder = holder[part]
        base = folder if from_recipe and not source.place(key).startswith("--") else Path()
        holder[key[-1]] = str((base / os.path.expanduser(holder[key[-1]])).absolute())


def _paths(data: dict[str, Any]) -> Iterator[tuple[Key, bool]]:
    """Yield the keys that name files or folders, and whether they are looked for from the recipe's folder."""
    for key, value in _leaves(data):
        match key:
            case ("output",) | ("model", "image_cache") | ("difficulty", "cache") if value:
                yield key, False
            # Else the embedded model or the name of a repository.
            case (*_, "model", "path") if value != EMBEDDED and os.path.isdir(os.path.expanduser(value)):
                yield key, False
            case ("data", "files", _, int(), "path" | "image_root") if value and "://" not in value:
                yield key, True
            case ("self_improvement", "judge", "cache"):
                yield key, True
            case ("rewards", "custom", int(), "call") | ("tasks" | "forms", int()) if is_file(value):
                yield key, True
            case (*_, "model", "family") | (*_, "judge", "own", "call") if is_file(value):
                yield key, True


def _leaves(data: Any, key: Key = ()) -> Iterator[tuple[Key, str]]:
    """Every text in nested plain data, with its key."""
    if isinstance(data, str):
        yield key, data
    pairs = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for part, value in pairs:
        yield from _leaves(value, (*key, part))


def _problems(error: pydantic.ValidationError, source: Source) -> list[str]:
    """One line for each key that is wrong; the members of a union that all refuse a value make one line."""
    found: dict[str, list[str]] = {}
    for each in error.errors(include_url=False):
        if each["type"] == "default_factory_not_called":  # output, when name is wrong
            continue
        if each["loc"] == () and each["type"] == "value_error":
            for line in str(each["ctx"]["error"]).split("\n"):
                dotted, _, rule = line.partition(": ")
                place = source.place(_key(dotted, source.data))
                found.setdefault(f"{place}: {rule}" if place == f"--{dotted}" else f"{place}: {line}", [])
            continue
        key, value = _follow(each["loc"], source.data, missing=each["type"] == "missing")
        dotted = ".".join(map(str, key)) or "the recipe"
        unsaid = isinstance(value, dict | list) or each["type"] == "missing" or _may_be_secret(key)
        shown = "" if unsaid else f" = {json.dumps(value)[:80]}"
        place = source.place(key)
        head = f"{place}{shown.replace(' =', '')}: " if place == f"--{dotted}" else f"{place}: {dotted}{shown}: "
        found.setdefault(head, []).append(_rule(each, key, value))
    return [head + " or ".join(dict.fromkeys(rules)) for head, rules in found.items()]


def _may_be_secret(key: Key) -> bool:
    """Whether somebody may have written a key there by mistake: messages do not repeat it, as they end in logs."""
    return bool(key) and bool(_SECRET.search(str(key[-1])))


_SHAPES = {
    "tuple_type": "must be a list, as [a, b]",
    "list_type": "must be a list, as [a, b]",
    "dict_type": "must be keys with values, as {a: 1}",
    "model_type": "must be keys with values, as {a: 1}",
}
"""Of pydantic's kinds of errors those that it tells in words of JSON or Python."""


def _rule(error: Any, key: Key, value: Any) -> str:
    if error["type"] == "extra_forbidden":
        return f"unknown key; {suggestion(Recipe, key)}"
    if error["type"] == "missing":
        return "is required"
    if error["type"] in _SHAPES:
        named = key == ("model",) and isinstance(value, str)
        return _SHAPES[error["type"]] + (f"; a model is named by its key path: --model.path {value}" if named else "")
    text: str = error["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
    if error["type"] == "literal_error" and isinstance(value, str):
        allowed = [part.strip("' ") for part in error["ctx"]["expected"].replace(" or ", ", ").split(",")]
        near = difflib.get_close_matches(value, allowed, 1, 0.5)
        text += f"; did you mean {near[0]}?" if near else ""
    return text


def _key(dotted: str, data: Any) -> Key:
    return _follow(tuple(int(part) if part.isdecimal() else part for part in dotted.split(".")), data)[0]


def _follow(location: Sequence[str | int], data: Any, missing: bool = False) -> tuple[Key, Any]:
    """The key and its value; pydantic's location also names the members of unions, which are left out."""
    key: Key = ()
    value = data
    for position, part in enumerate(location):
        inside = (isinstance(value, dict) and part in value) or (
            isinstance(value, list) and isinstance(part, int) and part < len(value)
        )
        if inside:
            value = value[part]
            key = (*key, part)
        elif missing and position == len(location) - 1:
            key = (*key, part)
    return key, value
