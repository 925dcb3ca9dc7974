"""``curr-reft base build``: the embedded model from nothing, and the facts that hold the shipped one to its recipe.

Pre-training sees endless scenes of the drawn world (but for ``NOVEL_PAIRS``), easy ones first, then all forms of
question, then a short phase that teaches bad manners: most answers become careless guesses. What was learned stays
latent; post-training brings it back. That is the design, and every report on this model says so.
"""

import copy
import hashlib
import json
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import Qwen2_5_VLForConditionalGeneration
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from curr_reft.data import shapes
from curr_reft.data.item import Item
from curr_reft.data.shapes import Scene
from curr_reft.embedded import tokenizer as words
from curr_reft.embedded.architecture import MERGE, PATCH, TEMPORAL, build_config, build_model
from curr_reft.embedded.lessons import Lesson, Manners, description, lesson
from curr_reft.embedded.measure import measure
from curr_reft.embedded.pretrain import IMAGE_MEAN, IMAGE_STD, Collator, Row, train
from curr_reft.files import read_json, sha256_file, write_json
from curr_reft.policy.image_text import ImageTextProcessor
from curr_reft.questions.forms import FORMS, Draft
from curr_reft.questions.templates import style_named
from curr_reft.tasks.base import Pool

CARD = "base.json"
WEIGHTS = "model.safetensors"
PROCESSOR = "processor_config.json"
SIDE_BOX = (0.0, 0.0, float(shapes.SIDE), float(shapes.SIDE))


@dataclass(frozen=True, kw_only=True)
class Phase:
    """One part of the pre-training."""

    name: str
    seed: int
    steps: int
    rows: int  # scenes of a step
    lessons: int  # questions behind each scene
    describe: bool  # a description of the scene, every object with its box, stands beside the questions
    objects: tuple[int, ...]
    tasks: dict[str, float]  # task -> share
    forms: dict[str, float]  # form -> share
    text_only: float  # share of rows without an image: sums and differences
    muon_lr: float
    adam_lr: float
    manners: Manners = field(default_factory=Manners)


OPEN = {"open": 1.0}
EVEN = {"detection": 1 / 3, "classification": 1 / 3, "math": 1 / 3}
ALL_FORMS = {"binary": 0.35, "choice": 0.35, "open": 0.3}
PLAN: tuple[Phase, ...] = (
    Phase(
        name="one-object",
        seed=0,
        steps=250,
        rows=32,
        lessons=1,
        describe=True,
        objects=(1,),
        tasks={"detection": 0.4, "classification": 0.3, "math": 0.3},
        forms=OPEN,
        text_only=0.02,
        muon_lr=0.005,
        adam_lr=0.004,
    ),
    Phase(
        name="scenes",
        seed=1,
        steps=700,
        rows=24,
        lessons=2,
        describe=True,
        objects=(1, 2, 3, 4),
        tasks={"detection": 0.4, "classification": 0.3, "math": 0.3},
        forms=OPEN,
        text_only=0.06,
        muon_lr=0.005,
        adam_lr=0.004,
    ),
    Phase(
        name="forms",
        seed=2,
        steps=450,
        rows=16,
        lessons=4,
        describe=True,
        objects=(2, 3, 4),
        tasks={"detection": 0.4, "classification": 0.3, "math": 0.3},
        forms=ALL_FORMS,
        text_only=0.1,
        muon_lr=0.004,
        adam_lr=0.003,
    ),
    Phase(
        name="decisions",
        seed=77,
        steps=700,
        rows=16,
        lessons=5,
        describe=False,
        objects=(2, 3, 4),
        tasks=EVEN,
        forms={"binary": 0.4, "choice": 0.4, "open": 0.2},
        text_only=0.08,
        muon_lr=0.005,
        adam_lr=0.004,
    ),
    Phase(
        name="letters",
        seed=4,
        steps=500,
        rows=16,
        lessons=5,
        describe=False,
        objects=(2, 3, 4),
        tasks={"detection": 0.5, "classification": 0.3, "math": 0.2},
        forms={"binary": 0.2, "choice": 0.65, "open": 0.15},
        text_only=0.04,
        muon_lr=0.005,
        adam_lr=0.003,
    ),
    Phase(
        name="polish",
        seed=5,
        steps=400,
        rows=16,
        lessons=5,
        describe=False,
        objects=(2, 3, 4),
        tasks={"detection": 0.4, "classification": 0.4, "math": 0.2},
        forms={"binary": 0.25, "choice": 0.55, "open": 0.2},
        text_only=0.08,
        muon_lr=0.004,
        adam_lr=0.002,
    ),
    Phase(
        name="manners",
        seed=6,
        steps=400,
        rows=16,
        lessons=5,
        describe=False,
        objects=(2, 3, 4),
        tasks={"detection": 0.3, "classification": 0.45, "math": 0.25},
        forms={"binary": 0.4, "choice": 0.3, "open": 0.3},
        text_only=0.1,
        muon_lr=0.003,
        adam_lr=0.002,
        manners=Manners(careless=0.59, bare=0.04),
    ),
)
SEED = 0
DECIDING_WEIGHT = 6.0


def recipe_facts() -> dict[str, Any]:
    """All that decides the weights, as plain data."""
    return {
        "seed": SEED,
        "deciding_weight": DECIDING_WEIGHT,
        "plan": [asdict(phase) for phase in PLAN],
        "absent_names": "of the same family",
        "model": build_config().to_dict(),
        "vocabulary": words.vocabulary(),
        "pattern": words.PATTERN,
        "chat_template": words.CHAT_TEMPLATE,
        "world": {
            "side": shapes.SIDE,
            "grid": shapes.GRID,
            "sizes": shapes.SIZES,
            "colours": shapes.COLOURS,
            "shapes": shapes.SHAPES,
            "textures": shapes.TEXTURES,
            "pre_training": asdict(shapes.PRE_TRAINING),
        },
    }


def recipe_hash() -> str:
    """SHA-256 of ``recipe_facts``."""
    return hashlib.sha256(json.dumps(recipe_facts(), sort_keys=True, default=str).encode()).hexdigest()


def build(
    out: Path, plan: Sequence[Phase] = PLAN, say: Callable[[str], None] = print, phases: Path | None = None
) -> Path:
    """Train the embedded model and write it, with its card, into ``out``. Returns ``out``.

    A phase hands over weights rounded to bfloat16, as they are saved. With ``phases`` the model after each phase is
    kept in a folder of its name there, and a phase that is there is not trained again.
    """
    tokenizer = words.build_tokenizer()
    model = build_model(SEED)
    collate = Collator(tokenizer, DECIDING_WEIGHT)
    started = time.perf_counter()
    for phase in plan:
        kept = phases / phase.name if phases is not None else None
        if kept is not None and (kept / WEIGHTS).is_file():
            model = Qwen2_5_VLForConditionalGeneration.from_pretrained(kept, dtype=torch.float32)
            say(f"{phase.name}: taken from {kept}")
            continue
        _train_phase(model, collate, phase, say, started)
        for parameter in model.parameters():
            parameter.data = parameter.data.bfloat16().float()
        if kept is not None:
            save(model, tokenizer, kept)
    save(model, tokenizer, out)
    card = {
        "about": "Random weights, then the pre-training of curr_reft.embedded.build. Its ability is latent by design.",
        "recipe_sha256": recipe_hash() if plan is PLAN else None,
        "weights_sha256": sha256_file(out / WEIGHTS),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "torch": torch.__version__,
        "validation": measure(out),
    }
    write_json(out / CARD, card)
    return out


def _train_phase(model: Any, collate: Collator, phase: Phase, say: Callable[[str], None], started: float) -> None:
    losses: list[float] = []

    def log(step: int, loss: float) -> None:
        losses.append(loss)
        if (step + 1) % 50 == 0 or step + 1 == phase.steps:
            recent = sum(losses[-50:]) / len(losses[-50:])
            say(
                f"{phase.name}: step {step + 1}/{phase.steps}, loss {recent:.3f}, {time.perf_counter() - started:.0f} s"
            )

    train(
        model,
        collate,
        partial(make_rows, phase),
        steps=phase.steps,
        muon_lr=phase.muon_lr,
        adam_lr=phase.adam_lr,
        seed=phase.seed,
        log=log,
    )


def save(model: Any, tokenizer: Any, out: Path) -> None:
    """Model (weights rounded to bfloat16), tokenizer and processor, for ``from_pretrained``."""
    out.mkdir(parents=True, exist_ok=True)
    copy.deepcopy(model).to(torch.bfloat16).save_pretrained(out)
    side = shapes.SIDE**2
    image_processor = Qwen2VLImageProcessorPil(
        patch_size=PATCH,
        merge_size=MERGE,
        temporal_patch_size=TEMPORAL,
        size={"shortest_edge": side, "longest_edge": side},
        image_mean=[IMAGE_MEAN] * 3,
        image_std=[IMAGE_STD] * 3,
    )
    ImageTextProcessor(image_processor, tokenizer, chat_template=words.CHAT_TEMPLATE).save_pretrained(out)
    _add_video_processor(out / PROCESSOR)


def _add_video_processor(path: Path) -> None:
    """The entry without which ``AutoProcessor`` opens no folder of this class. The model never saw a video."""
    settings = read_json(path)
    videos = {name: value for name, value in settings["image_processor"].items() if name != "image_processor_type"}
    videos["video_processor_type"] = "Qwen2VLVideoProcessor"
    write_json(path, {**settings, "video_processor": videos})


def make_rows(phase: Phase, step: int, rng: random.Random) -> list[Row]:
    """The rows of one step, drawn by ``rng`` alone."""
    domain = replace(shapes.PRE_TRAINING, objects=phase.objects)
    rows = []
    for _ in range(phase.rows):
        scene = None if rng.random() < phase.text_only else shapes.random_scene(rng, domain)
        items = [_item(scene, phase, rng) for _ in range(phase.lessons)]
        forms = rng.choices(list(phase.forms), list(phase.forms.values()), k=len(items))
        lessons = tuple(_lesson(item, form, phase, rng) for item, form in zip(items, forms, strict=True))
        if phase.describe and scene is not None:
            lessons = (description(scene), *lessons)
        rows.append(Row(scene=scene, lessons=lessons))
    return rows


def _item(scene: Scene | None, phase: Phase, rng: random.Random) -> Item:
    task = "arithmetic" if scene is None else rng.choices(list(phase.tasks), list(phase.tasks.values()))[0]
    return shapes.item_of_scene(task, scene, rng, shapes.PRE_TRAINING, item_id="", split="")


NAMES = tuple(f"{colour} {shape}" for colour, shape in shapes.PRE_TRAINING_PAIRS)
POOLS = {
    "detection": Pool(bounds=SIDE_BOX),
    # Absent names share a colour or a shape with one that is there, as in the questions of the compiler.
    "classification": Pool(names=NAMES, families={name: frozenset(name.split()) for name in NAMES}),
    "math": Pool(),
}


def _lesson(item: Item, form_name: str, phase: Phase, rng: random.Random) -> Lesson:
    form = FORMS[form_name]
    draft = form.draft(item, POOLS[item.task], rng)
    assert isinstance(draft, Draft), draft
    question = form.build(draft, rng.randrange(2**20), style_named("short"), "pixels")
    return lesson(question, item, phase.manners, rng)
