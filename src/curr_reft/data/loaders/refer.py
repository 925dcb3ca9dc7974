"""Referring expressions as the REFER toolkit publishes them (github.com/lichengunc/refer): ``refs(SPLITBY).p`` beside
``instances.json``. RefGTA (Tanaka et al. 2019, arXiv 1811.12104) is published the same way.

A ref is ``{ref_id, ann_id, category_id, image_id, split, file_name, sent_ids, sentences: [{sent, raw, tokens,
sent_id}]}``; its box is that of the annotation ``ann_id``. Its ``file_name`` carries the number of the annotation and
is no file: the picture is the one of ``instances.json``.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from curr_reft.data.loaders import LoaderEntry
from curr_reft.data.loaders.coco import other_boxes, shown_categories
from curr_reft.data.loaders.instances import Instances, Thing, read_instances
from curr_reft.data.loaders.json_elements import elements
from curr_reft.data.loaders.objects import LISTED
from curr_reft.data.loaders.plain_pickle import read_plain
from curr_reft.data.loaders.published import get, mapping, option, task_of, text
from curr_reft.data.rows import BadRow, Row, RowOrBad
from curr_reft.errors import DataError

SENTENCES = ("all", "first")


def rows(entry: LoaderEntry) -> Iterator[RowOrBad]:
    """One row an expression (detection), or one a picture (classification, the categories of COCO).

    Options: ``split``, ``sentences``, ``instances``, ``categories``. Raises DataError.
    """
    task = task_of(entry, "detection", "classification", default="detection")
    refs = _refs(entry)
    split = _split(entry, refs)
    sentences = option(entry, "sentences", SENTENCES, "all")
    file = entry.path.parent / entry.options.get("instances", "instances.json")
    found = read_instances(file, f"{entry.name}/{file.name}")
    yield from found.bad
    chosen = [(place, ref) for place, ref in enumerate(refs) if isinstance(ref, dict) and ref.get("split") == split]
    if task == "classification":
        listed = option(entry, "categories", LISTED, "listed") == "listed"
        for picture in dict.fromkeys(ref.get("image_id") for _, ref in chosen):
            if picture in found.pictures and picture not in found.doubtful:
                source = f"{entry.name}/{file.name}:images[{found.pictures[picture].place}]"
                yield from shown_categories(found, picture, source, listed)
        return
    for place, ref in chosen:
        yield from _expressions(ref, f"{entry.name}:refs[{place}]", found, sentences)


def where_is(expression: str) -> str:
    """The question for a referring expression."""
    return f'Where is what "{expression}" describes?'


def _refs(entry: LoaderEntry) -> list[Any]:
    if entry.path.suffix.lower() == ".json":
        refs: Any = [element.value for element in elements(entry.path, entry.name)]
    else:
        refs = read_plain(entry.path, entry.name)
    if not isinstance(refs, list) or not refs:
        raise DataError(entry.name, "must hold a list of refs")
    for place, ref in enumerate(refs):
        if not (isinstance(ref, dict) and isinstance(ref.get("split"), str)):
            raise DataError(f"{entry.name}:refs[{place}]", "is no ref: it must be an object with a key split")
    return refs


def _split(entry: LoaderEntry, refs: list[Any]) -> str:
    splits = list(dict.fromkeys(ref["split"] for ref in refs))
    return option(entry, "split", splits)


def _expressions(ref: dict[str, Any], source: str, found: Instances, sentences: str) -> Iterator[RowOrBad]:
    try:
        thing = _thing(ref, found)
        said = get(ref, "sentences", list)
        if not said:
            raise ValueError("has no sentences")
    except ValueError as error:
        yield BadRow(source, str(error))
        return
    picture = found.pictures[ref["image_id"]]
    others = [each for each in found.things(ref["image_id"]) if each.id != thing.id and not each.crowd]
    fields = {
        "solution": list(thing.box),
        "task": "detection",
        "image": picture.file_name,
        "image_size": list(picture.size),
        "distractors": other_boxes(others, thing.category),
    }
    yield from sentence_rows(said, sentences, fields, source, 1)


def sentence_rows(
    said: Sequence[Any], sentences: str, fields: dict[str, Any], source: str, line: int
) -> Iterator[RowOrBad]:
    """One row for each of the sentences that describe a thing, or for the first; ``fields`` is what they share."""
    for number, sentence in enumerate(said if sentences == "all" else said[:1]):
        place = f"{source}.sentences[{number}]"
        try:
            expression = text(mapping(sentence), "sent")
        except ValueError as error:
            yield BadRow(place, str(error))
            continue
        yield Row(place, line, {**fields, "problem": where_is(expression)}, boxes="pixels")


def _thing(ref: dict[str, Any], found: Instances) -> Thing:
    number, picture = get(ref, "ann_id", int), get(ref, "image_id", int)
    if picture not in found.pictures:
        raise ValueError(
            f"image_id {picture} is none of the images of instances.json; do the two files belong together?"
        )
    thing = next((each for each in found.things(picture) if each.id == number), None)
    if thing is None:
        raise ValueError(f"ann_id {number} is no annotation of its image in the instances file")
    return thing
