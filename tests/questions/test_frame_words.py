"""The prompt says what a box is given in, of which image, and how large the image is where pixels are counted."""

from dataclasses import dataclass

import pytest
from PIL import Image

from curr_reft.data.frame import BoxFrame, resize_rule
from curr_reft.data.item import Item
from curr_reft.questions.compile import compile_questions
from curr_reft.questions.question import Question
from curr_reft.questions.templates import frame_words

PAPER = resize_rule(28, 56 * 56, 401_408)


@dataclass(frozen=True)
class Blank:
    """A picture without content; its key says which."""

    key: str
    size: tuple[int, int]

    def open(self) -> Image.Image:
        return Image.new("RGB", self.size)


LARGE, SMALL = Blank("large", (1600, 1200)), Blank("small", (300, 100))


@pytest.mark.parametrize(
    ("frame", "images", "words"),
    [
        (BoxFrame("pixels", PAPER), (LARGE,), "in pixels of the image as shown (728 wide, 532 high)"),
        (BoxFrame("pixels", PAPER), (SMALL, LARGE), "in pixels of the first image as shown (308 wide, 112 high)"),
        (BoxFrame("pixels"), (LARGE,), "in pixels of the image as shown (1600 wide, 1200 high)"),
        (BoxFrame("thousand", PAPER), (LARGE,), "from 0 to 1000 across the width and height of the image"),
        (BoxFrame("thousand", PAPER), (LARGE, SMALL), "from 0 to 1000 across the width and height of the first image"),
        (BoxFrame("unit"), (SMALL, LARGE), "as fractions from 0 to 1 of the width and height of the first image"),
    ],
)
def test_words(frame: BoxFrame, images: tuple[Blank, ...], words: str) -> None:
    assert words in frame_words(frame, images)
    assert frame_words(frame, ()) == ""


def asked(frame: BoxFrame, images: tuple[Blank, ...], form: str) -> Question:
    item = Item(
        id="a",
        task="detection",
        question="find the dog",
        truth=(160.0, 120.0, 800.0, 600.0),
        images=images,
        distractors=((900.0, 700.0, 1500.0, 1100.0), (0.0, 700.0, 300.0, 1100.0), (900.0, 0.0, 1500.0, 500.0)),
    )
    made, _ = compile_questions([item], [form], seed=0, frame=frame, style="full")
    return made[form][0]


@pytest.mark.parametrize("form", ["binary", "choice", "open"])
@pytest.mark.parametrize("images", [(LARGE,), (LARGE, SMALL)], ids=["one", "two"])
def test_every_form_of_a_box_question_says_it(form: str, images: tuple[Blank, ...]) -> None:
    """The size that is said is the one in which the truth is graded."""
    frame = BoxFrame("pixels", PAPER)
    question = asked(frame, images, form)
    assert frame_words(frame, images) in question.prompt
    assert question.images == images
    if form == "open":
        exact = (160 * 728 / 1600, 120 * 532 / 1200, 800 * 728 / 1600, 600 * 532 / 1200)
        assert question.truth == pytest.approx(exact, abs=0.5)  # written in whole pixels
