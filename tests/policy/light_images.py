"""Images and an image processor that a worker process imports at once: no torch, no transformers."""

import os
import signal
from dataclasses import dataclass

import numpy as np
from PIL import Image

from curr_reft.data.images import FileImage
from curr_reft.policy.image_maker import ImageMaker


class LightProcessor:
    """Pixels as they are."""

    def __init__(self, settings: str = "") -> None:
        self.settings = settings

    def __call__(self, images, **options):
        return {
            "pixel_values": [np.asarray(image) for each in images for image in each],
            "sizes": [image.size for each in images for image in each],
        }

    def to_dict(self):
        return {"settings": self.settings}


LIGHT = ImageMaker(image_processor=LightProcessor())


@dataclass(frozen=True)
class Deadly(FileImage):
    """Kills the process that opens it, as a decoder that crashes does."""

    def open(self) -> Image.Image:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError


@dataclass(frozen=True)
class Once(FileImage):
    """Kills the first process that opens it."""

    def open(self) -> Image.Image:
        mark = self.root / "killed"
        if not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().open()
