"""The model card of a run: README.md beside the model, as model hubs expect it. Facts of the run directory only.

No answer of a model and no text of the recipe is copied into it: it is made to be published.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from curr_reft import rounds
from curr_reft.escaping import markdown as plain
from curr_reft.files import read_json, write_atomic
from curr_reft.report import views, words
from curr_reft.report.read import RunFiles, as_dict, label_of, read_run
from curr_reft.run_history import BASE

CARD = "README.md"
UNCHANGED_TAG = "base-weights-unchanged"
PROCESSOR_PACKAGES = {  # what the official processors import beside transformers, by model_type; others need nothing
    **dict.fromkeys(("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_5", "internvl", "llava_onevision"), ("torchvision",)),
    "smolvlm": ("torchvision", "num2words"),
}
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def write_card(run_dir: Path) -> Path:
    """Writes ``run_dir/README.md`` and returns its path. Raises UsageError when ``run_dir`` is no run directory."""
    files = read_run(Path(run_dir))
    path = files.path / CARD
    write_atomic(path, card_text(files).encode("utf-8", errors="replace"))
    return path


def card_text(files: RunFiles) -> str:
    """The card as Markdown with the front matter of model hubs."""
    final = files.unchanged.final
    parts = [
        _front_matter(unchanged=files.unchanged.final_is_base),
        f"# {plain(files.name)}",
        _origin(files, final, public_name(model_name(files))),
        _embedded_note(files),
        _use("model", model_type(files.path / "model")) if (files.path / "model").is_dir() else "",
        *_facts(files),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def export_card(files: RunFiles, model: str, kind: str) -> str:
    """The card of a folder that holds one ``model`` of the run, of the model type ``kind``."""
    base = public_name(model_name(files))
    parts = [
        _front_matter(base, unchanged=files.unchanged.same_as.get(model) == BASE),
        f"# {plain(files.name)}, {plain(label_of(model))}",
        f"{_origin(files, model, base)} The weights in this folder are those of {plain(label_of(model))} in the "
        "tables.",
        _embedded_note(files),
        _use(".", kind),
        *_facts(files),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def adapter_card(base: str, settings: Mapping[str, Any], kind: str) -> str:
    """The card of a folder that holds a base with an adapter merged in, of which only its settings are known."""
    base = public_name(base)
    named = settings.get("target_modules")
    targets = ", ".join(sorted(map(str, named))) if isinstance(named, list) else named
    facts = {
        "base": base,
        "adapter": "DoRA" if settings.get("use_dora") else "LoRA",
        "rank": settings.get("r"),
        "alpha": settings.get("lora_alpha"),
        "layers": targets,
    }
    parts = [
        _front_matter(base),
        f"# {plain(base)} with an adapter merged in",
        "Merged by curr-reft: added in float32, rounded once to the number type of the base. How the adapter was "
        "trained, and how well it does, its files do not say.",
        _use(".", kind),
        "## How it was made\n\n" + "\n".join(f"- {name}: {plain(value)}" for name, value in facts.items() if value),
    ]
    return "\n\n".join(parts) + "\n"


def public_name(model: str) -> str:
    """A name on the hub as it is, of a folder its last part: where it stood on a disk is nobody's business."""
    return model if _HUB_NAME.fullmatch(model) and not Path(model).exists() else Path(model).name


def is_card_of_base(text: str) -> bool:
    """Whether the card says that its weights are those of the base."""
    return UNCHANGED_TAG in text.partition("---")[2].partition("---")[0]


def _front_matter(base: str = "", unchanged: bool = False) -> str:
    named = f"base_model: {base}\n" if _HUB_NAME.fullmatch(base) else ""
    tags = UNCHANGED_TAG if unchanged else "grpo, curriculum, reinforcement-learning"
    return (
        f"---\nlibrary_name: transformers\npipeline_tag: image-text-to-text\n{named}tags: [curr-reft, {tags}]\n---"
    )


def _origin(files: RunFiles, model: str, base: str) -> str:
    """How ``model`` of the run came about: trained, or another model that no training improved on."""
    named = plain(base) or "a base model that the run does not name"
    same = files.unchanged.same_as.get(model)
    if same == BASE:
        return (
            f"**The weights are those of {named}.** Curriculum Reinforcement Finetuning with curr-reft was tried on "
            "it, and no checkpoint was better on the validation split."
        )
    text = f"A vision-language model post-trained by Curriculum Reinforcement Finetuning with curr-reft, from {named}."
    return text if same is None else f"{text} {plain(label_of(model))} has the weights of {plain(label_of(same))}."


def _facts(files: RunFiles) -> list[str]:
    """What the run directory says of scores, training, data and its making."""
    return [
        _scores(files),
        _training(files),
        _data(files),
        _made(files),
        "## Limits\n\nThe intervals are over test items of one run: the spread between seeds is "
        "not in them. Scores hold for the tasks and the test sets named here, with greedy decoding.",
    ]


def model_name(files: RunFiles) -> str:
    """The base model as the summary names it."""
    model = files.summary.get("model")
    if isinstance(model, dict):
        model = model.get("name") or model.get("path") or model.get("kind")
    return str(model) if model else ""


def table(header: Sequence[str], rows: Sequence[Sequence[Any]], numbers_from: int = 1) -> str:
    """A Markdown table; columns from ``numbers_from`` on are set to the right."""
    rule = ["---" if position < numbers_from else "---:" for position in range(len(header))]
    lines = [header, rule, *([plain(cell) for cell in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _embedded_note(files: RunFiles) -> str:
    if not files.embedded:
        return ""
    return (
        "The embedded model is a small demonstration: its ability is latent by design, and reinforcement learning "
        "mostly elicits it."
    )


def model_type(folder: Path) -> str:
    """The ``model_type`` of a model folder; empty where its configuration cannot be read."""
    try:
        return str(as_dict(read_json(folder / "config.json")).get("model_type", ""))
    except (OSError, ValueError):
        return ""


def _use(folder: str, kind: str) -> str:
    """How to load the folder: with transformers alone, and without the packages that its processor asks for."""
    code = (
        "from transformers import AutoModelForImageTextToText, AutoProcessor\n\n"
        f'model = AutoModelForImageTextToText.from_pretrained("{folder}", dtype="auto")\n'
        f'processor = AutoProcessor.from_pretrained("{folder}")'
    )
    needed = PROCESSOR_PACKAGES.get(kind, ())
    if not needed:
        return f"## Use\n\n```python\n{code}\n```"
    return (
        f"## Use\n\n```python\n# pip install {' '.join(needed)}\n{code}\n```\n\n"
        f"`AutoProcessor` of this model needs {' and '.join(needed)}, in the builds that fit your torch "
        "(`pip install 'curr-reft[infer]'`). For pictures curr-reft opens the same folder without:\n\n"
        "```python\nfrom curr_reft.policy.load import load_processor\n\n"
        f'processor = load_processor("{folder}", "{kind}")\n```'
    )


def _scores(files: RunFiles) -> str:
    rows = views.result_rows(files)
    if not rows:
        return ""
    parts = [
        "## Scores\n\nMean IoU (detection), Jaccard (classification) and verified answers (math, points), out of 100, "
        "with 95 % intervals of the mean."
    ]
    for split, label in files.splits.items():
        lines = [[row.label, *_score_cells(row.cells[split])] for row in rows]
        parts.append(f"{label}:\n\n" + table(["model", "mean", "strict accuracy", *map(plain, files.tasks)], lines))
    return "\n\n".join(parts)


def _score_cells(cells: list[views.Cell]) -> list[str]:
    """The mean with its interval, its strict accuracy, the score of each task."""
    mean, *tasks = cells
    interval = f" ({mean.interval})" if mean.interval else ""
    return [mean.score + interval, mean.accuracy, *(cell.score for cell in tasks)]


def _training(files: RunFiles) -> str:
    stages = views.stage_rows(files)
    parts = []
    if stages:
        lines = [
            [row["name"], row["form"], row["ended_by"], row["steps"], row["chosen_step"], row["validation"], row["end"]]
            for row in stages
        ]
        header = ["stage", "form", "ended by", "steps", "chosen step", "validation accuracy", "weights"]
        parts.append("Each stage starts from what the one before handed on.\n\n" + table(header, lines, 3))
    for each in files.rounds:
        again = "" if each.number == rounds.FIRST else f", round {each.number}"
        account = views.account_view(each.account)["steps"]
        if account:
            counts = ", ".join(f"{count} {plain(label)}" for label, count in account)
            parts.append(f"Self-improvement{again}: {counts}.")
    return "## Training\n\n" + "\n\n".join(parts) if parts else ""


def _data(files: RunFiles) -> str:
    lines = [
        [split, task, words.whole(count)]
        for split, tasks in as_dict(files.card.get("items")).items()
        for task, count in as_dict(tasks).items()
    ]
    return "## Data\n\n" + table(["split", "task", "items"], lines, 2) if lines else ""


def _made(files: RunFiles) -> str:
    run = files.run
    facts = [
        ("seed", run.get("seed")),
        ("time", words.duration(files.summary["seconds"]) if "seconds" in files.summary else None),
        ("recipe SHA-256", run.get("recipe_sha256")),
        *as_dict(run.get("versions")).items(),
    ]
    lines = [f"- {plain(name)}: {plain(value)}" for name, value in facts if value is not None]
    return "## How it was made\n\n" + "\n".join(lines) if lines else ""
