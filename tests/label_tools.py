"""Pictures with drawn boxes, written as the label tools export them.

Every writer gets a folder and the pictures, and returns the entry of a recipe that reads them.
"""

import csv
import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from PIL import Image, ImageDraw

NAMES = ("cat", "dog", "traffic light")
COLOURS = {"cat": (200, 30, 30), "dog": (30, 160, 60), "traffic light": (30, 60, 200)}


@dataclass(frozen=True)
class Drawn:
    """A grey picture with a filled rectangle for each object; no two rectangles touch."""

    name: str
    size: tuple[int, int]
    things: Sequence[tuple[str, tuple[int, int, int, int]]]

    def save(self, path: Path) -> None:
        # Its own grey pattern, so that no two pictures are taken for copies of one.
        rng = random.Random(self.name)
        image = Image.new("RGB", (8, 6))
        image.putdata([(rng.randrange(90, 250),) * 3 for _ in range(48)])
        image = image.resize(self.size, Image.Resampling.NEAREST)
        for name, (x1, y1, x2, y2) in self.things:
            ImageDraw.Draw(image).rectangle((x1, y1, x2 - 1, y2 - 1), fill=COLOURS[name])
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path)


def drawn_pictures(count: int = 6) -> list[Drawn]:
    """Pictures with one cat and two dogs or the other way round, so that exactly one category is asked for by
    detection."""
    found = []
    for number in range(count):
        rng = random.Random(number)
        width, height = 96 + 8 * (number % 3), 72 + 4 * (number % 2)
        single, double = NAMES[number % 3], NAMES[(number + 1) % 3]
        boxes = []
        for column in range(3):
            x, y = column * 32 + rng.randrange(1, 8), rng.randrange(1, 30)
            boxes.append((x, y, x + rng.randrange(9, 22), y + rng.randrange(9, 40)))
        things = [(single, boxes[0]), (double, boxes[1]), (double, boxes[2])]
        found.append(Drawn(f"photo {number}.png", (width, height), things))
    return found


def save_all(pictures: Sequence[Drawn], folder: Path) -> None:
    for picture in pictures:
        picture.save(folder / picture.name)


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def yolo_lines(picture: Drawn, polygon: bool = False) -> str:
    lines = []
    for name, (x1, y1, x2, y2) in picture.things:
        (width, height), number = picture.size, NAMES.index(name)
        if polygon:
            corners = [(x1, y1), (x2, y1), (x2, y2), (x1, y2), (x1, (y1 + y2) / 2)]
            numbers = [side / length for point in corners for side, length in zip(point, picture.size, strict=True)]
        else:
            numbers = [(x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height]
        lines.append(" ".join([str(number), *(f"{value:.6f}" for value in numbers)]))
    return "\n".join(lines) + "\n"


def yolo(folder: Path, pictures: Sequence[Drawn], polygon: bool = False) -> dict[str, Any]:
    """As Ultralytics documents it: images/train, labels/train, data.yaml with path, train, val and names by number."""
    home = folder / "ds"
    save_all(pictures, home / "images/train")
    pictures[0].save(home / "images/val/held.png")
    write(home / "labels/val/held.txt", yolo_lines(pictures[0]))
    for picture in pictures:
        write(home / "labels/train" / Path(picture.name).with_suffix(".txt"), yolo_lines(picture, polygon))
    names = dict(enumerate(NAMES))
    content = {"path": "../datasets/ds", "train": "images/train", "val": "images/val", "test": None, "names": names}
    write(home / "data.yaml", yaml.safe_dump(content))
    return {"path": "ds", "format": "yolo", "options": {"split": "train"}}


def yolo_segments(folder: Path, pictures: Sequence[Drawn]) -> dict[str, Any]:
    return yolo(folder, pictures, polygon=True)


def yolo_roboflow(folder: Path, pictures: Sequence[Drawn]) -> dict[str, Any]:
    """train/images, train/labels, valid/..., and the ../train/images of its data.yaml."""
    home = folder / "ds"
    save_all(pictures, home / "train/images")
    (home / "valid/images").mkdir(parents=True)
    for picture in pictures:
        write(home / "train/labels" / Path(picture.name).with_suffix(".txt"), yolo_lines(picture))
    content = {"train": "../train/images", "val": "../valid/images", "nc": 3, "names": list(NAMES)}
    write(home / "data.yaml", yaml.safe_dump({**content, "roboflow": {"workspace": "w", "version": 1}}))
    return {"path": "ds", "format": "yolo", "options": {"split": "train"}}


def yolo_roboflow_split(folder: Path, pictures: Sequence[Drawn]) -> dict[str, Any]:
    yolo_roboflow(folder, pictures)
    return {"path": "ds/train"}


def yolo_label_studio(folder: Path, pictures: Sequence[Drawn]) -> dict[str, Any]:
    """images, labels, classes.txt, notes.json, and no data.yaml."""
    home = folder / "ds"
    save_all(pictures, home / "images")
    for picture in pictures:
        write(home / "labels" / Path(picture.name).with_suffix(".txt"), yolo_lines(picture))
    write(home / "classes.txt", "\n".join(NAMES))
    write(home / "notes.json", json.dumps({"categories": [], "info": {}}, indent=2))
    return {"path": "ds"}


def yolo_cvat(folder: Path, pictures: Sequence[Drawn]) -> dict[str, Any]:
    """YOLO 1.1: obj.data, obj.names, train.txt, and labels beside the pictures."""
    home = folder / "ds"
    save_all(pictures, home / "obj_train_data")
    for picture in pictures:
        write(home / "obj_train_data" / Path(picture.name).with_suffix(".txt"), yolo_lines(picture))
    write(home / "obj.names", "\n".join(NAMES))
    write(home / "obj.data", "classes = 3\ntrain = data/train.txt\nnames = data/obj.names\nbackup = backup/\n")
    write(home / "train.txt", "".join(f"data/obj_train_data/{picture.name}\n" for picture in pictures))
    return {"path": "ds"}


def studio_regions(picture: Drawn) -> list[dict[str, Any]]:
    width, height = picture.size
    return [
        {
            "id": f"r{number}",
            "type": "rectanglelabels",
            "from_name": "label",
            "to_name": "image",
            "origin": "manual",
            "original_width": width,
            "original_height": height,
            "image_rotation": 0,
            "value": {
                "x": x1 / width * 100,
                "y": y1 / height * 100,
                "width": (x2 - x1) / width * 100,
                "height": (y2 - y1) / height * 100,
                "rotation": 0,
                "rectanglelabels": [name],
            },
        }
        for number, (name, (x1, y1, x2, y2)) in enumerate(picture.things)
    ]


def studio_task(number: int, picture: Drawn, **more: Any) -> dict[str, Any]:
    annotation = {"id": 100 + number, "completed_by": 1, "was_cancelled": False, "ground_truth": False}
    name = f"8a7b{number:04x}-{picture.name}"
    return {
        "id": number,
        "annotations": [{**annotation, "result": studio_regions(picture)}],
        "drafts": [],
        "predictions": [],
        "file_upload": name,
        "data": {"image": f"/data/upload/1/{name.replace(' ', '%20')}"},
        "meta": {},
        **more,
    }


def label_studio(folder: Path, pictures: Sequence[Drawn]) -> dict[str, Any]:
    """The pictures as they were before the upload: without the letters that Label Studio puts before their names."""
    save_all(pictures, folder / "photos")
    tasks = [studio_task(number, picture) for number, picture in enumerate(pictures, start=1)]
    write(folder / "project-1.json", json.dumps(tasks))
    return {"path": "project-1.json", "image_root": "photos"}


def label_studio_media(folder: Path, pictures: Sequence[Drawn]) -> dict[str, Any]:
    """The pictures as they lie on the server, with these letters."""
    tasks = [studio_task(number, picture) for number, picture in enumerate(pictures, start=1)]
    for task, picture in zip(tasks, pictures, strict=True):
        picture.save(folder / "media/upload/1" / task["file_upload"])
    write(folder / "export.json", json.dumps(tasks, indent=2))
    return {"path": "export.json", "format": "label_studio"}


def label_studio_min(folder: Path, pictures: Sequence[Drawn]) -> dict[str, Any]:
    save_all(pictures, folder / "photos")
    tasks = []
    for number, picture in enumerate(pictures, start=1):
        regions = [
            {**each["value"], "original_width": each["original_width"], "original_height": each["original_height"]}
            for each in studio_regions(picture)
        ]
        row = {"image": f"/data/local-files/?d=photos/{picture.name}", "id": number, "label": regions}
        tasks.append({**row, "annotator": 1, "annotation_id": 100 + number, "lead_time": 3.2})
    write(folder / "min.json", json.dumps(tasks))
    return {"path": "min.json"}


def cvat(folder: Path, pictures: Sequence[Drawn]) -> dict[str, Any]:
    images = []
    for number, picture in enumerate(pictures):
        picture.save(folder / "cvat/images" / picture.name)
        boxes = "".join(
            f'<box label="{name}" source="manual" occluded="0" xtl="{x1}.00" ytl="{y1}.00" xbr="{x2}.00" ybr="{y2}.00" '
            'z_order="0"><attribute name="colour">x</attribute></box>'
            for name, (x1, y1, x2, y2) in picture.things
        )
        width, height = picture.size
        images.append(f'<image id="{number}" name="{picture.name}" width="{width}" height="{height}">{boxes}</image>')
    labels = "".join(f"<label><name>{name}</name><color>#fff</color></label>" for name in NAMES)
    write(
        folder / "cvat/annotations.xml",
        f'<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n<version>1.1</version>\n<meta><task><labels>{labels}'
        f"</labels></task></meta>\n{''.join(images)}</annotations>\n",
    )
    return {"path": "cvat"}


def instances(pictures: Sequence[Drawn], first: int = 1, prefix: str = "", super_category: str = "") -> dict[str, Any]:
    annotations = [
        {
            "id": 10 * number + place,
            "image_id": number,
            "category_id": NAMES.index(name) + first,
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "area": (x2 - x1) * (y2 - y1),
            "iscrowd": 0,
            "segmentation": [],
        }
        for number, picture in enumerate(pictures)
        for place, (name, (x1, y1, x2, y2)) in enumerate(picture.things)
    ]
    images = [
        {"id": number, "file_name": prefix + picture.name, "width": picture.size[0], "height": picture.size[1]}
        for number, picture in enumerate(pictures)
    ]
    categories = [
        {"id": number, "name": name, "supercategory": super_category} for number, name in enumerate(NAMES, start=first)
    ]
    return {"images": images, "annotations": annotations, "categories": categories}


def coco_roboflow(folder: Path, pictures: Sequence[Drawn]) -> dict[str, Any]:
    save_all(pictures, folder / "ds/train")
    content = instances(pictures, 1, super_category="pets")
    content["categories"].insert(0, {"id": 0, "name": "pets", "supercategory": "none"})
    write(folder / "ds/train/_annotations.coco.json", json.dumps(content))
    return {"path": "ds/train"}


def coco_cvat(folder: Path, pictures: Sequence[Drawn]) -> dict[str, Any]:
    save_all(pictures, folder / "ds/images/default")
    write(folder / "ds/annotations/instances_default.json", json.dumps(instances(pictures)))
    return {"path": "ds"}


def coco_label_studio(folder: Path, pictures: Sequence[Drawn]) -> dict[str, Any]:
    """With the paths that it writes on Windows."""
    save_all(pictures, folder / "ds/images")
    write(folder / "ds/result.json", json.dumps(instances(pictures, 0, "images\\"), indent=2))
    return {"path": "ds"}


def roboflow_csv(folder: Path, pictures: Sequence[Drawn]) -> dict[str, Any]:
    save_all(pictures, folder / "ds/train")
    rows = [(picture, *thing) for picture in pictures for thing in picture.things]
    rows.sort(key=lambda row: row[1])  # by class: the rows of one picture lie apart
    with (folder / "ds/train/_annotations.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["filename", "width", "height", "class", "xmin", "ymin", "xmax", "ymax"])
        for picture, name, box in rows:
            writer.writerow([picture.name, *picture.size, name, *box])
    return {"path": "ds/train"}


def voc_xml(picture: Drawn, filename: str | None = None) -> str:
    objects = "".join(
        f"<object><name>{name}</name><pose>Unspecified</pose><truncated>0</truncated><difficult>0</difficult><bndbox>"
        f"<xmin>{x1}</xmin><ymin>{y1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>"
        for name, (x1, y1, x2, y2) in picture.things
    )
    width, height = picture.size
    return (
        f"<annotation><folder>photos</folder><filename>{filename or picture.name}</filename>"
        f"<path>C:\\photos\\{picture.name}</path><size><width>{width}</width><height>{height}</height><depth>3</depth>"
        f"</size><segmented>0</segmented>{objects}</annotation>"
    )


def labelimg(folder: Path, pictures: Sequence[Drawn]) -> dict[str, Any]:
    for picture in pictures:
        picture.save(folder / "ds" / picture.name)
        write((folder / "ds" / picture.name).with_suffix(".xml"), voc_xml(picture))
    return {"path": "ds"}


def labelimg_apart(folder: Path, pictures: Sequence[Drawn]) -> dict[str, Any]:
    for picture in pictures:
        picture.save(folder / "photos" / picture.name)
        write((folder / "xml" / picture.name).with_suffix(".xml"), voc_xml(picture))
    return {"path": "xml", "image_root": "photos"}


def labelimg_siblings(folder: Path, pictures: Sequence[Drawn]) -> dict[str, Any]:
    """One folder for pictures and one for XML files, under the folder that is given; names without a suffix."""
    for picture in pictures:
        picture.save(folder / "ds/photos" / picture.name)
        write((folder / "ds/annotations" / picture.name).with_suffix(".xml"), voc_xml(picture, Path(picture.name).stem))
    return {"path": "ds"}


def voc_cvat(folder: Path, pictures: Sequence[Drawn]) -> dict[str, Any]:
    """The layout of Pascal VOC with classes of a project's own, in labelmap.txt."""
    home = folder / "ds"
    for picture in pictures:
        picture.save(home / "JPEGImages" / picture.name)
        write((home / "Annotations" / picture.name).with_suffix(".xml"), voc_xml(picture))
    write(
        home / "labelmap.txt",
        "# label:color_rgb:parts:actions\nbackground:0,0,0::\n" + "".join(f"{name}:1,2,3::\n" for name in NAMES),
    )
    write(home / "ImageSets/Main/default.txt", "")
    return {"path": "ds", "format": "voc", "options": {"split": "default"}}


def labelme_json(picture: Drawn, **more: Any) -> dict[str, Any]:
    shapes = [
        {"label": name, "points": [[x2, y2], [x1, y1]], "group_id": None, "shape_type": "rectangle", "flags": {}}
        for name, (x1, y1, x2, y2) in picture.things
    ]
    content: dict[str, Any] = {"version": "5.5.0", "flags": {}, "shapes": shapes, "imagePath": picture.name}
    return {**content, "imageData": None, "imageHeight": picture.size[1], "imageWidth": picture.size[0], **more}


def labelme(folder: Path, pictures: Sequence[Drawn]) -> dict[str, Any]:
    for picture in pictures:
        picture.save(folder / "ds" / picture.name)
        content = labelme_json(picture, imageData="iVBORw0KGgo" * 30)
        write((folder / "ds" / picture.name).with_suffix(".json"), json.dumps(content, indent=2))
    return {"path": "ds"}


def labelme_apart(folder: Path, pictures: Sequence[Drawn]) -> dict[str, Any]:
    """JSON files in a folder of their own, whose imagePath leads out of it; polygons instead of rectangles."""
    for picture in pictures:
        picture.save(folder / "ds/photos" / picture.name)
        content = labelme_json(picture, imagePath=f"..\\photos\\{picture.name}")
        for shape in content["shapes"]:
            (x2, y2), (x1, y1) = shape["points"]
            shape |= {"shape_type": "polygon", "points": [[x1, y1], [x2, y1], [x2, y2], [(x1 + x2) / 2, y2], [x1, y2]]}
        write((folder / "ds/json" / picture.name).with_suffix(".json"), json.dumps(content))
    return {"path": "ds"}


Writer = Callable[[Path, Sequence[Drawn]], Mapping[str, Any]]
WRITERS: tuple[Writer, ...] = (
    yolo, yolo_segments, yolo_roboflow, yolo_roboflow_split, yolo_label_studio, yolo_cvat, label_studio,
    label_studio_media, label_studio_min, cvat, coco_roboflow, coco_cvat, coco_label_studio, roboflow_csv, labelimg,
    labelimg_apart, labelimg_siblings, labelme, labelme_apart, voc_cvat,
)  # fmt: skip
