"""Items written as rows of the reference data set, so that any tool (and ``stream.py``) can read them back."""

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

from PIL import Image

from curr_reft.data.images import FileImage
from curr_reft.data.item import ImageSource, Item, Truth
from curr_reft.errors import DataError

IMAGES = "images"


class Pictures:
    """Where the pictures of rows stand. Drawn ones are written as ``folder/images/*.png``, each once; files are
    referred to by their path under ``root``, or without a root copied to ``folder/images``: byte for byte, unless who
    opens them without more ado sees another picture than we do (turned by EXIF, transparent, 16 bits). Boxes would not
    fit that, and it is written as we see it."""

    def __init__(self, folder: Path, root: Path | None = None) -> None:
        self.folder = folder
        self.root = root
        self._ways: dict[Path, str] = {}  # root of an image -> the way there from ``root``
        (folder / IMAGES).mkdir(parents=True, exist_ok=True)

    def path_of(self, image: ImageSource) -> str:
        """Relative to ``root`` for a file that is referred to, else to ``folder``. Raises DataError."""
        if isinstance(image, FileImage):
            if self.root is not None:
                if image.root not in self._ways:
                    self._ways[image.root] = os.path.relpath(image.root.resolve(), self.root)
                return Path(self._ways[image.root], image.path).as_posix()
            file = Path(image.root, image.path)
            if _is_plain(file, image):
                name = f"{IMAGES}/{image.key[:24]}{file.suffix.lower()}"
                if not (self.folder / name).exists():
                    shutil.copyfile(file, self.folder / name)
                return name
        # Keys may hold any character; their hash names the file, and equal keys share one.
        name = f"{IMAGES}/{hashlib.sha256(image.key.encode()).hexdigest()[:24]}.png"
        if not (self.folder / name).exists():
            image.open().save(self.folder / name)
        return name


def _is_plain(file: Path, image: FileImage) -> bool:
    """Whether ``file``, opened and made RGB as most programs do, is the picture that we see."""
    seen = image.open()
    with Image.open(file) as opened:
        return opened.size == seen.size and opened.convert("RGB").tobytes() == seen.tobytes()


def item_row(item: Item, images: list[str]) -> dict[str, Any]:
    """The row of an item whose pictures stand at ``images``. Boxes are in pixels of the image as opened.

    Raises DataError for a truth that holds tags itself.
    """
    row: dict[str, Any] = {
        "problem": item.question,
        "solution": solution(item, truth_text(item.truth)),
        "task": item.task,
    }
    if images:
        row["image"] = images[0] if len(images) == 1 else images
    if item.domain:
        row["domain"] = item.domain
    if item.distractors:
        row["distractors"] = [list(each) if isinstance(each, tuple) else each for each in item.distractors]
    return row


def solution(item: Item, text: str) -> str:
    """``text`` inside answer tags. Raises DataError when it holds a tag itself."""
    if "<" in text and ("answer>" in text.lower() or "<think" in text.lower()):
        raise DataError(item.source or item.id, f"truth {text!r} holds a tag and cannot be written inside <answer>")
    return f"<answer>{text}</answer>"


def truth_text(truth: Truth) -> str:
    """An expression as it is; boxes or names as a JSON list."""
    return truth if isinstance(truth, str) else json.dumps(list(truth), ensure_ascii=False)
