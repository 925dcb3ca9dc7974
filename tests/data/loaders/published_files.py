"""Small files in the layouts of published data sets, and their items as a run reads them."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from curr_reft.data.config import DataConfig
from curr_reft.data.item import Item
from curr_reft.data.load import LoadedData, load_data
from curr_reft.data.loaders import LOADERS, LoaderEntry
from curr_reft.data.rows import BadRow, Row
from curr_reft.tasks import TASKS


def picture(path: Path, width: int = 64, height: int = 48) -> Path:
    """A picture of its own: its shade comes from its name, so that no two are copies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shade = sum(map(ord, path.stem)) * 7 % 256
    Image.linear_gradient("L").resize((width, height)).point(lambda level: (level + shade) % 256).save(path)
    return path


def write_json(path: Path, value: Any, indent: int | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=indent), encoding="utf-8")
    return path


def write_lines(path: Path, rows: Iterable[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def raw(format: str, path: Path, task: str | None = None, seed: int = 0, **options: str) -> list[Row | BadRow]:
    """The rows of a loader, before anything is checked against tasks and pictures."""
    return list(LOADERS[format].rows(LoaderEntry(path=path, name=path.name, task=task, options=options, seed=seed)))


def load(folder: Path, entry: Mapping[str, Any], **more: Any) -> LoadedData:
    """The items of one training entry by the tasks of the house; validation and test are rows of no interest here."""
    picture(folder / "other.png")
    for name in ("validation", "test"):
        write_lines(
            folder / f"{name}.jsonl", [{"problem": name, "solution": "1", "task": "math", "image": "other.png"}]
        )
    files = {"train": [dict(entry)], "validation": [{"path": "validation.jsonl"}], "test": [{"path": "test.jsonl"}]}
    config = DataConfig.model_validate({"kind": "files", "files": files, **more})
    return load_data(config, lambda task, truth: TASKS[task].read_truth(truth), folder)


def items(folder: Path, entry: Mapping[str, Any], **more: Any) -> list[Item]:
    return load(folder, entry, **more).split("train")


def problems(found: Iterable[Row | BadRow]) -> list[tuple[str, str]]:
    return [(each.source, each.reason) for each in found if isinstance(each, BadRow)]
