"""Where the images of a prompt come from: the cache on disk if there is one, a worker process, or this one."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

from curr_reft.data.item import ImageSource
from curr_reft.policy.config import ModelConfig
from curr_reft.policy.image_cache import ImageCache
from curr_reft.policy.image_maker import ImageMaker
from curr_reft.policy.image_pool import image_pool


class PromptImages:
    """Opens and processes images as the recipe says. It may be asked by several threads."""

    def __init__(self, maker: ImageMaker, config: ModelConfig | None = None) -> None:
        self._maker = maker
        self.in_processes = bool(config and config.image_workers)
        self._cache = None
        if config and config.image_cache is not None:
            folder = Path(config.image_cache).expanduser()
            self._cache = ImageCache(folder, int(config.image_cache_gb * 1e9), maker)

    def open(self, sources: Sequence[ImageSource], *, ahead: bool) -> dict[str, Any]:
        """What the image processor makes of these images. Raises DataError.

        What is made ``ahead`` is made in a worker process where there are any. What somebody waits for is made here,
        as the workers have their hands full.
        """
        in_process = ahead and self.in_processes
        make = partial(image_pool().open if in_process else ImageMaker.open, self._maker, sources)
        return make() if self._cache is None else self._cache.open(sources, make)

    def process(self, images: Sequence[Image.Image]) -> dict[str, Any]:
        """The same for images that are open."""
        return self._maker.process(images)
