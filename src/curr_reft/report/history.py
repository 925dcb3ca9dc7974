"""What befell a run, in sentences for its page: what changes how its figures are read, and what it survived."""

from collections import Counter
from collections.abc import Iterator

from curr_reft.report.read import RunFiles, label_of
from curr_reft.report.words import listed, moment, times, whole
from curr_reft.run_history import extensions, faults_of, surroundings

UNGRADED = {"timed_out": "ran out of time", "grader_failed": "the grader broke down"}


def unfinished(files: RunFiles) -> str:
    """A sentence for a run whose figures are not its last; empty for one that came to its end."""
    state = files.run.get("state")
    if state in (None, "done"):
        return ""
    why = f" ({files.run['ended_by']})" if files.run.get("ended_by") else ""
    return (
        f"This run is not finished: its state is {state}{why}. The page shows what there is by now; models may be "
        "missing, and what is shown of a training may go on."
    )


def happenings(files: RunFiles) -> list[str]:
    """In the order of what a reader of the scores must know first. Empty for a run that nothing befell."""
    return [*_changes(files), *_answers(files), *_training(files)]


def _changes(files: RunFiles) -> Iterator[str]:
    for each in extensions(files.run):
        after = "" if each.after is None else f", after {times(each.after, 'update')}"
        yield f"Extended on {moment(each.at)}{after}: {'; '.join(each.changes)}."
    for each in surroundings(files.run):
        yield (
            f"Resumed on {moment(each.at)} in other surroundings ({', '.join(each.changes)}): from there on it may "
            "differ from an unbroken run."
        )
    resumed = files.run.get("resumed")
    if isinstance(resumed, list) and resumed:
        yield f"Resumed {times(len(resumed), 'time')}: {listed([moment(each) or str(each) for each in resumed])}."


def _answers(files: RunFiles) -> Iterator[str]:
    """Test answers without a score: a score of theirs is missing, and they count as wrong."""
    for status, why in UNGRADED.items():
        found = Counter(
            label_of(model) for model, rows in files.predictions.items() for row in rows if row.get("status") == status
        )
        if found:
            counts = listed([f"{label} {whole(count)}" for label, count in found.items()])
            yield f"Test answers that count as wrong because grading them failed ({why}): {counts}."


def _training(files: RunFiles) -> Iterator[str]:
    faults = faults_of(files.train, files.card or None)
    if faults.failed_gradings or faults.timed_out_gradings:
        yield (
            f"Completions in training that got no score: {whole(faults.failed_gradings)} whose grader or reward broke "
            f"down, {whole(faults.timed_out_gradings)} whose grading ran out of time."
        )
    if faults.failed_rewards:
        yield f"Custom rewards broke down {times(faults.failed_rewards, 'time')}."
    if faults.out_of_memory:
        yield (
            f"Memory ran out {times(faults.out_of_memory, 'time')}; the steps were made again in smaller "
            "micro-batches, which changes nothing but rounding."
        )
    if faults.non_finite:
        yield f"Stopped before an update by a loss or gradient that was not finite, {times(faults.non_finite, 'time')}."
    if faults.bad_rows_skipped:
        yield f"Left out of the data as bad: {times(faults.bad_rows_skipped, 'row')}."
