"""What can be exported: a model that a run published, or an adapter that peft saved."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from curr_reft import rounds
from curr_reft.errors import CheckpointError, DamagedError, UsageError
from curr_reft.files import read_json
from curr_reft.recipe import load_recipe
from curr_reft.run_history import BASE, unchanged_models
from curr_reft.run_record import FINAL_WEIGHTS, RECIPE, STATE, read_state, require_intact
from curr_reft.train.publish import MODEL, read_published, weights_hash

ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
FINAL = "final"
MODELS = (FINAL, "curr_reft", "curr_rl", "rl", "sft")
"""The last two as baselines; of further rounds curr_rl_round_2, curr_reft_round_2 and so on."""


@dataclass(frozen=True, kw_only=True)
class RunModel:
    """A published model of a run; its files were found to be those of its manifest."""

    run: Path
    name: str  # of MODELS or of a round, ``final`` resolved
    weights: Path
    base: str  # folder or hub name
    revision: str | None
    pixels: dict[str, int] = field(default_factory=dict)  # bounds that the recipe set on images

    @property
    def is_base(self) -> bool:
        """Whether no training improved on the base, so that its weights are those of this model."""
        return unchanged_models(self.run).same_as.get(self.name) == BASE


@dataclass(frozen=True, kw_only=True)
class Adapter:
    """An adapter folder of peft."""

    folder: Path
    base: str
    revision: str | None
    settings: dict[str, Any]  # of adapter_config.json


def find_source(
    path: Path, model: str | None = None, base: str | None = None, flag: str = "--model"
) -> RunModel | Adapter:
    """What ``path`` holds; ``model`` names one of a run's models, ``base`` a base model in place of the noted one.
    ``flag`` is the one by which users say ``model``.

    Raises UsageError for what is neither, CheckpointError for a published model whose files were changed.
    """
    if (path / ADAPTER_CONFIG).is_file():
        if model is not None:
            raise UsageError(f"{flag} {model} is for run directories; {path} is an adapter, leave it out")
        return _adapter(path, base)
    if (path / STATE).is_file() and (path / RECIPE).is_file():
        return _run_model(path, model or FINAL, base, flag)
    raise UsageError(
        f"{path} is neither a run directory ({STATE}, {RECIPE}) nor an adapter ({ADAPTER_CONFIG}); a model folder that "
        "is whole needs no merging"
    )


def require_published(model: Path) -> None:
    """Verify a model folder of a run: the final one (RUN/model), or that of a stage. Raises DamagedError,
    CheckpointError. Other folders are nobody's promise."""
    if model.name != MODEL or not model.is_dir():
        return
    read_published(model.parent)
    if (model.parent / STATE).is_file():
        expected = read_state(model.parent).get(FINAL_WEIGHTS)
        if expected is not None and weights_hash(model) != expected:
            remedy = f"remove {model} and repeat the run with --resume"
            raise DamagedError(f"the weights in {model} are not those that the run put there", remedy)


def _run_model(run: Path, model: str, base: str | None, flag: str) -> RunModel:
    require_intact(run)
    published = _published(run)
    if model == FINAL:
        if read_state(run)["state"] != "done":
            raise UsageError(
                f"{run} is not finished, so it has no final model yet; go on with --resume, or name one with {flag} "
                f"({', '.join(published) or 'none is published yet'})"
            )
        model = next(iter(published))
    if model not in (*published, *MODELS) and rounds.parted(model)[1] == rounds.FIRST:
        known = dict.fromkeys((*MODELS, *published))
        raise UsageError(f"{flag} {model}: the models of a run are {', '.join(known)}")
    found = read_published(published[model]) if model in published else None
    if found is None:
        there = ", ".join(published) or "none"
        raise UsageError(f"{run} published no model {model}; published are: {there}")
    config = load_recipe(run / RECIPE).model
    bounds = {"min_pixels": config.min_pixels, "max_pixels": config.max_pixels}
    return RunModel(
        run=run,
        name=model,
        weights=found.model,
        base=base or config.path,
        revision=None if base else config.revision,
        pixels={name: bound for name, bound in bounds.items() if bound is not None},
    )


def _published(run: Path) -> dict[str, Path]:
    """Model -> folder of those that the run published: what it came to last is the first, the baselines follow."""
    stages = sorted((run / "stages").glob("*/manifest.json"))
    folders: dict[str, Path] = {}
    for number in (*reversed(rounds.begun(run)), rounds.FIRST):
        folders[rounds.named("curr_reft", number)] = rounds.improve_folder(run, number)
        if number > rounds.FIRST:
            folders[rounds.named("curr_rl", number)] = rounds.rl_folder(run, number)
    if stages:
        folders["curr_rl"] = stages[-1].parent
    folders |= {name: run / "baselines" / name for name in ("rl", "sft")}
    return {name: folder for name, folder in folders.items() if (folder / "manifest.json").is_file()}


def _adapter(folder: Path, base: str | None) -> Adapter:
    path = folder / ADAPTER_CONFIG
    try:
        settings = read_json(path)
        named = base or settings.get("base_model_name_or_path")
    except (OSError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{path} is not readable ({error})") from error
    if not named:
        raise UsageError(f"{path} names no base model; name its folder with --base")
    if not (folder / ADAPTER_WEIGHTS).is_file():
        raise UsageError(
            f"{folder} holds no {ADAPTER_WEIGHTS}; weights that are pickled are not read, since that can run code; "
            "save the adapter again with safetensors"
        )
    for problem in _unsupported(settings):
        raise UsageError(f"{path}: {problem}; merge it with peft's own merge_and_unload")
    return Adapter(folder=folder, base=named, revision=None if base else settings.get("revision"), settings=settings)


def _unsupported(settings: dict[str, Any]) -> list[str]:
    """What an adapter may hold beside low-rank changes of linear layers, and would be lost."""
    kind = settings.get("peft_type")
    found = [] if kind == "LORA" else [f"peft_type {kind} is not LORA"]
    others = ("modules_to_save", "trainable_token_indices", "target_parameters", "lora_bias", "fan_in_fan_out")
    found += [f"{key} {settings[key]!r} is not merged here" for key in others if settings.get(key)]
    if settings.get("bias", "none") != "none":
        found.append(f"bias {settings['bias']!r} is not merged here")
    return found
