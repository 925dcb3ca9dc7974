"""Published rows by the user's door: every form can be asked of them, and every truth earns everything."""

from collections import Counter
from pathlib import Path
from typing import Any

import yaml
from published_files import picture, write_json
from test_coco import CATEGORIES, annotation
from test_voc import XML, thing, write

from curr_reft.data.frame import BoxFrame, resize_rule
from curr_reft.prepare import Prepared, load_items, prepare
from curr_reft.recipe import load_recipe

SPLITS = ("train", "validation", "test", "ood_test")
STAGES = [{"name": form, "forms": {form: 1}, "steps": 1} for form in ("binary", "choice", "open")]
FRAME = BoxFrame("pixels", resize_rule(28, 3136, 401_408))


def coco(folder: Path, split: str, shade: int) -> None:
    """Two pictures a split, with a dog and two people each; a picture in two splits would be a leak."""
    names = [f"{split}{number}.png" for number in range(2)]
    for number, name in enumerate(names):
        picture(folder / "coco" / name, 120 + 16 * shade, 100 + 20 * number)
    content: dict[str, Any] = {"categories": CATEGORIES}
    content["images"] = [
        {"id": n, "file_name": name, "width": 120 + 16 * shade, "height": 100 + 20 * n} for n, name in enumerate(names)
    ]
    boxes = ([10, 4, 40, 60], [60, 2, 20, 40], [80, 50, 30, 30])
    content["annotations"] = [
        annotation(10 * n + place, n, 18 if place == 0 else 1, [box[0] + n, *box[1:]])
        for n in range(2)
        for place, box in enumerate(boxes)
    ]
    write_json(folder / f"{split}.json", content)


def voc(folder: Path) -> None:
    for number in range(2):
        picture(folder / "VOC2007" / "JPEGImages" / f"voc{number}.jpg", 200, 64 + 60 * number)
        xml = XML.format(name=number, objects=thing("dog", 1, 1, 60, 48) + thing("sofa", 70, 5, 180, 60))
        xml = xml.replace(">64<", ">200<").replace(">48</height>", f">{64 + 60 * number}</height>")
        write(folder / "VOC2007" / "Annotations" / f"voc{number}.xml", xml)
    write(folder / "VOC2007" / "ImageSets" / "Main" / "test.txt", "voc0\nvoc1\n")


def prepared_rows(folder: Path) -> Prepared:
    files: dict[str, list[dict[str, Any]]] = {}
    for shade, split in enumerate(SPLITS[:3]):
        coco(folder, split, shade)
        entry = {"path": f"{split}.json", "format": "coco", "image_root": "coco"}
        files[split] = [entry | {"task": task} for task in ("detection", "classification", "dense_detection")]
    voc(folder)
    files["ood_test"] = [{"path": "VOC2007", "format": "voc", "task": "classification", "options": {"split": "test"}}]
    recipe = {"name": "published", "data": {"kind": "files", "files": files, "leaks": "exact"}}
    recipe |= {"questions": {"style": "full"}, "curriculum": {"total_steps": 3, "stages": STAGES}}
    recipe |= {"evaluation": {"models": ["base", "curr_rl"]}}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    loaded = load_recipe(folder / "recipe.yaml")
    return prepare(loaded, load_items(loaded), FRAME)


def test_every_form_is_asked(tmp_path: Path) -> None:
    """Preparing grades every truth by its own grader, and fails if one does not earn everything."""
    prepared = prepared_rows(tmp_path)
    for form in ("binary", "choice", "open"):
        for split in SPLITS[:3]:
            tasks = Counter(question.task for question in prepared.of(split, form))
            assert tasks == {"detection": 2, "classification": 2, "dense_detection": 4}, (split, form)
        assert Counter(question.task for question in prepared.of("ood_test", form)) == {"classification": 2}
    first = next(question for question in prepared.of("train") if question.task == "detection")
    # The box is in pixels of the picture as the model sees it: 120 x 100 becomes 112 x 112.
    assert FRAME.fit((120, 100)) == (112, 112)
    expected = (10 * 112 / 120, 4 * 112 / 100, 50 * 112 / 120, 64 * 112 / 100)
    assert all(abs(got - wanted) <= 0.51 for got, wanted in zip(first.truth, expected, strict=True))
    binary = [question for question in prepared.of("test", "binary") if question.task == "classification"]
    assert any("person" in question.prompt or "dog" in question.prompt for question in binary)
