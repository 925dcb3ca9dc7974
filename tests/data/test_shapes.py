"""The drawn world: deterministic, its splits apart, its questions right, its pictures what they say."""

import random
from collections import Counter
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from item_rows import export_rows

from curr_reft.data import shapes
from curr_reft.data.config import DataConfig, FileEntry, FilesConfig
from curr_reft.data.load import load_data
from curr_reft.data.shapes import COLOURS, IN_DOMAIN_PAIRS, NOVEL_PAIRS, Scene, Thing, shapes_items
from curr_reft.errors import DataError
from curr_reft.tasks import TASKS

COUNTS = {"detection": 60, "classification": 60, "math": 60}
SPLITS = ("train", "validation", "test", "pool", "ood_train", "ood_validation", "ood_test")


def test_equal_seeds_give_equal_items_and_other_seeds_other_ones() -> None:
    assert shapes_items(1, "train", COUNTS) == shapes_items(1, "train", COUNTS)
    assert shapes_items(1, "train", COUNTS) != shapes_items(2, "train", COUNTS)


def test_no_scene_stands_in_two_splits_even_over_seeds() -> None:
    keys = {
        split: {item.images[0].key for seed in (0, 1) for item in shapes_items(seed, split, COUNTS)} for split in SPLITS
    }
    assert all(not keys[a] & keys[b] for a, b in combinations(SPLITS, 2))
    assert all(len(own) == 2 * sum(COUNTS.values()) for own in keys.values())


def test_every_split_holds_the_promised_number_of_items() -> None:
    for split, count in {"train": 1500, "validation": 300, "test": 300, "ood_train": 1500, "ood_test": 300}.items():
        items = shapes_items(0, split, {"detection": count, "classification": count, "math": count})
        assert Counter(item.task for item in items) == dict.fromkeys(COUNTS, count)


def test_equal_pictures_have_equal_keys_and_so_stand_in_one_split() -> None:
    one, other = Thing("red", "circle", 0, 0, 14), Thing("blue", "cross", 28, 28, 21)
    assert Scene((one, other)).key == Scene((other, one)).key
    pictures: dict[bytes, str] = {}
    for split in SPLITS:
        for item in shapes_items(0, split, {"detection": 400, "classification": 400, "math": 400}):
            assert pictures.setdefault(item.images[0].open().tobytes(), split) == split


@pytest.mark.parametrize("split", ["test", "ood_test"])
def test_what_a_split_draws_from(split: str) -> None:
    domain = shapes.DOMAINS[split]
    for item in shapes_items(3, split, COUNTS):
        scene = item.images[0]
        assert isinstance(scene, Scene)
        assert len(scene.things) in domain.objects
        assert (scene.texture is not None) == (split == "ood_test")
        assert {(t.colour, t.shape) for t in scene.things} <= set(domain.others)
        if item.task == "math":
            assert domain.operations[0] in item.question.split()


def test_novel_pairs_are_in_no_split_but_the_out_of_domain_ones_nor_in_pre_training() -> None:
    assert not set(NOVEL_PAIRS) & set(shapes.PRE_TRAINING_PAIRS)
    assert not set(NOVEL_PAIRS) & set(IN_DOMAIN_PAIRS)
    names = {f"{colour} {shape}" for colour, shape in NOVEL_PAIRS}
    asked = " ".join(item.question for item in shapes_items(0, "ood_test", {"detection": 200}))
    assert any(name in asked for name in names)


def test_answers_are_right_by_an_independent_count() -> None:
    for split in ("train", "ood_test"):
        for item in shapes_items(5, split, COUNTS):
            scene = item.images[0]
            assert isinstance(scene, Scene)
            boxes = {f"{t.colour} {t.shape}": t.box for t in scene.things}
            if item.task == "detection":
                assert item.truth == tuple(map(float, boxes[item.question.removeprefix("find the ")]))
            elif item.task == "classification":
                assert set(item.truth) == set(boxes)
            else:
                words = item.question.split()
                first, second = (sum(name.startswith(words[i] + " ") for name in boxes) for i in (2, 6))
                assert item.truth == str(first + second if words[3] == "plus" else first - second)


def test_objects_do_not_overlap_and_stand_on_the_grid() -> None:
    for item in shapes_items(2, "ood_test", {"detection": 100}):
        canvas = np.zeros((shapes.SIDE, shapes.SIDE), dtype=int)
        scene = item.images[0]
        assert isinstance(scene, Scene)
        for thing in scene.things:
            x1, y1, x2, y2 = thing.box
            assert all(value % shapes.GRID == 0 for value in thing.box)
            canvas[y1:y2, x1:x2] += 1
        assert canvas.max() == 1


@pytest.mark.parametrize("shape", shapes.SHAPES)
@pytest.mark.parametrize("colour", COLOURS)
def test_a_drawn_thing_fills_its_box_and_nothing_else(colour: str, shape: str) -> None:
    scene = Scene((Thing(colour, shape, 21, 35, 28),))
    bare = np.asarray(Scene(()).open()).astype(int)
    changed = np.argwhere(np.abs(np.asarray(scene.open()).astype(int) - bare).sum(axis=2) > 0)
    assert changed.min(axis=0).tolist() == [35, 21]
    assert (changed.max(axis=0) + 1).tolist() == [63, 49]


def test_false_boxes_stand_on_the_grid_and_are_wrong() -> None:
    for item in shapes_items(4, "train", {"detection": 100}):
        assert len(item.distractors) >= 3
        for box in item.distractors:
            assert all(value % shapes.GRID == 0 for value in box)  # type: ignore[operator]
            assert shapes._iou(box, item.truth) <= 0.3  # type: ignore[arg-type]


def test_text_only_questions_are_right_and_never_negative() -> None:
    for item in shapes_items(0, "pool", {"arithmetic": 60}):
        _, _, a, operation, b = item.question.split()
        assert int(item.truth) == (int(a) + int(b) if operation == "plus" else int(a) - int(b)) >= 0
        assert (item.images, item.task, item.domain) == ((), "math", "arithmetic")


def test_more_items_than_there_are_is_an_error() -> None:
    with pytest.raises(DataError, match=r"only \d+ different ones"):
        shapes_items(0, "pool", {"arithmetic": 2000})


def test_random_scenes_hold_different_things() -> None:
    rng = random.Random(0)
    for _ in range(200):
        names = shapes.random_scene(rng, shapes.PRE_TRAINING).names
        assert len(set(names)) == len(names)


def test_the_exported_world_comes_back_through_the_loader_of_real_data(tmp_path: Path) -> None:
    items = [item for split in ("train", "test") for item in shapes_items(0, split, COUNTS)]
    files = export_rows(items, tmp_path)
    entries = {split: (FileEntry(path=str(path)),) for split, path in files.items()}
    config = DataConfig(kind="files", files=FilesConfig(validation=entries["test"], **entries))
    with pytest.raises(DataError, match="stands in validation and in test"):
        load_data(config, lambda task, raw: TASKS[task].read_truth(raw))
    config = DataConfig(kind="files", files=FilesConfig(**entries, validation_fraction=0.2))
    back = load_data(config, lambda task, raw: TASKS[task].read_truth(raw)).items
    assert len(back) == len(items)
    for item, read in zip(items, back, strict=True):
        assert (read.task, read.question, read.truth) == (item.task, item.question, item.truth)
        assert set(read.distractors) == set(item.distractors)
        assert read.images[0].open().tobytes() == item.images[0].open().tobytes()
