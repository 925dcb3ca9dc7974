"""An image with boxes drawn over it, as a piece of a page that needs nothing else: SVG with the pixels inside.

The boxes are vector lines of constant width, so a picture of 84 pixels and one of 4,000 are both readable.
"""

import base64
import io
import math
from collections.abc import Iterable
from dataclasses import dataclass
from html import escape

from PIL import Image

from curr_reft.data.item import Box

LARGEST_SIDE = 640  # pixels of an inlined picture: enough to judge a box, small enough for a page of a hundred
SMALL_SIDE = 200  # below it, pixels are shown as squares instead of being blurred


@dataclass(frozen=True)
class Mark:
    """A box to draw: in pixels of the image, with the CSS class that colours it."""

    box: Box
    kind: str  # "truth", "predicted", ...
    label: str = ""  # written at its top left corner


def picture(image: Image.Image, marks: Iterable[Mark] = (), label: str = "") -> str:
    """An ``<svg>`` element of the image with its marks. ``label`` is read out by screen readers; it is escaped."""
    width, height = image.size
    # A dark line under the coloured ones keeps boxes visible on any picture. All dark lines come first, so that of two
    # boxes in one place the dashed one lets the other show through.
    drawable = [(mark, shape) for mark in marks if (shape := _shape(mark, width, height))]
    shapes = [(escape(mark.kind, quote=True), shape) for mark, shape in drawable]
    drawn = "".join(f'<rect class="halo" {shape}/>' for _, shape in shapes)
    drawn += "".join(f'<rect class="mark {kind}" {shape}/>' for kind, shape in shapes)
    drawn += "".join(_letter(mark, width, height) for mark, _ in drawable if mark.label)
    pixelated = ' style="image-rendering:pixelated"' if max(width, height) <= SMALL_SIDE else ""
    return (
        f'<svg class="picture" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(label, quote=True)}">'
        f'<image href="{data_uri(image)}" width="{width}" height="{height}"{pixelated}/>{drawn}</svg>'
    )


def data_uri(image: Image.Image) -> str:
    """The image inlined, scaled down to ``LARGEST_SIDE`` if larger: PNG when small, else JPEG."""
    shown = image.convert("RGB")
    shown.thumbnail((LARGEST_SIDE, LARGEST_SIDE))
    file = io.BytesIO()
    kind = "png" if max(image.size) <= SMALL_SIDE else "jpeg"
    shown.save(file, kind, **({"optimize": True} if kind == "png" else {"quality": 85}))
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"


def _shape(mark: Mark, width: int, height: int) -> str:
    """The part of the box that lies on the image. A box wholly outside it draws nothing."""
    x1, y1 = max(0.0, mark.box[0]), max(0.0, mark.box[1])
    x2, y2 = min(float(width), mark.box[2]), min(float(height), mark.box[3])
    if not (x1 < x2 and y1 < y2 and all(map(math.isfinite, mark.box))):
        return ""
    return f'x="{x1:g}" y="{y1:g}" width="{x2 - x1:g}" height="{y2 - y1:g}"'


def _letter(mark: Mark, width: int, height: int) -> str:
    """The label inside the box, at its top left corner, in a size that fits the picture."""
    size = max(width, height) / 14
    x, y = max(0.0, mark.box[0]) + size / 5, max(0.0, mark.box[1]) + size
    return f'<text class="letter" x="{x:g}" y="{y:g}" font-size="{size:g}">{escape(mark.label)}</text>'
