"""Two hundred rows in the exact layout of the reference data set (github.com/ding523/Curr_REFT, its readme): for tests.

    data_config/det_classify_math.yaml                              train_datasets and val_datasets, with sampling rules
    grpo_data/train/open/coco_3k_2task/detection_coco_train.jsonl   and _val, _test; classify_v2_coco_...
    grpo_data/train/open/openr1_8k/math_math_train.jsonl            and _val, _test
    images/...

A row has ``problem``, ``solution``, ``task`` (detection, classify, math) and ``image``, a path under the image root;
boxes are in pixels. Its known typos are in it: answers without their first "<", and ``<thinking>``. Unless
``repaired``, there is one broken row, one missing image and one row that stands in train and in test.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curr_reft.data.item import Item
from curr_reft.data.shapes import drawn_items

COUNTS = {"train": 40, "validation": 10, "test": 16}  # items a task; two more tests of math make it 200
FILES = {
    "detection": "coco_3k_2task/detection_coco",
    "classification": "coco_3k_2task/classify_v2_coco",
    "math": "openr1_8k/math_math",
}
ENDINGS = {"train": "train", "validation": "val", "test": "test"}
TYPOS = 3  # of four rows: the first "<" lost, <thinking>, plain; the fourth is plain too
BROKEN, MISSING, REPEATED = 6, 4, 2  # rows (from 0) of detection, classification and math in train


@dataclass(frozen=True)
class ReferenceRows:
    """Where the files stand, and what is wrong with them."""

    folder: Path
    lost_brackets: int  # rows of train and validation whose answer lacks its first "<"
    broken: str = "detection_coco_train.jsonl:7"
    missing: str = "classify_v2_coco_train.jsonl:5"
    repeated: tuple[str, str] = ("math_math_train.jsonl:3", "math_math_test.jsonl:1")

    @property
    def data(self) -> dict[str, Any]:
        """The section ``data`` of a recipe whose folder is ``folder``."""
        composed = {"path": "data_config/det_classify_math.yaml", "image_root": "images"}
        tests = [{"path": f"{_path(task, 'test')}", "image_root": "images"} for task in FILES]
        return {"kind": "files", "files": {"train": [composed], "validation": [composed], "test": tests}}


def write_reference_rows(folder: Path, repaired: bool = False, seed: int = 0) -> ReferenceRows:
    """Writes all files below ``folder``."""
    lost = 0
    repeated: dict[str, Any] = {}
    for split, count in COUNTS.items():
        counts = {task: count + 2 * (split == "test" and task == "math") for task in FILES}
        items = list(drawn_items(seed, split, counts))
        for task in FILES:
            own = [item for item in items if item.task == task]
            rows = [_row(item, place, split) for place, item in enumerate(own)]
            if split == "train" and task == "math":
                repeated = rows[REPEATED]
            if split != "test":
                lost += sum(row["solution"].startswith("answer>") for row in rows)
            _write_pictures(folder / "images", own, rows)
            lines = [json.dumps(row) for row in rows]
            if not repaired and split == "train" and task == "detection":
                lost -= rows[BROKEN]["solution"].startswith("answer>")
                lines[BROKEN] = lines[BROKEN][:-20]
            if not repaired and split == "train" and task == "classification":
                (folder / "images" / rows[MISSING]["image"]).unlink()
            if not repaired and split == "test" and task == "math":
                lines[0] = json.dumps(repeated)
            _write(folder / _path(task, split), "\n".join(lines) + "\n")
    _write(folder / "data_config" / "det_classify_math.yaml", _composition())
    return ReferenceRows(folder, lost)


def _path(task: str, split: str) -> str:
    return f"grpo_data/train/open/{FILES[task]}_{ENDINGS[split]}.jsonl"


def _row(item: Item, place: int, split: str) -> dict[str, Any]:
    answer = item.truth if isinstance(item.truth, str) else ", ".join(map(str, item.truth))
    if item.task == "detection":
        answer = json.dumps([int(side) for side in item.truth])
    solution = f"<answer>{answer}</answer>"
    typo = place % (TYPOS + 1)
    if typo == 0:
        solution = solution.removeprefix("<")
    elif typo == 1:
        solution = f"<thinking>I look at the image.</thinking>{solution}"
    task = "classify" if item.task == "classification" else item.task
    return {"problem": item.question, "solution": solution, "task": task, "image": f"{split}/{task}/{place:03}.png"}


def _write_pictures(root: Path, items: Sequence[Item], rows: Sequence[dict[str, Any]]) -> None:
    for item, row in zip(items, rows, strict=True):
        path = root / row["image"]
        path.parent.mkdir(parents=True, exist_ok=True)
        item.images[0].open().save(path)


def _composition() -> str:
    """Sampling rules that take every row, each in its own way."""
    lines = []
    for key, split in (("train_datasets", "train"), ("val_datasets", "validation")):
        lines.append(f"{key}:")
        rules = ("all", f"first:{COUNTS[split]}", "random:100%")
        for task, rule in zip(FILES, rules, strict=True):
            lines += [f"  - json_path: ../{_path(task, split)}", f"    sampling_strategy: {rule}"]
    return "\n".join(lines) + "\n"


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
