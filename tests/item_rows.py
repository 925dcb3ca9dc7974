"""Items as files of rows with their pictures, for tests that read data from disk."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from curr_reft.data.export import Pictures, item_row
from curr_reft.data.item import Item
from curr_reft.files import write_jsonl


def export_rows(items: Sequence[Item], folder: Path) -> dict[str, Path]:
    """Writes ``folder/SPLIT.jsonl`` and ``folder/images``; returns the file of each split."""
    pictures = Pictures(folder)
    rows: dict[str, list[dict[str, Any]]] = {}
    for item in items:
        rows.setdefault(item.split, []).append(item_row(item, [pictures.path_of(image) for image in item.images]))
    for split, own in rows.items():
        write_jsonl(folder / f"{split}.jsonl", own)
    return {split: folder / f"{split}.jsonl" for split in rows}
