"""What the report shows of self-improvement beside its counts, and of the general pool: plain values for the page."""

from typing import Any

from curr_reft.report.read import RunFiles, as_dict, in_order, label_of, number
from curr_reft.report.words import DASH, decimal, percent, whole

TENTHS = [f"{start}-{start + 10}" for start in range(0, 100, 10)]
_ROWS = {"above": "above the threshold", "not_above": "not above it"}


def phase2_view(account: dict[str, Any]) -> dict[str, Any]:
    """Empty lists where the account has nothing of it."""
    truth = as_dict(account.get("against_truth"))
    sampling, judging = as_dict(account.get("sampling")), as_dict(account.get("judging"))
    costs = [
        ("answers drawn", whole(sampling.get("drawn"))),
        ("near-duplicates left out", whole(sampling.get("near_duplicates"))),
        ("tokens of the answers", whole(sampling.get("tokens"))),
        *((f"judge: {key}", _plain(value)) for key, value in judging.items() if _plain(value)),
    ]
    return {
        "rates": [
            (str(domain), _rate(counts, "above"), _rate(counts, "kept"), whole(as_dict(counts).get("short")))
            for domain, counts in as_dict(account.get("by_domain")).items()
        ],
        "tenths": TENTHS,
        "histograms": [
            (str(name), [whole(count) for count in counts])
            for name, counts in as_dict(account.get("histograms")).items()
            if isinstance(counts, list) and len(counts) == len(TENTHS)
        ],
        "against_truth": [
            (label, whole(as_dict(truth.get(row)).get("right")), whole(as_dict(truth.get(row)).get("wrong")))
            for row, label in _ROWS.items()
            if row in truth
        ],
        "costs": [(label, value) for label, value in costs if value != DASH],
        "pairs": [_pair(each) for each in account.get("examples") or [] if isinstance(each, dict)],
    }


def general_view(files: RunFiles) -> dict[str, Any]:
    """The general pool: a row a model, a column a cell, each with its interval."""
    found = as_dict(files.summary.get("general"))
    names = list(dict.fromkeys(cell for scores in found.values() for cell in as_dict(scores)))
    cells = sorted(names, key=lambda name: name != "mean")
    return {
        "cells": cells,
        "rows": [
            (label_of(model), [_score(as_dict(as_dict(found[model]).get(cell))) for cell in cells])
            for model in in_order(found)
        ],
    }


def _score(cell: dict[str, Any]) -> str:
    if number(cell.get("score")) is None:
        return DASH
    return f"{percent(cell['score'])} ({percent(cell.get('low'))} to {percent(cell.get('high'))})"


def _rate(counts: Any, key: str) -> str:
    """Of the domain's candidates, in points of 100."""
    part, all_of_them = number(as_dict(counts).get(key)), number(as_dict(counts).get("candidates"))
    return DASH if part is None or not all_of_them else percent(part / all_of_them)


def _plain(value: Any) -> str:
    """A number or a name; nothing for what holds others."""
    if isinstance(value, str):
        return value
    found = number(value)
    return "" if found is None else decimal(found, 0 if found == int(found) else 4)


def _pair(example: dict[str, Any]) -> dict[str, Any]:
    kept, refused = as_dict(example.get("kept")), as_dict(example.get("refused"))
    return {
        "domain": str(example.get("domain", "")),
        "prompt": str(example.get("prompt", "")),
        "answers": [_shown("kept", kept), _shown("refused", refused)],
    }


def _shown(word: str, answer: dict[str, Any]) -> dict[str, str]:
    why = "" if word == "kept" else f": {str(answer.get('fate', '')).replace('_', ' ')}"
    failure = str(answer.get("failure") or "")
    return {
        "label": f"{word}{why}, total {decimal(answer.get('total'), 0)}{f' ({failure})' if failure else ''}",
        "completion": str(answer.get("completion", "")),
    }
