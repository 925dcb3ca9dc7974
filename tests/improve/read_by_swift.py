"""Run by the interpreter of an ms-swift installation: prints what its own code makes of ``kept.jsonl``.

    python read_by_swift.py DIR

Rows go through its loader and become what its templates read. The last line printed is a list of ``{"messages",
"pictures": [[size, RGB in hexadecimal], ...]}``. Nothing of this project is imported.
"""

import json
import os
import sys
from typing import Any

from swift.dataset import load_dataset
from swift.template.template_inputs import StdTemplateInputs
from swift.template.vision_utils import load_image


def picture(entry: dict[str, Any]) -> tuple[Any, str]:
    image = load_image(entry["bytes"] or entry["path"])
    return list(image.size), image.convert("RGB").tobytes().hex()


def main(folder: str) -> None:
    os.chdir(folder)  # paths of pictures are taken from there
    rows, _ = load_dataset(["kept.jsonl"], strict=True, load_from_cache_file=False)
    inputs = [StdTemplateInputs.from_dict(row) for row in rows]
    print(json.dumps([{"messages": each.messages, "pictures": [*map(picture, each.images)]} for each in inputs]))


if __name__ == "__main__":
    main(sys.argv[1])
