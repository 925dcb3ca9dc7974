"""What the report shows of the differences between models: a row a pair, a column a suite, paired by test item."""

from typing import Any

from curr_reft.report.read import SPLITS, RunFiles, as_dict, label_of, number
from curr_reft.report.views import unresolved
from curr_reft.report.words import DASH, times

SUITES = {**SPLITS, "general": "General pool"}
ABSENT = (DASH, False)
LEAST_ITEMS = 20
"""Of the smallest task, those that share a picture counted once. Of a handful one decides: that five of five are better
leaves zero out, and is luck one time in sixteen."""


def difference_view(files: RunFiles) -> dict[str, Any]:
    """No rows for a run that did not note any. A cell is (text, whether it is sure): its interval leaves zero out, and
    its items are enough."""
    found = as_dict(files.summary.get("differences"))
    suites = [suite for suite in SUITES if any(suite in as_dict(own) for own in found.values())]
    return {
        "suites": [SUITES[suite] for suite in suites],
        "least_items": LEAST_ITEMS,
        "too_few": {SUITES[suite]: count for suite in suites if (count := _smallest(found, suite)) < LEAST_ITEMS},
        "rows": [
            (
                " \N{MINUS SIGN} ".join(map(label_of, pair.split(" - "))),
                [_cell(as_dict(own).get(suite)) for suite in suites],
            )
            for pair, own in found.items()
        ],
    }


def not_shown(files: RunFiles) -> list[str]:
    """A sentence a suite on what this run leaves open: the pairs whose interval holds zero, all of them where items are
    few; for a run that noted no differences, the models whose own intervals overlap."""
    view = difference_view(files)
    if not view["rows"]:
        return unresolved(files)
    sentences = []
    for place, suite in enumerate(view["suites"]):
        if suite in view["too_few"]:
            items = times(view["too_few"][suite], "item")
            sentences.append(f"{suite}, any difference: a task has {items}, and an interval takes {LEAST_ITEMS}.")
            continue
        pairs = [pair for pair, cells in view["rows"] if cells[place] != ABSENT and not cells[place][1]]
        if pairs:
            sentences.append(f"{suite}, the interval of the difference holds zero: {'; '.join(pairs)}.")
    return sentences


def _cell(suite: Any) -> tuple[str, bool]:
    mean = as_dict(as_dict(suite).get("mean"))
    centre, low, high = (number(mean.get(key)) for key in ("mean", "low", "high"))
    if centre is None or low is None or high is None:
        return ABSENT
    sure = (low > 0 or high < 0) and _items(suite) >= LEAST_ITEMS
    return f"{_points(centre)} ({_points(low)} to {_points(high)})", sure


def _smallest(found: dict[str, Any], suite: str) -> int:
    return min(_items(as_dict(own).get(suite)) for own in found.values())


def _items(suite: Any) -> int:
    """Of the smallest task; as many as needed where none are noted."""
    cells = [as_dict(cell) for name, cell in as_dict(suite).items() if name != "mean"]
    counts = (number(cell.get("clusters", cell.get("n"))) for cell in cells)
    return int(min((count for count in counts if count is not None), default=LEAST_ITEMS))


def _points(value: float) -> str:
    """Points of 100 with a sign that is a minus and not a hyphen; what rounds to nothing has none."""
    text = f"{100 * value:+.1f}"
    return "0.0" if float(text) == 0 else text.replace("-", "\N{MINUS SIGN}")
