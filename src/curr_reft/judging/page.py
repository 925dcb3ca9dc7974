"""What ``calibrate`` measured, in words: a Markdown page."""

from collections.abc import Mapping
from typing import Any

from curr_reft.escaping import markdown
from curr_reft.judging.calibrate import LEAST_KEPT


def calibration_page(found: Mapping[str, Any], source: str) -> str:
    """The page. ``source`` says what was judged."""
    judge, agreement, recommended = found["judge"], found["agreement"], found["recommended"]
    named = markdown(f"{judge['judge']} {judge.get('model', '')}")
    lines = [
        f"# Calibration of the judge {named}",
        "",
        f"On {found['rows']} labelled answers of {markdown(source)}, {found['right']:.0%} of them right; "
        f"{found['verdicts']} got a verdict. Rubric: {markdown(judge.get('rubric') or 'none')}. Intervals are 95 %, by "
        "bootstrap over rows.",
        "",
    ]
    if judge["failures"]:
        reasons = ", ".join(f"{count} {markdown(reason)}" for reason, count in judge["failures"].items())
        lines += [f"No verdict: {reasons}.", ""]
    lines += [
        f"## Agreement at the threshold {found['threshold']:g}",
        "",
        "| measure | value | 95 % |",
        "|---|---|---|",
        _row("on the right side of the threshold", agreement["accuracy"]),
        _row("Cohen's kappa", agreement["kappa"]),
        _row("rank correlation with the label (Spearman)", agreement["spearman"]),
        _row("a right answer scores above a wrong one (AUC)", agreement["auc"]),
        f"| of the right answers kept | {_number(agreement['right_kept'])} | |",
        f"| of the wrong answers kept | {_number(agreement['wrong_kept'])} | |",
        "",
        "## What sways it",
        "",
        "| measure | value | 95 % | a fair judge |",
        "|---|---|---|---|",
        _row("rank correlation of total and length, truth taken out", found["length"]["partial_spearman"], "0"),
        _row(
            f"points for {found['length']['padding_characters']} characters that say nothing",
            found["length"]["padding"]["mean"],
            "0",
        ),
        _row("points for the reverse order of the criteria", found["position"]["reversed"]["mean"], "0"),
        f"| distance of a row's totals under both orders | {_number(found['position']['reversed']['absolute'])} | | as "
        "of repeats |",
        _row(f"spread of {found['consistency']['repeats']} repeats (points)", found["consistency"]["spread"], "0"),
        _row("rows with all repeats on one side of the threshold", found["consistency"]["one_side"], "1"),
        "",
        "## Threshold",
        "",
        "An answer is kept strictly above it.",
        "",
        "| threshold | kept | keep rate | 95 % | precision | 95 % |",
        "|---|---|---|---|---|---|",
    ]
    for each in found["curve"]:
        lines.append(
            f"| {each['threshold']:g} | {each['kept']} | {each['keep_rate']:.2f} | "
            f"{_between(each['keep_rate_low'], each['keep_rate_high'])} | {_number(each['precision'])} | "
            f"{_between(each['precision_low'], each['precision_high'])} |"
        )
    lines += ["", _advice(recommended), ""]
    lines += ["Where a query has a truth, verification decides and not the judge: a wrong answer is never kept.", ""]
    return "\n".join(lines)


def _advice(recommended: Mapping[str, Any]) -> str:
    target = f"{recommended['target']:.0%}"
    if recommended["threshold"] is None:
        return f"**No threshold is recommended**: none keeps {LEAST_KEPT} answers; label more rows."
    if recommended["reached"]:
        return (
            f"**Recommended threshold: {recommended['threshold']:g}**, the lowest at which at least {target} of what "
            "is kept is right, by the lower bound of Wilson's interval."
        )
    return (
        f"**No threshold is sure to keep {target} right answers.** Of those that keep at least "
        f"{LEAST_KEPT} answers the surest is {recommended['threshold']:g}; label more rows, or take another judge."
    )


def _row(name: str, found: Mapping[str, Any] | None, *more: str) -> str:
    value = None if found is None else found["value"]
    between = "" if found is None else _between(found["low"], found["high"])
    return " | ".join([f"| {name}", _number(value), between, *more]) + " |"


def _between(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"{low:.2f} to {high:.2f}"


def _number(value: float | None) -> str:
    return "no answer" if value is None else f"{value:.2f}"
