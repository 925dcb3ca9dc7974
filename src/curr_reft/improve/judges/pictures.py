"""Images as a server takes them: a data URL under caps of pixels and bytes; and what names their content."""

import base64
import hashlib
import math
from io import BytesIO

from PIL import Image

from curr_reft.data.item import ImageSource
from curr_reft.errors import DataError

JPEG_QUALITY = 90
SMALLEST = 28  # pixels of the longer side below which nothing is seen any more


def data_url(source: ImageSource, max_pixels: int, max_bytes: int) -> str:
    """The image, in at most ``max_pixels`` pixels and ``max_bytes`` bytes (before base64): PNG, which loses nothing, or
    JPEG where PNG is too large, and smaller until it fits. Raises DataError."""
    image = _within(source.open(), max_pixels)
    while True:
        for kind, options in (("png", {}), ("jpeg", {"quality": JPEG_QUALITY})):
            sink = BytesIO()
            image.save(sink, kind, **options)
            if len(sink.getvalue()) <= max_bytes:
                return f"data:image/{kind};base64,{base64.b64encode(sink.getvalue()).decode()}"
        if max(image.size) <= SMALLEST:
            raise DataError("image", f"does not fit in {max_bytes} bytes; raise endpoint.image_max_bytes")
        image = _within(image, image.width * image.height // 2)


def content_sha256(source: ImageSource) -> str:
    """Hash of the decoded pixels: equal pictures have one however they are stored. Raises DataError."""
    image = source.open()
    return hashlib.sha256(f"{image.size}".encode() + image.tobytes()).hexdigest()


def _within(image: Image.Image, max_pixels: int) -> Image.Image:
    width, height = image.size
    if width * height <= max_pixels:
        return image
    scale = math.sqrt(max_pixels / (width * height))
    return image.resize((max(1, int(width * scale)), max(1, int(height * scale))), Image.Resampling.LANCZOS)
