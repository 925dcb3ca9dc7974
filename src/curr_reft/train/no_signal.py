"""Finds trainings that have nothing to learn from, in the rows of their metrics, and says so once.

It reads what the loop logs and changes nothing: a run may start without a signal and find one later.
"""

from collections.abc import Mapping
from typing import Any

UPDATES = 20  # consecutive ones without a signal
PAGE = 'docs/tutorial.md, "When the reward does not rise"'


class NoSignal:
    """Counts the updates of one training in which nothing was rewarded, or no group had an advantage."""

    def __init__(self) -> None:
        self.counts = dict.fromkeys(_CAUSES, 0)
        self.reported = False

    def update(self, row: Mapping[str, Any]) -> str | None:
        """Take in a row of metrics. Returns a message when its row is the ``UPDATES``-th without a signal."""
        if row.get("kind") != "train" or "zero_variance" not in row or self.reported:
            return None
        absent = {
            "format": row["format"] == 0,
            "accuracy": row["accuracy"] == 0,
            # With dynamic sampling the metrics are of the first round, and later rounds may have trained.
            "advantage": row["zero_variance"] == 1 and not (row.get("resample") or {}).get("differ"),
        }
        for name, is_absent in absent.items():
            self.counts[name] = self.counts[name] + 1 if is_absent else 0
        found = [name for name, count in self.counts.items() if count >= UPDATES]
        if not found:
            return None
        self.reported = True
        name = "solved" if found[0] == "advantage" and (row["accuracy"] or 0) > 0.5 else found[0]
        finding, first, second = _CAUSES.get(name, _SOLVED)
        clipped = f" ({row['truncated']:.0%} are clipped)" if name == "format" else ""
        return f"for {UPDATES} updates {finding}{clipped}. Likely causes: {first}; or {second}. See {PAGE}"


_CAUSES = {
    "format": (
        "no answer has had the format that is rewarded",
        "answers are cut before they end: raise sampling.max_new_tokens",
        "the model does not write the tags of the prompt: use an Instruct checkpoint, or fine-tune on written answers",
    ),
    "accuracy": (
        "no answer has been right",
        "the truths are not what the model writes, as boxes in another frame: compare them with curr-reft data show",
        "the questions are too hard: train easier forms first, or raise sampling.group_size",
    ),
    "advantage": (
        "no group has had an advantage, so that no update changed the model",
        "the questions are too hard for a right answer in any group: train easier forms first, or raise "
        "sampling.group_size",
        "all answers of a group are alike: raise sampling.temperature",
    ),
}
_SOLVED = (
    "no group has had an advantage, so that no update changed the model",
    "the questions are too easy, all answers are right: filter them with the section difficulty",
    "all answers of a group are alike: raise sampling.temperature",
)
