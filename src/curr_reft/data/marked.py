"""An image with boxes drawn on it, for questions that show a claim instead of writing its coordinates."""

from dataclasses import dataclass

from PIL import Image, ImageDraw

from curr_reft.data.item import Box, ImageSource

COLOUR = (255, 0, 0)  # the templates say "red"
SIDE_PER_LINE = 250  # one pixel of line for so many of the longer side: still seen after a model's resizing


@dataclass(frozen=True)
class MarkedImage:
    """``image`` with ``boxes`` (pixels of it, half-open) outlined in red. Drawn when opened; nothing is kept.

    It is another picture than ``image`` for what keeps processed pictures by key. Leak checks look at items, whose
    pictures are plain.
    """

    image: ImageSource
    boxes: tuple[Box, ...]

    @property
    def key(self) -> str:
        drawn = ";".join(",".join(f"{side:g}" for side in box) for box in self.boxes)
        return f"{self.image.key}|red boxes {drawn}"

    @property
    def size(self) -> tuple[int, int]:
        return self.image.size

    def open(self) -> Image.Image:
        """Raises DataError as the image does."""
        picture = self.image.open().copy()
        pen = ImageDraw.Draw(picture)
        width, height = picture.size
        line = max(1, round(max(width, height) / SIDE_PER_LINE))
        for x1, y1, x2, y2 in self.boxes:
            # Pillow's last pixel belongs to the rectangle; ours does not. A line lies inside of its box.
            left, top = max(0, round(x1)), max(0, round(y1))
            right, bottom = min(width, round(x2)) - 1, min(height, round(y2)) - 1
            pen.rectangle((left, top, max(left, right), max(top, bottom)), outline=COLOUR, width=line)
        return picture
