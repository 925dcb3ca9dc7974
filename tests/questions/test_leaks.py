"""Leaks: a picture under any bytes, and a text-only question, stand in one split; what is apart is told apart."""

import io
import json
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from curr_reft.data import copies
from curr_reft.data.cards import Card, draw_cards
from curr_reft.data.fingerprint import LOOKS, Fingerprint, fingerprint, is_candidate, look
from curr_reft.data.frame import BoxFrame
from curr_reft.data.images import FileImage, StoredImage
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


def camera_frames(folder: Path, count: int) -> list[Item]:
    """Frames of one camera: one scene with noise, and a small white thing that is elsewhere in each."""
    rng = random.Random(3)
    scene = Image.effect_mandelbrot((160, 120), (-2, -1.2, 1, 1.2), 60).convert("RGB")
    items = []
    for number in range(count):
        frame = Image.blend(scene, Image.effect_noise(scene.size, 20 + number % 5).convert("RGB"), 0.05)
        place = (number * 37) % 140 + rng.randint(0, 2), (number * 53) % 100
        frame.paste((255, 255, 255), (*place, place[0] + 16, place[1] + 16))
        frame.save(folder / f"{number}.png")
        split = "train" if number % 2 else "test"
        image = FileImage(folder, f"{number}.png")
        items.append(replace(with_images(f"{number}", "q", (), split), images=(image,)))
    return items


def test_frames_of_one_camera_are_decoded_once_and_their_copies_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = camera_frames(tmp_path, 60)
    Image.open(tmp_path / "7.png").save(tmp_path / "copy.jpg", quality=70)
    items.append(replace(items[0], id="copy", source="copy", images=(FileImage(tmp_path, "copy.jpg"),)))
    opened: Counter[str] = Counter()
    plain = StoredImage.open

    def counting(image: StoredImage) -> Image.Image:
        opened[image.place] += 1
        return plain(image)

    monkeypatch.setattr(StoredImage, "open", counting)
    compiler = Compiler(items, FORMS, Asking(seed=0, frame=BoxFrame("pixels")))
    found = compiler.look()
    assert [(pair.first, pair.second) for pair in found.leaks] == [("7.json:1", "copy")]
    assert found.cut_short == 0
    assert set(opened.values()) == {1}
    assert len(opened) == 61
    assert not LOOKS._looks  # what was kept for the comparison is given back


def test_only_pictures_that_resemble_others_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first of a group too, which was decoded before anything resembled it; until too many came between."""
    for number, seed in enumerate((1, 2, 3, 1)):
        rng = random.Random(seed)
        noise = Image.new("RGB", (6, 6))
        noise.putdata([(rng.randrange(256),) * 3 for _ in range(36)])
        noise.resize((90, 90)).save(tmp_path / f"{number}.jpg", quality=90 - number)
    for recent, kept in ((3, {0, 3}), (2, set())):
        monkeypatch.setattr("curr_reft.data.fingerprint.RECENT", recent)
        LOOKS.clear()
        images = [FileImage(tmp_path, f"{number}.jpg") for number in range(4)]
        for image in images:
            assert image.fingerprint
        assert {number for number, image in enumerate(images) if LOOKS.get(image.key)} == kept
    LOOKS.clear()


def test_looks_that_were_dropped_are_taken_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store is bounded: beyond it pictures are opened again, and the same is found."""
    items = camera_frames(tmp_path, 12)
    Image.open(tmp_path / "7.png").save(tmp_path / "copy.jpg", quality=70)
    items.append(replace(items[0], id="copy", source="copy", images=(FileImage(tmp_path, "copy.jpg"),)))
    monkeypatch.setattr(LOOKS, "limit", 30_000)
    assert [pair.second for pair in repeats(items).leaks] == ["copy"]
    assert LOOKS._bytes <= 30_000


def test_a_search_that_is_cut_short_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(copies, "MOST", 0)
    items = camera_frames(tmp_path, 2)
    Image.open(tmp_path / "1.png").save(tmp_path / "copy.jpg", quality=70)
    items.append(replace(items[0], id="copy", source="copy", images=(FileImage(tmp_path, "copy.jpg"),)))
    compiler = Compiler(items, FORMS, Asking(seed=0, frame=BoxFrame("pixels")))
    assert compiler.look().leaks == ()
    assert "1 picture(s) resemble more than" in caplog.text
    list(compiler.ask())
    assert compiler.card().to_dict()["cut_short"] == 1


@st.composite
def alike_pictures(draw: st.DrawFn) -> list[Image.Image]:
    """A few pictures made of each other: copies, copies of copies, edits, and other sizes."""
    seed = draw(st.integers(0, 3))
    side = draw(st.sampled_from([(5, 3), (40, 30), (90, 70), (300, 200)]))
    rng = random.Random(seed)
    first = Image.new("RGB", (8, 6))
    first.putdata([(rng.randrange(256), rng.randrange(256), rng.randrange(256)) for _ in range(48)])
    pictures = [first.resize(side, Image.Resampling.BICUBIC)]
    for _ in range(draw(st.integers(1, 9))):
        image = draw(st.sampled_from(pictures)).copy()
        change = draw(st.sampled_from(["jpeg", "size", "brighter", "patch", "faint"]))
        if change == "jpeg":
            buffer = io.BytesIO()
            image.save(buffer, "JPEG", quality=draw(st.sampled_from([30, 75, 95])))
            image = Image.open(buffer).convert("RGB")
        elif change == "size":
            scale = draw(st.sampled_from([0.6, 0.9, 1.5]))
            image = image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))))
        elif change == "brighter":
            image = image.point(lambda level: min(255, level + 6))
        else:
            left, top = draw(st.integers(0, image.width - 1)), draw(st.integers(0, image.height - 1))
            level = (255, 255, 255) if change == "patch" else image.resize((1, 1)).getpixel((0, 0))
            image.paste(level, (left, top, left + max(1, image.width // 8), top + max(1, image.height // 8)))
        pictures.append(image)
    return pictures


@given(alike_pictures())
@settings(max_examples=60, deadline=None)
def test_the_search_finds_the_groups_of_the_plain_definition(pictures: list[Image.Image]) -> None:
    sources = [Shown(f"{number}", picture) for number, picture in enumerate(pictures)]
    prints = [fingerprint(picture) for picture in pictures]
    LOOKS.clear()
    found = copies.verified_copies(range(len(prints)), prints, lambda: enumerate(sources))
    plain = copies.plain_copies(prints, [look(picture) for picture in pictures])
    assert groups(len(prints), found.pairs) == groups(len(prints), plain)
    assert found.cut_short == 0
    assert copies.candidates(prints) == [
        (first, second)
        for first, second in combinations(range(len(prints)), 2)
        if is_candidate(prints[first], prints[second])
    ]
    LOOKS.clear()


@given(
    st.lists(st.integers(0, 2**64 - 1), min_size=2, max_size=6),
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 63)), max_size=60),
)
@settings(max_examples=100, deadline=None)
def test_candidates_are_those_of_the_definition_each_once(hashes: list[int], flips: list[tuple[int, int]]) -> None:
    """Many hashes that differ in a few bits, by the bands as by all pairs (which is chosen by their number)."""
    for place, bit in flips:
        hashes.append(hashes[place % len(hashes)] ^ 1 << bit)
    prints = [Fingerprint(bits, bytes([number % 20] * 48)) for number, bits in enumerate(hashes)]
    assert copies.candidates(prints) == [
        (first, second)
        for first, second in combinations(range(len(prints)), 2)
        if is_candidate(prints[first], prints[second])
    ]


@dataclass(frozen=True)
class Shown:
    key: str
    picture: Image.Image

    @property
    def size(self) -> tuple[int, int]:
        return self.picture.size

    def open(self) -> Image.Image:
        return self.picture


def groups(count: int, pairs: list[tuple[int, int]]) -> set[frozenset[int]]:
    """The sets that the pairs link."""
    group = {number: {number} for number in range(count)}
    for first, second in pairs:
        both = group[first] | group[second]
        group.update(dict.fromkeys(both, both))
    return set(map(frozenset, group.values()))
