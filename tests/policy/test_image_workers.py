"""Images processed in processes of their own: the same tensors, errors by row, and no process that is lost or stays."""

import gc
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import torch
from light_images import LIGHT, Deadly, Once
from PIL import Image

from curr_reft.data.images import DrawnImage, FileImage
from curr_reft.data.item import ImageSource
from curr_reft.errors import DataError, ProcessError
from curr_reft.policy import image_pool as pools
from curr_reft.policy.image_maker import ImageMaker
from curr_reft.policy.image_pool import ImagePool


@dataclass(frozen=True)
class Asked:
    prompt: str
    images: tuple[ImageSource, ...]


@pytest.fixture(scope="module")
def pool():
    pool = ImagePool()
    yield pool
    pool.close()


@pytest.fixture(autouse=True)
def _this_pool(pool, monkeypatch):
    monkeypatch.setattr("curr_reft.policy.prompt_images.image_pool", lambda: pool)


@pytest.fixture
def photos(tmp_path, picture):
    """Files of different sizes."""
    sizes = ((84, 84), (56, 112), (200, 150))
    for number, size in enumerate(sizes):
        picture(number, *size).save(tmp_path / f"{number}.png")
    return [FileImage(tmp_path, f"{number}.png", source=f"rows.jsonl:{number + 1}") for number in range(len(sizes))]


def alive(process_id: int) -> bool:
    try:
        return Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def gone(process_ids, seconds: float = 10.0) -> bool:
    until = time.monotonic() + seconds
    while any(map(alive, process_ids)) and time.monotonic() < until:
        time.sleep(0.02)
    return not any(map(alive, process_ids))


def test_the_tensors_are_those_of_this_process(fresh, photos, pool):
    drawn = DrawnImage("red", (84, 84), partial(Image.new, "RGB", (84, 84), "red"))
    nameless = DrawnImage("blue", (84, 84), lambda: Image.new("RGB", (84, 84), "blue"))
    sets = [(photos[0],), (photos[1], photos[2]), (drawn,), (nameless,)]
    asked = [Asked("find the red circle", images) for images in sets]
    here = fresh(image_threads=0).processor
    processor = fresh(image_workers=1).processor
    processor.prefetch(asked)
    for each in asked:
        got, expected = processor.encode_question(each), here.encode_question(each)
        assert torch.equal(got.input_ids_P, expected.input_ids_P)
        assert got.pixel_inputs.keys() == expected.pixel_inputs.keys()
        for name, tensor in expected.pixel_inputs.items():
            assert got.pixel_inputs[name].dtype == tensor.dtype
            assert torch.equal(got.pixel_inputs[name], tensor)
            got.pixel_inputs[name] += 0  # it can be written, as any tensor
    assert len(pool.process_ids) == 1


def test_questions_that_are_asked_at_once_share_the_workers(fresh, photos, monkeypatch, pool):
    """Evaluation, and the first step of a run, which nobody announced."""
    asked = [Asked("find the red circle", (photo,)) for photo in photos]
    expected = [fresh(image_threads=0).processor.encode_question(each) for each in asked]
    here: list[str] = []
    monkeypatch.setattr(ImageMaker, "open", lambda self, sources: here.append("here"))
    for got, wanted in zip(fresh(image_workers=1).processor.encode_questions(asked), expected, strict=True):
        assert torch.equal(got.pixel_inputs["pixel_values"], wanted.pixel_inputs["pixel_values"])
    assert here == []


def test_every_family_gives_the_same(photos, pool):
    """What other image processors make: lists of tiles, numbers of patches."""
    from transformers.models.llava_onevision.image_processing_pil_llava_onevision import LlavaOnevisionImageProcessorPil
    from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil

    makers = [
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
    for maker in makers:
        got, expected = pool.open(maker, photos), maker.open(photos)
        assert same(got, expected)
        assert got.keys() == expected.keys()


def same(got, expected) -> bool:
    if type(got) is not type(expected):
        return False
    if isinstance(expected, list | tuple):
        return len(got) == len(expected) and all(map(same, got, expected))
    if isinstance(expected, dict):
        return got.keys() == expected.keys() and all(same(got[key], expected[key]) for key in expected)
    if isinstance(expected, torch.Tensor):
        return torch.equal(got, expected)
    return bool((got == expected).all()) if hasattr(expected, "all") else got == expected


def test_a_bad_image_is_refused_by_its_row(fresh, photos, tmp_path):
    (tmp_path / "cut.png").write_bytes((tmp_path / "2.png").read_bytes()[:2000])
    broken = Asked("find the red circle", (FileImage(tmp_path, "cut.png", source="rows.jsonl:9"),))
    processor = fresh(image_workers=1).processor
    processor.prefetch([broken, Asked("find the red circle", (photos[0],))])
    processor.encode_question(Asked("find the red circle", (photos[0],)))
    with pytest.raises(DataError, match="cannot be decoded") as caught:
        processor.encode_question(broken)
    assert caught.value.source == "rows.jsonl:9"
    assert caught.value.problems == (("rows.jsonl:9", caught.value.reason),)


def test_what_only_a_worker_cannot_do_is_done_here(monkeypatch, photos, pool, caplog):
    """A class of a notebook, say, that no other process can import."""
    monkeypatch.setitem(sys.modules, "notebook_of_today", sys.modules[__name__])
    monkeypatch.setattr(Local, "__module__", "notebook_of_today")
    maker = ImageMaker(image_processor=Local())
    for _ in range(2):
        assert pool.open(maker, photos[:1]) == {"sizes": [(84, 84)]}
    assert caplog.text.count("as a worker process cannot") == 1
    assert "No module named 'notebook_of_today'" in caplog.text


class Local:
    """An image processor that can be named here and not in another process."""

    def __call__(self, images, **options):
        return {"sizes": [image.size for each in images for image in each]}


def test_a_killed_worker_is_named_and_replaced(photos, pool, caplog):
    before = pool.open(LIGHT, photos[:1])
    killed = pool.process_ids
    for process_id in killed:
        os.kill(process_id, signal.SIGKILL)
    again = pool.open(LIGHT, photos[:1])
    assert same(again, before)
    (named,) = [one for one in killed if f"(pid {one}) was killed by SIGKILL" in caplog.text]
    assert not alive(named)
    assert named not in pool.process_ids


def test_an_image_that_kills_is_refused_by_row(photos, tmp_path, pool, caplog):
    with pytest.raises(DataError, match="was killed by SIGKILL, and so did another before it") as caught:
        pool.open(LIGHT, (Deadly(tmp_path, "0.png", source="rows.jsonl:1"),))
    assert caught.value.source == "rows.jsonl:1"
    got = pool.open(LIGHT, (Once(tmp_path, "0.png", source="rows.jsonl:1"),))
    assert same(got, LIGHT.open(photos[:1]))
    assert caplog.text.count("its images are tried again in a new one") == 2


def test_a_worker_that_does_not_answer_is_not_waited_for(photos, pool, monkeypatch):
    pool.open(LIGHT, photos[:1])
    stopped = pool.process_ids
    worker = pool._idle.get_nowait()
    pool._idle.put(worker)
    worker._channel.settimeout(0.2)
    os.kill(worker.process_id, signal.SIGSTOP)
    with pytest.raises(DataError, match=r"rows\.jsonl:1: its images were not decoded in") as caught:
        pool.open(LIGHT, photos[:1])
    assert caught.value.source == "rows.jsonl:1"
    assert gone([worker.process_id])
    assert worker.process_id in stopped


def test_one_that_cannot_start_is_a_message(monkeypatch, photos, tmp_path):
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho no room for python >&2\nexit 3\n")
    python.chmod(0o755)
    monkeypatch.setattr(pools.sys, "executable", str(python))
    with pytest.raises(ProcessError, match=r"ended with exit code 3 and said: no room for python.*image_workers to 0"):
        ImagePool().open(LIGHT, photos)


def test_nothing_is_left_open(photos):
    """Neither processes nor descriptors."""
    before = len(os.listdir("/proc/self/fd"))
    pool = ImagePool()
    made = [pool.open(LIGHT, photos) for _ in range(20)]
    during = len(os.listdir("/proc/self/fd"))
    ids = pool.process_ids
    pool.close()
    assert during - before <= 2  # a socket and the error output of the one worker, whatever is still held
    assert gone(ids)
    assert len(os.listdir("/proc/self/fd")) == before
    assert len(made) == 20
    pool.open(LIGHT, photos)
    ids = pool.process_ids
    del pool
    gc.collect()
    assert gone(ids)
    assert len(os.listdir("/proc/self/fd")) == before


SCRIPT = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests were started in the background
from curr_reft.policy.image_pool import image_pool
worker = image_pool()._worker()
image_pool()._idle.put(worker)
print(worker.process_id, flush=True)
input()
how = sys.argv[1]
if how == "raise":
    raise RuntimeError("an error of the run")
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("how", ["raise", "wait", "kill"])
def test_workers_end_with_their_process(tmp_path, how):
    """Also by Ctrl-C, which a terminal sends to all of them, and by a kill, after which nothing of it runs."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    with subprocess.Popen(
        [sys.executable, str(script), how],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        worker = int(process.stdout.readline())
        assert alive(worker)
        if how == "wait":
            os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate("" if how == "wait" else "\n", timeout=20)
    assert gone([worker])
    assert ("KeyboardInterrupt" in errors) == (how == "wait")
    assert errors.count("Traceback") == (how != "kill")
