"""COCO instances: what is asked of a picture, and what is not."""

import json
from pathlib import Path
from typing import Any

import pytest
from published_files import items, load, picture, problems, raw, write_json

from curr_reft.errors import DataError

CATEGORIES = [
    {"supercategory": "person", "id": 1, "name": "person"},
    {"supercategory": "animal", "id": 17, "name": "cat"},
    {"supercategory": "animal", "id": 18, "name": "dog"},
    {"supercategory": "animal", "id": 24, "name": "zebra"},
    {"supercategory": "electronic", "id": 72, "name": "tv"},
]


def annotation(
    number: int, image: int, category: int, bbox: list[float], crowd: int = 0, **more: Any
) -> dict[str, Any]:
    x, y, width, height = bbox
    corners = [[x, y, x + width, y, x + width, y + height, x, y + height]]
    mask: Any = {"counts": [1, 2, 3], "size": [48, 64]} if crowd else corners
    fields = {"segmentation": mask, "area": width * height * 0.8, "iscrowd": crowd, "image_id": image, "bbox": bbox}
    return {**fields, "category_id": category, "id": number, **more}


def coco(folder: Path, **changes: Any) -> Path:
    """``annotations/instances_val2017.json`` beside ``val2017/``, as the archives unpack."""
    images = [
        {"license": 4, "file_name": f"{number:012}.jpg", "coco_url": "-", "height": 48, "width": 64, "id": number}
        for number in (397133, 37777, 87038)
    ]
    for image in images:
        picture(folder / "val2017" / image["file_name"])
    content = {
        "info": {"description": "COCO 2017 Dataset", "year": 2017},
        "licenses": [{"url": "-", "id": 4, "name": "-"}],
        "images": images,
        "annotations": [
            annotation(101, 397133, 18, [10.5, 4.25, 20.0, 30.5]),
            annotation(102, 397133, 1, [1, 2, 8, 9]),
            annotation(103, 397133, 1, [40, 2, 8, 9]),
            annotation(104, 37777, 24, [0, 0, 60, 40], crowd=1),
            annotation(105, 37777, 24, [5, 5, 10, 10]),
            annotation(106, 37777, 72, [30, 30, 4, 4]),
        ],
        "categories": CATEGORIES,
        **changes,
    }
    return write_json(folder / "annotations" / "instances_val2017.json", content)


ENTRY = {"path": "annotations/instances_val2017.json", "format": "coco", "image_root": "val2017"}


def test_detection_asks_for_what_there_is_exactly_one_of(tmp_path: Path) -> None:
    coco(tmp_path)
    dog, tv = items(tmp_path, ENTRY | {"task": "detection"})
    assert (dog.task, dog.question, dog.truth) == (
        "detection",
        "Where is the dog in the image?",
        (10.5, 4.25, 30.5, 34.75),
    )
    assert set(dog.distractors) == {(1.0, 2.0, 9.0, 11.0), (40.0, 2.0, 48.0, 11.0)}
    assert dog.source == "instances_val2017.json:annotations[0]"
    assert dog.images[0].size == (64, 48)
    # The crowd of zebras is no one's wrong answer, and a category with a crowd is not asked for.
    assert (tv.truth, tv.distractors) == ((30.0, 30.0, 34.0, 34.0), ((5.0, 5.0, 15.0, 15.0),))
    large = items(tmp_path, ENTRY | {"task": "detection", "options": {"min_area": 100}})
    assert [item.truth for item in large] == [dog.truth]


def test_classification_names_all_categories_crowds_too(tmp_path: Path) -> None:
    coco(tmp_path)
    first, second = items(tmp_path, ENTRY | {"task": "classification"})  # the third picture shows none
    assert first.question == "Which of these categories are in the image: person, cat, dog, zebra, tv?"
    assert first.truth == ("dog", "person")
    assert first.distractors == (("cat",), ("zebra",))  # absent, of the family of the dog
    assert second.truth == ("zebra", "tv")
    assert first.source == "instances_val2017.json:images[0]"
    (asked, _) = items(tmp_path, ENTRY | {"task": "classification", "options": {"categories": "open"}})
    assert asked.question == "Which categories of objects are in the image?"


def test_dense_detection_asks_for_all(tmp_path: Path) -> None:
    coco(tmp_path)
    found = {item.question: item.truth for item in items(tmp_path, ENTRY | {"task": "dense_detection"})}
    assert found["Where are all objects of the category person in the image?"] == (
        (1.0, 2.0, 9.0, 11.0),
        (40.0, 2.0, 48.0, 11.0),
    )
    assert len(found) == 3  # dog, person, tv
    both = [ENTRY | {"task": task} for task in ("detection", "dense_detection", "classification")]
    again = [item.id for entry in both for item in items(tmp_path, entry)]
    assert len(set(again)) == len(again)  # one file read for three tasks: every item has an id of its own


def test_sampling_is_over_the_questions(tmp_path: Path) -> None:
    coco(tmp_path)
    assert len(items(tmp_path, ENTRY | {"task": "dense_detection", "sampling": "first:2"})) == 2
    last = items(tmp_path, ENTRY | {"task": "dense_detection", "sampling": "end:1"})
    assert [item.question for item in last] == ["Where are all objects of the category tv in the image?"]


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        ({"bbox": [1, 2, 0, 5]}, "is empty"),
        ({"bbox": [1, 2, 3]}, "must be four numbers"),
        ({"bbox": None}, "must be four numbers"),
        ({"image_id": 5}, "image_id 5 is none of the ids under images"),
        ({"category_id": 99}, "category_id 99 is none of the ids under categories"),
        ({"category_id": "dog"}, "category_id must be a whole number"),
        ({"area": "large"}, "area must be a number"),
    ],
)
def test_a_broken_annotation_is_a_bad_row_and_takes_its_picture_along(
    tmp_path: Path, broken: dict[str, Any], reason: str
) -> None:
    path = coco(tmp_path)
    content = json.loads(path.read_text())
    content["annotations"][1] |= broken
    write_json(path, content)
    found = raw("coco", path, "detection")
    assert [source for source, _ in problems(found)] == ["instances_val2017.json:annotations[1]"]
    assert reason in problems(found)[0][1]
    # Of a picture with an annotation that cannot be read nobody can say what there is one of.
    if "image_id" not in broken:
        assert {each.fields["image"] for each in found if not hasattr(each, "reason")} == {"000000037777.jpg"}
    data = load(tmp_path, ENTRY | {"task": "detection"}, bad_rows="skip")
    assert len(data.skipped) == 1


def test_a_picture_of_another_size_is_refused(tmp_path: Path) -> None:
    coco(tmp_path)
    picture(tmp_path / "val2017" / "000000037777.jpg", 32, 24)
    with pytest.raises(DataError) as caught:
        items(tmp_path, ENTRY | {"task": "detection"})
    assert caught.value.problems[0][0] == "instances_val2017.json:annotations[5]"
    assert "boxes are in pixels of 64x48, but the image has 32x24" in caught.value.problems[0][1]


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ({}, "names no task; set task on the entry of the recipe to one of detection, classification"),
        ({"task": "math"}, "cannot be read as task 'math'"),
        ({"task": "detection", "options": {"min_area": -3}}, "options.min_area is '-3'"),
        ({"task": "detection", "options": {"categories": "lists"}}, "did you mean listed"),
    ],
)
def test_what_an_entry_asks_for_is_checked(tmp_path: Path, entry: dict[str, Any], reason: str) -> None:
    coco(tmp_path)
    with pytest.raises(DataError, match=reason):
        items(tmp_path, ENTRY | entry)


def test_a_file_that_is_no_instances_file(tmp_path: Path) -> None:
    write_json(tmp_path / "captions.json", {"images": [], "annotations": [{"caption": "a dog"}]})
    with pytest.raises(DataError, match="holds no list images"):
        raw("coco", tmp_path / "captions.json", "detection")
