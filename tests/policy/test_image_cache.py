"""Processed images on disk: the same bits, whoever wrote them, and never a damaged one."""

import multiprocessing
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from light_images import LIGHT, LightProcessor
from PIL import Image

from curr_reft.data.images import DrawnImage, FileImage
from curr_reft.policy import image_cache as module
from curr_reft.policy.image_cache import ImageCache
from curr_reft.policy.image_maker import ImageMaker

PLENTY = 1 << 30


class Counting(ImageMaker):
    """Notes how often it is asked."""

    def open(self, sources):
        asked.append(len(sources))
        return super().open(sources)


asked: list[int] = []


@pytest.fixture(autouse=True)
def _fresh():
    asked.clear()


@pytest.fixture
def photos(tmp_path):
    (tmp_path / "photos").mkdir()
    for number in range(4):
        pixels = np.random.default_rng(number).integers(0, 255, (60 + number, 80, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{number}.png")
    return [FileImage(tmp_path / "photos", f"{number}.png") for number in range(4)]


def opened(cache: ImageCache, maker: ImageMaker, sources):
    return cache.open(sources, lambda: maker.open(sources))


def counting(settings: str = "") -> Counting:
    return Counting(image_processor=LightProcessor(settings))


def entries(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def same(got, expected) -> bool:
    if isinstance(expected, list | tuple):
        return len(got) == len(expected) and all(map(same, got, expected))
    if isinstance(expected, torch.Tensor | np.ndarray):
        return type(got) is type(expected) and got.dtype == expected.dtype and bool((got == expected).all())
    return got == expected


def test_an_entry_is_what_was_made(tmp_path, policy, photos):
    """Of several image processors: tensors, lists of arrays, numbers of tiles."""
    from transformers.models.llava_onevision.image_processing_pil_llava_onevision import LlavaOnevisionImageProcessorPil
    from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil

    makers = [
        LIGHT,
        ImageMaker(image_processor=policy.processor.processor.image_processor),
        ImageMaker(
            image_processor=SmolVLMImageProcessorPil(
                size={"longest_edge": 112}, max_image_size={"longest_edge": 56}, do_image_splitting=True
            ),
            options={"return_row_col_info": True},
        ),
        ImageMaker(
            image_processor=LlavaOnevisionImageProcessorPil(
                size={"height": 56, "width": 56}, image_grid_pinpoints=[[56, 112], [112, 56]]
            ),
            options={"do_pad": False, "return_tensors": None},
        ),
    ]
    for number, maker in enumerate(makers, start=1):
        expected = maker.open(photos)
        for _ in range(2):  # made and kept, then read
            got = opened(ImageCache(tmp_path / "cache", PLENTY, maker), maker, photos)
            assert got.keys() == expected.keys()
            assert all(same(list(got[name]), list(expected[name])) for name in expected)
        assert len(entries(tmp_path / "cache")) == number  # a folder of its own for each


def test_a_second_run_makes_nothing(tmp_path, fresh, photos):
    """By the recipe's keys."""
    from test_image_workers import Asked

    config = {"image_cache": str(tmp_path / "cache"), "image_cache_gb": 1}
    question = Asked("find the red circle", (photos[0], photos[1]))
    expected = fresh().processor.encode_question(question)
    for _ in range(2):
        processor = fresh(**config).processor
        processor.prefetch([question])
        got = processor.encode_question(question)
        assert torch.equal(got.input_ids_P, expected.input_ids_P)
        assert all(torch.equal(got.pixel_inputs[name], tensor) for name, tensor in expected.pixel_inputs.items())
    assert len(entries(tmp_path / "cache")) == 1
    for path in photos[:2]:
        (path.root / path.path).unlink()  # nothing is opened any more
    assert torch.equal(fresh(**config).processor.encode_question(question).input_ids_P, expected.input_ids_P)


def test_other_settings_or_bytes_are_other_entries(tmp_path, photos):
    first = counting()
    opened(ImageCache(tmp_path, PLENTY, first), first, photos[:1])
    opened(ImageCache(tmp_path, PLENTY, first), first, photos[:1])
    assert len(asked) == 1
    for maker in (counting("other"), Counting(image_processor=LightProcessor(), options={"tiles": 2})):
        opened(ImageCache(tmp_path, PLENTY, maker), maker, photos[:1])
    assert len(asked) == 3
    opened(ImageCache(tmp_path, PLENTY, first), first, photos[1:2])
    Image.new("RGB", (9, 9)).save(photos[0].root / "0.png")
    changed = FileImage(photos[0].root, "0.png")
    assert opened(ImageCache(tmp_path, PLENTY, first), first, [changed])["sizes"] == [(9, 9)]
    assert len(asked) == 5


def test_drawn_images_are_not_kept(tmp_path):
    drawn = DrawnImage("red", (9, 9), lambda: Image.new("RGB", (9, 9), "red"))
    maker = counting()
    for _ in range(2):
        opened(ImageCache(tmp_path / "cache", PLENTY, maker), maker, [drawn])
    assert len(asked) == 2
    assert entries(tmp_path / "cache") == []


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[: len(data) // 2],
        lambda data: data[:-1],
        lambda data: bytes(len(data)),
        lambda data: data[:-100] + bytes([data[-100] ^ 1]) + data[-99:],  # one bit of a pixel
        lambda data: data.replace(b'"sizes\\": [[80', b'"sizes\\": [[81'),
        lambda data: b"not an entry",
        lambda data: data.replace(b"__metadata__", b"__metatata__"),
    ],
)
def test_a_damaged_entry_is_made_again_with_one_warning(tmp_path, photos, caplog, damage):
    maker = counting()
    expected = opened(ImageCache(tmp_path / "cache", PLENTY, maker), maker, photos[:1])
    (entry,) = entries(tmp_path / "cache")
    whole = entry.read_bytes()
    assert damage(whole) != whole
    entry.write_bytes(damage(whole))
    cache = ImageCache(tmp_path / "cache", PLENTY, maker)
    for _ in range(3):
        got = opened(cache, maker, photos[:1])
        assert same(got["pixel_values"], expected["pixel_values"])
    assert len(asked) == 2
    assert caplog.text.count("is damaged") == 1
    assert str(entry) in caplog.text
    assert len(entry.read_bytes()) == len(whole)


def test_the_limit_holds_and_what_came_first_stays(tmp_path, photos, caplog):
    maker = counting()
    folder = tmp_path / "cache"
    opened(ImageCache(folder, PLENTY, maker), maker, photos[:1])
    size = entries(folder)[0].stat().st_size
    cache = ImageCache(folder, int(2.5 * size), maker)
    for _ in range(2):
        for photo in photos:
            opened(cache, maker, [photo])
    assert len(entries(folder)) == 2
    assert sum(path.stat().st_size for path in entries(folder)) <= 2.5 * size
    assert len(asked) == 1 + 1 + 2 + 2  # of four images two are kept
    assert caplog.text.count("no more images are kept in") == 1
    assert "model.image_cache_gb" in caplog.text


def test_a_cache_that_cannot_be_written_ends_no_run(tmp_path, photos, caplog, monkeypatch):
    maker = counting()
    (tmp_path / "file").write_text("in the way")
    cache = ImageCache(tmp_path / "file" / "cache", PLENTY, maker)
    for photo in photos[:3]:
        assert opened(cache, maker, [photo])["sizes"] == [photo.size]
    assert caplog.text.count("no more images are kept") == 1

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.os, "replace", full)
    opened(ImageCache(tmp_path / "cache", PLENTY, maker), maker, photos[:1])
    assert "No space left on device" in caplog.text
    assert entries(tmp_path / "cache") == []  # nor is anything left of the attempt


def write_all(folder: Path, root: Path, seed: int) -> None:
    maker = ImageMaker(image_processor=LightProcessor())
    cache = ImageCache(folder, PLENTY, maker)
    for number in np.random.default_rng(seed).permutation(4).tolist() * 5:
        source = FileImage(root, f"{number}.png")
        got = cache.open([source], lambda source=source: maker.open([source]))
        assert same(got["pixel_values"], maker.open([source])["pixel_values"])
        for entry in folder.rglob("*.safetensors"):
            if seed == 0:
                entry.unlink(missing_ok=True)  # somebody makes room at the same time


def test_several_processes_share_a_folder(tmp_path, photos):
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=write_all, args=(tmp_path / "cache", photos[0].root, seed)) for seed in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
        assert writer.exitcode == 0
    assert not [path for path in entries(tmp_path / "cache") if path.name.startswith(".")]


def test_leftovers_of_killed_writers_are_removed(tmp_path, photos):
    maker = counting()
    for name, age in ((".old.tmp", 2 * module.STALE), (".new.tmp", 0)):
        path = tmp_path / "cache" / "x" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"half")
        os.utime(path, (path.stat().st_atime, path.stat().st_mtime - age))
    opened(ImageCache(tmp_path / "cache", PLENTY, maker), maker, photos[:1])
    names = [path.name for path in entries(tmp_path / "cache")]
    assert ".new.tmp" in names
    assert ".old.tmp" not in names
