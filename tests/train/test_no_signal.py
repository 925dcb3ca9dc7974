"""A training without a signal says so once, with the likely causes, and goes on as before."""

from typing import Any

import pytest

from curr_reft.train.no_signal import UPDATES, NoSignal


def row(step: int, **changes: Any) -> dict[str, Any]:
    """A row of metrics of an update that learns."""
    learning = {"kind": "train", "step": step, "format": 0.5, "accuracy": 0.4, "zero_variance": 0.3, "truncated": 0.1}
    return {**learning, **changes}


def messages(*rows: dict[str, Any]) -> list[str]:
    watch = NoSignal()
    return [message for each in rows if (message := watch.update(each)) is not None]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"format": 0, "accuracy": 0, "zero_variance": 1, "truncated": 0.9}, ("90% are clipped", "max_new_tokens")),
        ({"accuracy": 0.0}, ("no answer has been right", "data show", "group_size")),
        ({"zero_variance": 1.0, "accuracy": 0.1}, ("no group has had an advantage", "too hard", "temperature")),
        ({"zero_variance": 1.0, "accuracy": 1.0}, ("no group has had an advantage", "too easy", "difficulty")),
        ({"zero_variance": 1.0, "resample": {"differ": 0}}, ("no group has had an advantage",)),
    ],
)
def test_twenty_updates_without_a_signal_are_reported_once(changes: dict[str, Any], expected: tuple[str, ...]) -> None:
    assert UPDATES == 20
    assert messages(*(row(step, **changes) for step in range(1, 20))) == []
    (message,) = messages(*(row(step, **changes) for step in range(1, 60)))
    for words in (*expected, "for 20 updates", "docs/tutorial.md"):
        assert words in message


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"accuracy": 0.01},
        {"accuracy": None},  # no completion has a score
        {"zero_variance": 1.0, "resample": {"differ": 2}},  # a later round of dynamic sampling trained
        {"kind": "validation", "accuracy": 0.0},
    ],
)
def test_a_training_with_a_signal_is_not(changes: dict[str, Any]) -> None:
    assert messages(*(row(step, **changes) for step in range(1, 60))) == []


def test_one_update_with_a_signal_starts_the_count_again() -> None:
    rows = [row(step, accuracy=0.0 if step % 20 else 0.2) for step in range(1, 60)]
    assert messages(*rows) == []


def test_supervised_fine_tuning_has_no_reward() -> None:
    assert messages(*({"kind": "train", "step": step, "loss": 1.0} for step in range(1, 60))) == []
