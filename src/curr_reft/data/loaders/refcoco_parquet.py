"""RefCOCO as a table of the hub (``jxu124/refcoco``, ``refcocoplus``, ``refcocog``): one file a split, without the
pictures.

Columns used: ``sentences`` (a list of ``{raw, sent, sent_id, tokens}``), ``bbox`` as corners in pixels, and
``image_path`` (``coco/train2014/COCO_train2014_000000581857.jpg``).
"""

from collections.abc import Iterator

from curr_reft.data.loaders import LoaderEntry
from curr_reft.data.loaders.parquet_rows import table_rows
from curr_reft.data.loaders.published import check_corners, get, option, task_of, text
from curr_reft.data.loaders.refer import SENTENCES, sentence_rows
from curr_reft.data.rows import BadRow, RowOrBad


def rows(entry: LoaderEntry) -> Iterator[RowOrBad]:
    """One row an expression. Option: ``sentences``. Raises DataError."""
    task_of(entry, "detection", default="detection")
    sentences = option(entry, "sentences", SENTENCES, "all")
    for row in table_rows(entry.path, entry.name, ("sentences", "bbox", "image_path")):
        try:
            said = get(row.fields, "sentences", list)
            box, image = check_corners(row.fields["bbox"]), text(row.fields, "image_path")
            if not said:
                raise ValueError("has no sentences")
        except ValueError as error:
            yield BadRow(row.source, str(error))
            continue
        fields = {"solution": box, "task": "detection", "image": image}
        yield from sentence_rows(said, sentences, fields, row.source, row.line)
