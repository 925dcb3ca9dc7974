"""An index of a COCO instances file: what stands in which picture, in a few bytes an object.

Layout (cocodataset.org, "Data format"): an object with ``images`` (``id``, ``file_name``, ``width``, ``height``),
``annotations`` (``id``, ``image_id``, ``category_id``, ``bbox`` as ``[x, y, width, height]`` in pixels from the top
left corner, ``area`` of the mask, ``iscrowd``) and ``categories`` (``id``, ``name``, ``supercategory``). The file of
2017's training pictures has 118,000 pictures, 860,000 objects and 450 MB, nearly all of it masks, which are not kept.
"""

from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from curr_reft.data.loaders.json_elements import elements
from curr_reft.data.loaders.published import corners, get, mapping, numbers, text
from curr_reft.data.rows import BadRow
from curr_reft.errors import DataError


@dataclass(frozen=True)
class Picture:
    """One element of ``images``."""

    place: int  # in ``images``, from 0
    line: int
    file_name: str
    size: tuple[int, int]  # width and height, which boxes are in pixels of
    caption: str = ""  # the expression, in files of MDETR's style


@dataclass(frozen=True)
class Category:
    name: str
    family: str  # its supercategory; empty where the file knows none


@dataclass(frozen=True)
class Thing:
    """One element of ``annotations``."""

    place: int  # in ``annotations``, from 0
    id: int
    category: int
    box: tuple[float, float, float, float]  # x1, y1, x2, y2
    area: float  # of the mask, in pixels; of the box where the file gives none
    crowd: bool  # the box holds many of the category


class Instances:
    """Pictures by id in the order of the file, and the things in each.

    A broken annotation is a bad row, and its picture is ``doubtful``: what is not known to stand in it cannot be asked.
    """

    def __init__(self, path: Path, name: str) -> None:
        """Raises DataError for a file that is no instances file."""
        self.pictures: dict[int, Picture] = {}
        self.categories: dict[int, Category] = {}
        self.bad: list[BadRow] = []
        self.doubtful: set[int] = set()  # ids of pictures with a broken annotation
        self._ids, self._of_picture, self._of_category = array("q"), array("q"), array("q")
        self._boxes, self._areas, self._crowds = array("d"), array("d"), array("b")
        self._places = array("q")
        readers = {"images": self._picture, "annotations": self._thing, "categories": self._category}
        met = set()
        for element in elements(path, name):
            if element.index is None or element.key not in readers:
                continue
            met.add(element.key)
            try:
                readers[element.key](mapping(element.value), element.index, element.line)
            except ValueError as error:
                self.bad.append(BadRow(f"{name}:{element.place}", str(error)))
                if element.key == "annotations" and isinstance(element.value, dict):
                    self.doubtful.add(element.value.get("image_id", -1))
        if missing := [key for key in readers if key not in met]:
            raise DataError(name, f"holds no list {missing[0]}; an instances file has {', '.join(readers)}")
        self._find_strays(name)
        # Things by picture, in the order of the file: one sort instead of a list for each picture.
        self._order = np.argsort(np.asarray(self._of_picture), kind="stable")
        self._sorted = np.asarray(self._of_picture)[self._order]

    def things(self, picture: int) -> list[Thing]:
        """What stands in the picture with this id, in the order of the file."""
        start, end = np.searchsorted(self._sorted, [picture, picture + 1])
        return [self._at(int(number)) for number in self._order[start:end]]

    @cached_property
    def unused_families(self) -> set[int]:
        """Ids of categories that only name the family of others, as the first one of Roboflow's files does."""
        used = set(self._of_category)
        families = {category.family for number, category in self.categories.items() if category.family != category.name}
        return {
            number for number, category in self.categories.items() if number not in used and category.name in families
        }

    def thing_ids(self) -> Iterator[tuple[int, int]]:
        """(id of the annotation, id of its picture) of every thing."""
        return zip(self._ids, self._of_picture, strict=True)

    def _at(self, number: int) -> Thing:
        x1, y1, x2, y2 = self._boxes[4 * number : 4 * number + 4]
        return Thing(
            place=self._places[number],
            id=self._ids[number],
            category=self._of_category[number],
            box=(x1, y1, x2, y2),
            area=self._areas[number],
            crowd=bool(self._crowds[number]),
        )

    def _picture(self, fields: Mapping[str, Any], place: int, line: int) -> None:
        number, size = get(fields, "id", int), (get(fields, "width", int), get(fields, "height", int))
        if number in self.pictures:
            raise ValueError(f"id {number} is taken by images[{self.pictures[number].place}]")
        caption = text(fields, "caption") if "caption" in fields else ""
        self.pictures[number] = Picture(place, line, text(fields, "file_name"), size, caption)

    def _category(self, fields: Mapping[str, Any], place: int, line: int) -> None:
        self.categories[get(fields, "id", int)] = Category(text(fields, "name"), str(fields.get("supercategory") or ""))

    def _thing(self, fields: Mapping[str, Any], place: int, line: int) -> None:
        number, picture, category = (get(fields, key, int) for key in ("id", "image_id", "category_id"))
        crowd = bool(fields.get("iscrowd", 0))
        # The mask of a crowd may have an empty box around it; it names no single thing and is not asked for.
        x, y, width, height = numbers(fields.get("bbox"), "bbox")
        box = [x, y, x + width, y + height] if crowd else corners(fields.get("bbox"))
        area = fields.get("area", width * height)
        if isinstance(area, bool) or not isinstance(area, int | float):
            raise ValueError(f"area must be a number, not {area!r}")
        self._ids.append(number)
        self._of_picture.append(picture)
        self._of_category.append(category)
        self._boxes.extend(box)
        self._areas.append(area)
        self._crowds.append(crowd)
        self._places.append(place)

    def _find_strays(self, name: str) -> None:
        """Notes annotations whose picture or category the file does not have; its lists may stand in any order."""
        for place, picture, category in zip(self._places, self._of_picture, self._of_category, strict=True):
            if picture not in self.pictures:
                reason = f"image_id {picture} is none of the ids under images"
            elif category not in self.categories:
                reason = f"category_id {category} is none of the ids under categories"
                self.doubtful.add(picture)
            else:
                continue
            self.bad.append(BadRow(f"{name}:annotations[{place}]", reason))


def read_instances(path: Path, name: str) -> Instances:
    """The index of a file. The last one is kept, as every pass over the rows asks for it again. Raises DataError."""
    try:
        state = path.stat()
    except OSError as error:
        raise DataError(name, f"cannot be read: {error.strerror} ({path})") from error
    return _kept(path, name, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=1)
def _kept(path: Path, name: str, changed: int, size: int) -> Instances:
    return Instances(path, name)
