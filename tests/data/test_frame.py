"""Boxes travel to the frame of the model and back; the size the model sees equals the reference's."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curr_reft.data.images import BoxFrame, resize_rule
from curr_reft.errors import DataError

SIDES = st.integers(1, 5000)
UNIT = st.floats(0, 1)
KINDS = st.sampled_from(["pixels", "thousand", "unit"])
QWEN25 = resize_rule(28, 56 * 56, 401_408)


@given(SIDES, SIDES, st.tuples(UNIT, UNIT, UNIT, UNIT), KINDS)
def test_there_and_back_is_the_same_box(
    width: int, height: int, corners: tuple[float, float, float, float], kind: str
) -> None:
    if max(width, height) > 200 * min(width, height):
        return
    frame = BoxFrame(kind, QWEN25)  # type: ignore[arg-type]
    x1, y1, x2, y2 = corners
    box = (x1 * width, y1 * height, x2 * width, y2 * height)
    in_model = frame.to_model(box, (width, height))
    assert frame.to_original(in_model, (width, height)) == pytest.approx(box, rel=1e-12, abs=1e-9)
    right, bottom = frame.extent((width, height))
    assert all(
        -1e-9 <= value <= limit * (1 + 1e-12) for value, limit in zip(in_model, (right, bottom) * 2, strict=True)
    )


def test_each_kind_on_one_box() -> None:
    size, box = (640, 480), (64.0, 48.0, 320.0, 240.0)
    assert BoxFrame("pixels").to_model(box, size) == box
    assert BoxFrame("pixels", lambda _: (1280, 480)).to_model(box, size) == (128.0, 48.0, 640.0, 240.0)
    assert BoxFrame("thousand", QWEN25).to_model(box, size) == (100.0, 100.0, 500.0, 500.0)
    assert BoxFrame("unit", QWEN25).to_model(box, size) == pytest.approx((0.1, 0.1, 0.5, 0.5))


def test_pixels_are_those_of_the_resized_image() -> None:
    frame = BoxFrame("pixels", QWEN25)
    width, height = frame.fit((1920, 1080))
    assert frame.to_model((0, 0, 1920, 1080), (1920, 1080)) == (0, 0, width, height)


@settings(max_examples=400, deadline=None)
@given(
    SIDES,
    SIDES,
    st.sampled_from([28, 32]),
    st.sampled_from([(56 * 56, 28 * 28 * 1280), (256 * 28 * 28, 401_408), (0, 32 * 32)]),
)
def test_equals_smart_resize_of_transformers(width: int, height: int, factor: int, bounds: tuple[int, int]) -> None:
    oracle = pytest.importorskip("transformers.models.qwen2_vl.image_processing_pil_qwen2_vl").smart_resize
    rule = resize_rule(factor, *bounds)
    if max(width, height) > 200 * min(width, height):
        with pytest.raises(DataError, match="200 times"):
            rule((width, height))
        return
    expected_height, expected_width = oracle(height, width, factor, *bounds)
    # The reference returns 0 for a side under half a factor when nothing makes it grow; we keep one patch.
    assert rule((width, height)) == (max(factor, expected_width), max(factor, expected_height))


@given(st.integers(28, 4000), st.integers(28, 4000))
def test_sizes_are_multiples_within_bounds(width: int, height: int) -> None:
    new_width, new_height = QWEN25((width, height))
    assert new_width % 28 == 0
    assert new_height % 28 == 0
    assert 56 * 56 <= new_width * new_height <= 401_408


def test_rules_compare_by_value() -> None:
    assert resize_rule(28, 0, 10_000) == resize_rule(28, 0, 10_000) != resize_rule(28, 0, 20_000)
