"""Items become question sets, one per form: balanced, leak-free, the same for the same seed, with a card.

What a question claims is drawn from the stream (seed, form, item id); how it is laid out is dealt in the order of the
items (``layout.py``). So the other forms asked for change nothing, and nor do the items of other splits and tasks.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from curr_reft.data.item import Item
from curr_reft.errors import DataError, RecipeError
from curr_reft.questions.card import Card, SplitCard, split_card, total_card
from curr_reft.questions.forms import FORMS, OPTION_COUNT, Form, Skip
from curr_reft.questions.layout import Layouts
from curr_reft.questions.leaks import check_splits, count_duplicates
from curr_reft.questions.question import Question
from curr_reft.questions.templates import Style, style_named
from curr_reft.seeding import stream
from curr_reft.tasks import TASKS
from curr_reft.tasks.base import Frame, Pool, TaskOptions
from curr_reft.tasks.names import normalise_name

Skipped = tuple[str, str, str]  # task, form, reason


def compile_questions(
    items: Sequence[Item],
    forms: Iterable[str],
    *,
    seed: int,
    frame: Frame,
    style: str = "full",
    options: int = OPTION_COUNT,
    families: Mapping[str, Sequence[str]] | None = None,
    grading: TaskOptions | None = None,
) -> tuple[dict[str, list[Question]], Card]:
    """The questions of each form, in the order of the items, and the card.

    Boxes go to the model's ``frame``. Yes and no are balanced per split and task to within one question, and so are
    the right letters of a choice among ``options``. False claims are wrong by the scorer of their task with the
    options ``grading``; ``families`` (family -> categories) makes some more plausible than others. Items a form cannot
    ask are left out and counted in the card with the reason.
    Raises DataError for repeated ids, unknown tasks and leaks between splits; RecipeError for unknown forms or styles.
    """
    names = list(dict.fromkeys(forms))
    unknown = [name for name in names if name not in FORMS]
    if unknown:
        raise RecipeError(f"form {unknown[0]!r} is unknown; choose among {', '.join(FORMS)}")
    look = style_named(style)
    _check_items(items)
    check_splits(items)

    layouts = Layouts(seed)
    table = _families(families or {})
    graded = grading or TaskOptions()
    made: dict[str, dict[str, Question]] = {name: {} for name in names}
    cards: dict[str, SplitCard] = {}
    for split in sorted({item.split for item in items}):
        members = [item for item in items if item.split == split]
        skipped: list[Skipped] = []
        for task in TASKS:
            of_task = [item for item in members if item.task == task]
            placed, pools = _place(of_task, frame, table, names, skipped)
            for name in names:
                drafted = _ask(FORMS[name], placed, pools, seed, layouts, look, frame.kind, options, graded, skipped)
                made[name].update(drafted)
        questions = [made[name][item.id] for name in names for item in members if item.id in made[name]]
        cards[split] = split_card([item.task for item in members], questions, skipped, count_duplicates(members))
    card = Card(splits=cards, total=total_card(cards.values()), seed=seed, style=style)
    return {name: [made[name][item.id] for item in items if item.id in made[name]] for name in names}, card


def _check_items(items: Sequence[Item]) -> None:
    seen: dict[str, Item] = {}
    problems = []
    for item in items:
        source = item.source or item.id
        if item.task not in TASKS:
            problems.append((source, f"task {item.task!r} is unknown; the tasks are {', '.join(TASKS)}"))
        if item.id in seen:
            first = seen[item.id].source or "another row"
            problems.append((source, f"id {item.id!r} is also that of {first}; ids are unique over all splits"))
        seen[item.id] = item
    if problems:
        raise DataError(*problems[0], tuple(problems))


def _place(
    items: Sequence[Item], frame: Frame, families: Pool, forms: Sequence[str], skipped: list[Skipped]
) -> tuple[list[Item], dict[str, Pool]]:
    """The items in the model's frame, and what the false claims of each may be drawn from."""
    placed: list[Item] = []
    pools: dict[str, Pool] = {}
    if not items:
        return placed, pools
    task = TASKS[items[0].task]
    shared = families | task.pool(list(items))
    for item in items:
        try:
            moved, bounds = task.place(item, frame)
        except ValueError as error:
            skipped.extend((item.task, form, str(error)) for form in forms)
            continue
        placed.append(moved)
        pools[item.id] = replace(shared, bounds=bounds)
    return placed, pools


def _families(table: Mapping[str, Sequence[str]]) -> Pool:
    families: dict[str, frozenset[str]] = {}
    for family, names in table.items():
        for name in map(normalise_name, names):
            # Apart from words of names, which are families too.
            families[name] = families.get(name, frozenset()) | {f"family {family}"}
    return Pool(families=families)


def _ask(
    form: Form,
    items: Sequence[Item],
    pools: dict[str, Pool],
    seed: int,
    layouts: Layouts,
    style: Style,
    kind: str,
    options: int,
    grading: TaskOptions,
    skipped: list[Skipped],
) -> dict[str, Question]:
    """The questions of one form by item id. Layouts are dealt only to drafts that succeeded: balance is exact."""
    questions: dict[str, Question] = {}
    for item in items:
        rng = stream(seed, "question", form.name, item.id)
        draft = form.draft(item, pools[item.id], rng, options, grading)
        if isinstance(draft, Skip):
            skipped.append((item.task, form.name, draft.reason))
            continue
        layout = layouts.deal(
            split=item.split,
            task=item.task,
            form=form.name,
            group=form.group(draft),
            layouts=form.layouts(draft),
        )
        questions[item.id] = form.build(draft, layout, style, kind)
    return questions
