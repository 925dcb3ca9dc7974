import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curr_reft.curriculum.config import GateConfig
from curr_reft.curriculum.gate import AccuracyGate


def metrics(accuracy: float, form: str = "binary") -> dict:
    return {"by_form": {form: {"accuracy": accuracy, "n": 8}}}


def test_opens_when_the_window_reaches_the_threshold_and_not_before_min_steps() -> None:
    gate = AccuracyGate(GateConfig(accuracy=0.8, window=3, min_steps=5), ["binary"])
    opened = []
    for accuracy in (0.9, 0.9, 0.9, 0.9, 0.9):
        gate.update(metrics(accuracy))
        opened.append(gate.open())
    assert opened == [False, False, False, False, True]


def test_replayed_forms_do_not_open_it() -> None:
    gate = AccuracyGate(GateConfig(accuracy=0.8, window=2, min_steps=1), ["choice"])
    for _ in range(6):
        gate.update(metrics(1.0, "binary"))
    assert not gate.open()


def test_plateau_opens_when_a_window_brings_too_little() -> None:
    gate = AccuracyGate(GateConfig(accuracy=None, plateau=0.02, window=2, min_steps=1), ["open"])
    for accuracy in (0.1, 0.2, 0.4, 0.5):
        gate.update(metrics(accuracy, "open"))
    assert not gate.open()
    for accuracy in (0.5, 0.4):
        gate.update(metrics(accuracy, "open"))
    assert gate.open()


def test_state_goes_on_where_it_was() -> None:
    first, second = (AccuracyGate(GateConfig(window=3, min_steps=1), ["binary"]) for _ in range(2))
    for accuracy in (0.7, 0.9):
        first.update(metrics(accuracy))
    second.load_state_dict(first.state_dict())
    for gate in (first, second):
        gate.update(metrics(0.9))
    assert first.open() == second.open() is True
    assert first.state_dict() == second.state_dict()


def test_patience_asks_for_updates_in_a_row() -> None:
    gate = AccuracyGate(GateConfig(accuracy=0.8, window=1, min_steps=1, patience=3), ["binary"])
    opened = []
    for accuracy in (0.9, 0.9, 0.7, 0.9, 0.9, 0.9):
        gate.update(metrics(accuracy))
        opened.append(gate.open())
    assert opened == [False, False, False, False, False, True]


def test_an_update_without_a_score_is_a_step_and_neither_holds_nor_breaks_a_row() -> None:
    gate = AccuracyGate(GateConfig(accuracy=0.8, window=1, min_steps=4, patience=2), ["binary"])
    for accuracy in (0.9, None, 0.9):
        gate.update({"by_form": {}} if accuracy is None else metrics(accuracy))
    assert gate.held["accuracy"] == 2
    assert not gate.open()  # three steps of four
    gate.update({"by_form": {}})
    assert gate.open()


def test_the_account_names_the_rule_and_what_it_saw() -> None:
    gate = AccuracyGate(GateConfig(accuracy=0.8, plateau=0.09, window=2, min_steps=1), ["binary", "choice"])
    for accuracy in (0.2, 0.4, 0.5):
        gate.update(metrics(accuracy))
    assert (gate.account()["rule"], gate.account()["before"]) == (None, None)
    gate.update({"by_form": {"binary": {"accuracy": 0.2, "n": 24}, "choice": {"accuracy": 0.6, "n": 8}}})
    account = gate.account()
    assert account["rule"] is None  # 0.4 after 0.3 is enough
    assert (account["recent"], account["before"]) == (pytest.approx(0.4), pytest.approx(0.3))
    gate.update(metrics(0.3))
    assert gate.account()["rule"] == "plateau"
    assert gate.account()["settings"]["plateau"] == 0.09
    for _ in range(2):
        gate.update(metrics(0.9))
    assert gate.account()["rule"] == "accuracy"


@given(
    accuracies=st.lists(st.floats(0, 1), max_size=30),
    cut=st.integers(0, 30),
    window=st.integers(1, 4),
    patience=st.integers(1, 3),
)
def test_a_resumed_gate_opens_at_the_same_update(accuracies: list[float], cut: int, window: int, patience: int) -> None:
    config = GateConfig(accuracy=0.6, plateau=0.05, window=window, min_steps=3, patience=patience)
    whole, first, second = (AccuracyGate(config, ["binary"]) for _ in range(3))
    for accuracy in accuracies[:cut]:
        whole.update(metrics(accuracy))
        first.update(metrics(accuracy))
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    for accuracy in accuracies[cut:]:
        whole.update(metrics(accuracy))
        second.update(metrics(accuracy))
        assert second.account() == whole.account()
