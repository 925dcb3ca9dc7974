"""From a recipe to what a run works on: checked items, compiled questions by split and form."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from curr_reft.console import progress, track
from curr_reft.data.frame import BoxFrame, boxes_of
from curr_reft.data.item import Truth, UnverifiedTruthError
from curr_reft.data.load import LoadedData, load_data
from curr_reft.data.stream import ItemStream, ReadTruth
from curr_reft.data.styles import JUDGED
from curr_reft.errors import DataError, RecipeError
from curr_reft.evaluate.general import SPLIT as GENERAL
from curr_reft.evaluate.general import general_cells
from curr_reft.improve.judges.own import load_judge
from curr_reft.improve.sample import draw_queries
from curr_reft.policy.config import EMBEDDED
from curr_reft.policy.counting import Count, TokenCounter
from curr_reft.policy.processor import ChatProcessor
from curr_reft.policy.user_family import use_family
from curr_reft.questions.compile import Asking, Compiler
from curr_reft.questions.forms import FORMS
from curr_reft.questions.question import Question
from curr_reft.questions.user import use_own
from curr_reft.recipe import Recipe
from curr_reft.rewards.custom import load_custom
from curr_reft.rewards.grade import Grade, Status
from curr_reft.rewards.grading import grade, grade_all
from curr_reft.tasks import TASKS
from curr_reft.tasks.status import PATIENCE
from curr_reft.train.learnable import TOO_LONG, refuse_examples
from curr_reft.train.sft import SftExample
from curr_reft.user_code import digest

AT_ONCE = 2048  # truths that are graded together


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """All that is asked in a run. Questions are in the frame of the model."""

    data: LoadedData
    questions: Mapping[str, Mapping[str, list[Question]]]  # split -> form -> questions
    card: dict[str, Any]

    def of(self, split: str, form: str = "open") -> list[Question]:
        return self.questions.get(split, {}).get(form, [])

    def general(self) -> dict[str, list[Question]]:
        """The cells of the general pool: its open questions by domain, and its claims; empty without such a pool."""
        return general_cells(self.of(GENERAL), self.of(GENERAL, "binary"))

    @cached_property
    def sha256(self) -> str:
        """Hash of all that is asked: a resumed run must ask the same."""
        lines = (
            repr(
                (split, form, q.id, q.prompt, _plain(q.truth), q.options, [(i.key, i.size) for i in q.images], q.domain)
            )
            for split, forms in sorted(self.questions.items())
            for form, asked in sorted(forms.items())
            for q in asked
        )
        return hashlib.sha256("\n".join(lines).encode(errors="surrogatepass")).hexdigest()


def open_items(recipe: Recipe) -> ItemStream:
    """The items of the recipe as a stream that can be read again; each pass checks every row. Nothing is read yet."""
    return ItemStream(recipe.data, truth_reader(recipe))


def load_items(recipe: Recipe) -> LoadedData:
    """All items of the recipe, every row checked. Raises DataError."""
    return load_data(recipe.data, truth_reader(recipe))


def truth_reader(recipe: Recipe) -> ReadTruth:
    """Reads truths as their tasks do, in the one spelling that the recipe's grading counts (aliases resolved), so that
    no false claim is another name of the truth. One that its own grader would not pay makes a bad row, as one that
    cannot be read does. Loads the recipe's own code first. Raises RecipeError."""
    recipe_code(recipe)
    options = recipe.rewards.task_options()

    def read(name: str, raw: Any) -> Truth:
        task = TASKS[name]
        truth = task.canonical(task.read_truth(raw), options)
        if name != JUDGED and not boxes_of(truth):  # boxes are not in the frame of the model yet: check_truths has them
            question = Question(id="", origin="", task=name, form="open", prompt="", truth=truth)
            graded = _patiently(question, grade(question, _well_written(question), config=recipe.rewards), recipe)
            if graded.status is Status.TIMED_OUT:
                raise UnverifiedTruthError(_earned(question, graded))
            if not _is_paid(graded):
                raise ValueError(_earned(question, graded))
        return truth

    return read


def asking(recipe: Recipe, frame: BoxFrame) -> Asking:
    """How the recipe's items become questions for a model with this frame."""
    return Asking(
        seed=recipe.seed,
        frame=frame,
        style=question_style(recipe),
        options=recipe.questions.options,
        families=recipe.questions.families,
        grading=recipe.rewards.task_options(),
        draw_boxes=recipe.questions.draw_boxes,
    )


def recipe_code(recipe: Recipe) -> str | None:
    """Load the code that the recipe names, which also makes its tasks known; the hash of what trains and grades, None
    without any. That of a judge is apart (``judge_code``). Raises RecipeError.
    """
    codes = [*use_own(recipe.tasks, recipe.forms), *(reward.code for reward in load_custom(recipe.rewards.custom))]
    for place, stage in enumerate(recipe.curriculum.stages):
        unknown = next((form for form in stage.forms if form not in FORMS), None)
        if unknown is not None:
            raise RecipeError(f"curriculum.stages.{place}.forms.{unknown}: unknown form; forms are {', '.join(FORMS)}")
    family = use_family(recipe.model)
    codes += [family] if family is not None else []
    judge_code(recipe)
    return digest(codes)


def judge_code(recipe: Recipe) -> str | None:
    """The hash of a judge of the recipe's own, None without one. Raises RecipeError."""
    improvement = recipe.self_improvement
    if improvement is None or improvement.judge.kind != "own":
        return None
    return digest([load_judge(improvement.judge)])


def prepare(recipe: Recipe, data: LoadedData, frame: BoxFrame) -> Prepared:
    """Compile the questions, refuse leaks and answers that are all the same, and grade every truth by its own grader.
    Raises DataError."""
    require_different_answers(recipe, data)
    compiler = start_compiler(recipe, data, frame)
    compiler.look().refuse_leaks()
    prepared = compile_all(data, compiler)
    for requirement in REQUIREMENTS:
        requirement(recipe, prepared)
    return prepared


SAME_ANSWERS = 10
"""Training rows of a task from which on one answer to all of them is refused: fewer are an example, or a test."""


def require_different_answers(recipe: Recipe, data: LoadedData) -> None:
    """Refuse training rows of a task whose answers are all the same: a model learns to give it without looking.

    Drawn data is not looked at, nor are boxes: one place may be right in every picture of a fixed camera. Raises
    DataError.
    """
    if recipe.data.kind != "files":
        return
    truths: dict[str, set[Truth]] = {}
    counts: dict[str, int] = {}
    for item in data.items:
        if item.split == "train" and item.task != JUDGED and not boxes_of(item.truth):
            counts[item.task] = counts.get(item.task, 0) + 1
            truths.setdefault(item.task, set()).add(item.truth)
    _refuse(
        [
            (
                "data.files.train",
                f"all {counts[task]:,} answers of {task} are {TASKS[task].write(next(iter(answers)))!r}, which a model "
                "learns to say without looking. Are the answers in another column or file? Else add rows with other "
                "answers, or take these out",
            )
            for task, answers in truths.items()
            if len(answers) == 1 and counts[task] >= SAME_ANSWERS
        ]
    )


def start_compiler(recipe: Recipe, data: LoadedData, frame: BoxFrame) -> Compiler:
    perceptual, leave_out = recipe.data.leaks == "perceptual", recipe.data.leaking_rows == "skip"
    return Compiler(data.items, FORMS, asking(recipe, frame), perceptual, leave_out)


def compile_all(data: LoadedData, compiler: Compiler) -> Prepared:
    """All questions of all forms, once the compiler has looked at the items."""
    questions: dict[str, dict[str, list[Question]]] = {}
    for _, made in compiler.ask():
        for question in made:
            questions.setdefault(question.split, {}).setdefault(question.form, []).append(question)
    card = compiler.card().to_dict()
    return Prepared(data=data, questions=questions, card={**data.account(), "questions": card})


def query_pool(prepared: Prepared) -> list[Question]:
    """What self-improvement asks: the pool, or without one the training questions again."""
    return prepared.of("pool") or prepared.of("train")


@dataclass(frozen=True, kw_only=True)
class PromptTokens:
    """Tokens of all prompts, images included."""

    by_form: Mapping[str, list[Count]]  # of every split; those that the model cannot take too
    problems: tuple[tuple[str, str], ...]  # (file:line, reason), one a row


def count_prompts(prepared: Prepared, processor: ChatProcessor) -> PromptTokens:
    """Counts every prompt; no image is opened. A row is named once, by the form in which its prompt is longest."""
    counter = TokenCounter(processor)
    by_form: dict[str, list[Count]] = {}
    refused: dict[str, list[tuple[int, str, str]]] = {}
    for forms in prepared.questions.values():
        for form, asked in forms.items():
            for question, count in zip(track(asked, f"counting tokens ({form})"), counter.count(asked), strict=True):
                by_form.setdefault(form, []).append(count)
                if count.problem is not None:
                    refused.setdefault(question.source or question.id, []).append((count.tokens, form, count.problem))
    problems = []
    for source, found in refused.items():
        _, form, reason = max(found, key=lambda each: each[0])
        others = f" and {len(found) - 1} more" if len(found) > 1 else ""
        problems.append((source, f"asked as {form}{others}: {reason}"))
    return PromptTokens(by_form=by_form, problems=tuple(problems))


def written_examples(prepared: Prepared) -> list[SftExample]:
    """What the SFT baseline learns: the written answers of the training items."""
    return [
        SftExample(question=asked, completion=f"<answer> {FORMS[asked.form].write(asked)} </answer>")
        for asked in prepared.of("train")
    ]


def unlearnable(recipe: Recipe, prepared: Prepared, processor: ChatProcessor) -> list[tuple[str, str]]:
    """(file:line, reason) of what the recipe's fine-tunings could not learn, as far as that is known before a run: the
    written answers of the baseline, and queries of phase 2 that leave no room for an answer. What is sampled is looked
    at when it is selected."""
    problems: list[tuple[str, str]] = []
    if "sft" in recipe.evaluation.models and recipe.sft is not None:
        examples = written_examples(prepared)
        for example, refused in zip(examples, refuse_examples(processor, examples, recipe.sft.max_length), strict=True):
            if refused is not None:
                way = ", or raise sft.max_length" if refused.kind == TOO_LONG else ""
                said = f"with its written answer it {refused.reason}; take the row out{way}"
                problems.append((example.question.source or example.question.id, said))
    config = recipe.self_improvement
    if config is not None:
        most = config.sft.max_length
        queries = [query for query in query_pool(prepared) if query.domain in config.pools]
        for query, count in zip(queries, TokenCounter(processor).count(queries), strict=True):
            if count.problem is None and count.tokens + 1 >= most:
                said = (
                    f"its prompt has {count.tokens} tokens, and self_improvement.sft.max_length {most} leaves no room "
                    "for an answer; take the query out, or raise max_length"
                )
                problems.append((query.source or query.id, said))
    return problems


def check_examples(recipe: Recipe, prepared: Prepared, processor: ChatProcessor) -> None:
    """Raises DataError with every row that a fine-tuning of the recipe could not learn."""
    _refuse(unlearnable(recipe, prepared, processor))


def check_prompts(prepared: Prepared, processor: ChatProcessor) -> None:
    """Raises DataError with every row whose prompt is too long, or holds a word the model does not know."""
    _refuse(count_prompts(prepared, processor).problems)


def _plain(truth: Any) -> Any:
    return sorted(truth) if isinstance(truth, frozenset) else truth  # a set has no order of its own


def question_style(recipe: Recipe) -> str:
    """The recipe's style, or the one that fits the model."""
    return recipe.questions.style or ("short" if recipe.model.path == EMBEDDED else "full")


def check_truths(recipe: Recipe, prepared: Prepared) -> None:
    """Every right answer, written as a model should, must earn full format and accuracy, in every form.

    Raises DataError with all that do not.
    """
    all_questions = (question for forms in prepared.questions.values() for own in forms.values() for question in own)
    asked = [question for question in all_questions if question.task != JUDGED]  # which have no truth to grade
    first: list[Grade] = []
    with progress("grading truths", len(asked)) as advance:
        for start in range(0, len(asked), AT_ONCE):
            part = asked[start : start + AT_ONCE]
            first += grade_all([(question, _well_written(question), False) for question in part], recipe.rewards)
            advance(len(part))
    grades = [_patiently(question, graded, recipe) for question, graded in zip(asked, first, strict=True)]
    _refuse(
        [
            (question.source or question.id, f"the truth of {question.task} ({question.form}) {_earned(question, its)}")
            for question, its in zip(asked, grades, strict=True)
            if not _is_paid(its)
        ]
    )


def _patiently(question: Question, graded: Grade, recipe: Recipe) -> Grade:
    """``graded``, or where it broke down without a score that of a second try, alone and with more time: the first may
    have been asked of a machine that was busy with other things."""
    if graded.status not in (Status.TIMED_OUT, Status.GRADER_FAILED):
        return graded
    math = recipe.rewards.math.model_copy(update={"timeout": PATIENCE * recipe.rewards.math.timeout})
    return grade(question, _well_written(question), config=recipe.rewards.model_copy(update={"math": math}))


def _well_written(question: Question) -> str:
    return f"<think> reason </think> <answer> {FORMS[question.form].write(question)} </answer>"


def _is_paid(grade: Grade) -> bool:
    return grade.accuracy == 1 and grade.format == 1


def _earned(question: Question, grade: Grade) -> str:
    """What is said of a truth that is not paid, after the words that name it."""
    state = f"{grade.status}: {grade.reason}" if grade.reason else str(grade.status)
    return (
        f"{FORMS[question.form].write(question)[:120]!r} must earn accuracy 1 and format 1 by its own grader, and "
        f"earns accuracy {grade.accuracy}, format {grade.format} ({state}); correct the row or leave it out"
    )


def require_forms(recipe: Recipe, prepared: Prepared) -> None:
    """A stage needs training and validation questions of its forms, a result needs a test. Raises DataError."""
    _refuse(list(_without_questions(recipe, prepared)))


def _without_questions(recipe: Recipe, prepared: Prepared) -> Iterator[tuple[str, str]]:
    stages = recipe.curriculum.stages
    trained = {f"curriculum.stages.{number}.forms": stage.forms for number, stage in enumerate(stages)}
    if recipe.curriculum.schedule != "forward":
        trained["curriculum.schedule"] = {form: 1 for stage in recipe.curriculum.scheduled() for form in stage.forms}
    for key, forms in trained.items():
        for form in forms:
            for split in ("train", "validation"):
                if not prepared.of(split, form):
                    yield (
                        key,
                        f"no {split} question could be made in the form {form}; see the reasons under skipped in the "
                        "data card (curr-reft data build), add rows, or take the form out of the stage",
                    )
    if not prepared.of("test"):
        yield "data.test", "holds no question; add in-domain test rows"


def require_queries(recipe: Recipe, prepared: Prepared) -> None:
    """Self-improvement draws its queries from pools that are large enough. Raises DataError."""
    if recipe.self_improvement is not None:
        draw_queries(query_pool(prepared), recipe.self_improvement.pools, recipe.seed)


def require_verdicts(recipe: Recipe, prepared: Prepared) -> None:
    """The judge can give a verdict on every query that is drawn. Raises DataError."""
    config = recipe.self_improvement
    if config is None or config.judge.kind != "rules":
        return
    without = sorted({q.domain for q in query_pool(prepared) if q.task == JUDGED and q.domain in config.pools})
    if without:
        raise DataError(
            "self_improvement.judge.kind",
            f"rules gives verdicts where there is a truth, and the queries of {', '.join(without)} have none (task "
            f"{JUDGED}): none of their answers would be kept; set kind to endpoint or local, or leave these pools out",
        )


def _refuse(problems: Sequence[tuple[str, str]]) -> None:
    if problems:
        raise DataError(*problems[0], tuple(problems))


def require_judged_in_pool(recipe: Recipe, prepared: Prepared) -> None:
    """What has no truth can be sampled and judged; it can neither reward nor test. Raises DataError."""
    _refuse(
        [
            (
                question.source or question.id,
                f"is of the task {JUDGED}, which has no truth, and stands in {split}; list it under data.files.pool",
            )
            for split, forms in prepared.questions.items()
            for question in forms.get("open", [])
            if split != "pool" and question.task == JUDGED
        ]
    )


REQUIREMENTS = (require_judged_in_pool, require_forms, require_queries, require_verdicts, check_truths)
"""What must hold of what is asked, the quick ones first. Each takes (recipe, prepared) and raises DataError with all
that it finds."""
