"""Item: the only row type after loading. One image question with its checked truth."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from PIL import Image

Box: TypeAlias = tuple[float, float, float, float]
"""``(x1, y1, x2, y2)``, half-open, in pixels of the original image: x1 <= x < x2."""

Truth: TypeAlias = Box | tuple[Box, ...] | tuple[str, ...] | str
"""What a task holds for true: a box or several, names, or an expression."""


class Name(str):
    """A category name as it is compared, with its spelling in the row. The loader compares spellings, and no Item keeps
    them."""

    spelling: str
    key: str  # equal for spellings that mean one class

    def __new__(cls, name: str, spelling: str, key: str) -> "Name":
        made = super().__new__(cls, name)
        made.spelling, made.key = spelling, key
        return made


class UnverifiedTruthError(ValueError):
    """The time ran out before a truth was verified, twice: it may be right, and the machine busy. Its row is a bad one
    that is counted apart."""


class ImageSource(Protocol):
    """An image that is opened only when it is needed.

    ``key`` identifies the content: two sources with one key show the same picture. Leak checks compare keys.
    """

    @property
    def key(self) -> str: ...

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels, known without decoding."""
        ...

    def open(self) -> Image.Image:
        """The decoded RGB image. Raises DataError."""
        ...


def images_key(images: Sequence[ImageSource]) -> tuple[str, ...]:
    """Equal for what shows the same pictures in the same order; empty for text alone."""
    return tuple(image.key for image in images)


@dataclass(frozen=True, kw_only=True)
class Item:
    """One open question. Boxes are in pixels of the first image as opened (before any resizing for a model)."""

    id: str  # unique within the data; every form of this item carries it as origin
    task: str  # a key of tasks.TASKS
    question: str  # the open question, without instructions about the form of the answer
    truth: Truth
    images: tuple[ImageSource, ...] = ()  # empty: a text-only question
    split: str = "train"  # train, validation, test, ood_test, ...
    source: str = ""  # "file:line" or the generator, for messages
    domain: str = ""  # quota group of self-improvement ("math", "general", ...); free text
    distractors: tuple[Truth, ...] = field(default=())  # plausible wrong answers the data knows (other objects' boxes)
