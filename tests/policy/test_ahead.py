"""Images are processed ahead of time: the same tensors, made once, and errors where their question is."""

import threading
import time
from dataclasses import dataclass
from functools import partial

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
    ahead = Ahead[int](1, size=int)
    hold = threading.Event()
    made: list[str] = []
    ahead.begin({"slow": lambda: hold.wait(10) and 1, "waiting": lambda: made.append("waiting") or 2})
    ahead.begin({"next": lambda: made.append("next") or 3, "last": lambda: 5})
    hold.set()
    assert ahead.take("last", lambda: 0) in (0, 5)  # begun or not: the thread may not have come to it
    assert ahead.take("waiting", lambda: 4) == 4
    assert ahead.take("next", lambda: made.append("next") or 3) == 3
    assert made == ["next"]


def test_memory_is_bounded():
    """Nothing is begun while what waits to be asked for is at the limit, and work goes on when some is taken."""
    started: list[int] = []
    ahead = Ahead[bytes](2, size=len, limit=250)

    def make(number: int) -> bytes:
        started.append(number)
        return bytes(100)

    ahead.begin({number: partial(make, number) for number in range(20)})
    for number in range(20):
        settle(ahead)
        assert ahead._held <= 250 + 2 * 100
        assert len(started) <= number + 5
        assert len(ahead.take(number, lambda: b"")) == 100
    assert started == list(range(20))  # in order, so that what is asked for first is there first
    settle(ahead)
    assert (ahead._held, ahead._running, ahead._begun, ahead._waiting) == (0, 0, {}, {})


def test_failures_and_what_is_forgotten_take_no_room():
    ahead = Ahead[bytes](1, size=len, limit=100)

    def fail() -> bytes:
        raise OSError("gone")

    ahead.begin({"broken": fail, "large": lambda: bytes(500)})
    settle(ahead)
    assert ahead._held == 500
    ahead.begin({"other": lambda: bytes(7)})
    settle(ahead)
    assert ahead._held == 7
    ahead.begin({"broken": fail})
    settle(ahead)
    with pytest.raises(OSError, match="gone"):
        ahead.take("broken", fail)
    assert ahead._held == 0


def settle(ahead: Ahead) -> None:
    """Waits until the threads have nothing to do."""
    until = time.monotonic() + 10
    while ahead._running:
        assert time.monotonic() < until
        time.sleep(0.001)
