"""``curr-reft data build`` and ``data show``: the question sets of a recipe on disk, and as a page.

    questions/SPLIT/FORM.jsonl   a row a question; ``curr-reft grade`` reads it, and so does ``datasets``
    SPLIT.jsonl                  a row an item, in the style of the reference data set
    images/                      drawn pictures (and copies of files, when asked)
    card.json card.md            what was made, how balanced, what was left out and why
    leaks.jsonl                  instead of all the others: the pairs for which nothing was built

Items are read as a stream, twice, and never held all at once. The folder is whole or not there.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from curr_reft.data.export import Pictures, item_row, solution
from curr_reft.data.frame import BoxFrame, FrameKind
from curr_reft.data.item import Item
from curr_reft.data.load import rows_account
from curr_reft.errors import DataError, UsageError
from curr_reft.files import write_atomic, write_json, write_jsonl
from curr_reft.policy.load import load_chat_processor
from curr_reft.policy.processor import ChatProcessor
from curr_reft.prepare import asking, open_items
from curr_reft.questions.card import QUANTILES
from curr_reft.questions.card_page import card_page
from curr_reft.questions.compile import Compiler
from curr_reft.questions.forms import FORMS
from curr_reft.questions.gallery import Gallery
from curr_reft.questions.question import Question
from curr_reft.recipe import Recipe

LEAKS = "leaks.jsonl"
SHOWN = 10  # prompts a model cannot take that the card names


def build_question_sets(
    recipe: Recipe, out: Path, *, frame: FrameKind | None = None, copy_images: bool = False, token_sample: int = 200
) -> dict[str, Any]:
    """Writes the folder ``out`` (new, empty, or with the leaks of an earlier try) and returns the card.

    Boxes are in the frame of the recipe's model; with ``frame``, which needs no model, in that frame of the original
    image. Tokens are counted for about ``token_sample`` items of each split. Raises DataError, UsageError.
    """
    require_free(out)
    files = recipe.data.kind == "files"
    if recipe.questions.draw_boxes and files and not copy_images:
        raise UsageError(
            "questions.draw_boxes draws on pictures, and those of data.files are only referred to; add --copy-images"
        )
    processor = None if frame is not None else _processor(recipe)
    model_frame = BoxFrame(frame) if frame is not None else processor.frame  # type: ignore[union-attr]
    items = open_items(recipe)
    perceptual, leave_out = recipe.data.leaks == "perceptual", recipe.data.leaking_rows == "skip"
    compiler = Compiler(items, FORMS, asking(recipe, model_frame), perceptual, leave_out)
    repeats = compiler.look()
    out.parent.mkdir(parents=True, exist_ok=True)
    if repeats.leaks:
        out.mkdir(exist_ok=True)
        write_jsonl(out / LEAKS, (pair.to_dict() for pair in repeats.leaks))
    repeats.refuse_leaks()

    aside = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    root = Path(os.path.commonpath(items.roots)) if files and not copy_images else None
    writer = _Writer(aside, Pictures(aside, root))
    counter = _Tokens(processor, token_sample, compiler.survey.counts)
    try:
        for item, questions in compiler.ask():
            writer.add(item, questions)
            counter.add(item, questions)
        card = {
            "recipe": recipe.name,
            **_items_account(compiler, items.account),
            "model": recipe.model.path if frame is None else None,
            "image_root": "."
            if root is None
            else Path(os.path.relpath(root, out.parent.resolve() / out.name)).as_posix(),
            "tokens": counter.to_dict(),
            "files": writer.close(),
            "questions": compiler.card().to_dict(),
        }
        card["sha256"] = hashlib.sha256(json.dumps(card["files"], sort_keys=True).encode()).hexdigest()
        write_json(aside / "card.json", card)
        write_atomic(aside / "card.md", card_page(card))
        if out.exists():
            shutil.rmtree(out)  # empty, or with the leaks that are no more
        os.replace(aside, out)
    finally:
        writer.close()
        shutil.rmtree(aside, ignore_errors=True)
    return card


def show_questions(recipe: Recipe, path: Path, *, frame: FrameKind | None = None, each: int = 6) -> Path:
    """Writes the page of ``curr-reft data show``: ``each`` questions of every split, task and form. Leaks and repeats
    are not its matter. Raises DataError, UsageError."""
    model_frame = BoxFrame(frame) if frame is not None else _processor(recipe).frame
    compiler = Compiler(open_items(recipe), FORMS, asking(recipe, model_frame), perceptual=False)
    compiler.look()
    gallery = Gallery(model_frame, each)
    for item, questions in compiler.ask():
        gallery.add(item, questions)
    path.parent.mkdir(parents=True, exist_ok=True)
    return gallery.write(path, f"Questions of {recipe.name}")


def require_free(out: Path) -> None:
    """Raises UsageError when ``out`` holds anything but the leaks of an earlier try."""
    if out.exists() and not (out.is_dir() and {path.name for path in out.iterdir()} <= {LEAKS}):
        raise UsageError(f"--out {out} is in use; choose another folder or remove it")


def question_row(question: Question, item: Item, images: list[str]) -> dict[str, Any]:
    """A question as a row that ``curr-reft grade`` reads once a completion is added. Every column has one type."""
    truth = FORMS[question.form].write(question)
    return {
        "id": question.id,
        "origin": question.origin,
        "task": question.task,
        "form": question.form,
        "prompt": question.prompt,
        "problem": item.question,
        "solution": solution(item, truth),
        "truth": truth,
        "options": list(question.options),
        "images": images,
        "split": question.split,
        "domain": question.domain,
        "source": question.source,
    }


def _processor(recipe: Recipe) -> ChatProcessor:
    try:
        return load_chat_processor(recipe.model)
    except UsageError as error:
        raise UsageError(
            f"{error}\nBoxes and tokens depend on the model; without it, add --frame pixels, thousand or unit to write "
            "boxes in that frame of the original image"
        ) from error


def _items_account(compiler: Compiler, account: Any) -> dict[str, Any]:
    counts: dict[str, dict[str, int]] = {}
    for (split, task), count in compiler.survey.counts.items():
        counts.setdefault(split, {})[task] = count
    skipped = [(bad.source, bad.reason) for bad in account.bad]
    return {
        "items": counts,
        **rows_account(skipped, account.unverified, account.repaired, account.repeated, account.repairs),
    }


class _Writer:
    """Appends rows to their files and says at the end how many each holds and its hash."""

    def __init__(self, folder: Path, pictures: Pictures) -> None:
        self.folder = folder
        self.pictures = pictures
        self._files: dict[str, BinaryIO] = {}
        self._rows: dict[str, int] = {}
        self._hashes: dict[str, Any] = {}

    def add(self, item: Item, questions: list[Question]) -> None:
        plain = [self.pictures.path_of(image) for image in item.images]
        self._write(f"{item.split}.jsonl", item_row(item, plain))
        for question in questions:
            shown = plain if question.images is item.images else [*map(self.pictures.path_of, question.images)]
            self._write(f"questions/{item.split}/{question.form}.jsonl", question_row(question, item, shown))

    def close(self) -> dict[str, dict[str, Any]]:
        for file in self._files.values():
            file.close()
        return {
            name: {"rows": count, "sha256": self._hashes[name].hexdigest()}
            for name, count in sorted(self._rows.items())
        }

    def _write(self, name: str, row: Mapping[str, Any]) -> None:
        if name not in self._files:
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            self._files[name] = path.open("wb")
            self._rows[name], self._hashes[name] = 0, hashlib.sha256()
        line = (json.dumps(row, ensure_ascii=False) + "\n").encode()
        self._files[name].write(line)
        self._hashes[name].update(line)
        self._rows[name] += 1


@dataclass
class _Tokens:
    """Tokens per prompt, images included, of every so many-th item of a split."""

    processor: ChatProcessor | None
    sample: int
    counts: Mapping[tuple[str, str], int]
    lengths: dict[tuple[str, str], list[int]] = field(default_factory=dict)  # form, task
    problems: list[str] = field(default_factory=list)
    _met: dict[str, int] = field(default_factory=dict)

    def add(self, item: Item, questions: list[Question]) -> None:
        if self.processor is None or not self.sample:
            return
        met = self._met[item.split] = self._met.get(item.split, -1) + 1
        if met % max(1, sum(n for (split, _), n in self.counts.items() if split == item.split) // self.sample):
            return
        for question in questions:
            try:
                length = self.processor.encode_question(question).length
            except DataError as error:
                self.problems.append(f"{question.source or error.source}: {error.reason}")
            else:
                self.lengths.setdefault((question.form, question.task), []).append(length)

    def to_dict(self) -> dict[str, Any]:
        if self.processor is None:
            return {"not_counted": "no model was loaded"}
        if not self.sample:
            return {"not_counted": "a sample of 0 was asked for"}
        counted: dict[str, dict[str, Any]] = {}
        for (form, task), lengths in sorted(self.lengths.items()):
            quantiles = {label: float(np.quantile(lengths, at)) for label, at in QUANTILES.items()}
            counted.setdefault(form, {})[task] = {"prompts": len(lengths), **quantiles}
        return {
            "most_the_model_takes": self.processor.max_length,
            "prompts": counted,
            "refused": len(self.problems),
            "refused_first": self.problems[:SHOWN],
        }
