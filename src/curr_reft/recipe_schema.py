"""The keys a recipe may have, read off the section classes: for defaults, for suggestions, for the documentation."""

import difflib
import types
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import pydantic_core
from pydantic.fields import FieldInfo

from curr_reft.config import Config

_WORDS = {
    int: "whole number",
    float: "number",
    str: "text",
    bool: "true or false",
    Path: "path",
    type(None): "null",
    Any: "any value",
}
_BOUNDS = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}


OTHER_TOOLS = {  # name in TRL, transformers, LLaMA-Factory, ms-swift, verl or EasyR1 -> (our key, more to know)
    "learning_rate": ("rl.optimizer.lr", "sft.optimizer.lr for the SFT baseline"),
    "lr": ("rl.optimizer.lr", "sft.optimizer.lr for the SFT baseline"),
    "num_generations": ("sampling.group_size", ""),
    "rollout_n": ("sampling.group_size", ""),
    "group_size": ("sampling.group_size", ""),
    "generation_batch_size": ("rl.prompts_per_step", "counted in prompts of all devices, not in completions"),
    "per_device_train_batch_size": ("rl.prompts_per_step", "counted in prompts of all devices, not in completions"),
    "train_batch_size": ("rl.prompts_per_step", "counted in prompts of all devices, not in completions"),
    "rollout_batch_size": ("rl.prompts_per_step", "counted in prompts of all devices, not in completions"),
    "gradient_accumulation_steps": ("rl.micro_batch_tokens", "a step is split by tokens, not by a number of batches"),
    "max_steps": ("curriculum.total_steps", "sft.steps for the SFT baseline"),
    "num_train_epochs": ("curriculum.total_steps", "a training is as long as its updates"),
    "total_epochs": ("curriculum.total_steps", "a training is as long as its updates"),
    "num_iterations": ("rl.objective.updates_per_batch", ""),
    "ppo_epochs": ("rl.objective.updates_per_batch", ""),
    "beta": ("rl.objective.beta", ""),
    "kl_coef": ("rl.objective.beta", ""),
    "epsilon": ("rl.objective.clip_low", "and rl.objective.clip_high"),
    "epsilon_high": ("rl.objective.clip_high", ""),
    "clip_ratio": ("rl.objective.clip_low", "and rl.objective.clip_high"),
    "loss_type": ("rl.objective.loss", ""),
    "dynamic_sample": ("rl.resample", ""),
    "max_completion_length": ("sampling.max_new_tokens", ""),
    "max_response_length": ("sampling.max_new_tokens", ""),
    "max_new_tokens": ("sampling.max_new_tokens", ""),
    "temperature": ("sampling.temperature", ""),
    "top_p": ("sampling.top_p", ""),
    "top_k": ("sampling.top_k", ""),
    "output_dir": ("output", ""),
    "run_name": ("name", ""),
    "experiment_name": ("name", ""),
    "model_name_or_path": ("model.path", ""),
    "model_id": ("model.path", ""),
    "model_revision": ("model.revision", ""),
    "torch_dtype": ("model.dtype", ""),
    "bf16": ("model.dtype", "bfloat16"),
    "fp16": ("model.dtype", ""),
    "attn_implementation": ("model.attention", ""),
    "flash_attn": ("model.attention", ""),
    "attn_impl": ("model.attention", ""),
    "gradient_checkpointing": ("model.gradient_checkpointing", ""),
    "trust_remote_code": ("model.trust_remote_code", ""),
    "use_peft": ("model.lora", "a section; {rank: 16} switches it on"),
    "finetuning_type": ("model.lora", "a section; without it all weights are trained"),
    "train_type": ("model.lora", "a section; without it all weights are trained"),
    "tuner_type": ("model.lora", "a section; without it all weights are trained"),
    "lora_r": ("model.lora.rank", ""),
    "lora_rank": ("model.lora.rank", ""),
    "lora_alpha": ("model.lora.alpha", ""),
    "lora_dropout": ("model.lora.dropout", ""),
    "lora_target": ("model.lora.targets", ""),
    "lora_target_modules": ("model.lora.targets", ""),
    "target_modules": ("model.lora.targets", ""),
    "use_dora": ("model.lora.dora", ""),
    "use_rslora": ("model.lora.rslora", ""),
    "load_in_4bit": ("model.quantize", ""),
    "quantization_bit": ("model.quantize", ""),
    "freeze_vit": ("model.freeze", "[vision]"),
    "freeze_vision_tower": ("model.freeze", "[vision]"),
    "freeze_vision_modules": ("model.freeze", "[vision]"),
    "freeze_aligner": ("model.freeze", "[aligner]"),
    "image_max_pixels": ("model.max_pixels", ""),
    "max_pixels": ("model.max_pixels", ""),
    "min_pixels": ("model.min_pixels", ""),
    "image_min_pixels": ("model.min_pixels", ""),
    "warmup_ratio": ("rl.optimizer.warmup", "a share of the updates"),
    "warmup_steps": ("rl.optimizer.warmup", "a share of the updates, not a number"),
    "lr_scheduler_type": ("rl.optimizer.schedule", ""),
    "weight_decay": ("rl.optimizer.weight_decay", ""),
    "max_grad_norm": ("rl.optimizer.max_grad_norm", ""),
    "adam_beta1": ("rl.optimizer.betas", "[0.9, 0.999]"),
    "adam_beta2": ("rl.optimizer.betas", "[0.9, 0.999]"),
    "adam_epsilon": ("rl.optimizer.eps", ""),
    "save_steps": ("checkpoint.every", "a checkpoint is validated and saved together"),
    "eval_steps": ("checkpoint.every", "a checkpoint is validated and saved together"),
    "save_freq": ("checkpoint.every", "a checkpoint is validated and saved together"),
    "save_total_limit": ("checkpoint.keep_last", ""),
    "load_best_model_at_end": ("checkpoint.hand_on", ""),
    "dataset": ("data.files.train", "a list, as [{path: rows.jsonl}]"),
    "dataset_name": ("data.files.train", "a list, as [{path: rows.jsonl}]"),
    "dataset_path": ("data.files.train", "a list, as [{path: rows.jsonl}]"),
    "train_files": ("data.files.train", "a list, as [{path: rows.jsonl}]"),
    "train_file": ("data.files.train", "a list, as [{path: rows.jsonl}]"),
    "val_dataset": ("data.files.validation", "a list, as [{path: rows.jsonl}]"),
    "eval_dataset": ("data.files.validation", "a list, as [{path: rows.jsonl}]"),
    "val_files": ("data.files.validation", "a list, as [{path: rows.jsonl}]"),
    "split_dataset_ratio": ("data.files.validation_fraction", ""),
    "val_size": ("data.files.validation_fraction", ""),
    "image_folder": ("data.files.train.N.image_root", ""),
    "media_dir": ("data.files.train.N.image_root", ""),
    "reward_funcs": ("rewards.custom", "a list, as [{name: mine, call: rewards.py:score}]"),
    "reward_weights": ("rewards.custom.N.weight", "rewards.format_weight and rewards.accuracy_weight"),
}
NOT_HERE = {  # names of other tools that no key answers -> what to do instead
    "report_to": "metrics are in metrics.jsonl of the run directory, and curr-reft report draws them",
    "logger": "metrics are in metrics.jsonl of the run directory, and curr-reft report draws them",
    "logging_steps": "every update is logged",
    "logging_dir": "metrics are in metrics.jsonl of the run directory",
    "do_train": "curr-reft run trains and evaluates",
    "do_eval": "curr-reft run trains and evaluates; curr-reft eval MODEL RECIPE evaluates alone",
    "stage": "curr-reft run carries out curriculum.stages; curr-reft sft fine-tunes alone",
    "use_vllm": "answers are sampled by the model that is trained, without another engine",
    "vllm_mode": "answers are sampled by the model that is trained, without another engine",
    "vllm_gpu_memory_utilization": "answers are sampled by the model that is trained, without another engine",
    "deepspeed": "start it with accelerate launch (docs/distributed.md)",
    "fsdp": "start it with accelerate launch (docs/distributed.md)",
    "nproc_per_node": "start it with accelerate launch (docs/distributed.md)",
    "resume_from_checkpoint": "curr-reft run RECIPE --resume goes on from the last checkpoint",
    "overwrite_output_dir": "nothing is overwritten; remove the run directory, or give another --output",
    "push_to_hub": "curr-reft push RUN_DIR --repo OWNER/NAME uploads a model",
    "hub_model_id": "curr-reft push RUN_DIR --repo OWNER/NAME uploads a model",
    "template": "the chat template is that of the model",
    "max_prompt_length": "prompts are not cut; curr-reft check counts their tokens",
    "max_seq_length": "prompts are not cut; curr-reft check counts their tokens",
    "cutoff_len": "prompts are not cut; curr-reft check counts their tokens",
    "max_length": "prompts are not cut; curr-reft check counts their tokens; sft.max_length for the SFT baseline",
}


def other_tools_name(name: str) -> str | None:
    """What a key or flag of another tool is here; None for a name that no other tool has."""
    plain = name.lower().replace("-", "_").rpartition(".")[2]
    if plain in NOT_HERE:
        return f"there is no such key here: {NOT_HERE[plain]}"
    if plain not in OTHER_TOOLS:
        return None
    key, note = OTHER_TOOLS[plain]
    return f"{name} is {key} here{f' ({note})' if note else ''}"


def other_tools_table() -> str:
    """The names of other tools as Markdown, a row for each of our keys."""
    rows: dict[str, tuple[list[str], list[str]]] = {}
    for name, (key, note) in OTHER_TOOLS.items():
        names, notes = rows.setdefault(f"`{key}`", ([], []))
        names.append(f"`{name}`")
        notes.append(note)
    for name, answer in NOT_HERE.items():
        rows.setdefault(answer, ([], []))[0].append(f"`{name}`")
    lines = ["| elsewhere | here | note |", "|---|---|---|"]
    for here, (names, notes) in rows.items():
        lines.append(f"| {', '.join(names)} | {here} | {'; '.join(dict.fromkeys(filter(None, notes)))} |")
    return "\n".join(lines) + "\n"


@dataclass(frozen=True, kw_only=True)
class KeyInfo:
    """One key of the schema. ``N`` stands for a place in a list, ``NAME`` for a name the user gives."""

    path: str  # rl.optimizer.lr, curriculum.stages.N.steps
    value: str  # what may stand there, in words
    required: bool
    default: Any  # plain data
    description: str
    section: type[Config] | None  # of a key that holds keys
    unwritten: Config | None  # that section where the recipe writes none of its keys, if there is one


def keys(section: type[Config], prefix: str = "", unwritten: Config | None = None) -> Iterator[KeyInfo]:
    """Every key below ``section``, sections before what they hold. With ``unwritten``, one of its instances, the
    defaults are what stands there, as ``complete`` fills them in."""
    for name, info in section.model_fields.items():
        kind, inner = _section_of(info.annotation)
        path = f"{prefix}{name}"
        required = unwritten is None and info.is_required()
        base = _base(info, name, unwritten)
        held = base if inner and isinstance(base, inner) else None
        yield KeyInfo(
            path=path,
            value=_type_text(info),
            required=required,
            default=_plain(base),
            description=info.description or (_first_line(inner) if inner else ""),
            section=inner,
            unwritten=held,
        )
        if inner:
            yield from keys(inner, f"{path}{ {'one': '', 'list': '.N', 'dict': '.NAME'}[kind] }.", held)


def complete(section: type[Config], data: dict[str, Any], default: Config | None = None) -> None:
    """Fill in, in place, what ``data`` leaves to the defaults of ``section``, or to ``default``, one of its instances.

    Pydantic drops a section's default as soon as one key of it is given; here the other keys keep their values.
    """
    for name, info in section.model_fields.items():
        if info.default_factory_takes_validated_data:
            continue
        if default is not None:
            base = getattr(default, name)
        elif info.is_required():
            base = None
        else:
            base = info.get_default(call_default_factory=True)
        if name not in data:
            if default is not None or not info.is_required():
                data[name] = _plain(base)
            continue
        kind, inner = _section_of(info.annotation)
        value = data[name]
        if inner and kind == "one" and isinstance(value, dict):
            complete(inner, value, base if isinstance(base, Config) else None)
        elif inner and kind == "list" and isinstance(value, list):
            for each in value:
                if isinstance(each, dict):
                    complete(inner, each)
        elif inner and kind == "dict" and isinstance(value, dict):
            for each in value.values():
                if isinstance(each, dict):
                    complete(inner, each)


def suggestion(root: type[Config], path: tuple[str | int, ...]) -> str:
    """What to write for the unknown key ``path``: the nearest key beside it, else anywhere, else what is valid."""
    section = root
    for part in path[:-1]:
        if isinstance(part, str) and part in section.model_fields:
            _, inner = _section_of(section.model_fields[part].annotation)
            section = inner or section
    wrong = str(path[-1])
    if len(path) == 1 and (known := other_tools_name(wrong)) is not None:
        return known
    if ":" in wrong:  # {rank:4} is a key called "rank:4"
        return f"YAML wants a space after the colon: {wrong.replace(':', ': ', 1)}"
    above = ".".join(map(str, path[:-1]))
    near = difflib.get_close_matches(wrong, section.model_fields, 1, 0.6)
    if near:
        return f"did you mean {above + '.' if above else ''}{near[0]}?"
    everywhere = [info.path for info in keys(root)]
    same = [known for known in everywhere if known.rsplit(".", 1)[-1] == wrong]
    near = difflib.get_close_matches(".".join(map(str, path)), same or everywhere, 1, 0.0 if same else 0.7)
    if near:
        return f"did you mean {near[0]}?"
    return f"valid keys{' of ' + above if above else ''}: {', '.join(section.model_fields)}"


def is_text(root: type[Config], dotted: str) -> tuple[bool, bool]:
    """Return whether the key ``dotted`` holds nothing but text or a path, and whether it may be null.

    A flag of such a key is taken as typed: YAML would end ``runs/q #2`` at its comment sign. Unknown keys hold no text.
    """
    annotation: Any = root
    for part in dotted.split("."):
        members = [each for each in _members(annotation) if each is not type(None)]
        annotation = members[0] if len(members) == 1 else None
        arguments = get_args(annotation)
        if _is_section(annotation) and part in annotation.model_fields:
            annotation = annotation.model_fields[part].annotation
        elif get_origin(annotation) in (tuple, list):
            annotation = arguments[0]
        elif get_origin(annotation) is dict:
            annotation = arguments[1]
        else:
            return False, False
    kinds = {get_args(each)[0] if get_origin(each) is Annotated else each for each in _members(annotation)}
    return bool(kinds - {type(None)}) and kinds <= {str, Path, type(None)}, type(None) in kinds


def reference(root: type[Config]) -> str:
    """Every key as Markdown, one table for each section."""
    blocks = []
    top = [info for info in keys(root) if "." not in info.path]
    blocks.append("## Top level\n\n" + _table(top))
    for info in keys(root):
        if info.section:
            rows = [row for row in keys(info.section, unwritten=info.unwritten) if "." not in row.path]
            prefix = _inside(info)
            blocks.append(f"## `{prefix}`\n\n{_documentation(info.section)}\n\n" + _table(rows))
    return "\n\n".join(blocks) + "\n"


def flags(root: type[Config], part: str = "") -> Iterator[tuple[str, str, str]]:
    """Every key that holds a value, and is ``part`` or below it, as (flag, its rule, its meaning), for ``--keys``."""
    for info in keys(root):
        if info.section is None and (not part or f"{info.path}.".startswith(f"{part}.")):
            rule = "required" if info.required else f"default {default_text(info.default)}"
            yield f"--{info.path}", f"{info.value.replace('`', '')}; {rule}", info.description


def default_text(value: Any) -> str:
    """A default, or a bound, as it would be written in a recipe."""
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, str):
        return value
    return pydantic_core.to_json(value).decode().replace('"', "").replace(",", ", ")


def _inside(info: KeyInfo) -> str:
    if info.value.startswith("list"):
        return f"{info.path}.N"
    return f"{info.path}.NAME" if info.value.startswith("NAME") else info.path


def _table(rows: list[KeyInfo]) -> str:
    lines = ["| key | value | default | meaning |", "|---|---|---|---|"]
    for row in rows:
        if row.section:
            optional = row.default is None and not row.required
            default = "required" if row.required else "null" if optional else "see below"
        else:
            default = "required" if row.required else f"`{default_text(row.default)}`"
        cells = (f"`{row.path}`", row.value, default, row.description)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)


def _documentation(section: type[Config]) -> str:
    return " ".join((section.__doc__ or "").split())


def _first_line(section: type[Config]) -> str:
    return (section.__doc__ or "").strip().split("\n")[0]


def _plain(value: Any) -> Any:
    return pydantic_core.from_json(pydantic_core.to_json(value))


def _base(info: FieldInfo, name: str, unwritten: Config | None) -> Any:
    """The value of a key that is not written; None for one that must be."""
    if info.default_factory_takes_validated_data:  # computed from other keys; the words are for people
        assert isinstance(info.json_schema_extra, dict), "such a key says its default in words"
        return info.json_schema_extra["default"]
    if unwritten is not None:
        return getattr(unwritten, name)
    return None if info.is_required() else info.get_default(call_default_factory=True)


def _members(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)


def _section_of(annotation: Any) -> tuple[Literal["one", "list", "dict"], type[Config] | None]:
    """How ``annotation`` holds sections, and which; (.., None) when it holds none, or one of several."""
    members = [each for each in _members(annotation) if each is not type(None)]
    if len(members) != 1:
        return "one", None
    member, arguments = members[0], get_args(members[0])
    if isinstance(member, type) and issubclass(member, Config):
        return "one", member
    if get_origin(member) in (tuple, list) and _is_section(arguments[0]):
        return "list", arguments[0]
    if get_origin(member) is dict and _is_section(arguments[1]):
        return "dict", arguments[1]
    return "one", None


def _is_section(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Config)


def _type_text(info: FieldInfo) -> str:
    return " ".join([_annotation_text(info.annotation), *_bounds(info)])


def _bounds(info: FieldInfo) -> list[str]:
    return [
        f"{sign} {default_text(getattr(rule, name))}"
        for rule in info.metadata
        for name, sign in _BOUNDS.items()
        if getattr(rule, name, None) is not None
    ]


def _annotation_text(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        return " or ".join(_annotation_text(each) for each in arguments)
    if origin is Literal:
        return " or ".join(f"`{each}`" for each in arguments)
    if origin is Annotated:  # one of several types that has bounds of its own
        return " ".join([_annotation_text(arguments[0]), *_bounds(arguments[1])])
    if origin in (tuple, list):
        inner = [each for each in arguments if each is not Ellipsis]
        return f"list of {_annotation_text(inner[0])}" if len(set(inner)) == 1 else "list"
    if origin is dict:
        return f"NAME: {_annotation_text(arguments[1])}"
    if _is_section(annotation):
        return "section"
    return _WORDS.get(annotation, getattr(annotation, "__name__", str(annotation)))
