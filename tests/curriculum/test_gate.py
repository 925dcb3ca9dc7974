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
