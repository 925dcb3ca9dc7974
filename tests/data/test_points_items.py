"""GeneralPoints items: deterministic, solvable, splits apart by hand, out-of-domain tests that differ as they say."""

from collections import Counter
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from item_rows import export_rows
from pydantic import ValidationError

from curr_reft.data.arithmetic import numbers_of, value_of
from curr_reft.data.cards import COLOURS
from curr_reft.data.config import DataConfig, FileEntry, FilesConfig, PointsConfig
from curr_reft.data.item import Item
from curr_reft.data.load import load_data
from curr_reft.data.points import Hand, points_items, split_of
from curr_reft.errors import DataError
from curr_reft.tasks import TASKS
from curr_reft.tasks.equations import read_equation

SPLITS = ("train", "validation", "test", "ood_test", "pool")
FEW: dict[str, Any] = {
    "train": 120,
    "validation": 30,
    "test": 60,
    "pool": 30,
    "ood_test": {"rule": 60, "visual": 60, "target": 30},
}


def items(split: str, **changed: Any) -> list[Item]:
    return list(points_items(PointsConfig(**{**FEW, **changed}), split))


def hand_of(item: Item) -> Hand:
    (hand,) = item.images
    assert isinstance(hand, Hand)
    return hand


def numbers(item: Item) -> list[int]:
    equation = read_equation(str(item.truth))
    assert equation is not None
    return sorted(numbers_of(equation.tree))


def test_equal_seeds_give_equal_items_and_other_seeds_other_ones() -> None:
    for split in SPLITS:
        assert items(split) == items(split)
        assert items(split) != items(split, seed=1)


def test_every_split_holds_the_promised_number_of_items() -> None:
    assert {split: len(items(split)) for split in SPLITS} == {**FEW, "ood_test": 150}
    assert Counter(item.domain for item in items("ood_test")) == FEW["ood_test"]


def test_every_truth_is_right_for_the_cards_that_are_shown() -> None:
    for split in SPLITS:
        for item in items(split):
            ranks = [card.rank for card in hand_of(item).cards]
            faces = "rank" if item.domain == "rule" else "ten"
            target = 36 if item.domain == "target" else 24
            assert numbers(item) == sorted(ranks if faces == "rank" else (min(rank, 10) for rank in ranks))
            equation = read_equation(str(item.truth))
            assert equation is not None
            assert value_of(equation.tree) == equation.stated == target
            assert TASKS["points"].read_truth(item.truth) == item.truth
            assert f"Make {target} " in item.question
            assert ("J counts as 11" in item.question) == (faces == "rank")


def test_no_hand_stands_in_two_splits_even_over_seeds_and_rules() -> None:
    def hands(split: str) -> set[tuple[int, ...]]:
        found = set()
        for seed in (0, 1):
            for faces in ("ten", "rank"):
                found |= {
                    tuple(sorted(min(card.rank, 10) for card in hand_of(item).cards))
                    for item in items(split, seed=seed, faces=faces)
                }
        return found

    owned = {split: hands(split) for split in ("train", "validation", "test", "pool")}
    assert all(not owned[a] & owned[b] for a, b in combinations(owned, 2))
    outside = hands("ood_test")
    assert all(not outside & owned[split] for split in ("train", "validation", "pool"))


def test_order_and_face_cards_do_not_move_a_hand_to_another_split() -> None:
    assert split_of((10, 2, 3, 13)) == split_of((11, 12, 3, 2)) == split_of((3, 10, 2, 10))


def test_out_of_domain_differs_in_one_thing() -> None:
    def colours(given: list[Item]) -> set[str]:
        return {card.colour for item in given for card in hand_of(item).cards}

    usual, outside = items("test"), items("ood_test")
    by_kind = {kind: [item for item in outside if item.domain == kind] for kind in FEW["ood_test"]}
    assert colours(usual) == colours(by_kind["rule"]) == colours(by_kind["target"]) == {"black"}
    assert colours(by_kind["visual"]) == {"red"}
    assert max(map(max, map(numbers, usual))) == max(map(max, map(numbers, by_kind["visual"]))) == 10
    assert all(max(numbers(item)) > 10 for item in by_kind["rule"])
    assert colours(items("test", colour="red")) == {"red"}
    assert {card.suit for item in usual for card in hand_of(item).cards} == {*COLOURS["black"]}


def test_pictures_are_opened_in_the_size_they_announce() -> None:
    for item in items("ood_test", width=112)[::40]:
        hand = hand_of(item)
        assert hand.open().size == hand.size == (112, 62)


def test_more_items_than_there_are_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("curr_reft.data.points.split_of", lambda ranks: "test" if ranks == (6, 6, 6, 6) else "train")
    with pytest.raises(DataError, match=r"asked for 500 items, but only \d+ different pictures of hands that reach 24"):
        items("test", test=500, styles=("large",))


def test_a_target_that_is_no_other_target_is_refused() -> None:
    with pytest.raises(ValidationError, match="other_target is 24 like target"):
        items("train", other_target=24)
    assert PointsConfig(other_target=24).ood_test == {"rule": 300, "visual": 300}


def test_exported_hands_come_back_as_rows_of_files(tmp_path: Path) -> None:
    drawn = [item for split in ("train", "test") for item in items(split, train=12, test=6, width=224)]
    entries = {split: (FileEntry(path=str(path)),) for split, path in export_rows(drawn, tmp_path).items()}
    config = DataConfig(kind="files", files=FilesConfig(**entries, validation_fraction=0.2))
    back = load_data(config, lambda task, raw: TASKS[task].read_truth(raw)).items
    assert [(item.question, item.truth, item.domain) for item in back] == [
        (item.question, item.truth, item.domain) for item in drawn
    ]
    assert [item.images[0].open().tobytes() for item in back] == [item.images[0].open().tobytes() for item in drawn]


def test_the_recipe_key_data_kind_points_loads_them() -> None:
    config = DataConfig(kind="points", points=PointsConfig(**FEW))
    loaded = load_data(config, lambda task, raw: TASKS[task].read_truth(raw))
    assert [item.id for item in loaded.items] == [item.id for split in SPLITS for item in items(split)]
