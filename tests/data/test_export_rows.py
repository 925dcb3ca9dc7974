"""What is exported reads back as the same items; a picture draws what lies on it."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from item_rows import export_rows
from PIL import Image

from curr_reft.data.config import DataConfig
from curr_reft.data.export import Pictures
from curr_reft.data.images import DrawnImage, FileImage
from curr_reft.data.item import Item, Truth
from curr_reft.data.load import load_data
from curr_reft.data.picture import Mark, picture
from curr_reft.errors import DataError


def read_truth(task: str, raw: Any) -> Truth:
    if task == "math":
        return str(raw)
    values = json.loads(raw) if isinstance(raw, str) else raw
    return tuple(map(float if task == "detection" else str, values))


def drawn(name: str, size: tuple[int, int] = (30, 20)) -> DrawnImage:
    pixels = np.random.default_rng(len(name)).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    return DrawnImage(f"drawn:{name}/é", size, lambda: Image.fromarray(pixels))


ITEMS = [
    Item(
        id="a",
        task="detection",
        question="Where is the “cat”?",
        truth=(1.0, 2.25, 1 / 3 + 5, 20.0),
        images=(drawn("a"),),
        domain="detection",
        distractors=((0.0, 0.0, 4.0, 4.0), (3.0, 3.0, 30.0, 20.0)),
    ),
    Item(
        id="b",
        task="classification",
        question="What is <here>?",
        truth=("traffic light", "a, b", 'x"y'),
        images=(drawn("bb"),),
        split="test",
        domain="general",
        distractors=(("dog",),),
    ),
    Item(
        id="c",
        task="math",
        question="How many?",
        truth="\\frac{1}{2} < x",
        images=(drawn("a"), drawn("bb")),
        domain="math",
    ),
    Item(id="d", task="math", question="What is 2 + 3?", truth="5", split="test", domain="arithmetic"),
]


def test_round_trip(tmp_path: Path) -> None:
    files = export_rows(ITEMS, tmp_path)
    assert {split: path.name for split, path in files.items()} == {"train": "train.jsonl", "test": "test.jsonl"}
    assert len(list((tmp_path / "images").iterdir())) == 2  # one file for each picture, however often it is used
    settings = {split: [{"path": str(path)}] for split, path in files.items()}
    section = {"kind": "files", "files": settings | {"validation_fraction": 1e-9}}
    read = load_data(DataConfig.model_validate(section), read_truth)
    back = {item.question: replace(item, split=item.split.replace("validation", "train")) for item in read.items}
    assert len(back) == len(ITEMS)
    for item in ITEMS:
        other = back[item.question]
        assert replace(other, id=item.id, source=item.source, images=item.images) == item
        for mine, its in zip(item.images, other.images, strict=True):
            assert mine.size == its.size
            assert np.array_equal(np.asarray(mine.open()), np.asarray(its.open()))


def test_a_truth_with_tags_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds a tag"):
        export_rows([replace(ITEMS[3], truth="5</answer>")], tmp_path)


def test_picture_draws_only_what_lies_on_the_image() -> None:
    image = Image.new("RGB", (100, 50))
    nan = float("nan")
    boxes = [(10, 10, 20, 20), (-50, 0, 5, 9), (200, 200, 300, 300), (20, 20, 10, 10), (nan, 0, 5, 5)]
    text = picture(image, [Mark(box, "predicted") for box in boxes], label='"><script>')
    assert text.count('class="mark predicted"') == 2
    assert 'x="0" y="0" width="5" height="9"' in text
    assert "<script>" not in text


def test_large_pictures_are_scaled_down() -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (2000, 3000, 3), dtype=np.uint8))
    text = picture(noise)
    assert 'viewBox="0 0 3000 2000"' in text  # boxes stay in pixels of the original
    assert len(text) < 600_000


def test_a_copy_is_what_we_see_whoever_opens_it(tmp_path: Path) -> None:
    """Byte for byte where that is so; EXIF, transparency and 16 bits are written out."""
    source = tmp_path / "from"
    source.mkdir()
    noise = Image.effect_noise((40, 30), 60).convert("RGB")
    turned = Image.Exif()
    turned[0x0112] = 6
    clear = noise.convert("RGBA")
    clear.putalpha(90)
    noise.save(source / "plain.jpg")
    noise.convert("P").save(source / "palette.png")
    noise.save(source / "turned #1.jpg", exif=turned)
    clear.save(source / "clear.png")
    Image.fromarray((np.arange(1200, dtype=np.uint16) * 50).reshape(30, 40)).save(source / "deep.png")
    pictures = Pictures(tmp_path / "to")
    copied = []
    for file in sorted(source.iterdir()):
        image = FileImage(source, file.name)
        written = tmp_path / "to" / pictures.path_of(image)
        with Image.open(written) as opened:
            assert opened.size == image.size
            assert opened.convert("RGB").tobytes() == image.open().tobytes()
        copied += [file.name] if written.read_bytes() == file.read_bytes() else []
    assert copied == ["palette.png", "plain.jpg"]
