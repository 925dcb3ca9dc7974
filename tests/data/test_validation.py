"""Validation split off the training rows never shares a picture with them, however it is stored."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from curr_reft.data.images import FileImage
from curr_reft.data.item import Item
from curr_reft.data.validation import ValidationSplit


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for number in range(20):
        blocks = rng.integers(0, 255, (6, 6, 3), dtype=np.uint8)
        picture = Image.fromarray(blocks).resize((120, 120), Image.Resampling.BICUBIC)
        picture.save(tmp_path / f"{number}.png")
        picture.save(tmp_path / f"{number}.jpg", quality=80)
    return tmp_path


def item(folder: Path, name: str, *files: str, task: str = "math") -> Item:
    images = tuple(FileImage(folder, file) for file in files)
    return Item(id=name, task=task, question=f"what is in {name}?", truth="1", images=images)


def moved(items: list[Item], fraction: float = 0.3, seed: int = 0, perceptual: bool = True) -> set[str]:
    split = ValidationSplit(items, fraction, seed, perceptual)
    return {each.id for each in items if split.takes(each)}


def test_copies_under_other_bytes_move_together(folder: Path) -> None:
    items = [item(folder, f"{n}{kind}", f"{n}.{kind}") for n in range(20) for kind in ("png", "jpg")]
    found = moved(items)
    assert len(found) == 12
    assert all((f"{n}png" in found) == (f"{n}jpg" in found) for n in range(20))
    exact = moved(items, perceptual=False)
    assert any((f"{n}png" in exact) != (f"{n}jpg" in exact) for n in range(20)), "by bytes they are other pictures"


def test_any_shared_picture_links_not_only_the_first(folder: Path) -> None:
    chain = [item(folder, f"pair{n}", f"{n}.png", f"{n + 1}.png") for n in range(6)]
    alone = [item(folder, f"{n}", f"{n}.png") for n in range(8, 20)]
    for seed in range(8):
        found = moved(chain + alone, fraction=0.5, seed=seed)
        assert len({each.id in found for each in chain}) == 1


def test_it_depends_on_content_and_seed_not_on_order(folder: Path) -> None:
    items = [item(folder, f"{n}", f"{n}.png", task=("math", "detection")[n % 2]) for n in range(20)]
    found = moved(items)
    assert {each.task for each in items if each.id in found} == {"math", "detection"}
    assert len(found) == 6
    assert moved(items[::-1]) == found
    assert moved(items, seed=1) != found
    tests = [replace(each, split="test") for each in items]
    assert moved(items + tests) == found, "only training items move"


def test_questions_without_pictures_move_by_their_text() -> None:
    items = [Item(id=f"{n}{m}", task="math", question=f"{n} plus 1?", truth="1") for n in range(10) for m in "ab"]
    found = moved(items)
    assert len(found) == 6
    assert all((f"{n}a" in found) == (f"{n}b" in found) for n in range(10))


def test_a_group_of_most_rows_stays_to_train_on(folder: Path) -> None:
    same = [item(folder, f"same{n}", "0.png") for n in range(15)]
    found = moved([*same, *(item(folder, f"{n}", f"{n}.png") for n in range(1, 6))])
    assert 0 < len(found) <= 6
    assert not any(name.startswith("same") for name in found)
