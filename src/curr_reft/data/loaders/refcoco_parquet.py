"""RefCOCO as tables of the hub, a file (or a folder of shards) a split. Two layouts, told apart by their columns, as
the one name ``bbox`` means corners in one and a corner with a size in the other:

- ``jxu124/refcoco``, ``refcocoplus``, ``refcocog``: ``sentences`` (``{raw, sent, sent_id, tokens}``), ``bbox`` as
  corners, ``image_path`` (``coco/train2014/COCO_train2014_000000581857.jpg``); all splits.
- ``lmms-lab/RefCOCO``, ``RefCOCOplus``, ``RefCOCOg``: ``answer`` (the expressions), ``bbox`` as COCO writes it, and
  ``image`` inside. They hold no training split, so what is trained on them was meant for testing.
"""

from collections.abc import Iterator
from typing import Any

from curr_reft.data.loaders import LoaderEntry
from curr_reft.data.loaders.parquet import stored_rows
from curr_reft.data.loaders.published import check_corners, corners, get, option, task_of, text
from curr_reft.data.loaders.refer import SENTENCES, sentence_rows
from curr_reft.data.rows import BadRow, Row, RowOrBad


def rows(entry: LoaderEntry) -> Iterator[RowOrBad]:
    """One row an expression. Options: ``sentences``; ``split`` of a folder. Raises DataError."""
    task_of(entry, "detection", default="detection")
    sentences = option(entry, "sentences", SENTENCES, "all")
    for row in stored_rows(entry):
        try:
            said, fields = _described(row)
        except ValueError as error:
            yield BadRow(row.source, str(error))
            continue
        yield from sentence_rows(said, sentences, fields, row.source, row.line)


def _described(row: Row) -> tuple[list[Any], dict[str, Any]]:
    """The sentences of a row, and what they have in common."""
    if "sentences" in row.fields:
        said, box = get(row.fields, "sentences", list), check_corners(row.fields.get("bbox"))
        image: Any = text(row.fields, "image_path")
    elif "answer" in row.fields:
        said, box = [{"sent": each} for each in get(row.fields, "answer", list)], corners(row.fields.get("bbox"))
        image = row.fields.get("image")
    else:
        raise ValueError(f"has neither sentences nor answer; columns found: {', '.join(row.fields)}")
    if not said:
        raise ValueError("has no expressions")
    return said, {"solution": box, "task": "detection", "image": image}
