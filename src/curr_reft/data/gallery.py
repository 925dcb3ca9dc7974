"""``data show``: one page with some items of every split and task, true boxes drawn. No script, opens offline."""

from collections.abc import Iterable
from html import escape
from pathlib import Path

from curr_reft.data.export import truth_text
from curr_reft.data.frame import boxes_of
from curr_reft.data.item import Item
from curr_reft.data.picture import Mark, picture
from curr_reft.errors import DataError
from curr_reft.files import write_atomic

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
ul { list-style: none; margin: 0; padding: 0; display: grid; gap: 1rem;
  grid-template-columns: repeat(auto-fill, minmax(14rem, 1fr)); }
li { background: var(--card); border: 1px solid var(--line); border-radius: .5rem; overflow: hidden;
  break-inside: avoid; }
.picture { display: block; width: 100%; height: auto; max-height: 20rem; background: var(--line); }
.halo, .mark { fill: none; vector-effect: non-scaling-stroke; } .halo { stroke: #000; stroke-opacity: .55;
  stroke-width: 5.5px; }
.mark { stroke-width: 3px; } .truth { stroke: var(--truth); }
.text { padding: .75rem .9rem; overflow-wrap: anywhere; } .text p { margin: 0 0 .35rem; }
.answer { font-weight: 600; } .source { color: var(--quiet); font-size: .8rem; }
.refused { padding: 1rem; color: #b3261e; }
"""


def write_gallery(items: Iterable[Item], path: Path, *, per_task: int = 8, title: str = "Data") -> Path:
    """The first ``per_task`` items of every (split, task), in the order given. Images that cannot be opened say why."""
    groups: dict[tuple[str, str], list[Item]] = {}
    for item in items:
        groups.setdefault((item.split, item.task), []).append(item)
    sections = "".join(_section(split, task, group, per_task) for (split, task), group in groups.items())
    total = sum(map(len, groups.values()))
    write_atomic(
        path,
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{CONTENT_POLICY}">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>"
        f"<h1>{escape(title)}</h1><p class=note>{total:,} items; true boxes are drawn in green.</p>"
        f"{sections}</body></html>\n",
    )
    return path


def _section(split: str, task: str, group: list[Item], per_task: int) -> str:
    shown = group[:per_task]
    cards = "".join(_card(item) for item in shown)
    heading = f"{escape(split)} · {escape(task)}"
    return f"<h2>{heading}</h2><p class=note>{len(shown)} of {len(group):,}</p><ul>{cards}</ul>"


def _card(item: Item) -> str:
    marks = [Mark(box, "truth") for box in boxes_of(item.truth)]
    pictures = []
    for position, image in enumerate(item.images):
        try:
            pictures.append(picture(image.open(), marks if position == 0 else [], label=f"image of {item.id}"))
        except DataError as error:
            pictures.append(f"<p class=refused>{escape(error.reason)}</p>")
    truth = truth_text(item.truth)
    if isinstance(item.truth, tuple) and not marks:
        truth = ", ".join(map(str, item.truth))
    return (
        f"<li>{''.join(pictures)}<div class=text><p>{escape(item.question)}</p>"
        f"<p class=answer>{escape(truth)}</p><p class=source>{escape(item.source or item.id)}</p></div></li>"
    )
