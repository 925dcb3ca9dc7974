"""Images are processed ahead of time: the same tensors, made once, and errors where their question is."""

import threading
from dataclasses import dataclass

import pytest
import torch
from PIL import Image

from curr_reft.errors import DataError
from curr_reft.policy.ahead import Ahead


@dataclass(frozen=True)
class Source:
    """An image that notes which thread opened it."""

    key: str
    picture: Image.Image | None
    opened: list[str]

    def open(self) -> Image.Image:
        self.opened.append(threading.current_thread().name)
        if self.picture is None:
            raise DataError("rows.jsonl:7", "the image cannot be decoded")
        return self.picture


@dataclass(frozen=True)
class Asked:
    prompt: str
    images: tuple[Source, ...]


@pytest.fixture
def asked(picture):
    opened: list[str] = []
    return Asked("find the red circle", (Source("a", picture(0), opened), Source("b", picture(1, 56, 112), opened)))


def test_a_prefetched_question_is_the_same(fresh, asked):
    expected = fresh(image_threads=0).processor.encode_question(asked)
    asked.images[0].opened.clear()
    processor = fresh().processor
    processor.prefetch([asked, asked])
    got = processor.encode_question(asked)
    assert [name.split("_")[0] for name in asked.images[0].opened] == ["images", "images"]
    assert torch.equal(got.input_ids_P, expected.input_ids_P)
    assert torch.equal(got.positions_AP, expected.positions_AP)
    assert got.pixel_inputs.keys() == expected.pixel_inputs.keys()
    for name, tensor in expected.pixel_inputs.items():
        assert torch.equal(got.pixel_inputs[name], tensor)
    processor.prefetch([asked])
    again = processor.encode_question(asked)
    assert again.pixel_inputs["pixel_values"] is got.pixel_inputs["pixel_values"]
    assert len(asked.images[0].opened) == 2  # one for each image


def test_without_threads_nothing_is_done_ahead(fresh, asked):
    processor = fresh(image_threads=0).processor
    processor.prefetch([asked])
    assert asked.images[0].opened == []
    processor.encode_question(asked)
    assert set(asked.images[0].opened) == {threading.main_thread().name}


def test_an_error_is_raised_where_the_question_is_asked(fresh, asked):
    processor = fresh().processor
    broken = Asked("find the red circle", (Source("broken", None, []),))
    processor.prefetch([broken, asked])
    processor.encode_question(asked)
    for _ in range(2):  # and again when it is asked again
        with pytest.raises(DataError, match=r"rows\.jsonl:7.*cannot be decoded"):
            processor.encode_question(broken)


def test_what_was_not_asked_for_is_forgotten():
    ahead: Ahead[int] = Ahead(1)
    hold = threading.Event()
    ahead.begin({"slow": lambda: hold.wait(10) and 1, "waiting": lambda: 2})
    ahead.begin({"next": lambda: 3})
    assert list(ahead._begun) == ["next"]
    hold.set()
    assert ahead.take("next", lambda: 0) == 3
    assert ahead.take("waiting", lambda: 4) == 4
