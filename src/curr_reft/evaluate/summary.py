"""``summary.json``: what a run came to, in the shape that users and tools may rely on."""

from collections.abc import Mapping, Sequence
from typing import Any

from curr_reft.evaluate.intervals import require_inside


def stage_summary(record: Mapping[str, Any]) -> dict[str, Any]:
    """The entry of one stage from its manifest. Firsts and lasts are means over five updates."""
    chosen = next(entry for entry in record["validation"] if entry["step"] == record["chosen_step"])
    return {
        "name": record["stage"],
        "form": record["form"],
        "steps": record["steps"],
        "ended_by": record["ended_by"],
        "reward_first": record["first"].get("reward"),
        "reward_last": record["last"].get("reward"),
        "accuracy_first": record["first"].get("accuracy"),
        "accuracy_last": record["last"].get("accuracy"),
        "chosen_step": record["chosen_step"],
        "validation_accuracy": chosen["accuracy"],
    }


def summarise(
    *,
    seconds: float,
    model: str,
    seed: int,
    stages: Sequence[Mapping[str, Any]],
    left_out: Sequence[str],
    rounds: Sequence[tuple[Mapping[str, Any] | None, Mapping[str, Any]]],
    evaluation: Mapping[str, Any],
    general: Mapping[str, Any],
    differences: Mapping[str, Any],
    same_as: Mapping[str, str],
) -> dict[str, Any]:
    """The whole summary. ``stages`` are manifests; ``same_as`` names the models that have the weights of another.

    A round of self-improvement is the manifest of the stage it began with (None: the first goes on from the curriculum)
    and its account; that of the first stands alone too. ``general``: the scores on the general pool by model, empty for
    data without one.
    """
    require_inside({"evaluation": evaluation, "general": general, "differences": differences})
    chosen = ("queries", "candidates", "kept", "threshold")
    improved = [{key: account[key] for key in chosen} for _, account in rounds]
    return {
        "seconds": round(seconds, 1),
        "model": model,
        "seed": seed,
        "stages": [stage_summary(record) for record in stages],
        "stages_left_out": list(left_out),
        "self_improvement": improved[0] if improved else None,
        "rounds": [
            {"round": number, "stage": None if stage is None else stage_summary(stage), **account}
            for number, ((stage, _), account) in enumerate(zip(rounds, improved, strict=True), start=1)
        ],
        "evaluation": dict(evaluation),
        "general": dict(general),
        "differences": dict(differences),
        "same_as": dict(same_as),
    }


def table(evaluation: Mapping[str, Any]) -> list[str]:
    """The result table as lines of text: mean score and 95 % interval by suite, then the tasks. Raises DamagedError for
    a mean outside its interval."""
    require_inside(evaluation)
    suites = list(dict.fromkeys(suite for scores in evaluation.values() for suite in scores))
    columns = _columns(evaluation)
    width = 22 + sum(map(len, columns.values()))
    first = max([10, *(len(model) + 2 for model in evaluation)])
    lines = [f"{'':{first}}" + "".join(f"{suite.replace('_', '-'):>{width}}" for suite in suites)]
    lines.append(f"{'model':{first}}" + "".join(f"{'mean [95 %]':>22}{''.join(columns.values())}" for _ in suites))
    for model, scores in evaluation.items():
        cells = ""
        for suite in suites:
            own = scores.get(suite, {})
            mean = own.get("mean")
            cells += f"{mean['score']:>7.3f} [{mean['low']:.3f}, {mean['high']:.3f}]" if mean else f"{'-':>22}"
            for (task, measure), head in columns.items():
                value = own.get(task, {}).get(measure)
                cells += f"{'-':>{len(head)}}" if value is None else f"{value:>{len(head)}.3f}"
        lines.append(f"{model:{first}}{cells}")
    return lines + _domain_lines(evaluation)


def _domain_lines(evaluation: Mapping[str, Any]) -> list[str]:
    """A line for each model, suite and task whose questions come from several domains."""
    return [
        f"{model:10}{suite.replace('_', '-')}, {task}: "
        + ", ".join(f"{name} {own['score']:.3f} [{own['low']:.3f}, {own['high']:.3f}]" for name, own in found.items())
        for model, scores in evaluation.items()
        for suite, tasks in scores.items()
        for task, cell in tasks.items()
        if (found := cell.get("domains"))
    ]


_HEADS = {
    "detection": "  detect",
    "classification": "  class",
    "math": "   math",
    "dense_detection": "  dense",
    "points": " points",
}
_MEASURES = {"map": "    mAP"}  # of a whole test set, beside the score of its task


def _columns(evaluation: Mapping[str, Any]) -> dict[tuple[str, str], str]:
    """(task, measure) -> the column's head, for the tasks that any model was tested on."""
    own = [tasks for scores in evaluation.values() for tasks in scores.values()]
    found = {task: None for tasks in own for task in tasks if task != "mean"}
    columns = {}
    for task in sorted(found, key=lambda task: list(_HEADS).index(task) if task in _HEADS else len(_HEADS)):
        columns[task, "score"] = _HEADS.get(task, f"  {task:>5}")
        columns |= {
            (task, key): head for key, head in _MEASURES.items() if any(key in tasks.get(task, {}) for tasks in own)
        }
    return columns
