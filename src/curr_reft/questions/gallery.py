"""``data show``: one page of questions in all forms, as the model is asked. No script, opens offline.

Boxes are drawn on the plain picture: the truth in green, the claim of a yes/no question in red, the boxes of options
with their letters.
"""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path

from curr_reft.data.frame import BoxFrame, boxes_of
from curr_reft.data.item import Item, Truth
from curr_reft.data.picture import Mark, picture
from curr_reft.errors import DataError
from curr_reft.files import write_atomic
from curr_reft.questions.forms import FORMS
from curr_reft.questions.question import Question
from curr_reft.tasks.letters import letter_of

CONTENT_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"

_STYLE = """
:root { color-scheme: light dark; --ink: #1c2430; --quiet: #5d6878; --paper: #fbfaf7; --card: #fff; --line: #e2dfd8;
  --truth: #12d18e; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8eaee; --quiet: #9aa4b3; --paper: #14171c; --card: #1c2027;
  --line: #303640; } }
body { margin: 0 auto; max-width: 72rem; padding: 2rem 1rem 4rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; margin: 0 0 .25rem; } h2 { font-size: 1.15rem; margin: 2.5rem 0 .75rem; }
p.note { color: var(--quiet); margin: 0 0 .6rem; }
ul.cards { list-style: none; margin: 0; padding: 0; display: grid; gap: 1rem;
  grid-template-columns: repeat(auto-fill, minmax(15rem, 1fr)); }
ul.cards > li { background: var(--card); border: 1px solid var(--line); border-radius: .5rem; overflow: hidden;
  break-inside: avoid; }
.picture { display: block; width: 100%; height: auto; max-height: 20rem; background: var(--line); }
.halo, .mark { fill: none; vector-effect: non-scaling-stroke; } .halo { stroke: #000; stroke-opacity: .55;
  stroke-width: 5.5px; }
.mark { stroke-width: 3px; } .truth { stroke: var(--truth); } .claimed { stroke: #e5484d; stroke-dasharray: 9 5; }
.option { stroke: #f5a524; stroke-dasharray: 6 4; } .letter { fill: #fff; stroke: #000; stroke-width: .22em;
  paint-order: stroke; font-weight: 700; font-family: system-ui, sans-serif; }
.text { padding: .75rem .9rem; overflow-wrap: anywhere; } .text p { margin: 0 0 .35rem; }
.answer, .right { font-weight: 600; } .right::after { content: " \\2713"; color: #0a9e68; }
.text ol { list-style: upper-alpha; margin: 0 0 .35rem; padding-left: 1.5rem; } .text .prompt { white-space: pre-wrap;
  font-size: .85rem; } summary, .kinds { color: var(--quiet); font-size: .8rem; }
.source { color: var(--quiet); font-size: .8rem; }
.refused { padding: 1rem; color: #b3261e; }
"""


Shown = tuple[Item, Question]
Group = tuple[str, str, str]  # split, task, form


class Gallery:
    """Takes questions as they are made and keeps the first few of every (split, task, form)."""

    def __init__(self, frame: BoxFrame, per_group: int) -> None:
        self.frame = frame
        self.per_group = per_group
        self.counts: dict[Group, int] = {}
        self.shown: dict[Group, list[Shown]] = {}

    def add(self, item: Item, questions: Iterable[Question]) -> None:
        for question in questions:
            group = (question.split, question.task, question.form)
            self.counts[group] = self.counts.get(group, 0) + 1
            shown = self.shown.setdefault(group, [])
            if len(shown) < self.per_group:
                shown.append((item, question))

    def write(self, path: Path, title: str) -> Path:
        """The page. Images that cannot be opened say why."""
        order = {form: place for place, form in enumerate(FORMS)}
        splits = list(dict.fromkeys(split for split, _, _ in self.shown))
        groups = sorted(self.shown, key=lambda group: (splits.index(group[0]), group[1], order[group[2]]))
        sections = "".join(self._section(group) for group in groups)
        write_atomic(
            path,
            '<!doctype html><html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f'<meta http-equiv="Content-Security-Policy" content="{CONTENT_POLICY}">'
            f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>"
            f"<h1>{escape(title)}</h1><p class=note>{sum(self.counts.values()):,} questions. True boxes are green, "
            "claimed ones dashed in red, options dashed in orange with their letter."
            f"</p>{sections}</body></html>\n",
        )
        return path

    def _section(self, group: Group) -> str:
        split, task, form = group
        shown = self.shown[group]
        cards = "".join(self._card(item, question) for item, question in shown)
        return (
            f"<h2>{escape(split)} · {escape(task)} · {escape(form)}</h2>"
            f"<p class=note>{len(shown)} of {self.counts[group]:,}</p><ul class=cards>{cards}</ul>"
        )

    def _card(self, item: Item, question: Question) -> str:
        pictures = []
        for place, image in enumerate(item.images):
            try:
                marks = self._marks(item, question) if place == 0 else []
                pictures.append(picture(image.open(), marks, label=f"image {place + 1} of {question.id}"))
            except DataError as error:
                pictures.append(f"<p class=refused>{escape(error.reason)}</p>")
        return (
            f"<li>{''.join(pictures)}<div class=text><p>{escape(item.question)}</p>"
            f"{_answer(question)}{_kinds(question)}"
            f"<details><summary>as the model reads it</summary><p class=prompt>{escape(question.prompt)}</p></details>"
            f"<p class=source>{escape(question.source or question.id)}</p></div></li>"
        )

    def _marks(self, item: Item, question: Question) -> list[Mark]:
        """Claims are in the model's frame; the picture is the original."""
        size = item.images[0].size

        def drawn(claim: Truth, kind: str, label: str = "") -> list[Mark]:
            return [Mark(self.frame.to_original(box, size), kind, label) for box in boxes_of(claim)]

        marks = [Mark(box, "truth") for box in boxes_of(item.truth)]
        for place, claim in enumerate(question.claims):
            choice = bool(question.options)
            marks += drawn(claim, "option" if choice else "claimed", letter_of(place) if choice else "")
        return marks


def _answer(question: Question) -> str:
    right = f"<p class=answer>{escape(FORMS[question.form].write(question))}</p>"
    if not question.options:
        claim = f"<p>claim: {escape(_claim(question))}</p>" if question.claims else ""
        return claim + right
    options = "".join(
        f"<li{' class=right' if letter_of(place) in question.truth else ''}>{escape(text)}</li>"
        for place, text in enumerate(question.options)
    )
    return f"<ol>{options}</ol>{right}"


def _claim(question: Question) -> str:
    (claim,) = question.claims
    if isinstance(claim, str):
        return claim
    boxes = boxes_of(claim)
    return "; ".join(", ".join(f"{side:g}" for side in box) for box in boxes) if boxes else ", ".join(map(str, claim))


def _kinds(question: Question) -> str:
    kinds: Mapping[str, int] = {kind: question.wrong_kinds.count(kind) for kind in question.wrong_kinds}
    told: Sequence[str] = [f"{count} × {kind}" if count > 1 else kind for kind, count in kinds.items()]
    return f"<p class=kinds>wrong: {escape(', '.join(told))}</p>" if told else ""
