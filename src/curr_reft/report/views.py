"""The files of a run turned into rows of the page's tables: plain values, formatted once, judged nowhere else.

Text that comes from a model or a row stays plain ``str`` here; the template escapes it.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations
from math import comb
from typing import Any

from curr_reft import rounds
from curr_reft.report.read import SPLITS, RunFiles, as_dict, label_of, number
from curr_reft.report.words import DASH, decimal, percent, short_hash, whole

EXPLANATIONS = {"base": "as it came", "sft": "fine-tuned on the answers", "rl": "open form only",
                "curr_rl": "phase 1", "curr_reft": "phases 1 and 2"}  # fmt: skip
EXPLANATIONS_AGAIN = {"curr_rl": "last stage again", "curr_reft": "phase 2 again"}


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A score of the result table, as text."""

    score: str
    interval: str
    accuracy: str
    best: bool = False


@dataclass(frozen=True, kw_only=True)
class ResultRow:
    """One model."""

    model: str
    label: str
    explanation: str
    cells: dict[str, list[Cell]]  # split -> mean, then each task


@dataclass(frozen=True, kw_only=True)
class Headline:
    """The one number a reader looks for, of one split."""

    split: str
    first_label: str
    first: str
    last_label: str
    last: str
    overlap: bool  # of the two intervals


def result_rows(files: RunFiles) -> list[ResultRow]:
    """A row a model; the best score of each column is marked where it stands above the others' intervals or not."""
    columns = ["mean", *files.tasks]
    evaluation = files.evaluation
    best = {
        (split, column): max((score(evaluation[model], split, column, "score") or -1.0) for model in evaluation)
        for split in SPLITS
        for column in columns
        if evaluation
    }
    rows = []
    for model, scores in evaluation.items():
        cells = {}
        for split in SPLITS:
            cells[split] = [
                Cell(
                    score=percent(score(scores, split, column, "score")),
                    interval=_interval(scores, split, column),
                    accuracy=percent(score(scores, split, column, "accuracy")),
                    best=len(evaluation) > 1
                    and (value := score(scores, split, column, "score")) is not None
                    and value == best[split, column],
                )
                for column in columns
            ]
        same = files.unchanged.same_as.get(model)
        explanation = _explanation(model) if same is None else f"the weights of {label_of(same)}"
        rows.append(ResultRow(model=model, label=label_of(model), explanation=explanation, cells=cells))
    return rows


def _explanation(model: str) -> str:
    name, number = rounds.parted(model)
    return (EXPLANATIONS if number == rounds.FIRST else EXPLANATIONS_AGAIN).get(name, "")


def headlines(files: RunFiles) -> list[Headline]:
    """First and last model's mean score of each split."""
    models = list(files.evaluation)
    found = []
    if files.unchanged.final_is_base:
        return []  # an arrow from the base to itself would say that something was trained
    for split, label in SPLITS.items():
        have = [model for model in models if score(files.evaluation[model], split, "mean", "score") is not None]
        if len(have) >= 2:
            first, last = have[0], have[-1]
            found.append(
                Headline(
                    split=label,
                    first_label=label_of(first),
                    first=percent(score(files.evaluation[first], split, "mean", "score")),
                    last_label=label_of(last),
                    last=percent(score(files.evaluation[last], split, "mean", "score")),
                    overlap=_overlap(files, first, last, split),
                )
            )
    return found


def unresolved(files: RunFiles) -> list[str]:
    """A sentence a split on the models whose intervals overlap: what this run does not show."""
    sentences = []
    for split, label in SPLITS.items():
        pairs = [
            f"{label_of(first)} and {label_of(second)}"
            for first, second in combinations(files.evaluation, 2)
            if _overlap(files, first, second, split)
        ]
        if pairs:
            everything = len(pairs) == comb(len(files.evaluation), 2) > 1
            named = "any two of the models" if everything else "; ".join(pairs)
            sentences.append(f"{label}, intervals overlap, so that this run does not tell apart: {named}.")
    return sentences


def _overlap(files: RunFiles, first: str, second: str, split: str) -> bool:
    one, two = (_bounds(files.evaluation[model], split) for model in (first, second))
    return one is not None and two is not None and one[0] <= two[1] and two[0] <= one[1]


def score(scores: dict[str, Any], split: str, column: str, key: str) -> float | None:
    return number(as_dict(as_dict(scores.get(split)).get(column)).get(key))


def _bounds(scores: dict[str, Any], split: str) -> tuple[float, float] | None:
    low, high = score(scores, split, "mean", "low"), score(scores, split, "mean", "high")
    return None if low is None or high is None else (low, high)


def _interval(scores: dict[str, Any], split: str, column: str) -> str:
    low, high = (score(scores, split, column, key) for key in ("low", "high"))
    return "" if low is None or high is None else f"{100 * low:.1f} to {100 * high:.1f}"


def intervals_view(files: RunFiles) -> dict[str, Any]:
    """Whether the intervals know which items share a picture (an earlier version's do not), and a phrase for each split
    that has fewer pictures than items."""
    found: dict[str, dict[str, int]] = {}
    clustered = False
    for scores in files.evaluation.values():
        for split, cells in scores.items():
            mean = number(as_dict(as_dict(cells).get("mean")).get("clusters"))
            clustered |= mean is not None
            items = sum(number(as_dict(cell).get("n")) or 0 for name, cell in as_dict(cells).items() if name != "mean")
            if mean is not None and mean < items:
                found[split] = {"items": int(items), "clusters": int(mean)}
    return {
        "clustered": clustered,
        "shared": [
            f"{SPLITS.get(split, split)} {counts['items']:,} items about {counts['clusters']:,} pictures"
            for split, counts in found.items()
        ],
    }


def stage_rows(files: RunFiles) -> list[dict[str, Any]]:
    """The hand-over: what each stage started from, how it ended, what it passed on."""
    summaries = {
        str(stage.get("name")): stage for stage in files.summary.get("stages") or [] if isinstance(stage, dict)
    }
    rows = []
    before: str | None = None
    for manifest in files.stages:
        folder = str(manifest["folder"])
        name = str(manifest.get("stage") or folder)
        summary = summaries.get(name) or summaries.get(folder) or summaries.get(folder.split("-", 1)[-1]) or {}
        start, end = manifest.get("start_sha256"), manifest.get("weights_sha256")
        checks = [each for each in manifest.get("validation") or [] if isinstance(each, dict)]
        chosen = next((each for each in checks if each.get("step") == manifest.get("chosen_step")), {})
        rows.append(
            {
                "name": folder,
                "form": _form(manifest.get("form") or summary.get("form")),
                "steps": whole(manifest.get("steps")),
                "ended_by": _ended_by(manifest),
                "chosen_step": whole(manifest.get("chosen_step")),
                "kept_start": manifest.get("chosen_step") == 0,
                "validation": percent(chosen.get("accuracy", summary.get("validation_accuracy"))),
                "accuracy": _from_to(*(_accuracy(summary, manifest, when) for when in ("first", "last"))),
                "start": short_hash(start),
                "end": short_hash(end),
                "continues": None if before is None or not start else start == before,
            }
        )
        before = str(end) if end else None
    return rows


def _accuracy(summary: dict[str, Any], manifest: dict[str, Any], when: str) -> Any:
    return summary.get(f"accuracy_{when}", as_dict(manifest.get(when)).get("accuracy"))


def _ended_by(manifest: dict[str, Any]) -> str:
    """``budget``, or ``gate`` with its rule."""
    ended = manifest.get("ended_by")
    rule = as_dict(manifest.get("gate")).get("rule")
    if ended == "gate" and rule in ("accuracy", "plateau"):
        return f"gate ({rule})"
    return str(ended) if ended in ("gate", "budget") else DASH


def _from_to(first: Any, last: Any) -> str:
    return DASH if number(first) is None and number(last) is None else f"{percent(first)} → {percent(last)}"


def left_out(files: RunFiles) -> list[str]:
    """Names of the stages that the run left out."""
    names = files.summary.get("stages_left_out")
    return [str(name) for name in names] if isinstance(names, list) else []


def _form(value: Any) -> str:
    """``open`` or, for a mixture, ``binary 0.3, open 0.7``."""
    if isinstance(value, dict):
        return ", ".join(
            f"{name} {decimal(share, 1)}" if len(value) > 1 else str(name) for name, share in value.items()
        )
    return str(value) if value else DASH


def profile_rows(files: RunFiles) -> list[dict[str, Any]]:
    """The base's pass rate by task and form, with its chance level."""
    rows = []
    for cell in files.profile:
        rate, low, high = (number(cell.get(key)) for key in ("pass_rate", "low", "high"))
        rows.append(
            {
                "task": str(cell.get("task", "")),
                "form": str(cell.get("form", "")),
                "rate": percent(rate),
                "bar": 0.0 if rate is None else 100 * min(1.0, max(0.0, rate)),
                "interval": "" if low is None or high is None else f"{percent(low)} to {percent(high)}",
                "chance": percent(cell.get("chance")),
                "n": whole(cell.get("n")),
                "at_chance": bool(cell.get("at_chance")),
                "solved_once": percent(cell.get("solved_once")),
                "expected": whole(cell.get("expected_successes")),
            }
        )
    return rows


def card_view(card: dict[str, Any]) -> dict[str, Any]:
    """Counts of the compiled questions: a table by split and task, and the balances of the whole."""
    compiled = as_dict(card.get("questions"))
    splits = {name: as_dict(split) for name, split in as_dict(compiled.get("splits")).items()}
    forms = _keys(tasks for split in splits.values() for tasks in as_dict(split.get("questions")).values())
    table = [
        {
            "split": name,
            "task": task,
            "items": whole(count),
            "forms": [
                whole(as_dict(as_dict(splits.get(name, {}).get("questions")).get(task)).get(form)) for form in forms
            ],
        }
        for name, tasks in as_dict(card.get("items")).items()
        for task, count in as_dict(tasks).items()
    ]
    total = as_dict(compiled.get("total"))
    notes = []
    for task, counts in as_dict(total.get("decisions")).items():
        notes.append(f"{task}, binary: {_shares(as_dict(counts))}")
    for task, counts in as_dict(total.get("letters")).items():
        notes.append(f"{task}, choice, right letters: {_shares(as_dict(counts))}")
    skipped = [
        f"{whole(count)} {task} items have no {form} question: {reason}"
        for task, by_form in as_dict(total.get("skipped")).items()
        for form, reasons in as_dict(by_form).items()
        for reason, count in as_dict(reasons).items()
    ]
    dropped = [
        f"{task}, {form}: {whole(counts.get('kept'))} of {whole(sum(counts.values()))} training questions were asked; "
        f"the base was always right on {whole(counts.get('always_right'))} of the others, always wrong on "
        f"{whole(counts.get('always_wrong'))}"
        for form, tasks in as_dict(card.get("difficulty")).items()
        for task, counts in as_dict(tasks).items()
    ]
    facts = [
        ("leaks between splits", compiled.get("leaks")),
        ("repeated items", total.get("duplicates")),
        ("bad rows left out", card.get("skipped_rows") or None),
        ("of them not verified in time", card.get("unverified_rows") or None),
        ("repaired rows", card.get("repaired_rows") or None),
    ]
    return {
        "forms": forms,
        "table": table,
        "notes": notes + skipped + dropped,
        "facts": [(name, whole(value)) for name, value in facts if value is not None],
    }


def _shares(counts: dict[str, Any]) -> str:
    values = {name: number(value) or 0.0 for name, value in counts.items()}
    total = sum(values.values())
    return ", ".join(f"{name} {percent(value / total)} %" for name, value in values.items()) if total else DASH


def _keys(mappings: Iterable[Any]) -> list[str]:
    return list(dict.fromkeys(key for mapping in mappings if isinstance(mapping, dict) for key in mapping))


def round_rows(files: RunFiles) -> list[dict[str, str]]:
    """A row a round, where there are several: what was kept, and what its models came to."""
    if len(files.rounds) < 2:
        return []
    rows = []
    for each in files.rounds:
        row = {"round": str(each.number)} | {
            key: whole(each.account.get(key)) for key in ("queries", "candidates", "kept")
        }
        for model in ("curr_rl", "curr_reft"):
            scores = files.evaluation.get(rounds.named(model, each.number), {})
            row |= {f"{model}_{split}": percent(score(scores, split, "mean", "score")) for split in SPLITS}
        rows.append(row)
    return rows


def account_view(account: dict[str, Any]) -> dict[str, Any]:
    """Self-improvement of a round: how many queries became how many kept answers, by domain."""
    keys = ("queries", "candidates", "above", "kept", "quota")
    failed = number(account.get("failed_verdicts"))
    return {
        "steps": [
            ("queries asked", whole(account.get("queries"))),
            ("answers sampled", whole(account.get("candidates"))),
            (f"kept, above {decimal(account.get('threshold'), 0)} of 100", whole(account.get("kept"))),
        ]
        if account
        else [],
        "failed": whole(failed) if failed else "",
        "domains": [
            {"domain": str(domain)} | {key: whole(as_dict(counts).get(key)) for key in keys}
            for domain, counts in as_dict(account.get("by_domain")).items()
        ],
    }


def kept_examples(kept: list[dict[str, Any]], limit: int = 6) -> list[dict[str, Any]]:
    """Kept answers with their scores by criterion, of as many domains as there are."""
    by_domain: dict[str, list[dict[str, Any]]] = {}
    for row in kept:
        by_domain.setdefault(str(row.get("domain", "")), []).append(row)
    queues = list(by_domain.values())
    picked: list[dict[str, Any]] = []
    while len(picked) < limit and any(queues):
        picked += [queue.pop(0) for queue in queues if queue]
    names = ("accuracy", "logic", "format", "fluency")
    return [
        {
            "domain": str(row.get("domain", "")),
            "task": str(row.get("task", "")),
            "prompt": _said(row, 0),
            "completion": _said(row, -1),
            "total": decimal(as_dict(row.get("scores")).get("total"), 0),
            "scores": [(name, decimal(as_dict(row.get("scores")).get(name), 0)) for name in names],
        }
        for row in picked[:limit]
    ]


def _said(row: dict[str, Any], place: int) -> str:
    """The text of a message of a kept row, without what stands for its pictures."""
    messages = row.get("messages")
    if not isinstance(messages, list) or not messages:
        return ""
    return str(as_dict(messages[place]).get("content", "")).replace("<image>", "")
