"""Leaks: a picture under any bytes, and a text-only question, stand in one split; what is apart is told apart."""

import io
import json
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from curr_reft.data.cards import Card, draw_cards
from curr_reft.data.frame import BoxFrame
from curr_reft.data.images import FileImage
from curr_reft.data.item import Item
from curr_reft.data.shapes import DOMAINS, shapes_items
from curr_reft.errors import DataError
from curr_reft.questions.compile import Asking, Compiler, compile_questions
from curr_reft.questions.leaks import Repeats, find_repeats
from curr_reft.questions.survey import Survey

FORMS = ("binary", "choice", "open")


@dataclass(frozen=True)
class Blank:
    """A picture without content; its key says which."""

    key: str
    size: tuple[int, int] = (640, 480)

    def open(self) -> Image.Image:
        return Image.new("RGB", self.size)


def with_images(item_id: str, question: str, keys: tuple[str, ...], split: str) -> Item:
    images = tuple(map(Blank, keys))
    return Item(
        id=item_id, task="math", question=question, truth="1", images=images, split=split, source=f"{item_id}.json:1"
    )


def repeats(items: list[Item], perceptual: bool = True) -> Repeats:
    survey = Survey(perceptual=perceptual)
    for item in items:
        survey.add(item)
    survey.finish()
    return find_repeats(survey, items)


@pytest.mark.parametrize(
    ("train", "test", "reason"),
    [
        (
            with_images("a", "q", ("x",), "train"),
            with_images("b", "other", ("x",), "test"),
            "its image is also in a.json:1 (split train)",
        ),
        (
            with_images("a", "q", ("x",), "train"),
            with_images("b", "Q ", ("y", "x"), "test"),
            "its image and question are also in",
        ),
        (
            with_images("a", "How  many?", (), "train"),
            with_images("b", "how many?", (), "test"),
            "its question is also in",
        ),
        (with_images("a", "q", ("x",), "validation"), with_images("b", "r", ("x",), "test"), "(split validation)"),
        (with_images("a", "q", ("x",), "train"), with_images("b", "r", ("x",), "validation"), "(split train)"),
        (with_images("a", "q", ("x",), "pool"), with_images("b", "r", ("x",), "ood_test"), "(split pool)"),
        (with_images("a", "q", ("x",), "validation"), with_images("b", "r", ("x",), "pool"), "(split validation)"),
    ],
)
def test_a_leak_stops_the_build_in_either_order(train: Item, test: Item, reason: str) -> None:
    for items in ([train, test], [test, train]):
        with pytest.raises(DataError, match="leak between splits") as error:
            compile_questions(items, FORMS, seed=0, frame=BoxFrame("pixels"))
        assert error.value.source == test.source
        assert error.value.problems == ((test.source, error.value.problems[0][1]),)
        assert reason in error.value.problems[0][1]
        assert reason in str(error.value)


def test_all_pairs_are_listed_ten_are_shown() -> None:
    train = [with_images(f"a{n}", "q", (f"x{n}",), "train") for n in range(14)]
    test = [with_images(f"b{n}", "q", (f"x{n}",), "test") for n in range(14)]
    found = repeats([*test, *train])
    assert {(pair.first, pair.second) for pair in found.leaks} == {(f"a{n}.json:1", f"b{n}.json:1") for n in range(14)}
    with pytest.raises(DataError, match=r"(?s)14 item\(s\) leak.*and 4 more") as error:
        found.refuse_leaks()
    assert [source for source, _ in error.value.problems] == [item.source for item in test]
    assert "a9.json" in str(error.value)
    assert "a10.json" not in str(error.value)


def test_what_is_apart_is_no_leak() -> None:
    train = [with_images("a", "q", ("x",), "train"), with_images("b", "q", ("z",), "train")]
    apart = [with_images("c", "q", ("y",), "test"), with_images("d", "q", (), "test")]
    among_tests = [with_images("e", "r", ("y",), "ood_test")]
    found = repeats([*train, *apart, *among_tests])
    assert found.leaks == ()
    assert found.same_question == 2  # c and d: the question and truth of a, on another picture or none
    found.refuse_leaks()


def test_leaking_items_may_be_left_out_of_what_is_learned_from(caplog: pytest.LogCaptureFixture) -> None:
    """Of a shared picture only the split of highest worth keeps its items; what shares nothing stays."""
    items = [
        with_images("pool", "q", ("a",), "pool"),
        with_images("train", "q", ("a", "b"), "train"),
        with_images("chooses", "q", ("b",), "validation"),
        with_images("test", "q", ("c",), "test"),
        with_images("far", "q", ("c",), "ood_test"),
        with_images("shown", "q", ("c",), "train"),
        with_images("asked", "how many?", (), "pool"),
        with_images("text", "How  many?", (), "validation"),
        with_images("own", "q", ("d",), "train"),
        with_images("again", "q", ("d",), "train"),
    ]
    asking = Asking(seed=0, frame=BoxFrame("pixels"))
    for ordered in (items, items[::-1]):
        caplog.clear()
        compiler = Compiler(ordered, FORMS, asking, leave_out_leaks=True)
        compiler.look().refuse_leaks()
        kept = [item.id for item, _ in compiler.ask()]
        assert sorted(kept) == ["again", "chooses", "far", "own", "test", "text"]
        assert kept == [item.id for item in ordered if item.id in kept]
        card = compiler.card().to_dict()
        assert (card["leaks"], card["left_out"]) == (0, {"pool": 2, "train": 2})
        told = {(pair["second"], pair["first"], pair["reason"]) for pair in card["left_out_first"]}
        assert ("asked.json:1", "text.json:1", "its question is also in") in told
        assert ("pool.json:1", "train.json:1", "its image is also in") in told
        assert caplog.messages == ["4 items were left out because they leak between splits (2 of pool, 2 of train)"]


def test_duplicates_inside_a_split_are_named_with_their_rows() -> None:
    first = with_images("a", "q", ("x", "y"), "train")
    items = [
        first,
        replace(first, id="b", source="b.json:1", question=" Q"),
        replace(first, id="c", source="c.json:1", images=tuple(map(Blank, "yx"))),  # the same pictures
        replace(first, id="d", source="d.json:1", question="other"),
        replace(first, id="e", source="e.json:1", task="classification", truth=("a",)),
        replace(first, id="f", source="f.json:1", images=(Blank("x"),)),
    ]
    found = repeats(items)
    assert [(pair.first, pair.second) for pair in found.duplicates] == [
        ("a.json:1", "b.json:1"),
        ("a.json:1", "c.json:1"),
    ]
    _, card = compile_questions(items, FORMS, seed=0, frame=BoxFrame("pixels"))
    shown = card.to_dict()
    assert shown["total"]["duplicates"] == 2
    assert shown["duplicates_first"][0]["second"] == "b.json:1"


def scene_files(folder: Path, count: int) -> list[Item]:
    items = []
    for number, item in enumerate(shapes_items(3, "train", {"classification": count})):
        item.images[0].open().save(folder / f"{number}.png")
        items.append(replace(item, id=f"train/{number}", images=(FileImage(folder, f"{number}.png"),)))
    return items


COPIES: dict[str, Callable[[Image.Image, Path], Any]] = {
    "resaved.png": lambda image, path: image.save(path, compress_level=1),
    "small.jpg": lambda image, path: image.save(path, quality=75),
    "rough.jpg": lambda image, path: image.save(path, quality=50),
    "double.png": lambda image, path: image.resize((168, 168)).save(path),
    "less.png": lambda image, path: image.resize((67, 67)).save(path),
    "web.webp": lambda image, path: image.save(path, quality=80),
}


@pytest.mark.parametrize("name", COPIES)
def test_a_copy_under_other_bytes_is_found(name: str, tmp_path: Path) -> None:
    items = scene_files(tmp_path, 12)
    COPIES[name](Image.open(tmp_path / "5.png"), tmp_path / name)
    copy = replace(items[5], id="copy", split="test", source="test.jsonl:9", images=(FileImage(tmp_path, name),))
    (pair,) = repeats([*items, copy]).leaks
    assert (pair.first, pair.second) == (items[5].source, "test.jsonl:9")
    assert pair.reason == "its image and question are also, in other bytes, in"
    assert repeats([*items, copy], perceptual=False).leaks == ()


def test_the_same_bytes_under_another_name_are_found_without_pixels(tmp_path: Path) -> None:
    items = scene_files(tmp_path, 3)
    (tmp_path / "other.png").write_bytes((tmp_path / "1.png").read_bytes())
    copy = replace(items[1], id="copy", split="test", images=(FileImage(tmp_path, "other.png"),))
    (pair,) = repeats([*items, copy], perceptual=False).leaks
    assert pair.reason == "its image and question are also in"


def test_scenes_that_differ_in_one_small_thing_are_different(tmp_path: Path) -> None:
    """Every scene of the test is one of training with one thing moved, recoloured, reshaped, resized or gone."""
    rng = random.Random(0)
    items = scene_files(tmp_path, 60)
    scenes = [item.images[0] for item in shapes_items(3, "train", {"classification": 60})]
    edited = []
    for number, scene in enumerate(scenes):
        things = list(scene.things)  # type: ignore[attr-defined]
        place = rng.randrange(len(things))
        change = rng.choice(("colour", "shape", "gone", "x"))
        if change == "gone":
            del things[place]
        elif change == "x":
            things[place] = replace(things[place], x=things[place].x + (7 if things[place].x < 42 else -7))
        else:
            new = {"colour": ("red", "green", "blue"), "shape": ("circle", "square", "cross")}[change]
            now = getattr(things[place], change)
            things[place] = replace(things[place], **{change: next(each for each in new if each != now)})
        replace(scene, things=tuple(things)).open().save(tmp_path / f"edited{number}.png")
        image = FileImage(tmp_path, f"edited{number}.png")
        edited.append(replace(items[number], id=f"test/{number}", split="test", images=(image,)))
    assert repeats([*items, *edited]).leaks == ()


@pytest.mark.parametrize("style", ["pips", "corners"])
def test_hands_of_cards_that_differ_in_one_sign_are_different(style: str, tmp_path: Path) -> None:
    """The suit of one card, or its rank: of two such thumbnails nothing can be seen. A copy is still found."""
    hand = [Card(10, "clubs"), Card(7, "hearts"), Card(6, "spades"), Card(2, "spades")]
    others = [
        [Card(10, "spades"), *hand[1:]],
        [hand[0], Card(8, "hearts"), *hand[2:]],
        [*hand[:3], Card(2, "clubs")],
        [*hand[:3], Card(3, "spades")],
    ]
    template = with_images("hand", "q", (), "train")
    pictures = [draw_cards(each, style, 224) for each in (hand, *others)]
    pictures[0].resize((168, 92)).save(tmp_path / "copy.jpg", quality=60)
    items = []
    for number, picture in enumerate(pictures):
        picture.save(tmp_path / f"{number}.png")
        split, image = "test" if number else "train", FileImage(tmp_path, f"{number}.png")
        items.append(replace(template, id=f"{number}", source=f"{number}", split=split, images=(image,)))
    assert repeats(items).leaks == ()
    copy = replace(items[0], id="copy", source="copy", split="test", images=(FileImage(tmp_path, "copy.jpg"),))
    (pair,) = repeats([*items, copy]).leaks
    assert (pair.first, pair.second) == ("0", "copy")


def test_drawn_worlds_are_told_apart_by_their_keys_alone() -> None:
    items = [item for split in DOMAINS if "ood_" not in split for item in shapes_items(0, split, {"detection": 40})]
    found = repeats(items)
    assert (found.leaks, found.duplicates) == ((), ())


def test_a_broken_copy_names_its_file(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.effect_noise((50, 50), 90).save(buffer, "PNG")
    (tmp_path / "cut.png").write_bytes(buffer.getvalue()[:900])
    item = with_images("a", json.dumps("q"), (), "train")
    with pytest.raises(DataError, match=r"cut\.png.*cannot be decoded"):
        repeats([replace(item, images=(FileImage(tmp_path, "cut.png"),))])


def test_a_copy_under_other_bytes_may_be_left_out(tmp_path: Path) -> None:
    items = scene_files(tmp_path, 6)
    COPIES["small.jpg"](Image.open(tmp_path / "5.png"), tmp_path / "5.jpg")
    copy = replace(items[5], id="copy", split="test", images=(FileImage(tmp_path, "5.jpg"),))
    compiler = Compiler([*items, copy], FORMS, Asking(seed=0, frame=BoxFrame("pixels")), leave_out_leaks=True)
    compiler.look().refuse_leaks()
    assert [item.id for item, _ in compiler.ask()] == [*(item.id for item in items[:5]), "copy"]
