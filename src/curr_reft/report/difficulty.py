"""Pass rates by form and task as one SVG that stands alone and follows light and dark by itself.

Above: the mean of each (form, task) with its interval, beside chance. Below: how the questions of each spread.
"""

import io
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import MultipleLocator, PercentFormatter

from curr_reft.curriculum.difficulty import PassRate

# matplotlib draws with the colours of a light page; a style sheet exchanges them where the reader's page is dark.
_INK, _QUIET, _GRID, _PAPER = "#1a1b1c", "#5b5c5d", "#dddedf", "#fdfefc"
_SERIES = ("#1f5fa8", "#a8541f", "#2b7a4b", "#7a3f8f", "#6f6a12")
_DARK = dict(
    zip(
        (_INK, _QUIET, _GRID, _PAPER, *_SERIES),
        ("#ecedee", "#a9abad", "#3a3c3e", "#15171a", "#7db3f0", "#f0a67d", "#7fd19f", "#cf9be0", "#d8d06a"),
        strict=True,
    )
)
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # real text: it can be searched and read aloud
    "svg.hashsalt": "difficulty",
    "text.parse_math": False,
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": _INK,
    "axes.edgecolor": _QUIET,
    "axes.labelcolor": _QUIET,
    "axes.facecolor": _PAPER,
    "axes.titlecolor": _INK,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": _GRID,
    "xtick.color": _QUIET,
    "ytick.color": _QUIET,
    "figure.facecolor": _PAPER,
}


def difficulty_picture(result: Mapping[str, Any], rates: Sequence[PassRate]) -> str:
    """The SVG as text. ``result`` is the content of difficulty.json."""
    forms = list(dict.fromkeys(cell["form"] for cell in result["cells"]))
    tasks = list(dict.fromkeys(cell["task"] for cell in result["cells"]))
    colours = {task: _SERIES[place % len(_SERIES)] for place, task in enumerate(tasks)}
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(2.9 * len(forms) + 0.6, 2.0 + 0.3 * len(result["cells"]) + 1.9), layout="constrained")
        above, below = figure.subfigures(2, 1, squeeze=False, height_ratios=(0.9 + 0.3 * len(result["cells"]), 2.4))[
            :, 0
        ]
        _means(above, result, forms, colours)
        _spreads(below, rates, forms, colours, result["samples"])
        file = io.StringIO()
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    return _follow_the_page(file.getvalue())


def _means(figure: Any, result: Mapping[str, Any], forms: Sequence[str], colours: Mapping[str, str]) -> None:
    axis = figure.subplots()
    labels: list[tuple[float, str]] = []
    row = 0.0
    for form in forms:
        for cell in result["cells"]:
            if cell["form"] != form:
                continue
            colour = colours[cell["task"]]
            axis.plot([cell["low"], cell["high"]], [row, row], color=colour, linewidth=2.4, solid_capstyle="round")
            axis.plot([cell["pass_rate"]], [row], "o", color=colour, markersize=7)
            axis.plot([cell["chance"]], [row], "|", color=_INK, markersize=13, markeredgewidth=1.6)
            labels.append((row, f"{form}, {cell['task']}"))
            row += 1.0
        row += 0.5  # forms stand apart
    axis.set(xlim=(0, 1), ylim=(row - 0.9, -0.6), xlabel="pass rate of a sampled answer, 95 % interval; bar: chance")
    axis.set_yticks([place for place, _ in labels], [label for _, label in labels])
    axis.tick_params(axis="y", length=0, labelcolor=_INK)
    axis.grid(visible=False, axis="y")
    axis.spines["left"].set_visible(False)
    axis.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axis.set_title(
        f"Pass rates of {Path(result['model']).name} on {result['split']}, {result['samples']} answers a question",
        loc="left",
    )


def _spreads(
    figure: Any, rates: Sequence[PassRate], forms: Sequence[str], colours: Mapping[str, str], samples: int
) -> None:
    """For each form: the share of a task's questions that were right in 0, 1, ..., all of their samples."""
    axes = figure.subplots(1, len(forms), sharey=True, squeeze=False)[0]
    width = 0.84 / len(colours)
    for axis, form in zip(axes, forms, strict=True):
        for place, (task, colour) in enumerate(colours.items()):
            counts = Counter(rate.passes for rate in rates if rate.form == form and rate.task == task)
            total = sum(counts.values())
            if not total:
                continue
            xs = [passes - 0.42 + (place + 0.5) * width for passes in range(samples + 1)]
            shares = [counts[passes] / total for passes in range(samples + 1)]
            axis.bar(xs, shares, width=width, color=colour, label=task)
        axis.set_title(form, loc="left")
        axis.set_xlabel(f"right answers of {samples}")
        axis.grid(visible=False, axis="x")
        axis.xaxis.set_major_locator(MultipleLocator(max(1, samples // 8)))
        axis.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes[0].set_ylabel("share of questions")
    handles = {label: handle for axis in axes for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=len(handles), frameon=False)


def _follow_the_page(svg: str) -> str:
    """Adds a style sheet that sets the dark colours over the drawn ones; a viewer without it shows the light page."""
    rules = " ".join(
        f'[style*="{key}: {light}"] {{ {key}: {dark} !important }}'
        for light, dark in _DARK.items()
        for key in ("fill", "stroke")
    )
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    style = f"<style>@media (prefers-color-scheme: dark) {{ {rules} }}</style>"
    return re.sub(r"(<svg[^>]*>)", lambda head: head[1] + style, svg, count=1)
