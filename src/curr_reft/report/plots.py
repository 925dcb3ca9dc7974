"""Curves as inline SVG whose colours are those of the page, so that they follow light, dark and print.

matplotlib draws with marker colours that no other part uses; they are replaced by CSS variables afterwards.
"""

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from curr_reft import rounds
from curr_reft.report.read import SPLITS, RunFiles, as_dict, label_of, number

_INK, _QUIET, _GRID = "#010203", "#010204", "#010205"
_SERIES = ("#010211", "#010212", "#010213", "#010214", "#010215")
_VARIABLES = {_INK: "--ink", _QUIET: "--quiet", _GRID: "--grid"} | {
    colour: f"--series-{position}" for position, colour in enumerate(_SERIES, start=1)
}
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # real text: it can be read aloud, searched and copied
    "text.parse_math": False,  # names of stages and models are text, whatever they hold
    "font.family": "sans-serif",
    "font.size": 9.5,
    "axes.edgecolor": _QUIET,
    "axes.labelcolor": _QUIET,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": _GRID,
    "grid.linewidth": 0.8,
    "text.color": _INK,
    "xtick.color": _QUIET,
    "ytick.color": _QUIET,
    "xtick.labelcolor": _QUIET,
    "ytick.labelcolor": _QUIET,
    "lines.linewidth": 1.8,
    "legend.frameon": False,
    "legend.fontsize": 9,
}
_RUN_COLOURS = {"curr_rl": _SERIES[0], "rl": _SERIES[1], "sft": _SERIES[2], "self_improvement": _SERIES[3]}
# Not by colour alone: for eyes that do not tell them apart, and on paper.
_RUN_DASHES: dict[str, Any] = {"curr_rl": "-", "rl": (0, (5, 2)), "sft": "-", "self_improvement": (0, (5, 2))}
_RUN_MARKS = {"curr_rl": "o", "rl": "s"}
_RUN_LABELS = {"curr_rl": "Curr-RL", "rl": "RL", "sft": "SFT", "self_improvement": "self-improvement"}


@dataclass(frozen=True)
class Chart:
    """One figure of the page."""

    name: str
    title: str
    note: str  # what to look for, in a sentence
    svg: Markup


@dataclass(frozen=True)
class _Curve:
    """The steps of one run put one behind the other, and where its stages begin."""

    xs: list[float]
    rows: list[dict[str, Any]]
    starts: list[tuple[float, str]]  # (first step, stage)
    offsets: dict[str, float]  # stage -> what to add to a step


def training_charts(files: RunFiles) -> list[Chart]:
    """Every curve of training the metrics allow."""
    found: list[Chart | None] = []
    rl_runs = [run for run in ("curr_rl", "rl") if any(_is_of(row, run) for row in files.train)]
    if rl_runs:
        found += [
            _training(
                files, rl_runs, "reward", "Reward", "Mean reward of the sampled completions, smoothed over ten steps."
            ),
            _training(
                files,
                rl_runs,
                "accuracy",
                "Accuracy",
                "Mean accuracy of sampled completions (lines) and greedy accuracy on held-out questions (points). "
                "Each stage asks another form, so the level may fall where a stage begins.",
                validation=True,
            ),
            _training(
                files,
                rl_runs,
                "zero_variance",
                "Groups without variance",
                "Share of prompts whose completions all earned the same: they teach nothing.",
                unit=True,
            ),
            _training(files, rl_runs, "length", "Completion length", "Mean tokens of a completion."),
            _training(
                files,
                rl_runs,
                "truncated",
                "Truncated completions",
                "Share of completions cut off by the token limit.",
                unit=True,
            ),
        ]
    if sft_runs := [run for run in ("sft", "self_improvement") if any(_is_of(row, run) for row in files.train)]:
        found.append(
            _training(files, sft_runs, "loss", "Loss of fine-tuning", "Cross-entropy on the answers trained on.")
        )
    return [chart for chart in found if chart is not None]


def score_charts(files: RunFiles) -> list[Chart]:
    """Mean score of every model with its interval, a chart for each split."""
    return [_scores(files, split) for split in files.splits]


def _scores(files: RunFiles, split: str) -> Chart:
    models = list(files.evaluation)
    with mpl.rc_context(_STYLE | {"axes.grid.axis": "x"}):
        figure = Figure(figsize=(4.6, 0.5 + 0.36 * len(models)), layout="constrained")
        axis = figure.subplots()
        for row, model in enumerate(models):
            mean = as_dict(as_dict(files.evaluation[model].get(split)).get("mean"))
            score, low, high = (number(mean.get(key)) for key in ("score", "low", "high"))
            if score is None:
                continue
            if low is not None and high is not None:
                axis.plot([100 * low, 100 * high], [row, row], color=_SERIES[0], linewidth=2.2, solid_capstyle="round")
            axis.plot([100 * score], [row], "o", color=_SERIES[0], markersize=6.5)
        axis.set(xlim=(-2, 102), ylim=(len(models) - 0.5, -0.5))
        axis.set_yticks(range(len(models)), [label_of(model) for model in models])
        axis.tick_params(axis="y", length=0, labelcolor=_INK)
        axis.spines["left"].set_visible(False)
        label = f"{SPLITS[split]}: mean score of each model with its interval; the numbers stand in the table."
        return Chart(f"scores-{split}", SPLITS[split], "", _svg(figure, f"scores-{split}", label))


def _training(
    files: RunFiles,
    runs: Sequence[str],
    key: str,
    title: str,
    note: str,
    *,
    unit: bool = False,
    validation: bool = False,
) -> Chart | None:
    """One quantity of training over steps, a line for each run, the stages of the first run marked."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(5.2, 3.0), layout="constrained")
        axis = figure.subplots()
        drawn = False
        for run in runs:
            curve = _curve(files.train, run)
            points = [
                (x, value)
                for x, row in zip(curve.xs, curve.rows, strict=True)
                if (value := number(row.get(key))) is not None
            ]
            if not points:
                continue
            drawn = True
            xs, values = zip(*points, strict=True)
            colour = _RUN_COLOURS[run]
            axis.plot(xs, values, color=colour, linewidth=0.9, alpha=0.25)
            smooth = _smooth(values, [_stage_at(curve, x) for x in xs])
            axis.plot(xs, smooth, color=colour, linestyle=_RUN_DASHES[run], label=_RUN_LABELS[run])
            if validation:
                checks = [
                    (curve.offsets.get(str(row.get("stage")), 0.0) + float(row["step"]), value)
                    for row in files.validation
                    if _is_of(row, run) and (value := number(row.get("accuracy"))) is not None
                ]
                if checks:
                    axis.plot(
                        *zip(*checks, strict=True),
                        _RUN_MARKS[run],
                        color=colour,
                        markersize=4.5,
                        label=f"{_RUN_LABELS[run]}, held out",
                    )
            if run == runs[0]:
                _mark_stages(axis, curve)
        if not drawn:
            return None
        axis.set_xlabel("step")
        axis.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
        axis.margins(x=0.02)
        if unit or key == "accuracy":
            axis.set_ylim(-0.02, 1.02)
        else:
            axis.set_ylim(bottom=min(0.0, axis.get_ylim()[0]))
        handles, labels = axis.get_legend_handles_labels()
        if len(labels) > 1:
            figure.legend(handles, labels, loc="outside lower center", ncols=2, labelcolor=_QUIET)
        label = f"{title} over training steps of {', '.join(_RUN_LABELS[run] for run in runs)}."
        return Chart(key, title, note, _svg(figure, key, label))


def _is_of(row: dict[str, Any], run: str) -> bool:
    """Whether a step belongs to the curve of ``run``; the rounds of a training are one curve."""
    return rounds.parted(str(row.get("run")))[0] == run


def _curve(rows: list[dict[str, Any]], run: str) -> _Curve:
    """Steps count on from stage to stage, whether the file counts them anew in each stage or not."""
    mine = [row for row in rows if _is_of(row, run)]
    xs: list[float] = []
    starts: list[tuple[float, str]] = []
    offsets: dict[str, float] = {}
    for row in mine:
        stage, step = str(row.get("stage")), float(row["step"])
        if stage not in offsets:
            last = max(xs, default=0.0)
            offsets[stage] = last if step <= last else 0.0
            starts.append((offsets[stage] + step, stage))
        xs.append(offsets[stage] + step)
    order = sorted(range(len(xs)), key=xs.__getitem__)
    return _Curve([xs[index] for index in order], [mine[index] for index in order], starts, offsets)


def _stage_at(curve: _Curve, x: float) -> str:
    return next((stage for start, stage in reversed(curve.starts) if start <= x), "")


def _smooth(values: Sequence[float], stages: Sequence[str], window: int = 10) -> list[float]:
    """Mean of the last ``window`` values of the same stage: a line never averages over a hand-over."""
    smoothed = []
    for index, stage in enumerate(stages):
        recent = [values[j] for j in range(max(0, index - window + 1), index + 1) if stages[j] == stage]
        smoothed.append(sum(recent) / len(recent))
    return smoothed


def _mark_stages(axis: Any, curve: _Curve) -> None:
    if len(curve.starts) < 2:
        return
    for position, (start, stage) in enumerate(curve.starts):
        if position:
            axis.axvline(start - 0.5, color=_QUIET, linewidth=0.9, linestyle=(0, (3, 3)))
        axis.annotate(
            _stage_label(stage),
            (start, 1),
            (2, 3),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            fontsize=9,
            color=_QUIET,
        )


def _stage_label(stage: str) -> str:
    name, number = rounds.parted(stage)
    return f"round {number}" if number > rounds.FIRST else _RUN_LABELS.get(name, re.sub(r"^\d+-", "", stage))


def _svg(figure: Figure, name: str, label: str) -> Markup:
    """The figure as an ``<svg>`` element for a page: no prolog, ids of its own, the page's colours and font."""
    file = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": name, "svg.fonttype": "none"}):
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = file.getvalue()
    text = text[text.index("<svg") :].strip()
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", text)  # the HTML parser knows them, and the page names no address
    text = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', text)
    text = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", text)
    text = re.sub(r'(xlink:)?href="#([^"]+)"', rf'href="#{name}-\2"', text)
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, f"var({variable})")
    text = re.sub(r"font-family: [^;\"]*;?\s?", "", text)  # the page's font
    text = re.sub(r"<style.*?</style>", "", text, flags=re.DOTALL)  # would style the whole page; page.css has it
    head = re.match(r"<svg[^>]*>", text)
    assert head is not None
    box = re.search(r'viewBox="[^"]+"', head[0])
    assert box is not None
    escaped = str(Markup.escape(label))
    return Markup(f'<svg class="chart" {box[0]} role="img" aria-label="{escaped}">{text[head.end() :]}')
