"""Finished runs of several seeds as ``compare`` averages them: their scores, and whether they may be."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from curr_reft.errors import UsageError
from curr_reft.evaluate.general import SPLIT as GENERAL
from curr_reft.evaluate.intervals import require_inside
from curr_reft.files import read_json, read_jsonl
from curr_reft.run_record import STATE

Scores = Mapping[str, Mapping[str, Mapping[str, Any]]]
"""model -> suite -> task, cell or ``mean`` -> accuracy, score and what belongs to them."""

_AGAIN = "remove the run that is not as it should be, and repeat the command to make it again"
_SAME = {
    "model_sha256": "began from other weights",
    "code_sha256": "was graded by other code of tasks or rewards",
    "judge_sha256": "was judged by other code",
}


def scores_of(run: Path) -> Scores:
    """What the models of a run came to, the general pool as a suite of its own. Raises UsageError."""
    try:
        summary = read_json(run / "summary.json")
        require_inside(summary, str(run / "summary.json"))
        pool = summary.get("general", {})
        return {
            model: {**suites, **({GENERAL: pool[model]} if model in pool else {})}
            for model, suites in summary["evaluation"].items()
        }
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise UsageError(f"{run / 'summary.json'} cannot be read ({error!r}); {_AGAIN}") from error


def require_alike(runs: Sequence[Path]) -> list[str]:
    """Sentences on what a reader should know of how the runs differ. Raises UsageError where they cannot be averaged:
    other weights to begin from, other graders, other models, other test items."""
    first = runs[0]
    records = {run: read_json(run / STATE) for run in runs}
    for run in runs[1:]:
        _refuse_other_makings(first, run, records)
        _refuse_other_items(first, run)
    return list(_notes(records))


def _refuse_other_makings(first: Path, run: Path, records: Mapping[Path, Mapping[str, Any]]) -> None:
    for key, what in _SAME.items():
        ours, theirs = records[first].get(key), records[run].get(key)
        if ours != theirs:
            raise UsageError(f"{run} {what} than {first} ({key} in {STATE}: {theirs}, not {ours}); {_AGAIN}")
    if lacking := _cells(run) ^ _cells(first):
        raise UsageError(f"of {first} and {run} only one was evaluated on {', '.join(min(lacking))}; {_AGAIN}")


def _refuse_other_items(first: Path, run: Path) -> None:
    """By the answers of a model that both have: the items, and the truths of open questions (which claim a yes/no
    question makes is drawn by the seed)."""
    ours, theirs = _items(first), _items(run)
    if differing := ours ^ theirs:
        split, name, _ = min(differing)
        raise UsageError(
            f"{run} was not tested on the items of {first}: {split} item {name} is not in both, or has another "
            f"truth in one ({len(differing)} such rows); {_AGAIN}"
        )


def _cells(run: Path) -> set[tuple[str, str, str]]:
    scores = scores_of(run)
    return {
        (model, suite, cell) for model, suites in scores.items() for suite, cells in suites.items() for cell in cells
    }


def _items(run: Path) -> set[tuple[str, str, str]]:
    """(split, id, truth) of every test item."""
    model = next(iter(scores_of(run)))
    rows = []
    for kind in ("predictions", "general"):
        path = run / "eval" / f"{model}.{kind}.jsonl"
        if path.is_file():
            rows += read_jsonl(path)
        elif kind == "predictions":
            raise UsageError(f"{path} is not there, and tells which items were asked; put it back, or {_AGAIN}")
    return {(row["split"], row["id"], row["truth"] if row["form"] == "open" else "") for row in rows}


def _notes(records: Mapping[Path, Mapping[str, Any]]) -> Iterator[str]:
    """Versions that the runs were made by, where they differ."""
    packages = dict.fromkeys(name for record in records.values() for name in record["versions"])
    for name in packages:
        found = {str(run): record["versions"].get(name) for run, record in records.items()}
        if len(set(found.values())) > 1:
            told = ", ".join(f"{version} in {Path(run).name}" for run, version in found.items())
            yield f"note: the runs were made with different versions of {name}: {told}"
