"""RefCOCO, RefCOCO+ (Kazemzadeh et al. 2014; Yu et al. 2016, arXiv 1608.00272) and RefCOCOg (Mao et al. 2016, arXiv
1511.02283) in the layouts they are published in: where is what this expression describes?

| file | layout |
|---|---|
| ``refs(unc).p``, or the same as JSON, beside ``instances.json`` | ``refer.py`` |
| ``finetune_refcoco_train.json``: instances with a caption for each image | ``mdetr.py`` |
| JSON lines with an expression and a box of corners | this file |
| ``*.parquet``, or a folder of them | ``refcoco_parquet.py`` |
"""

from collections.abc import Iterator
from typing import Any

from curr_reft.data.loaders import LoaderEntry, mdetr, refcoco_parquet, refer
from curr_reft.data.loaders.json_rows import converted_rows
from curr_reft.data.loaders.published import check_corners, get, refuse_options, text
from curr_reft.data.loaders.refer import where_is
from curr_reft.data.rows import Row, RowOrBad
from curr_reft.errors import DataError

EXPRESSIONS = ("expression", "sent")
PICTURES = ("img_path", "image")


def rows(entry: LoaderEntry) -> Iterator[RowOrBad]:
    """One row an expression. Raises DataError."""
    suffix = entry.path.suffix.lower()
    if suffix in {".p", ".pkl", ".pickle"} or (suffix == ".json" and not mdetr.is_instances(entry)):
        return refer.rows(entry)
    if suffix == ".json":
        return mdetr.rows(entry)
    if suffix == ".jsonl":
        refuse_options(entry, "a file of JSON lines holds one split")
        return converted_rows(entry, _line)
    if suffix == ".parquet" or entry.path.is_dir():
        return refcoco_parquet.rows(entry)
    raise DataError(entry.name, f"{entry.path.name} is no file of RefCOCO: .p, .json, .jsonl and .parquet are read")


def _line(row: Row, entry: LoaderEntry) -> Row:
    """Shikra's lines (``img_path``, ``expression``, ``bbox``) and Qwen-VL's (``image``, ``sent``, ``bbox``); boxes are
    ``[x1, y1, x2, y2]`` in pixels, and both give the size of the image they are pixels of."""
    expression = next((key for key in EXPRESSIONS if key in row.fields), EXPRESSIONS[0])
    picture = next((key for key in PICTURES if key in row.fields), PICTURES[0])
    fields: dict[str, Any] = {
        "problem": where_is(text(row.fields, expression)),
        "solution": check_corners(row.fields.get("bbox")),
        "task": "detection",
        "image": text(row.fields, picture),
    }
    if "width" in row.fields and "height" in row.fields:
        fields["image_size"] = [get(row.fields, "width", int), get(row.fields, "height", int)]
    return Row(row.source, row.line, fields, boxes="pixels")
