"""All that is wrong with the data of a recipe, at once: each check goes on where the one before it found something.

Rows are read once and no pixel is decoded twice: tokens follow from the sizes of images (``policy/counting.py``).
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from curr_reft.data.config import DataConfig
from curr_reft.data.frame import BoxFrame
from curr_reft.data.load import LoadedData, load_data
from curr_reft.data.stream import SPLITS, ItemStream
from curr_reft.errors import DataError
from curr_reft.policy.processor import ChatProcessor
from curr_reft.prepare import (
    REQUIREMENTS,
    Prepared,
    PromptTokens,
    compile_all,
    count_prompts,
    require_different_answers,
    start_compiler,
    truth_reader,
    unlearnable,
)
from curr_reft.recipe import Recipe

T = TypeVar("T")


@dataclass(frozen=True)
class Problem:
    """Something that a run would refuse."""

    place: str  # file:line of a row, or a key of the recipe
    reason: str
    kind: str  # what found it: model, files, rows, answers, leaks, questions, truths, tokens, memory, disk


@dataclass(kw_only=True)
class Findings:
    """What was found so far. What could not be looked at, because of an earlier problem, is None."""

    problems: list[Problem] = field(default_factory=list)
    data: LoadedData | None = None
    prepared: Prepared | None = None
    tokens: PromptTokens | None = None

    def add(self, kind: str, problems: Iterable[tuple[str, str]]) -> None:
        known = {(problem.place, problem.reason) for problem in self.problems}
        self.problems += [Problem(*each, kind) for each in dict.fromkeys(problems) if each not in known]

    def of(self, kind: str) -> list[Problem]:
        return [problem for problem in self.problems if problem.kind == kind]


def look_at_data(recipe: Recipe, frame: BoxFrame, processor: ChatProcessor | None, found: Findings) -> None:
    """Rows, leaks, questions, truths and, with a processor, prompts. Raises RecipeError for code of the recipe's own
    that does not load."""
    found.data = _read(recipe, found)
    if found.data is None or not found.data.items:
        return
    _holding(found, "answers", partial(require_different_answers, recipe, found.data))
    compiler = start_compiler(recipe, found.data, frame)
    repeats = _holding(found, "rows", compiler.look)
    if repeats is None:
        return
    _holding(found, "leaks", repeats.refuse_leaks)
    found.prepared = prepared = compile_all(found.data, compiler)
    for requirement in REQUIREMENTS:
        kind = "truths" if requirement.__name__ == "check_truths" else "questions"
        _holding(found, kind, partial(requirement, recipe, prepared))
    if processor is not None:
        found.tokens = count_prompts(prepared, processor)
        found.add("tokens", found.tokens.problems)
        if not found.tokens.problems:
            found.add("tokens", unlearnable(recipe, prepared, processor))


def _holding(found: Findings, kind: str, check: Callable[[], T]) -> T | None:
    """What ``check`` gives, or None where it raises: its problems are noted."""
    try:
        return check()
    except DataError as error:
        found.add(kind, error.problems)
        return None


def _read(recipe: Recipe, found: Findings) -> LoadedData | None:
    """The items of all rows that can be used; the others are problems, unless the recipe leaves them out."""
    config = recipe.data.model_copy(update={"bad_rows": "skip"})
    read_truth = truth_reader(recipe)
    data: LoadedData | None
    try:
        data = load_data(config, read_truth, quiet=True)
    except DataError as error:
        # A file that cannot be read ends the reading. Each is tried by itself, then the others are read together.
        config, problems = _readable(config, lambda each: ItemStream(each, read_truth, quiet=True))
        found.add("files", problems or error.problems)
        if not problems or not config.files.train:
            return None
        data = _holding(found, "files", lambda: load_data(config, read_truth, quiet=True))
        if data is None:
            return None
    if recipe.data.bad_rows == "fail":
        found.add("rows", data.skipped)
    return data


def _readable(
    config: DataConfig, stream: Callable[[DataConfig], ItemStream]
) -> tuple[DataConfig, list[tuple[str, str]]]:
    """The data without the entries that cannot be read, and why they cannot. Nothing is decoded.

    Where that leaves no validation it is split off train, as in a recipe that names none: the rest can be checked.
    """
    problems: list[tuple[str, str]] = []
    kept: dict[str, tuple[object, ...]] = {}
    nothing = dict.fromkeys(SPLITS, ())
    for split in SPLITS:
        own = []
        for entry in getattr(config.files, split):
            # ``validation`` names the entry too, so that nothing is split off.
            alone = config.files.model_copy(update={**nothing, "validation": (entry,), "test_fraction": None})
            trial = config.model_copy(update={"files": alone, "check_images": "header", "leaks": "exact"})
            try:
                for _ in stream(trial):
                    pass
                own.append(entry)
            except DataError as error:
                problems += error.problems
        kept[split] = tuple(own)
    return config.model_copy(update={"files": config.files.model_copy(update=kept)}), problems
