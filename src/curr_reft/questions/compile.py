"""Items become question sets, one per form: balanced, leak-free, the same for the same seed, with a card.

Two passes over the items, which are read anew each time and not kept: the first surveys them (``survey.py``), the
second asks. What a question claims is drawn from the stream (seed, form, item id); how it is laid out is dealt in the
order of the items (``layout.py``). So the other forms asked for change nothing, and nor do the items of other splits
and tasks.
"""

import logging
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from curr_reft.console import track
from curr_reft.data.fingerprint import LOOKS
from curr_reft.data.frame import BoxFrame, boxes_of
from curr_reft.data.item import ImageSource, Item, Truth
from curr_reft.data.marked import MarkedImage
from curr_reft.errors import RecipeError
from curr_reft.questions.card import Card, SplitCard, picture_statistics
from curr_reft.questions.forms import DEFAULT_GRADING, FORMS, OPTION_COUNT, Form, Skip
from curr_reft.questions.layout import Layouts
from curr_reft.questions.leaks import Pair, Repeats, check_ids, find_repeats
from curr_reft.questions.question import Question
from curr_reft.questions.survey import Survey
from curr_reft.questions.templates import frame_words, style_named
from curr_reft.seeding import stream
from curr_reft.tasks import TASKS
from curr_reft.tasks.base import Pool, TaskOptions
from curr_reft.tasks.names import normalise_name

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Asking:
    """How items become questions."""

    seed: int
    frame: BoxFrame  # of the model: boxes are asked for, claimed and answered in it
    style: str = "full"
    options: int = OPTION_COUNT  # of a choice
    families: Mapping[str, Sequence[str]] = field(default_factory=dict)  # family -> categories easily confused
    grading: TaskOptions = DEFAULT_GRADING  # false claims are wrong by these rules
    draw_boxes: bool = False  # claimed boxes are drawn on the image instead of written


class Compiler:
    """The questions of ``items``, which are read at least twice and must be the same in the same order each time."""

    def __init__(
        self,
        items: Iterable[Item],
        forms: Iterable[str],
        asking: Asking,
        perceptual: bool = True,
        leave_out_leaks: bool = False,
    ) -> None:
        """``perceptual``: image files that show the same picture are found under other bytes too, which opens each.
        ``leave_out_leaks``: items that leak are left out of the split of less worth, and counted.

        Raises RecipeError for an unknown form or style.
        """
        names = list(dict.fromkeys(forms))
        unknown = [name for name in names if name not in FORMS]
        if unknown:
            raise RecipeError(f"form {unknown[0]!r} is unknown; choose among {', '.join(FORMS)}")
        self.items = items
        self.forms = [FORMS[name] for name in names]
        self.asking = asking
        self.style = style_named(asking.style)
        self.survey = Survey(perceptual=perceptual)
        self.leave_out_leaks = leave_out_leaks
        self.left_out: tuple[Pair, ...] = ()
        self.splits: dict[str, SplitCard] = {}
        self._families = _family_pool(asking.families)

    def look(self) -> Repeats:
        """The first pass. Raises DataError for repeated ids and unknown tasks; leaks are for the caller to refuse."""
        try:
            return self._without_leaks()
        finally:
            LOOKS.clear()  # nothing compares pictures after this

    def _without_leaks(self) -> Repeats:
        repeats = self._look()
        shortfall = repeats.shortfall()
        if shortfall is not None:
            log.warning("%s", shortfall)
        if self.leave_out_leaks and repeats.dispensable:
            self.left_out = tuple(repeats.dispensable.values())
            by_split = Counter(pair.second_split for pair in self.left_out)
            counts = ", ".join(f"{count} of {split}" for split, count in sorted(by_split.items()))
            log.warning("%d items were left out because they leak between splits (%s)", len(self.left_out), counts)
            self.items = _Without(self.items, repeats.dispensable)
            self.survey = Survey(perceptual=self.survey.perceptual)
            repeats = self._look()
        return repeats

    def _look(self) -> Repeats:
        for item in _tracked(self.items, "looking at items"):
            self.survey.add(item)
        self.survey.finish()
        check_ids(self.survey, self.items)
        self._pools = {place: self._families | pool for place, pool in self.survey.pools.items()}
        self._repeats = find_repeats(self.survey, self.items)
        return self._repeats

    def ask(self) -> Iterator[tuple[Item, list[Question]]]:
        """The second pass: each item as it came, with its questions in the order of the forms."""
        layouts = Layouts(self.asking.seed)
        repeated = Counter(pair.second_split for pair in self._repeats.duplicates)
        self.splits = {split: SplitCard(duplicates=repeated[split]) for split in self.survey.splits}
        for item in _tracked(self.items, "making questions"):
            card = self.splits[item.split]
            card.items[item.task] += 1
            made = []
            try:
                placed, bounds = TASKS[item.task].place(item, self.asking.frame)
            except ValueError as error:
                card.skipped.update((item.task, form.name, str(error)) for form in self.forms)
                yield item, []
                continue
            pool = replace(self._pools[item.split, item.task], bounds=bounds)
            for form in self.forms:
                asked = self._question(form, placed, pool, layouts)
                if isinstance(asked, Skip):
                    card.skipped[item.task, form.name, asked.reason] += 1
                else:
                    card.add(asked)
                    made.append(asked)
            yield item, made

    def card(self) -> Card:
        """What was made; complete when ``ask`` has come to its end."""
        return Card(
            splits=self.splits,
            seed=self.asking.seed,
            style=self.asking.style,
            frame=self.asking.frame.kind,
            pictures=picture_statistics(self.survey),
            repeats=self._repeats,
            left_out=self.left_out,
        )

    def _question(self, form: Form, item: Item, pool: Pool, layouts: Layouts) -> Question | Skip:
        """Layouts are dealt only to drafts that succeeded: the balance is exact."""
        asking = self.asking
        draft = form.draft(
            item, pool, stream(asking.seed, "question", form.name, item.id), asking.options, asking.grading
        )
        if isinstance(draft, Skip):
            return draft
        if asking.draw_boxes:
            draft = replace(draft, show=lambda claim: self._drawn(item, claim))
        layout = layouts.deal(
            split=item.split,
            task=item.task,
            form=form.name,
            group=form.group(draft),
            layouts=form.layouts(draft),
        )
        return form.build(draft, layout, self.style, frame_words(asking.frame, item.images))

    def _drawn(self, item: Item, claim: Truth) -> ImageSource | None:
        """The item's first image with the claim on it, for a claim that consists of boxes (in the model's frame)."""
        boxes = boxes_of(claim)
        if not boxes or not item.images:
            return None
        image = item.images[0]
        return MarkedImage(image, tuple(self.asking.frame.to_original(box, image.size) for box in boxes))


def _tracked(items: Iterable[Item], what: str) -> Iterable[Item]:
    """The items, with how far they are shown; those that are read from files show it while they are read."""
    return track(items, what) if isinstance(items, Sequence) else items


@dataclass(frozen=True)
class _Without:
    """Items without those at some places, as often as they are asked for."""

    items: Iterable[Item]
    places: Container[int]

    def __iter__(self) -> Iterator[Item]:
        return (item for place, item in enumerate(self.items) if place not in self.places)


def compile_questions(
    items: Sequence[Item],
    forms: Iterable[str],
    *,
    seed: int,
    frame: BoxFrame,
    style: str = "full",
    options: int = OPTION_COUNT,
    families: Mapping[str, Sequence[str]] | None = None,
    grading: TaskOptions | None = None,
    draw_boxes: bool = False,
    perceptual: bool = True,
) -> tuple[dict[str, list[Question]], Card]:
    """The questions of each form, in the order of the items, and the card.

    Boxes go to the model's ``frame``. Yes and no are balanced per split and task to within one question, and so are
    the right letters of a choice among ``options``. False claims are wrong by the scorer of their task with the
    options ``grading``; ``families`` (family -> categories) makes some more plausible than others. Items a form cannot
    ask are left out and counted in the card with the reason.
    Raises DataError for repeated ids, unknown tasks and leaks between splits; RecipeError for unknown forms or styles.
    """
    names = list(dict.fromkeys(forms))
    asking = Asking(
        seed=seed,
        frame=frame,
        style=style,
        options=options,
        families=families or {},
        grading=grading or DEFAULT_GRADING,
        draw_boxes=draw_boxes,
    )
    compiler = Compiler(items, names, asking, perceptual)
    compiler.look().refuse_leaks()
    made: dict[str, list[Question]] = {name: [] for name in names}
    for _, questions in compiler.ask():
        for question in questions:
            made[question.form].append(question)
    return made, compiler.card()


def _family_pool(table: Mapping[str, Sequence[str]]) -> Pool:
    families: dict[str, frozenset[str]] = {}
    for family, names in table.items():
        for name in map(normalise_name, names):
            # Named so that no family is taken for a word of a name, which is a family too.
            families[name] = families.get(name, frozenset()) | {f"family {family}"}
    return Pool(families=families)
