"""The paired differences on the page, and what it says of pairs that a run does not tell apart."""

from pathlib import Path
from typing import Any

from curr_reft.report.differences import LEAST_ITEMS, difference_view, not_shown
from curr_reft.report.read import RunFiles


def files(tmp_path: Path, differences: dict[str, Any]) -> RunFiles:
    return RunFiles(path=tmp_path, summary={"differences": differences})


def mean(centre: float, low: float, high: float) -> dict[str, Any]:
    return {"mean": {"mean": centre, "low": low, "high": high}}


def test_a_difference_is_sure_where_its_interval_leaves_zero_out(tmp_path: Path) -> None:
    found = {
        "curr_rl - rl": {"in_domain": mean(0.0204, 0.0101, 0.03), "general": mean(-0.2, -0.3, -0.1)},
        "curr_reft_round_2 - curr_reft": {"in_domain": mean(-0.0001, -0.02, 0.0), "out_of_domain": {"mean": {}}},
    }
    view = difference_view(files(tmp_path, found))
    assert view["suites"] == ["In-domain", "Out-of-domain", "General pool"]
    assert view["rows"] == [
        ("Curr-RL − RL", [("+2.0 (+1.0 to +3.0)", True), ("–", False), ("−20.0 (−30.0 to −10.0)", True)]),
        ("Curr-ReFT, round 2 − Curr-ReFT", [("0.0 (−2.0 to 0.0)", False), ("–", False), ("–", False)]),
    ]
    assert not_shown(files(tmp_path, found)) == [
        "In-domain, the interval of the difference holds zero: Curr-ReFT, round 2 − Curr-ReFT."
    ]


def test_a_handful_of_items_makes_no_difference_sure(tmp_path: Path) -> None:
    """The bootstrap of two items that gained the same knows no doubt."""

    def suite(items: int) -> dict[str, Any]:
        cell = {"mean": 0.2, "low": 0.2, "high": 0.2}
        return {"math": cell | {"n": items}, "detection": cell | {"n": 300}, "mean": cell}

    found = files(tmp_path, {"curr_rl - rl": {"in_domain": suite(2), "general": suite(LEAST_ITEMS)}})
    assert difference_view(found)["rows"] == [
        ("Curr-RL − RL", [("+20.0 (+20.0 to +20.0)", sure) for sure in (False, True)])
    ]
    assert not_shown(found) == [f"In-domain, any difference: a task has 2 items, and an interval takes {LEAST_ITEMS}."]


def test_a_run_without_differences_has_no_row(tmp_path: Path) -> None:
    assert difference_view(files(tmp_path, {}))["rows"] == []
    assert not_shown(files(tmp_path, {})) == []
