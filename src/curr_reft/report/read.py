"""The files of a run directory as the report needs them. A missing or damaged file is noted, never fatal.

The page and the card are shown to others, so paths of the disk they were made on are shortened here: to a path from the
run directory, or to the name of the file.

Nothing here knows how a file was made; its keys are described in docs/architecture.md.
"""

import json
import math
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from curr_reft import recipe_source, rounds
from curr_reft.errors import DataError, RecipeError, UsageError
from curr_reft.evaluate.intervals import require_inside
from curr_reft.files import read_json, read_jsonl
from curr_reft.run_history import Unchanged, unchanged_models
from curr_reft.run_record import METRICS_ENTRY

MODELS = {  # in the order of the table; the names are those of summary.json
    "base": "Base",
    "sft": "SFT",
    "rl": "RL",
    "curr_rl": "Curr-RL",
    "curr_reft": "Curr-ReFT",
}
SPLITS = {"in_domain": "In-domain", "out_of_domain": "Out-of-domain"}

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Improvement:
    """Phase 2 of one round."""

    number: int
    account: dict[str, Any] = field(default_factory=dict)
    kept: list[dict[str, Any]] = field(default_factory=list)


@dataclass(kw_only=True)
class RunFiles:
    """What a run left behind. Empty where a file is not there; ``missing`` says which and why."""

    path: Path
    summary: dict[str, Any] = field(default_factory=dict)
    run: dict[str, Any] = field(default_factory=dict)
    recipe: str = ""  # recipe.yaml as text
    train: list[dict[str, Any]] = field(default_factory=list)  # metrics.jsonl, kind train
    validation: list[dict[str, Any]] = field(default_factory=list)  # metrics.jsonl, kind validation
    card: dict[str, Any] = field(default_factory=dict)
    profile: list[dict[str, Any]] = field(default_factory=list)  # cells
    stages: list[dict[str, Any]] = field(default_factory=list)  # manifests, in the order of their folders
    rounds: list[Improvement] = field(default_factory=list)  # of self-improvement
    predictions: dict[str, list[dict[str, Any]]] = field(default_factory=dict)  # by model, in the order of MODELS
    missing: list[str] = field(default_factory=list)
    unchanged: Unchanged = field(default_factory=lambda: Unchanged(final="curr_rl"))

    @property
    def evaluation(self) -> dict[str, dict[str, Any]]:
        """``summary["evaluation"]`` in the order of MODELS."""
        found = as_dict(self.summary.get("evaluation"))
        return {name: as_dict(found[name]) for name in in_order(found)}

    @property
    def tasks(self) -> list[str]:
        """Every task that was evaluated, in order of appearance."""
        splits = (as_dict(split) for scores in self.evaluation.values() for split in scores.values())
        return list(dict.fromkeys(task for split in splits for task in split if task != "mean"))

    @property
    def splits(self) -> dict[str, str]:
        """The test splits that a model was evaluated on, with their names on the page."""
        scores = self.evaluation.values()
        return {split: label for split, label in SPLITS.items() if any(split in each for each in scores)}

    @property
    def name(self) -> str:
        return str(self.run.get("name") or self.path.resolve().name)

    @property
    def embedded(self) -> bool:
        """Whether the model is the one that comes with the package."""
        return "embedded" in json.dumps(self.summary.get("model", "")).lower()


def in_order(names: Any) -> list[str]:
    """Model names in the order of MODELS, those of further rounds after them, then others."""
    order = list(MODELS)

    def place(name: str) -> tuple[bool, int, int, str]:
        model, number = rounds.parted(name)
        known = model in order
        return (not known, number, order.index(model) if known else 0, name)

    return sorted(map(str, names), key=place)


def label_of(model: str) -> str:
    """How the page names ``model``."""
    name, number = rounds.parted(model)
    return MODELS.get(name, name) + (f", round {number}" if number > rounds.FIRST else "")


def read_run(path: Path) -> RunFiles:
    """Raises UsageError when ``path`` is no run directory, DamagedError for a mean outside its interval."""
    path = Path(path)
    if not path.is_dir() or not any((path / name).is_file() for name in ("summary.json", "run.json", "metrics.jsonl")):
        raise UsageError(f"{path} is not a run directory: it has no summary.json, run.json or metrics.jsonl")
    files = RunFiles(path=path)

    def optional(name: str, read: Callable[[Path], T], empty: T, kind: type) -> T:
        try:
            value = read(path / name)
        except FileNotFoundError:
            files.missing.append(f"{name} is not there")
            return empty
        except (OSError, ValueError, DataError) as error:
            files.missing.append(f"{name} cannot be read: {error}")
            return empty
        if not isinstance(value, kind):
            files.missing.append(f"{name} holds a {type(value).__name__}, not a {kind.__name__}")
            return empty
        return value

    no_keys: dict[str, Any] = {}
    rows_of: Callable[[Path], list[Any]] = read_jsonl
    files.unchanged = unchanged_models(path)
    files.summary = optional("summary.json", read_json, {}, dict)
    require_inside(files.summary, str(path / "summary.json"))
    files.run = optional("run.json", read_json, {}, dict)
    files.recipe = optional("recipe.yaml", lambda file: file.read_text(encoding="utf-8"), "", str)
    # Rows after the last save have no hash yet.
    saved: Callable[[Path], list[Any]] = partial(read_jsonl, size=as_dict(files.run.get(METRICS_ENTRY)).get("size"))
    rows = _dicts(optional("metrics.jsonl", saved, [], list))
    files.train = _last_of_each_step(row for row in rows if row.get("kind") == "train")
    files.validation = _last_of_each_step(row for row in rows if row.get("kind") == "validation")
    files.card = optional("data/card.json", read_json, {}, dict)
    files.profile = _dicts(optional("eval/profile.json", read_json, no_keys, dict).get("cells"))
    manifests = sorted(path.glob("stages/*/manifest.json"))
    if not manifests:
        files.missing.append("stages/*/manifest.json are not there")
    for manifest in manifests:
        name = manifest.relative_to(path).as_posix()
        value = optional(name, read_json, no_keys, dict)
        if value:
            files.stages.append({"folder": manifest.parent.name} | value)
    for number in (rounds.FIRST, *rounds.begun(path)):
        improve = rounds.improve_folder(path, number)
        for folder in (improve,) if number == rounds.FIRST else (rounds.rl_folder(path, number), improve):
            name = folder.relative_to(path).as_posix()
            if (folder / "manifest.json").is_file():
                files.stages.append({"folder": name} | optional(f"{name}/manifest.json", read_json, no_keys, dict))
        files.rounds.append(
            Improvement(
                number=number,
                account=optional(f"{name}/account.json", read_json, no_keys, dict) or _summarised(files, number),
                kept=_dicts(optional(f"{name}/kept.jsonl", rows_of, [], list)),
            )
        )
    names = [file.name.removesuffix(".predictions.jsonl") for file in path.glob("eval/*.predictions.jsonl")]
    if not names:
        files.missing.append("eval/*.predictions.jsonl are not there")
    for name in in_order(names):
        files.predictions[name] = _dicts(optional(f"eval/{name}.predictions.jsonl", rows_of, [], list))
    return _without_places(files)


_NAME = r"[^\s/'\"`,;:(){}\[\]<>]"
ABSOLUTE = re.compile(rf"(?<![\w.:/<~-])/(?:{_NAME}+/)+{_NAME}*|\b[A-Za-z]:\\{_NAME}+")
"""A path from the root of a disk, in the text of a message."""


def _without_places(files: RunFiles) -> RunFiles:
    """``files`` with every absolute path in what the run's own programs wrote shortened: recipe, state, summary, and
    notes on damaged files. Answers and questions stay as they are."""
    folder = files.path.resolve()
    project = folder.parents[min(1, max(0, len(folder.parts) - 4))]  # never the root, nor a folder of all users
    here = re.compile("|".join(re.escape(str(each)) + r"(?![\w.-])" for each in {folder, files.path.absolute()}))

    def shorten(path: str) -> str:
        inside = Path(path).is_relative_to(project)
        return os.path.relpath(path, folder) if inside else re.split(r"[\\/]", path.rstrip("\\/"))[-1]

    def clean(value: Any) -> Any:
        if isinstance(value, str):
            text = here.sub(lambda _: folder.name, value)
            return shorten(text) if _is_absolute(text) else ABSOLUTE.sub(lambda found: shorten(found[0]), text)
        if isinstance(value, dict):
            return {key: clean(each) for key, each in value.items()}
        return [clean(each) for each in value] if isinstance(value, list) else value

    files.summary, files.run = clean(files.summary), clean(files.run)
    files.missing = [clean(line) for line in files.missing]
    try:
        recipe = recipe_source.parse(files.recipe, "recipe")
        output = str(as_dict(recipe).get("output", ""))
        if _is_absolute(output):  # of a run that was moved it is another place than this one
            recipe = {**recipe, "output": Path(output).name}
            files.recipe = recipe_source.write(recipe)
    except RecipeError:
        files.recipe = clean(files.recipe)
    else:
        files.recipe = files.recipe if clean(recipe) == recipe else recipe_source.write(clean(recipe))
    return files


def _is_absolute(text: str) -> bool:
    """Whether the whole text is one path, which may hold spaces."""
    return not re.search(r"\n|: ", text) and bool(re.match(r"/[^/\s]|[A-Za-z]:[\\/](?!/)", text))


def _summarised(files: RunFiles, number: int) -> dict[str, Any]:
    """What the summary says of a round whose account is not there."""
    found = files.summary.get("rounds")
    if isinstance(found, list) and len(found) >= number:
        return as_dict(found[number - 1])
    return as_dict(files.summary.get("self_improvement")) if number == rounds.FIRST else {}


def number(value: Any) -> float | None:
    """``value`` if it is a finite number, else None."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def _last_of_each_step(rows: Any) -> list[dict[str, Any]]:
    """One row a (run, stage, step): a resumed run may have written a step twice, and the later one counts."""
    found: dict[tuple[str, str, float], dict[str, Any]] = {}
    for row in rows:
        step = number(row.get("step"))
        if step is not None:
            key = (str(row.get("run")), str(row.get("stage")), step)
            found.pop(key, None)
            found[key] = row
    return list(found.values())


def as_dict(value: Any) -> dict[str, Any]:
    """``value`` if it is a JSON object, else an empty one."""
    return value if isinstance(value, dict) else {}


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []
