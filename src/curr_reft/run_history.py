"""Events of a run, from its files alone: resumes, recovered faults, and models that training left as they were.

The console, ``status``, the report and the model card print the same.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from curr_reft import rounds
from curr_reft.files import read_json

BASE = "base"
BASELINES = ("rl", "sft")


@dataclass(frozen=True, kw_only=True)
class Faults:
    """What the run survived, counted over the steps that stand in the metrics."""

    failed_gradings: int  # completions without a score: a grader or a custom reward broke down
    timed_out_gradings: int
    failed_rewards: int  # breakdowns of custom rewards; those that are paid are failed gradings too
    out_of_memory: int  # back-offs to smaller micro-batches
    non_finite: int  # steps whose loss or gradient was not finite
    bad_rows_skipped: int | None  # none: the data is not read yet


@dataclass(frozen=True, kw_only=True)
class Changed:
    """What a resumed run was gone on with that was another when it began."""

    at: str  # ISO 8601, UTC
    changes: tuple[str, ...]  # each "what before -> now"
    after: int | None  # updates that had been made; none: not noted


def faults_of(steps: Sequence[Mapping[str, Any]], card: Mapping[str, Any] | None) -> Faults:
    """Of the rows of training in the metrics, and of the data card; none: it is not written yet."""
    # Of a step that was resampled, those of every round: what was replaced could not be graded either.
    graded = [_record(_record(row.get("resample") or row).get("statuses")) for row in steps]
    parts = [_record(part) for row in steps for part in _record(row.get("parts")).values()]
    return Faults(
        failed_gradings=sum(_count(statuses.get("grader_failed")) for statuses in graded),
        timed_out_gradings=sum(_count(statuses.get("timed_out")) for statuses in graded),
        failed_rewards=sum(_count(part.get("failed")) for part in parts),
        out_of_memory=sum(_count(row.get("out_of_memory")) for row in steps),
        non_finite=sum(row.get("loss", 0.0) is None or row.get("grad_norm", 0.0) is None for row in steps),
        bad_rows_skipped=None if card is None else _count(card.get("skipped_rows")),
    )


@dataclass(frozen=True, kw_only=True)
class Unchanged:
    """Models of a run that have the weights of an earlier one: no checkpoint of their training was better."""

    final: str  # the last model of the curriculum or of self-improvement that is there
    same_as: Mapping[str, str] = field(default_factory=dict)  # model -> the first model that has its weights

    @property
    def final_is_base(self) -> bool:
        return self.same_as.get(self.final) == BASE

    def lines(self) -> list[str]:
        """A sentence for each model that is another one; the first is about the final model."""
        found = []
        chain = [name for name, same in self.same_as.items() if same == BASE and name not in BASELINES]
        if chain:
            which = "stage" if self.final_is_base else "stage of the curriculum"
            verb = "is" if len(chain) == 1 else "are"
            found.append(f"no {which} improved on the base: {' and '.join(chain)} {verb} the base")
        for name, same in self.same_as.items():
            if name not in chain:
                before = "the base" if same == BASE else same
                found.append(f"training did not improve on {before}: {name} is {before}")
        return found


def unchanged_models(path: Path) -> Unchanged:
    """Read the manifests of the run in ``path``. A training that is not over is left out."""
    same_as: dict[str, str] = {}
    stages = [_manifest(each.parent) for each in sorted(path.glob("stages/*/manifest.json"))]
    if stages and all(map(_is_unchanged, stages)):
        same_as["curr_rl"] = BASE
    for name in BASELINES:
        if _is_unchanged(_manifest(path / "baselines" / name)):
            same_as[name] = BASE
    final = "curr_rl"
    for number in (rounds.FIRST, *rounds.begun(path)):
        again, improve = rounds.rl_folder(path, number), rounds.improve_folder(path, number)
        for name, folder in ((rounds.named("curr_rl", number), again), (rounds.named("curr_reft", number), improve)):
            manifest = _manifest(folder)
            nothing_kept = not manifest and _json(folder / "account.json").get("kept") == 0
            if manifest or nothing_kept:
                if nothing_kept or _is_unchanged(manifest):
                    same_as[name] = same_as.get(final, final)
                final = name
    return Unchanged(final=final, same_as=same_as)


def _is_unchanged(manifest: Mapping[str, Any]) -> bool:
    """Whether a published model has the weights that its training started from. A manifest of an earlier version does
    not say so; step 0 is the start."""
    if not manifest:
        return False
    same = manifest.get("weights_sha256") == manifest.get("start_sha256")
    return bool(manifest.get("unchanged", manifest.get("chosen_step") == 0 or same))


def _manifest(folder: Path) -> Mapping[str, Any]:
    return _json(folder / "manifest.json")


def _json(path: Path) -> Mapping[str, Any]:
    """Empty for a file that is absent or damaged."""
    try:
        return _record(read_json(path))
    except (OSError, ValueError):
        return {}


def extensions(run: Mapping[str, Any]) -> list[Changed]:
    """Every time that budgets grew, or models were added, when it was resumed. ``run``: the content of run.json."""
    return _changed(run.get("extended"))


def surroundings(run: Mapping[str, Any]) -> list[Changed]:
    """Every time that it was resumed with other versions of libraries, or another number of processes."""
    return _changed(run.get("resumed_with"))


def _changed(noted: Any) -> list[Changed]:
    return [
        Changed(at=str(each.get("at")), changes=tuple(map(str, each["changes"])), after=each.get("after"))
        for each in (noted if isinstance(noted, list) else ())
        if isinstance(_record(each).get("changes"), list)
    ]


def _record(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}  # a file that somebody wrote in


def _count(value: Any) -> int:
    return value if isinstance(value, int) else 0
