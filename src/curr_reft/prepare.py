"""From a recipe to what a run works on: checked items, compiled questions by split and form."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from curr_reft.data.frame import BoxFrame
from curr_reft.data.load import LoadedData, load_data
from curr_reft.errors import DataError
from curr_reft.policy.config import EMBEDDED
from curr_reft.questions.compile import compile_questions
from curr_reft.questions.forms import FORMS
from curr_reft.questions.question import Question
from curr_reft.recipe import Recipe
from curr_reft.rewards.grading import grade_all
from curr_reft.tasks import TASKS


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """All that is asked in a run. Questions are in the frame of the model."""

    data: LoadedData
    questions: Mapping[str, Mapping[str, list[Question]]]  # split -> form -> questions
    card: dict[str, Any]

    def of(self, split: str, form: str = "open") -> list[Question]:
        return self.questions.get(split, {}).get(form, [])


def load_items(recipe: Recipe) -> LoadedData:
    """The items of the recipe, every row checked. Raises DataError."""
    return load_data(recipe.data, lambda task, raw: TASKS[task].read_truth(raw))


def prepare(recipe: Recipe, data: LoadedData, frame: BoxFrame) -> Prepared:
    """Compile the questions, refuse leaks, and grade every truth by its own grader. Raises DataError."""
    made, card = compile_questions(
        data.items,
        FORMS,
        seed=recipe.seed,
        frame=frame,
        style=question_style(recipe),
        options=recipe.questions.options,
    )
    questions: dict[str, dict[str, list[Question]]] = {}
    for form, asked in made.items():
        for question in asked:
            questions.setdefault(question.split, {}).setdefault(form, []).append(question)
    prepared = Prepared(data=data, questions=questions, card={**data.account(), "questions": card.to_dict()})
    _require_forms(recipe, prepared)
    check_truths(recipe, prepared)
    return prepared


def question_style(recipe: Recipe) -> str:
    """The recipe's style, or the one that fits the model."""
    return recipe.questions.style or ("short" if recipe.model.path == EMBEDDED else "full")


def check_truths(recipe: Recipe, prepared: Prepared) -> None:
    """Every right answer, written as a model should, must earn full format and accuracy.

    Raises DataError with all that do not.
    """
    asked = [question for forms in prepared.questions.values() for own in forms.values() for question in own]
    written = [f"<think> reason </think> <answer> {FORMS[q.form].write(q)} </answer>" for q in asked]
    grades = grade_all([(q, text, False) for q, text in zip(asked, written, strict=True)], recipe.rewards)
    problems = [
        (q.source or q.id, f"the truth of {q.task} ({q.form}) {FORMS[q.form].write(q)!r} earns accuracy {g.accuracy}, "
         f"format {g.format} by its own grader ({g.status}: {g.reason}); correct the row or leave it out")
        for q, g in zip(asked, grades, strict=True)
        if g.accuracy != 1 or g.format != 1
    ]  # fmt: skip
    if problems:
        raise DataError(*problems[0], tuple(problems))


def _require_forms(recipe: Recipe, prepared: Prepared) -> None:
    """A stage needs training and validation questions of its forms. Raises DataError."""
    for number, stage in enumerate(recipe.curriculum.stages):
        for form in stage.forms:
            for split in ("train", "validation"):
                if not prepared.of(split, form):
                    raise DataError(
                        f"curriculum.stages.{number}.forms",
                        f"no {split} question could be made in the form {form}; see the reasons under skipped in the "
                        "data card (curr-reft data build), add rows, or take the form out of the stage",
                    )
    if not prepared.of("test"):
        raise DataError("data.test", "holds no question; add in-domain test rows")
