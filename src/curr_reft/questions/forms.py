"""The three forms of a question, from easy to hard: binary, choice, open (Curr-ReFT section 3.1).

A form turns an item into a question and reads an answer to it. It knows no stage, and tasks only by their interface.
Making a question has two steps, so that balance is exact by construction: ``draft`` collects what is needed (or says
why it cannot), then ``build`` lays the draft out in the way ``layout.Layouts`` deals to it.

The released reference code holds no generator for these forms; the rules are this project's.
"""

import random
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import combinations
from math import comb
from typing import Any, Protocol

from curr_reft.data.item import ImageSource, Item, Truth
from curr_reft.questions.question import Question
from curr_reft.questions.templates import Style
from curr_reft.tasks import TASKS
from curr_reft.tasks.base import Pool, Task, TaskOptions
from curr_reft.tasks.decisions import DECISIONS, read_decision
from curr_reft.tasks.letters import letter_of, read_letters
from curr_reft.tasks.status import GradingTimeoutError, NoTruthError, Status, VerificationError

OPTION_COUNT = 4
DEFAULT_GRADING = TaskOptions()
MOST_RIGHT = 4  # right letters of a choice question with several
PARTLY_RIGHT = 0.2  # a non-empty strict subset of the right letters (Curr-ReFT section 3.2)

_LETTER = re.compile(r"[A-Z]")
_OWN_OPTION = re.compile(r"(?:^|[\s(\[])([A-H])\s*[.):\]]")


@dataclass(frozen=True, kw_only=True)
class AnswerScore:
    """What the text of an answer block earned. ``accuracy`` and ``correct`` are None where there is no score."""

    status: Status
    accuracy: float | None
    correct: bool | None  # the strict rule of evaluation
    reason: str = ""


@dataclass(frozen=True)
class Skip:
    """Why an item cannot be asked in a form."""

    reason: str


@dataclass(frozen=True, kw_only=True)
class Draft:
    """An item (boxes in the model's frame) with the claims a form needs of it."""

    item: Item
    right: tuple[Truth, ...] = ()
    wrong: tuple[Truth, ...] = ()
    kinds: tuple[str, ...] = ()  # of ``wrong``: where each false claim came from, for the card
    own_options: bool = False  # the question lists its options itself
    show: Callable[[Truth], ImageSource | None] | None = None  # the image with a claim drawn on it; None: not drawable


class Form(Protocol):
    """How a question is asked."""

    @property
    def name(self) -> str: ...

    def draft(
        self,
        item: Item,
        pool: Pool,
        rng: random.Random,
        options: int = OPTION_COUNT,
        grading: TaskOptions = DEFAULT_GRADING,
    ) -> Draft | Skip:
        """What a question of this form needs; ``item`` and ``pool`` are in the model's frame, ``options`` is how many a
        choice shows, ``grading`` the rules by which false claims are verified wrong."""
        ...

    def group(self, draft: Draft) -> str:
        """Drafts of one group are balanced among themselves."""
        ...

    def layouts(self, draft: Draft) -> int:
        """In how many ways the draft can be laid out: yes or no, the places of the right letters."""
        ...

    def build(self, draft: Draft, layout: int, style: Style, frame: str) -> Question:
        """The question in one of its layouts (counted on from 0 again beyond the last); ``frame`` is what boxes are
        given in, in words."""
        ...

    def read(self, answer: str, question: Question, options: TaskOptions | None = None) -> AnswerScore:
        """Grades the text of an answer block. Never raises for what a model may write."""
        ...

    def write(self, question: Question) -> str:
        """The right answer as a model should write it; ``read`` gives it full accuracy."""
        ...

    def read_truth(self, task: str, raw: Any, options: tuple[str, ...]) -> Any:
        """What ``question.truth`` is where a row of ``curr-reft grade`` says ``raw``. Raises ValueError."""
        ...


def _unparsable(reason: str) -> AnswerScore:
    return AnswerScore(status=Status.UNPARSABLE, accuracy=0.0, correct=False, reason=reason)


def _wrong_claims(
    task: Task, item: Item, pool: Pool, rng: random.Random, n: int, grading: TaskOptions, apart: bool = False
) -> list[Truth]:
    """Up to ``n`` false claims that the task's own scorer, with the recipe's options, finds wrong.

    A task's claims are wrong by its own rules; the options can make one right all the same (a lower IoU threshold, an
    alias). Such a claim is dropped and more are asked for.
    """
    for asked in (n, 2 * n + 2, 4 * n + 8):
        offered = task.false_claims(item, pool, rng, asked, apart)
        claims = [claim for claim in offered if not _earns(task, claim, item.truth, grading)]
        if len(claims) >= n or len(offered) < asked:
            break  # enough, or the task has no more
    return claims[:n]


def _earns(task: Task, claim: Truth, truth: Truth, grading: TaskOptions) -> bool:
    """Whether ``claim`` as an answer is paid in full for a part of ``truth``, or could not be shown to be wrong."""
    parsed = task.parse(task.write(claim))
    if parsed is None:
        return False
    try:
        return any(task.score(parsed, single, grading) >= 1.0 for single in task.singles(truth))
    except (GradingTimeoutError, VerificationError):
        return True


def _question(
    draft: Draft,
    form: str,
    prompt: str,
    truth: object,
    options: tuple[str, ...] = (),
    claims: tuple[Truth, ...] = (),
    kinds: tuple[str, ...] = (),
) -> Question:
    item = draft.item
    return Question(
        id=f"{item.id}/{form}",
        origin=item.id,
        task=item.task,
        form=form,
        prompt=prompt,
        truth=truth,
        images=item.images,
        options=options,
        claims=claims,
        wrong_kinds=kinds,
        split=item.split,
        source=item.source,
        domain=item.domain,
    )


class Binary:
    """A claim to be judged yes or no; true with probability one half, exactly balanced."""

    name = "binary"

    def draft(
        self,
        item: Item,
        pool: Pool,
        rng: random.Random,
        options: int = OPTION_COUNT,
        grading: TaskOptions = DEFAULT_GRADING,
    ) -> Draft | Skip:
        task = TASKS[item.task]
        wrong = _wrong_claims(task, item, pool, rng, 1, grading)
        if not wrong:
            return Skip(task.absent)
        return Draft(
            item=item,
            right=(rng.choice(task.singles(item.truth)),),
            wrong=(wrong[0],),
            kinds=(task.claim_kind(item, wrong[0], pool),),
        )

    def group(self, draft: Draft) -> str:
        return ""

    def layouts(self, draft: Draft) -> int:
        return 2

    def build(self, draft: Draft, layout: int, style: Style, frame: str) -> Question:
        item, truth = draft.item, layout % 2 == 0
        claimed = draft.right[0] if truth else draft.wrong[0]
        claim = TASKS[item.task].claim(claimed)
        shown = draft.show(claimed) if draft.show is not None else None
        line = "binary" if shown is None else "binary_drawn"
        prompt = style.prompt(item.task, line, question=item.question, claim=claim, frame=frame)
        asked = _question(draft, self.name, prompt, truth, claims=(claimed,), kinds=() if truth else draft.kinds)
        return asked if shown is None else replace(asked, images=(shown, *asked.images[1:]))

    def read(self, answer: str, question: Question, options: TaskOptions | None = None) -> AnswerScore:
        """Exactly one decision word. (The reference searches substrings: "No, that is not true" counts as yes.)"""
        decision = read_decision(answer)
        if decision is None:
            return _unparsable("the answer is not exactly one of yes, no, true, false")
        right = decision is bool(question.truth)
        return AnswerScore(status=Status.OK, accuracy=float(right), correct=right)

    def write(self, question: Question) -> str:
        return "yes" if question.truth else "no"

    def read_truth(self, task: str, raw: Any, options: tuple[str, ...]) -> bool:
        if isinstance(raw, bool):
            return raw
        if isinstance(raw, str) and raw.strip().lower() in DECISIONS:
            return DECISIONS[raw.strip().lower()]
        raise ValueError('write "yes", "no", true or false')


class Choice:
    """Options with letters. Classification has one to four right ones, the other tasks exactly one."""

    name = "choice"

    def draft(
        self,
        item: Item,
        pool: Pool,
        rng: random.Random,
        options: int = OPTION_COUNT,
        grading: TaskOptions = DEFAULT_GRADING,
    ) -> Draft | Skip:
        task = TASKS[item.task]
        if isinstance(item.truth, str) and _LETTER.fullmatch(item.truth):
            # The question is a choice already (Geo170K and the like): it keeps its own options and their order.
            if {"A", "B", item.truth} <= set(_OWN_OPTION.findall(item.question)):
                return Draft(item=item, right=(item.truth,), own_options=True)
            return Skip("the truth is an option letter, but the question does not list options A, B, ...")
        singles = task.singles(item.truth)
        absent = _wrong_claims(task, item, pool, rng, options - 1, grading, apart=True)
        if not task.several:
            singles = singles[:1]
        least, most = max(1, options - len(absent)), min(MOST_RIGHT, options, len(singles))
        if least > most:
            return Skip(f"fewer than {options} options: {task.absent}")
        count = rng.randint(least, most)
        right = tuple(rng.sample(singles, count))
        wrong = tuple(absent[: options - count])
        return Draft(
            item=item, right=right, wrong=wrong, kinds=tuple(task.claim_kind(item, claim, pool) for claim in wrong)
        )

    def group(self, draft: Draft) -> str:
        return "own" if draft.own_options else str(len(draft.right))

    def layouts(self, draft: Draft) -> int:
        return 1 if draft.own_options else comb(len(draft.right) + len(draft.wrong), len(draft.right))

    def build(self, draft: Draft, layout: int, style: Style, frame: str) -> Question:
        item = draft.item
        if draft.own_options:
            prompt = style.prompt(item.task, "choice_own", question=item.question, frame=frame)
            return _question(draft, self.name, prompt, frozenset(str(truth) for truth in draft.right))
        task = TASKS[item.task]
        options = range(len(draft.right) + len(draft.wrong))
        placings = list(combinations(options, len(draft.right)))
        right_places = placings[layout % len(placings)]
        right, wrong = iter(draft.right), iter(draft.wrong)
        shown = tuple(next(right) if place in right_places else next(wrong) for place in options)
        texts = tuple(task.option(claim) for claim in shown)
        line = "choices" if task.several else "choice"
        prompt = style.prompt(item.task, line, question=item.question, options=style.list_options(texts), frame=frame)
        truth = frozenset(letter_of(place) for place in right_places)
        return _question(draft, self.name, prompt, truth, texts, shown, draft.kinds)

    def read(self, answer: str, question: Question, options: TaskOptions | None = None) -> AnswerScore:
        """1 for the same set of letters, 0.2 for a part of it, 0 as soon as one letter is wrong."""
        letters = read_letters(answer, question.options)
        if letters is None:
            return _unparsable("the answer is not plainly one or more option letters")
        truth = frozenset(question.truth)
        correct = letters == truth
        accuracy = 1.0 if correct else PARTLY_RIGHT if letters < truth else 0.0
        return AnswerScore(status=Status.OK, accuracy=accuracy, correct=correct)

    def write(self, question: Question) -> str:
        return ", ".join(sorted(question.truth))

    def read_truth(self, task: str, raw: Any, options: tuple[str, ...]) -> frozenset[str]:
        text = ",".join(map(str, raw)) if isinstance(raw, list | set | frozenset) else raw
        letters = read_letters(text) if isinstance(text, str) else None
        if letters is None:
            raise ValueError('write the right letters, as "A,C" or ["A", "C"]')
        known = {letter_of(position) for position in range(len(options))}
        if options and not letters <= known:
            raise ValueError(f"there is no option {min(letters - known)}; the options end with {max(known)}")
        return letters


class Open:
    """The item as it is, answered freely and graded by its task."""

    name = "open"

    def draft(
        self,
        item: Item,
        pool: Pool,
        rng: random.Random,
        options: int = OPTION_COUNT,
        grading: TaskOptions = DEFAULT_GRADING,
    ) -> Draft | Skip:
        return Draft(item=item, right=(item.truth,))

    def group(self, draft: Draft) -> str:
        return ""

    def layouts(self, draft: Draft) -> int:
        return 1

    def build(self, draft: Draft, layout: int, style: Style, frame: str) -> Question:
        item = draft.item
        return _question(
            draft, self.name, style.prompt(item.task, "open", question=item.question, frame=frame), item.truth
        )

    def read(self, answer: str, question: Question, options: TaskOptions | None = None) -> AnswerScore:
        task, options = TASKS[question.task], options or TaskOptions()
        try:
            parsed = task.parse(answer)
            if parsed is None:
                return _unparsable(f"the answer holds no {task.name} answer that can be read")
            if task.copied(parsed, question.truth, question.prompt):
                return AnswerScore(status=Status.OK, accuracy=0.0, correct=False, reason="copied from the question")
            accuracy = task.score(parsed, question.truth, options)
            correct = task.correct(parsed, question.truth, options)
        except NoTruthError as error:
            return AnswerScore(status=Status.NO_TRUTH, accuracy=None, correct=None, reason=str(error))
        except GradingTimeoutError as error:
            return AnswerScore(status=Status.TIMED_OUT, accuracy=None, correct=None, reason=str(error))
        except VerificationError as error:
            return AnswerScore(status=Status.GRADER_FAILED, accuracy=None, correct=None, reason=str(error))
        return AnswerScore(status=Status.OK, accuracy=accuracy, correct=correct)

    def write(self, question: Question) -> str:
        return TASKS[question.task].write(question.truth)

    def read_truth(self, task: str, raw: Any, options: tuple[str, ...]) -> Any:
        return TASKS[task].read_truth(raw)


FORMS: dict[str, Form] = {form.name: form for form in (Binary(), Choice(), Open())}
"""In the order of the curriculum. A new form is one class and one line here."""
