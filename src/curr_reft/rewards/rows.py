"""A question from plain values, enough of it to be graded: for rows of ``curr-reft grade`` and of TRL's data sets."""

from typing import Any

from curr_reft.data.styles import TASK_ALIASES, require_text
from curr_reft.questions.forms import FORMS
from curr_reft.questions.question import Question
from curr_reft.tasks import TASKS

MOST_OPTIONS = 26  # letters


def read_question(
    task: Any, form: Any, truth: Any, options: Any = None, *, source: str = "", prompt: str = ""
) -> Question:
    """Return the question. Raises ValueError with field, value, rule and remedy.

    ``truth``: yes or no (binary), letters (choice), or what the task reads (open). The reference data's names of tasks
    are understood.
    """
    task = task_named(task)
    for field, value, known in (("task", task, TASKS), ("form", form, FORMS)):
        if not isinstance(value, str) or value not in known:
            raise ValueError(f"{field} {value!r} is unknown; write one of {', '.join(known)}")
    options = options or ()
    if not isinstance(options, list | tuple) or not all(isinstance(text, str) for text in options):
        raise ValueError(f"options {options!r} are no list of texts; write the text of A, B, ... in order")
    if len(options) > MOST_OPTIONS:
        raise ValueError(f"options has {len(options)} entries; {MOST_OPTIONS} letters are all there are")
    try:
        require_text(truth, "it")
        read = FORMS[form].read_truth(task, truth, tuple(options))
    except ValueError as error:
        raise ValueError(f"truth {truth!r} for {task}, {form}: {error}") from error
    return Question(
        id=source,
        origin=source,
        task=task,
        form=form,
        prompt=prompt,
        truth=read,
        options=tuple(options),
        source=source,
    )


def task_named(name: Any) -> Any:
    """The house's name of a task that the reference data calls otherwise; anything else as it is."""
    return TASK_ALIASES.get(name, name) if isinstance(name, str) else name
