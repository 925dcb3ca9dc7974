"""Exports of label tools: a box that is drawn on a picture is found by its item, and what is broken is named."""

import json
import re
from pathlib import Path
from typing import Any

import label_tools as tools
import numpy as np
import pytest
from label_tools import COLOURS, NAMES, WRITERS, Drawn, Writer, drawn_pictures, studio_task, write
from PIL import Image
from published_files import items, load

from curr_reft.data.item import Item
from curr_reft.errors import DataError


def colours(item: Item, box: tuple[float, ...]) -> set[tuple[int, ...]]:
    """The colours inside a box of the picture, as it is opened."""
    x1, y1, x2, y2 = (round(side) for side in box)
    pixels = np.asarray(item.images[0].open())[y1:y2, x1:x2]
    return {tuple(map(int, pixel)) for pixel in pixels.reshape(-1, 3)}


def test_every_tool_has_a_round_trip() -> None:
    assert {writer.__name__.split("_")[0] for writer in WRITERS} == {
        "yolo", "label", "cvat", "coco", "roboflow", "labelimg", "labelme", "voc",
    }  # fmt: skip


@pytest.mark.parametrize("writer", WRITERS, ids=lambda writer: writer.__name__)
def test_a_drawn_box_is_found_by_its_item(tmp_path: Path, writer: Writer) -> None:
    pictures = drawn_pictures()
    entry = {**writer(tmp_path, pictures)}
    if writer is tools.voc_cvat:
        names = "".join(f"{Path(picture.name).stem}\n" for picture in pictures).replace(" ", "_")
        pictures = [Drawn(picture.name.replace(" ", "_"), picture.size, picture.things) for picture in pictures]
        tools.voc_cvat(tmp_path, pictures)
        write(tmp_path / "ds/ImageSets/Main/default.txt", names)
    sizes = {picture.size for picture in pictures}

    found = items(tmp_path, entry | {"task": "detection"})
    assert len(found) == len(pictures)  # of each picture the one category that it shows once
    for item in found:
        (name,) = [name for name in NAMES if item.question == f"Where is the {name} in the image?"]
        assert item.images[0].size in sizes
        assert colours(item, item.truth) == {COLOURS[name]}  # all of the box, and nothing beside it
        assert all(colours(item, box).isdisjoint({COLOURS[name]}) for box in item.distractors)
        assert len(item.distractors) == 2
        outer = (item.truth[0] - 1, item.truth[1] - 1, item.truth[2] + 1, item.truth[3] + 1)
        assert colours(item, outer) != {COLOURS[name]}
        corners = [(outer[0], outer[1]), (outer[2] - 1, outer[3] - 1)]
        assert all(colours(item, (x, y, x + 1, y + 1)) != {COLOURS[name]} for x, y in corners)

    dense = items(tmp_path, entry | {"task": "dense_detection"})
    assert sorted(len(item.truth) for item in dense) == [1] * len(pictures) + [2] * len(pictures)
    classes = items(tmp_path, entry | {"task": "classification"})
    shown = {frozenset(name for name, _ in picture.things) for picture in pictures}
    assert {frozenset(item.truth) for item in classes} == shown
    assert len(classes) == len(pictures)
    for item in classes:
        listed = item.question.removeprefix("Which of these categories are in the image: ").rstrip("?").split(", ")
        assert sorted(listed) == sorted(NAMES)
        assert {name for (name,) in item.distractors} <= set(NAMES) - set(item.truth)
    everything = [item.id for item in (*found, *dense, *classes)]
    assert len(set(everything)) == len(everything)  # one file read for three tasks: every item has its own id


# YOLO gives fractions of the picture, which hold at any size.
SIZED = [writer for writer in WRITERS if not writer.__name__.startswith("yolo")]


@pytest.mark.parametrize("writer", SIZED, ids=lambda writer: writer.__name__)
def test_a_picture_that_is_not_the_annotated_one_is_refused(tmp_path: Path, writer: Writer) -> None:
    """Resized, or turned by its EXIF data: the boxes of the file would be wrong."""
    pictures = [Drawn(picture.name.replace(" ", ""), picture.size, picture.things) for picture in drawn_pictures()]
    entry = writer(tmp_path, pictures)
    if writer is tools.voc_cvat:
        write(tmp_path / "ds/ImageSets/Main/default.txt", "".join(f"{Path(each.name).stem}\n" for each in pictures))
    (first,) = tmp_path.rglob("*photo0.png")
    with Image.open(first) as image:
        exif = Image.Exif()
        exif[0x0112] = 6
        image.copy().save(first, exif=exif)
    with pytest.raises(DataError) as caught:
        items(tmp_path, {**entry, "task": "detection"})
    (problem,) = caught.value.problems
    assert "its boxes are in pixels of 96x72, but the image has 72x96" in problem[1]


ONE = [Drawn("a.png", (100, 80), [("cat", (10, 20, 40, 60)), ("dog", (50, 5, 90, 70))])]


def refused(folder: Path, entry: dict[str, Any], **more: Any) -> dict[str, str]:
    """The problems of an entry that must have some, by their sources."""
    with pytest.raises(DataError) as caught:
        load(folder, {"task": "detection", **entry, **more})
    return dict(caught.value.problems)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("3 0.5 0.5 0.1 0.1", "class 3 is none of the 3 classes (0 to 2)"),
        ("-1 0.5 0.5 0.1 0.1", "class -1 is none"),
        ("0 0.5 0.5 0.1", "has 4 numbers; it must be class x y width height"),
        ("0 0.5 0.5 0.1 0.1 0.93", "is the last a confidence?"),
        ("0 120 40 30 20", "must be fractions of the picture, from 0 to 1"),
        ("0 -0.5 0.5 0.1 0.1", "must be fractions of the picture"),
        ("0 0.5 0.5 0 0.1", "is empty or inverted"),
        ("0 0.95 0.5 0.3 0.1", "lies outside its picture"),
        ("0,0.5,0.5,0.1,0.1", "must be numbers between blanks"),
        ("0.5 0.5 0.5 0.1 0.1", "must begin with a whole number"),
        ("cat 0.5 0.5 0.1 0.1", "must be numbers between blanks"),
        ("0 nan 0.5 0.1 0.1", "must begin with a whole number"),
        ("0 0.1 0.1 0.2 0.1 0.2", "is the last a confidence?"),
    ],
)
def test_yolo_lines_that_are_broken(tmp_path: Path, line: str, reason: str) -> None:
    entry = tools.yolo(tmp_path, drawn_pictures(3))
    labels = tmp_path / "ds/labels/train/photo 1.txt"
    labels.write_text(labels.read_text() + "\n" + line + "\n")
    found = refused(tmp_path, entry)
    ((source, said),) = found.items()
    assert reason in said
    assert source.startswith("ds/labels/train/photo 1.txt")
    if "lies outside" not in reason and "is empty" not in reason:
        assert source.endswith(":5")  # after three objects and an empty line
    assert len(items(tmp_path, entry | {"task": "detection"}, bad_rows="skip")) == 2  # its picture is not asked about


def test_yolo_background_duplicates_and_keypoints(tmp_path: Path) -> None:
    entry = tools.yolo(tmp_path, drawn_pictures(3)) | {"task": "detection"}
    labels = tmp_path / "ds/labels/train"
    (labels / "photo 0.txt").write_text("")  # background
    (labels / "photo 1.txt").unlink()  # background, as Ultralytics has it
    twice = (labels / "photo 2.txt").read_text().splitlines()[0]
    (labels / "photo 2.txt").write_text(f"{twice}\n{twice}\n")  # one object that stands twice
    (only,) = items(tmp_path, entry)
    assert only.source == "ds/labels/train/photo 2.txt:traffic light"
    described = (tmp_path / "ds/data.yaml").read_text()
    (tmp_path / "ds/data.yaml").write_text(described + "kpt_shape: [2, 2]\n")
    (labels / "photo 2.txt").write_text(f"{twice} 0.1 0.1 0.9 0.9\n")  # a pose: points behind the box
    (pose,) = items(tmp_path, entry)
    assert pose.truth == pytest.approx(only.truth)


def test_yolo_folders_that_are_not_whole(tmp_path: Path) -> None:
    entry = tools.yolo(tmp_path, drawn_pictures(3))
    (found,) = refused(tmp_path, {"path": "ds"}).values()
    assert found == "holds the splits train, val; name one (options.split)"
    (found,) = refused(tmp_path, entry, options={"split": "tran"}).values()
    assert "did you mean train?" in found
    write(tmp_path / "ds/labels/train/stray.txt", "0 0.5 0.5 0.1 0.1\n")
    assert refused(tmp_path, entry) == {"ds/labels/train/stray.txt": "labels a picture that is not there"}
    (tmp_path / "ds/data.yaml").unlink()
    (found,) = refused(tmp_path, entry).values()
    assert "put data.yaml or classes.txt beside images and labels, or set options.classes" in found
    (tmp_path / "ds/labels/train/stray.txt").unlink()
    named = entry | {"options": {"split": "train", "classes": "cat, dog, traffic light"}}
    assert len(items(tmp_path, named | {"task": "detection"})) == 3
    for path in (tmp_path / "ds/labels").rglob("*.txt"):
        path.unlink()
    (found,) = refused(tmp_path, named).values()
    assert "3 pictures and none with a label file; they were looked for in labels/train" in found


def test_a_yolo_description_is_no_composition(tmp_path: Path) -> None:
    tools.yolo(tmp_path, drawn_pictures(3))
    (found,) = refused(tmp_path, {"path": "ds/data.yaml"}).values()
    assert found == "describes a YOLO data set; give its folder, with format: yolo"


def studio(folder: Path, *tasks: Any, **more: Any) -> dict[str, Any]:
    for picture in ONE:
        picture.save(folder / picture.name)
    write(folder / "export.json", json.dumps(tasks))
    return {"path": "export.json", "format": "label_studio", "task": "detection", **more}


def changed(task: dict[str, Any], **value: Any) -> dict[str, Any]:
    """A task with another first region."""
    result = task["annotations"][0]["result"][0]
    result |= {key: value.pop(key) for key in list(value) if key in result and key != "value"}
    result["value"] |= value
    return task


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"rotation": 30}, "the box of cat is rotated by 30 degrees"),
        ({"x": 99}, "the box of cat"),
        ({"x": "left"}, "x must be a number"),
        ({"width": 0}, "is empty or inverted"),
        ({"rectanglelabels": []}, "result 1 (rectanglelabels) has no label"),
        ({"type": "brushlabels"}, "result 1 is of type brushlabels, which is no box"),
        ({"type": "rectangle"}, "result 1 is of type rectangle, which is no box"),
        ({"rotation": "left"}, "rotation of cat must be a number"),
        (
            {"type": "polygonlabels", "polygonlabels": ["cat"], "points": [1, 2]},
            "points must be pairs of numbers, not 1",
        ),
        ({"image_rotation": 90}, "its picture was turned by 90 degrees in Label Studio"),
        ({"original_width": 640}, "regions are of pictures of two sizes"),
        ({"original_width": None}, "original_width must be a whole number"),
    ],
)
def test_label_studio_regions_that_are_no_box(tmp_path: Path, change: dict[str, Any], reason: str) -> None:
    good = studio_task(2, Drawn("b.png", (100, 80), ONE[0].things))
    Drawn("b.png", (100, 80), [("dog", (1, 2, 30, 40))]).save(tmp_path / "b.png")
    found = refused(tmp_path, studio(tmp_path, changed(studio_task(7, ONE[0]), **change), good))
    assert list(found) == ["export.json:task 7"]
    assert reason in found["export.json:task 7"]


def test_label_studio_annotators(tmp_path: Path) -> None:
    """Cancelled annotations are nothing, two are a question, and a ground truth answers it."""
    task = studio_task(7, ONE[0])
    (first,) = task["annotations"]
    second = json.loads(json.dumps(first)) | {"id": 108, "completed_by": 2}
    second["result"][0]["value"] |= {"x": 20}
    cancelled = {**second, "was_cancelled": True, "result": []}

    def truth(*annotations: Any, **options: str) -> Any:
        entry = studio(tmp_path, {**task, "annotations": list(annotations)}, options=options)
        return items(tmp_path, entry)[0].truth

    assert truth(first, cancelled) == pytest.approx((10, 20, 40, 60))
    with pytest.raises(DataError, match="has 2 annotations; mark one as ground truth in Label Studio, or say which"):
        truth(first, second)
    assert truth(first, {**second, "ground_truth": True}) == pytest.approx((20, 20, 50, 60))
    assert truth(first, second, annotations="first") == pytest.approx((10, 20, 40, 60))
    assert truth(first, second, annotations="last") == pytest.approx((20, 20, 50, 60))
    with pytest.raises(DataError, match="0 pictures are annotated, and none shows exactly one object"):
        truth(cancelled)


def test_label_studio_min_with_several_annotators(tmp_path: Path) -> None:
    entry = tools.label_studio_min(tmp_path, ONE)
    (row,) = json.loads((tmp_path / "min.json").read_text())
    write(tmp_path / "min.json", json.dumps([row, {**row, "annotator": 2, "annotation_id": 9}]))
    assert set(refused(tmp_path, entry)) == {"min.json:task 1"}
    chosen = {"format": "label_studio", "options": {"annotations": "last"}, "task": "detection"}
    assert len(items(tmp_path, entry | chosen)) == 2


def test_label_studio_choices_are_classes_of_the_picture(tmp_path: Path) -> None:
    task = studio_task(7, ONE[0])
    choices = {"id": "c", "type": "choices", "from_name": "c", "to_name": "image", "value": {"choices": ["outdoors"]}}
    other = studio_task(8, Drawn("b.png", (100, 80), []))
    Drawn("b.png", (100, 80), []).save(tmp_path / "b.png")
    task["annotations"][0]["result"] = [choices]
    other["annotations"][0]["result"] = [{**choices, "value": {"choices": ["indoors"]}}]
    entry = studio(tmp_path, task, other)
    first, second = items(tmp_path, entry | {"task": "classification"})
    assert (first.truth, second.truth) == (("outdoors",), ("indoors",))
    assert first.question == "Which of these categories are in the image: indoors, outdoors?"
    assert first.distractors == (("indoors",),)
    with pytest.raises(DataError, match="nothing can be asked with task detection; set another task"):
        items(tmp_path, entry)


def test_label_studio_pictures(tmp_path: Path) -> None:
    """What addresses of the server become, and what cannot be told."""
    for address, found in {
        "s3://bucket/day%201/a.png": "day 1/a.png",
        "https://host/x/a.png?token=1": "x/a.png",
        "/data/local-files/?d=day%201/a.png": "day 1/a.png",
        "C:\\photos\\a.png": "a.png",
    }.items():
        ONE[0].save(tmp_path / found)
        entry = studio(tmp_path, studio_task(7, ONE[0], data={"image": address, "text": "no picture"}))
        (tmp_path / "a.png").unlink(missing_ok=found != "a.png")
        if found == "a.png":
            ONE[0].save(tmp_path / found)
        assert items(tmp_path, entry)[0].images[0].size == (100, 80), address
        (tmp_path / found).unlink()
    two = studio_task(7, ONE[0], data={"left": "a.png", "right": "b.png"})
    assert "has 2 pictures in its data (left, right)" in refused(tmp_path, studio(tmp_path, two))["export.json:task 7"]
    assert len(items(tmp_path, studio(tmp_path, two, options={"image": "left"}))) == 2
    inside = studio_task(7, ONE[0], data={"image": "data:image/png;base64," + "iVBORw0KGgo" * 500})
    (said,) = {*refused(tmp_path, studio(tmp_path, inside)).values()}
    assert "image is a base64 picture, 5522 characters" in said
    ONE[0].save(tmp_path / "x/a.png")
    ONE[0].save(tmp_path / "y/a.png")
    lost = studio(tmp_path, studio_task(7, ONE[0]))
    (tmp_path / "a.png").unlink()
    assert "the picture a.png may be x/a.png or y/a.png; set image_root" in "".join(refused(tmp_path, lost).values())


CVAT = [
    (
        '<box label="cat" xtl="1" ytl="2" xbr="30" ybr="40" rotation="12.5"/>',
        "the box of cat is rotated by 12.5 degrees",
    ),
    ('<box label="cat" xtl="1" ytl="2" xbr="x" ybr="40"/>', "xbr of box must be a finite number, not 'x'"),
    ('<box label="cat" xtl="1" ytl="2" xbr="500" ybr="40"/>', "lies outside its picture of 100x80"),
    ('<box label="" xtl="1" ytl="2" xbr="5" ybr="40"/>', "has no name"),
    ('<points label="nose" points="3,4"/>', "holds points of nose, which are no box"),
    ('<polygon label="cat" points="3,4;x,5"/>', "points of cat must be x,y;x,y;..."),
]


@pytest.mark.parametrize(("shape", "reason"), CVAT)
def test_cvat_shapes_that_are_no_box(tmp_path: Path, shape: str, reason: str) -> None:
    entry = tools.cvat(tmp_path, ONE)
    path = tmp_path / "cvat/annotations.xml"
    path.write_text(path.read_text().replace("</image>", f"{shape}</image>"))
    found = refused(tmp_path, entry)
    assert list(found) == ["cvat/annotations.xml:image 0"]
    assert reason in found["cvat/annotations.xml:image 0"]


def test_cvat_shapes_and_tags(tmp_path: Path) -> None:
    entry = tools.cvat(tmp_path, ONE)
    path = tmp_path / "cvat/annotations.xml"
    whole = path.read_text()
    for shape in (
        '<polygon label="traffic light" points="1,2;30,4;9,18"/>',
        '<ellipse label="traffic light" cx="15.5" cy="10" rx="14.5" ry="8"/>',
        '<mask label="traffic light" rle="1, 2" left="1" top="2" width="29" height="16"/>',
    ):
        path.write_text(whole.replace("</image>", f"{shape}</image>"))
        found = {item.question: item.truth for item in items(tmp_path, entry | {"task": "detection"})}
        assert found["Where is the traffic light in the image?"] == (1, 2, 30, 18)
    path.write_text(whole.replace("</image>", '<tag label="dog"/></image>'))
    (item,) = items(tmp_path, entry | {"task": "classification"})
    assert item.truth == ("dog",)
    path.write_text(whole.replace("<image", "<track").replace("</image", "</track"))
    assert "is CVAT for video" in refused(tmp_path, entry)["cvat/annotations.xml"]
    path.write_text(whole.replace("<annotations>", '<!DOCTYPE a [<!ENTITY x "ha">]><annotations>'))
    (said,) = refused(tmp_path, entry, format="cvat").values()
    assert "declares a document type or entities" in said
    path.write_text(whole[:-40])
    assert "not XML" in str([*refused(tmp_path, entry).items()])


@pytest.mark.parametrize(
    ("shape", "reason"),
    [
        ({"shape_type": "point", "points": [[3, 4]]}, "shape 3: shape_type 'point' is no box"),
        ({"shape_type": "rotation"}, "shape_type 'rotation' is no box"),
        ({"label": " "}, "shape 3: label is empty"),
        ({"points": [[3, 4]]}, "has 1 points; a box needs two"),
        ({"points": [[3, 4], [5, "x"]]}, "points must be pairs of numbers"),
        ({"points": [[3, 4], [500, 60]]}, "lies outside its picture of 100x80"),
        ({"points": [[3, 4], [3, 60]]}, "is empty or inverted"),
    ],
)
def test_labelme_shapes_that_are_no_box(tmp_path: Path, shape: dict[str, Any], reason: str) -> None:
    entry = tools.labelme(tmp_path, ONE)
    content = tools.labelme_json(ONE[0])
    content["shapes"].append(content["shapes"][0] | shape)
    write(tmp_path / "ds/a.json", json.dumps(content))
    assert reason in refused(tmp_path, entry)["ds/a.json"]


def test_labelme_groups_circles_flags_and_pictures_elsewhere(tmp_path: Path) -> None:
    entry = tools.labelme(tmp_path, ONE) | {"task": "detection"}
    content = tools.labelme_json(ONE[0])
    parts = [{"label": "tree", "group_id": 1, "shape_type": "polygon", "points": points} for points in (
        [[1, 1], [9, 1], [5, 8]], [[60, 40], [70, 40], [65, 50]])]  # fmt: skip
    ring = {"label": "ring", "shape_type": "circle", "points": [[50, 40], [53, 44]]}
    write(tmp_path / "ds/a.json", json.dumps(content | {"shapes": [*content["shapes"], *parts, ring]}))
    found = {item.question: item.truth for item in items(tmp_path, entry)}
    assert found["Where is the tree in the image?"] == (1, 1, 70, 50)  # shapes of one group are one object
    assert found["Where is the ring in the image?"] == (45, 35, 55, 45)
    flags = {"flags": {"sharp": True, "dark": False}, "imageHeight": None}
    write(tmp_path / "ds/a.json", json.dumps(content | flags | {"imagePath": "C:\\old\\a.png"}))
    (item,) = items(tmp_path, entry | {"task": "classification"})
    assert item.truth == ("sharp",)
    write(tmp_path / "ds/a.json", json.dumps(content | {"imagePath": "../../secret/a2.png"}))
    assert len(items(tmp_path, entry)) == 2  # the picture beside the file, which has its name
    ONE[0].save(tmp_path / "ds/b.png")
    write(tmp_path / "ds/a.json", json.dumps(content | {"imagePath": "b.png"}))
    said = refused(tmp_path, entry)["ds/a.json"]
    assert "names the picture b.png, and a.png lies beside it; which one is meant?" in said


def test_labelimg_difficult_stale_names_and_bad_files(tmp_path: Path) -> None:
    entry = tools.labelimg(tmp_path, ONE) | {"task": "detection"}
    xml = tmp_path / "ds/a.xml"
    whole = xml.read_text()
    xml.write_text(whole.replace("<difficult>0", "<difficult>1", 1))
    assert [item.question for item in items(tmp_path, entry)] == ["Where is the dog in the image?"]
    keep = entry | {"format": "labelimg", "options": {"difficult": "keep"}}
    assert len(items(tmp_path, keep)) == 2
    xml.write_text(whole.replace("a.png", "IMG_001.png"))  # renamed since, both files together
    assert len(items(tmp_path, entry)) == 2
    xml.write_text(whole.replace("<width>100</width><height>80", "<width>0</width><height>0"))
    assert len(items(tmp_path, entry)) == 2  # a tool that did not open the picture
    xml.write_text(whole.replace("<xmax>40", "<xmax>4"))
    assert "is inverted" in refused(tmp_path, entry)["ds/a.xml"]
    xml.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    assert "run git lfs pull" in refused(tmp_path, entry)["ds/a.xml"]


@pytest.mark.parametrize(
    ("change", "source", "reason"),
    [
        (("cat,10", "cat,x"), ":2", "xmin must be a number, not 'x'"),
        (("100,80,dog", "90,80,dog"), ":3", "gives its picture the size (90, 80)"),
        (("cat,10", "cat,90"), ":2", "is empty or inverted"),
        (("xmin", "left"), ":1", "has no column xmin"),
        (("a.png,100,80,cat", ",100,80,cat"), ":2", "filename is empty"),
    ],
)
def test_roboflow_tables_that_are_broken(tmp_path: Path, change: tuple[str, str], source: str, reason: str) -> None:
    entry = tools.roboflow_csv(tmp_path, ONE)
    path = tmp_path / "ds/train/_annotations.csv"
    path.write_text(path.read_text().replace(*change))
    assert reason in refused(tmp_path, entry)[f"train/_annotations.csv{source}"]


def test_folders_of_splits_name_them(tmp_path: Path) -> None:
    tools.coco_roboflow(tmp_path, ONE)
    (said,) = refused(tmp_path, {"path": "ds"}).values()
    assert said == "holds the splits train; name one: ds/train"
    (tmp_path / "ds/train/_annotations.coco.json").unlink()
    tools.roboflow_csv(tmp_path, ONE)
    (said,) = refused(tmp_path, {"path": "ds"}).values()
    assert said == "holds the splits train; name one: ds/train"
    tools.yolo(tmp_path / "other", drawn_pictures(2))
    (said,) = refused(tmp_path, {"path": "other/ds/images/train"}).values()
    assert "holds the pictures of a YOLO data set; give the folder that holds its labels too: " in said
    write(tmp_path / "classes/_classes.csv", "filename, cat, dog\na.png, 1, 0\n")
    (said,) = refused(tmp_path, {"path": "classes"}).values()
    assert "Roboflow's table of a column a class, which is not read; export folders of classes" in said
    (tmp_path / "VOCdevkit/VOC2012/Annotations").mkdir(parents=True)
    (tmp_path / "VOCdevkit/VOC2012/ImageSets").mkdir(parents=True)
    (said,) = refused(tmp_path, {"path": "VOCdevkit"}).values()
    assert said == "holds data in Pascal VOC's layout; give VOCdevkit/VOC2012"


def test_one_file_of_a_folder_asks_for_the_folder(tmp_path: Path) -> None:
    tools.labelme(tmp_path, ONE)
    tools.labelimg(tmp_path / "other", ONE)
    for path in ("ds/a.json", "other/ds/a.xml"):
        (said,) = refused(tmp_path, {"path": path}).values()
        assert re.search("of one picture.*give its folder", said)
