"""What becomes of the images of a prompt before the model sees them: opened, and through the image processor.

The same call wherever it is carried out: in this process, or in one of ``image_pool.py``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from curr_reft.data.item import ImageSource


@dataclass(frozen=True, kw_only=True)
class ImageMaker:
    """An image processor of transformers with its options."""

    image_processor: Any
    options: Mapping[str, Any] = field(default_factory=dict)

    def open(self, sources: Sequence[ImageSource]) -> dict[str, Any]:
        """What the image processor makes of the images of one prompt, by name. Raises DataError."""
        return self.process([source.open() for source in sources])

    def process(self, images: Sequence[Image.Image]) -> dict[str, Any]:
        """The same for images that are open."""
        return dict(self.image_processor([list(images)], **{"return_tensors": "pt", **self.options}))
