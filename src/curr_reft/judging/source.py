"""What a command is to judge: the candidates of a run, those of a folder, or the rows of a JSONL file."""

from dataclasses import dataclass
from pathlib import Path

from curr_reft import rounds
from curr_reft.errors import RecipeError, UsageError
from curr_reft.improve.config import SelfImprovementConfig
from curr_reft.improve.phase import judged_before, read_candidates
from curr_reft.improve.records import Candidate
from curr_reft.improve.sample import CANDIDATES
from curr_reft.judging.rows import Labelled, labelled_by_truth, read_answers
from curr_reft.policy.load import load_chat_processor
from curr_reft.prepare import load_items, prepare, query_pool
from curr_reft.questions.question import Question
from curr_reft.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class Source:
    """A place with answers. ``folder`` is where what is made of them belongs."""

    path: Path
    folder: Path

    @property
    def is_rows(self) -> bool:
        """Whether it is a file of rows, which need no data of a recipe."""
        return self.path.is_file()

    @property
    def name(self) -> str:
        return str(self.path)


def find_source(path: Path) -> Source:
    """Of a run with several rounds, the last that has sampled. Raises UsageError for what holds no answers."""
    if path.is_file():
        if path.suffix == ".parquet":
            path = path.parent
        else:
            return Source(path=path, folder=path.parent)
    own = [rounds.improve_folder(path, number) for number in (*reversed(rounds.begun(path)), rounds.FIRST)]
    for folder in (path, *own):
        if (folder / CANDIDATES).is_file():
            return Source(path=path, folder=folder)
    raise UsageError(
        f"{path} holds no {CANDIDATES} and is no file of rows; give a run directory that has sampled, a folder that "
        "curr-reft sample wrote, or a JSONL file"
    )


def recipe_of(source: Source) -> Path:
    """The recipe that a run directory holds. Raises UsageError where there is none."""
    for folder in (source.path, source.folder, *source.folder.parents[:3]):  # RUN/rounds/2/self-improve is the deepest
        if not source.is_rows and (folder / "recipe.yaml").is_file():
            return folder / "recipe.yaml"
    raise UsageError(f"{source.path} is not the directory of a run; give the recipe with --recipe")


def improvement_of(recipe: Recipe) -> SelfImprovementConfig:
    """The section that says who judges. Raises RecipeError."""
    if recipe.self_improvement is None:
        raise RecipeError("self_improvement: the recipe has no such section, which says who judges and the threshold")
    return recipe.self_improvement


def answers(source: Source, recipe: Recipe) -> tuple[list[Candidate], list[Candidate]]:
    """(all answers, those of the rounds before, whose verdicts are paid by the same budget). Raises DataError,
    UsageError."""
    if source.is_rows:
        return [row.candidate for row in _rows(source, recipe, labels=False)], []
    pool = _pool(recipe)
    return read_candidates(source.folder, pool), judged_before(source.folder, pool)


def labelled(source: Source, recipe: Recipe) -> list[Labelled]:
    """The answers that have a label (of a run: the verifier's). Raises DataError, UsageError."""
    if source.is_rows:
        return _rows(source, recipe, labels=True)
    found = labelled_by_truth(read_candidates(source.folder, _pool(recipe)))
    if not found:
        raise UsageError(f"{source.path}: no answer there could be verified; give a JSONL file of labelled rows")
    return found


def _rows(source: Source, recipe: Recipe, labels: bool) -> list[Labelled]:
    rows = read_answers(source.path, labels)
    if improvement_of(recipe).judge.kind == "rules":
        raise UsageError(
            "self_improvement.judge.kind: rules gives verdicts where there is a truth to verify by, and the rows "
            f"of {source.path} have none; set kind to endpoint or local"
        )
    return rows


def _pool(recipe: Recipe) -> list[Question]:
    frame = load_chat_processor(recipe.model).frame
    return query_pool(prepare(recipe, load_items(recipe), frame))
