"""A box drawn on an image stands where the box is, also after the resizing of a model."""

import numpy as np
import pytest
from PIL import Image

from curr_reft.data.frame import BoxFrame, resize_rule
from curr_reft.data.images import DrawnImage
from curr_reft.data.marked import COLOUR, MarkedImage

GREY = DrawnImage("grey", (600, 400), lambda: Image.new("RGB", (600, 400), (90, 90, 90)))


def extent(image: Image.Image) -> tuple[int, int, int, int]:
    """The smallest box around what is rather red than grey."""
    pixels = np.asarray(image).astype(int)
    y, x = np.nonzero(pixels[:, :, 0] - pixels[:, :, 1] > 80)
    return int(x.min()), int(y.min()), int(x.max()) + 1, int(y.max()) + 1


def test_the_line_lies_inside_of_the_box_and_nothing_else_changes() -> None:
    marked = MarkedImage(GREY, ((30.0, 40.0, 200.0, 120.0),))
    pixels = np.asarray(marked.open())
    assert extent(marked.open()) == (30, 40, 200, 120)
    changed = (pixels != 90).any(axis=2)
    assert (pixels[changed] == COLOUR).all()
    assert not changed[45:115, 35:195].any(), "the inside stays as it was"
    assert (np.asarray(GREY.open()) == 90).all()


@pytest.mark.parametrize("kind", ["pixels", "thousand", "unit"])
def test_a_box_in_the_model_s_frame_is_seen_there_after_resizing(kind: str) -> None:
    frame = BoxFrame(kind, resize_rule(28, 3136, 50_000))  # type: ignore[arg-type]
    shown = frame.fit(GREY.size)
    assert shown != GREY.size
    box = (60.0, 80.0, 300.0, 200.0)
    claimed = frame.to_model(box, GREY.size)
    marked = MarkedImage(GREY, (frame.to_original(claimed, GREY.size),))
    seen = extent(marked.open().resize(shown, Image.Resampling.BICUBIC))
    right, bottom = frame.extent(GREY.size)
    scaled = (
        seen[0] * right / shown[0],
        seen[1] * bottom / shown[1],
        seen[2] * right / shown[0],
        seen[3] * bottom / shown[1],
    )
    tolerance = (1.5 * right / shown[0], 1.5 * bottom / shown[1]) * 2
    assert all(abs(a - b) <= most for a, b, most in zip(scaled, claimed, tolerance, strict=True))


def test_a_marked_picture_is_another_one_with_the_same_size() -> None:
    first, second = (MarkedImage(GREY, ((1.0, 2.0, 3.0, end),)) for end in (4.0, 5.0))
    assert len({GREY.key, first.key, second.key}) == 3
    assert first.size == GREY.size


def test_boxes_at_and_beyond_the_edge_are_cut() -> None:
    marked = MarkedImage(GREY, ((-5.0, -5.0, 700.0, 500.0), (599.6, 399.6, 600.0, 400.0)))
    assert extent(marked.open()) == (0, 0, 600, 400)
