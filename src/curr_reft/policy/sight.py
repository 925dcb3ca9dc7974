"""How a family sees an image: where its pixels go, and what stands for it in a prompt. No pixel is read for that.

A family looks at an image as a whole (Qwen, Gemma 3), cut into tiles that cover it (Idefics3, SmolVLM, InternVL), or
cut into tiles of a canvas on which it lies between bars (LLaVA); the tiles put together are its canvas here. A small
copy of the whole that some add is not counted. Every rule repeats what the image processors of transformers do with
pixels, and tests hold it to them: the number of tokens is that of the real prompt, and a box is where the rule says.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch

from curr_reft.data.frame import Size, resize_rule
from curr_reft.data.item import Box

LARGEST_SIDE = 4096
"""Idefics3 and SmolVLM shrink an image whose longer side is above this, whatever their settings."""


@dataclass(frozen=True, kw_only=True)
class Sight:
    """One image as a model sees it."""

    size: Size  # of the image as it was opened
    canvas: Size  # of what the model sees of it, its tiles put together
    area: tuple[
        float, float, float, float
    ]  # left, top, width, height of the image on the canvas: all of it, but for bars

    def to_canvas(self, box: Box) -> Box:
        """``box`` in pixels of the image -> in pixels of the canvas."""
        (width, height), (left, top, wide, high) = self.size, self.area
        x1, y1, x2, y2 = box
        return (
            left + x1 * wide / width,
            top + y1 * high / height,
            left + x2 * wide / width,
            top + y2 * high / height,
        )

    def to_image(self, box: Box) -> Box:
        """The inverse of ``to_canvas``."""
        (width, height), (left, top, wide, high) = self.size, self.area
        x1, y1, x2, y2 = box
        return (
            (x1 - left) * width / wide,
            (y1 - top) * height / high,
            (x2 - left) * width / wide,
            (y2 - top) * height / high,
        )


@dataclass(frozen=True, kw_only=True)
class Seen:
    """The images of one prompt."""

    sights: tuple[Sight, ...]
    made: Mapping[str, Any]  # what the processor writes the placeholders of, as if it had processed the images


Look: TypeAlias = Callable[[Any, Sequence[Size]], Seen]
"""(image processor, sizes of the images of one prompt) -> how the model sees them. Raises DataError for a size that
the family cannot show."""


def _whole(size: Size, canvas: Size) -> Sight:
    return Sight(size=size, canvas=canvas, area=(0, 0, *canvas))


def look_resized(images: Any, sizes: Sequence[Size]) -> Seen:
    """Qwen: both sides become multiples of a patch of patches, the number of pixels comes within bounds."""
    step = images.patch_size * images.merge_size
    rule = resize_rule(step, images.size["shortest_edge"], images.size["longest_edge"])
    seen = [_whole(size, rule(size) if getattr(images, "do_resize", True) else size) for size in sizes]
    grid = [[1, each.canvas[1] // images.patch_size, each.canvas[0] // images.patch_size] for each in seen]
    return Seen(sights=tuple(seen), made={"image_grid_thw": torch.tensor(grid)})


def look_at_square(images: Any, sizes: Sequence[Size]) -> Seen:
    """Gemma 3: stretched to one square; crops beside it only where the checkpoint asks for them (pan and scan)."""
    square = (images.size["width"], images.size["height"])
    crops = [_crops(images, size) for size in sizes]
    return Seen(sights=tuple(_whole(size, square) for size in sizes), made={"num_crops": crops})


def _crops(images: Any, size: Size) -> int:
    if not images.do_pan_and_scan:
        return 0
    empty = np.broadcast_to(np.uint8(0), (3, size[1], size[0]))  # of the right shape, and of no memory
    return len(
        images.pan_and_scan(
            empty,
            images.pan_and_scan_min_crop_size,
            images.pan_and_scan_max_num_crops,
            images.pan_and_scan_min_ratio_to_activate,
        )
    )


def look_at_rows_of_tiles(images: Any, sizes: Sequence[Size]) -> Seen:
    """Idefics3 and SmolVLM: the longer side becomes ``longest_edge``, then both sides are stretched to whole tiles."""
    edge = images.max_image_size["longest_edge"]
    sights, rows, columns = [], [], []
    for size in sizes:
        width, height = (edge, edge)
        if images.do_image_splitting:
            width, height = _to_tiles(
                _to_longest(size, images.size["longest_edge"]) if images.do_resize else size, edge
            )
        one = (width, height) == (edge, edge)
        sights.append(_whole(size, (width, height)))
        rows.append(0 if one else height // edge)
        columns.append(0 if one else width // edge)
    return Seen(sights=tuple(sights), made={"rows": [rows], "cols": [columns]})


def _to_longest(size: Size, longest: int) -> Size:
    width, height = size
    aspect = width / height
    if width >= height:
        width, height = longest, int(longest / aspect)
        height += height % 2
    else:
        width, height = int(longest * aspect), longest
        width += width % 2
    width, height = max(width, 1), max(height, 1)
    if max(width, height) <= LARGEST_SIDE:
        return width, height
    aspect = width / height
    if width >= height:
        return LARGEST_SIDE, max(int(LARGEST_SIDE / aspect), 1)
    return max(int(LARGEST_SIDE * aspect), 1), LARGEST_SIDE


def _to_tiles(size: Size, edge: int) -> Size:
    width, height = size
    aspect = width / height
    if width >= height:
        width = math.ceil(width / edge) * edge
        height = math.ceil(int(width / aspect) / edge) * edge
    else:
        height = math.ceil(height / edge) * edge
        width = math.ceil(int(height * aspect) / edge) * edge
    return width, height


def look_at_grid_of_tiles(images: Any, sizes: Sequence[Size]) -> Seen:
    """InternVL: stretched to the grid of at most ``max_patches`` tiles whose aspect is nearest; of equally near ones to
    the largest that is less than twice the image. A copy of the whole as one tile follows where there are several."""
    edge_x, edge_y = images.size["width"], images.size["height"]
    grids = sorted(
        (
            (across, down)
            for across in range(1, images.max_patches + 1)
            for down in range(1, images.max_patches + 1)
            if images.min_patches <= across * down <= images.max_patches
        ),
        key=lambda grid: grid[0] * grid[1],
    )
    sights, tiles = [], []
    for width, height in sizes:
        best, nearest = (1, 1), math.inf
        for across, down in grids if images.max_patches > 1 else ():
            distance = abs(width / height - across / down)
            if distance < nearest or (distance == nearest and width * height > 0.5 * edge_x * edge_y * across * down):
                best, nearest = (across, down), distance
        across, down = best
        sights.append(_whole((width, height), (across * edge_x, down * edge_y)))
        tiles.append(across * down + (1 if across * down > 1 else 0))
    return Seen(sights=tuple(sights), made={"num_patches": tiles})


def look_between_bars(images: Any, sizes: Sequence[Size]) -> Seen:
    """LLaVA-NeXT: as large as the best of a list of canvases allows, aspect kept, bars at two sides, cut into tiles; a
    copy of the whole, stretched to one tile, stands before them."""
    edge = _tile_edge(images)
    return Seen(
        sights=tuple(_between_bars(size, images.image_grid_pinpoints) for size in sizes),
        made=_llava_made(sizes, edge),
    )


def look_between_bars_if_alone(images: Any, sizes: Sequence[Size]) -> Seen:
    """LLaVA-OneVision: one image as LLaVA-NeXT; of several each is one tile, padded to a square."""
    if len(sizes) == 1:
        return look_between_bars(images, sizes)
    edge = _tile_edge(images)
    return Seen(sights=tuple(_in_square(size, edge) for size in sizes), made=_llava_made(sizes, edge))


def _tile_edge(images: Any) -> int:
    size = images.size
    return int(size.get("height") or size["shortest_edge"])


def _llava_made(sizes: Sequence[Size], edge: int) -> dict[str, Any]:
    tile = np.broadcast_to(np.float32(0), (1, 3, edge, edge))
    return {
        "image_sizes": [[height, width] for width, height in sizes],
        "pixel_values": [tile] * len(sizes),
        "batch_num_images": [len(sizes)],
    }


def _between_bars(size: Size, canvases: Sequence[Sequence[int]]) -> Sight:
    width, height = size
    best: Size = (canvases[0][1], canvases[0][0])
    most, least = 0, math.inf
    for high, wide in canvases:
        scale = min(wide / width, high / height)
        used = min(int(width * scale) * int(height * scale), width * height)
        if used > most or (used == most and wide * high - used < least):
            best, most, least = (wide, high), used, wide * high - used
    wide, high = best
    across, down = wide / width, high / height
    if across < down:
        high = min(math.ceil(height * across), high)
    else:
        wide = min(math.ceil(width * down), wide)
    return Sight(size=size, canvas=best, area=((best[0] - wide) // 2, (best[1] - high) // 2, wide, high))


def _in_square(size: Size, edge: int) -> Sight:
    """Bars make a square of the image, which is then resized to one tile."""
    (width, height), longest = size, max(size)
    scale = edge / longest
    left, top = (longest - width) // 2, (longest - height) // 2
    return Sight(size=size, canvas=(edge, edge), area=(left * scale, top * scale, width * scale, height * scale))
