"""``curr-reft init`` on the layouts people have: labels beside pictures, boxes in other formats, encodings of Excel."""

import csv
import json
import random
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image
from spelling_model import build_spelling_model

from curr_reft.cli import main
from curr_reft.data.load import load_data
from curr_reft.data.loaders import LOADERS
from curr_reft.init.choices import Choices
from curr_reft.init.init import Wanted, look
from curr_reft.prepare import truth_reader
from curr_reft.recipe import load_recipe

NO_MODEL = "/models/none"  # a folder that is not here, so that nothing is estimated
WIDTH, HEIGHT = 200, 150
NAMES = ("coin", "cup", "key")
ROWS = 24


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Pictures that share nothing, made once."""
    folder = tmp_path_factory.mktemp("pictures")
    for number in range(ROWS):
        rng = random.Random(number)
        blocks = Image.new("RGB", (10, 8))
        blocks.putdata([tuple(rng.randrange(256) for _ in range(3)) for _ in range(80)])
        blocks.resize((WIDTH, HEIGHT), Image.Resampling.NEAREST).save(folder / f"p{number:03}.jpg")
    return sorted(folder.iterdir())


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Runs a command: its exit code and all that it printed."""

    def carry_out(*words: str | Path) -> tuple[int, str]:
        code = main([*map(str, words)])
        printed = capsys.readouterr()
        return code, printed.out + printed.err

    return carry_out


def put(pictures: Sequence[Path], folder: Path) -> list[str]:
    """The pictures in ``folder``; their names."""
    folder.mkdir(parents=True, exist_ok=True)
    for picture in pictures:
        (folder / picture.name).write_bytes(picture.read_bytes())
    return [picture.name for picture in pictures]


def write_table(path: Path, rows: Sequence[Sequence[Any]], delimiter: str = ",", encoding: str = "utf-8") -> Path:
    with path.open("w", newline="", encoding=encoding) as file:
        csv.writer(file, delimiter=delimiter).writerows(rows)
    return path


def named(names: Sequence[str]) -> list[tuple[str, str]]:
    return [(name, NAMES[number % 3]) for number, name in enumerate(names)]


def corner_boxes(count: int = ROWS, seed: int = 5) -> list[tuple[int, int, int, int]]:
    """Boxes all over the picture, so that no other format fits all of them."""
    rng = random.Random(seed)
    boxes = []
    for _ in range(count):
        width, height = rng.randrange(20, 60), rng.randrange(20, 50)
        x, y = rng.randrange(WIDTH - width), rng.randrange(HEIGHT - height)
        boxes.append((x, y, x + width, y + height))
    return boxes


def as_xywh(box: Sequence[float]) -> list[float]:
    return [box[0], box[1], box[2] - box[0], box[3] - box[1]]


def as_centre(box: Sequence[float]) -> list[float]:
    return [(box[0] + box[2]) / 2, (box[1] + box[3]) / 2, box[2] - box[0], box[3] - box[1]]


def as_unit(box: Sequence[float]) -> list[float]:
    return [round(side / size, 6) for side, size in zip(box, (WIDTH, HEIGHT, WIDTH, HEIGHT), strict=True)]


# --- labels beside pictures


def labels_csv(folder: Path, pictures: list[Path]) -> Path:
    names = put(pictures, folder / "Bilder")
    return write_table(folder / "labels.csv", [("filename", "label"), *named(names)])


def labels_tsv_with_folders_in_the_paths(folder: Path, pictures: list[Path]) -> Path:
    names = put(pictures, folder / "images")
    rows = [(f"images/{name}", label) for name, label in named(names)]
    return write_table(folder / "train.tsv", [("path", "class"), *rows], delimiter="\t")


def labels_in_a_folder_of_their_own(folder: Path, pictures: list[Path]) -> Path:
    names = put(pictures, folder / "images")
    (folder / "annotations").mkdir()
    rows = [{"image": f"images/{name}", "label": label} for name, label in named(names)]
    path = folder / "annotations" / "all.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def llama_factory(folder: Path, pictures: list[Path]) -> Path:
    names = put(pictures, folder / "pics")
    rows = [
        {
            "conversations": [{"from": "human", "value": "<image>What is it?"}, {"from": "gpt", "value": label}],
            "images": [f"pics/{name}"],
        }
        for name, label in named(names)
    ]
    (folder / "my_data.json").write_text(json.dumps(rows, indent=2))
    about = {"mine": {"file_name": "my_data.json", "formatting": "sharegpt", "columns": {"images": "images"}}}
    (folder / "dataset_info.json").write_text(json.dumps(about))
    return folder / "my_data.json"


def parquet_of_paths(folder: Path, pictures: list[Path]) -> Path:
    names = put(pictures, folder / "img")
    rows = [{"image": f"img/{name}", "label": label} for name, label in named(names)]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), folder / "labels.parquet")
    return folder / "labels.parquet"


def roboflow_split(folder: Path, pictures: list[Path]) -> Path:
    names = put(pictures, folder)
    return write_coco(folder / "_annotations.coco.json", names)


def write_coco(path: Path, names: Sequence[str]) -> Path:
    images = [{"id": n, "file_name": name, "width": WIDTH, "height": HEIGHT} for n, name in enumerate(names)]
    annotations = [
        {"id": n, "image_id": n, "category_id": n % 3, "bbox": as_xywh(box), "area": 9, "iscrowd": 0}
        for n, box in enumerate(corner_boxes(len(names)))
    ]
    categories = [{"id": n, "name": name, "supercategory": "thing"} for n, name in enumerate(NAMES)]
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return path


USED: list[Callable[[Path, list[Path]], Path]] = [
    labels_csv,
    labels_tsv_with_folders_in_the_paths,
    labels_in_a_folder_of_their_own,
    llama_factory,
    parquet_of_paths,
]


@pytest.mark.parametrize("write", USED)
def test_the_one_file_with_labels_of_a_folder_is_used(
    write: Callable[[Path, list[Path]], Path], tmp_path: Path, pictures: list[Path]
) -> None:
    labels = write(tmp_path, pictures)
    choices = Choices()
    wanted = Wanted(options={} if labels.suffix == ".json" else {"question": "What is it?"})
    seen = look(tmp_path, wanted, choices)
    chosen = choices.of("data")
    assert chosen is not None
    assert (seen.path, chosen.value) == (labels, str(labels))
    assert "names its pictures" in chosen.why
    if seen.task == "classification":
        assert {str(fields.answer) for fields in seen.fields} == set(NAMES)
    assert not seen.bad


def test_a_folder_that_a_label_tool_wrote_is_read_as_it_is(tmp_path: Path, pictures: list[Path]) -> None:
    roboflow_split(tmp_path, pictures)
    seen = look(tmp_path, Wanted(), Choices())
    assert (seen.path, seen.format, seen.task) == (tmp_path, "coco", "detection")
    assert seen.fields
    assert not seen.bad


def test_a_recipe_for_labels_beside_pictures_passes_check(
    tmp_path: Path, pictures: list[Path], run: Callable[..., tuple[int, str]]
) -> None:
    labels, out = labels_csv(tmp_path, pictures), tmp_path / "own.yaml"
    words = ("--data", tmp_path, "--model", NO_MODEL, "--out", out, "--option", "question=What is it?")
    code, text = run("init", *words)
    assert code == 0, text
    assert f"data: {labels}: the one file in the folder that names its pictures" in text
    assert load_recipe(out).data.files.train[0].path == str(labels)
    code, text = run("check", out, "--no-model")
    assert code == 0, text


def voc(folder: Path, pictures: list[Path], classes: Sequence[str] = ("dog", "cat", "bird")) -> None:
    names = put(pictures, folder / "JPEGImages")
    (folder / "Annotations").mkdir()
    (folder / "ImageSets" / "Main").mkdir(parents=True)
    for number, (name, box) in enumerate(zip(names, corner_boxes(), strict=False)):
        write_xml(folder / "Annotations" / f"{Path(name).stem}.xml", classes[number % 3], box)
    (folder / "ImageSets" / "Main" / "train.txt").write_text("".join(f"{Path(name).stem}\n" for name in names))


def write_xml(path: Path, label: str, box: Sequence[int]) -> None:
    sides = "".join(f"<{k}>{v}</{k}>" for k, v in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True))
    path.write_text(
        f"<annotation><filename>{path.stem}.jpg</filename><size><width>{WIDTH}</width><height>{HEIGHT}</height></size>"
        f"<object><name>{label}</name><bndbox>{sides}</bndbox></object></annotation>"
    )


def test_the_parent_of_a_year_of_pascal_voc(
    tmp_path: Path, pictures: list[Path], run: Callable[..., tuple[int, str]]
) -> None:
    voc(tmp_path / "VOCdevkit" / "VOC2012", pictures)
    choices = Choices()
    seen = look(tmp_path / "VOCdevkit", Wanted(options={"split": "train"}), choices)
    assert (seen.format, seen.path.name, seen.task) == ("voc", "VOC2012", "detection")
    out = tmp_path / "own.yaml"
    words = ("init", "--data", tmp_path / "VOCdevkit", "--model", NO_MODEL, "--out", out)
    code, text = run(*words)
    assert code == 2
    assert "needs --option split=NAME; one of train" in text
    assert "options." not in text
    voc(tmp_path / "VOCdevkit" / "VOC2007", pictures)
    code, text = run(*words)
    assert code == 2
    assert "holds 2 folders of Pascal VOC" in text
    assert "VOC2007" in text


def test_own_classes_of_voc_name_the_flag(
    tmp_path: Path, pictures: list[Path], run: Callable[..., tuple[int, str]]
) -> None:
    voc(tmp_path / "own", pictures, classes=("five", "six", "seven"))
    words = ("--data", tmp_path / "own", "--model", NO_MODEL, "--out", tmp_path / "own.yaml", "--option", "split=train")
    code, text = run("init", *words)
    assert code == 2
    assert '--option "classes=..."' in text


def yolo(folder: Path, pictures: list[Path]) -> None:
    for split, part in (("train", pictures[:18]), ("val", pictures[18:])):
        names = put(part, folder / "images" / split)
        (folder / "labels" / split).mkdir(parents=True)
        for name, box in zip(names, corner_boxes(), strict=False):
            line = " ".join(map(str, (0, *as_unit(as_centre(box)))))
            (folder / "labels" / split / f"{Path(name).stem}.txt").write_text(line + "\n")
    (folder / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [coin]\n")


def labelimg(folder: Path, pictures: list[Path]) -> None:
    names = put(pictures, folder / "images")
    for name, box in zip(names, corner_boxes(), strict=False):
        write_xml(folder / "images" / f"{Path(name).stem}.xml", "coin", box)


def roboflow(folder: Path, pictures: list[Path]) -> None:
    for split, part in (("train", pictures[:12]), ("valid", pictures[12:18]), ("test", pictures[18:])):
        names = put(part, folder / split)
        write_coco(folder / split / "_annotations.coco.json", names)


def two_tables(folder: Path, pictures: list[Path]) -> None:
    names = put(pictures, folder / "images")
    write_table(folder / "train.csv", [("image", "label"), *named(names[:18])])
    write_table(folder / "test.csv", [("image", "label"), *named(names[18:])])


def spreadsheet(folder: Path, pictures: list[Path]) -> None:
    put(pictures, folder / "images")
    (folder / "labels.ods").write_bytes(b"PK\x03\x04 no table that is read here")


def lists_of_paths(folder: Path, pictures: list[Path]) -> None:
    names = put(pictures, folder / "images")
    (folder / "train.txt").write_text("".join(f"images/{name} {n % 3}\n" for n, name in enumerate(names)))


NAMED: dict[str, tuple[Callable[[Path, list[Path]], None], tuple[str, ...]]] = {
    "yolo": (yolo, ("the format yolo has no option question", "split")),
    "labelImg": (labelimg, ("the format labelimg has no option question",)),
    "roboflow": (roboflow, ("train/_annotations.coco.json", "--test")),
    "two tables": (two_tables, ("train.csv", "--test")),
    "spreadsheet": (spreadsheet, ("labels.ods", "columns image, label")),
    "lists": (lists_of_paths, ("train.txt", "columns image, label")),
}


@pytest.mark.parametrize("name", NAMED)
def test_labels_that_are_not_used_are_named(
    name: str, tmp_path: Path, pictures: list[Path], run: Callable[..., tuple[int, str]]
) -> None:
    write, parts = NAMED[name]
    data, out = tmp_path / "data", tmp_path / "own.yaml"
    write(data, pictures)
    code, text = run("init", "--data", data, "--model", NO_MODEL, "--out", out, "--option", "question=What is it?")
    if code == 0:  # a format that is read here by now
        entry = load_recipe(out).data.files.train[0]
        assert entry.format in LOADERS
        assert entry.format != "imagefolder"
        return
    assert code == 2
    assert "bad_rows" not in text
    for part in parts:
        assert part in text, text
    assert not out.exists()


def test_the_folder_of_pictures_itself_points_to_its_labels(
    tmp_path: Path, pictures: list[Path], run: Callable[..., tuple[int, str]]
) -> None:
    labels = labels_csv(tmp_path, pictures)
    code, text = run("init", "--data", tmp_path / "Bilder", "--model", NO_MODEL, "--out", tmp_path / "own.yaml")
    assert code == 2
    assert f"Then --data {labels}" in text


@pytest.mark.parametrize("beside", ["README.md", "classes.txt", "counts.csv", "licence.json"])
def test_folders_of_classes_stay_what_they_are(beside: str, tmp_path: Path, pictures: list[Path]) -> None:
    for number, label in enumerate(NAMES):
        put(pictures[number::3], tmp_path / label)
    texts = {"counts.csv": "class,count\ncoin,8\ncup,8\nkey,8\n", "licence.json": '{"licence": "CC0"}'}
    (tmp_path / beside).write_text(texts.get(beside, "coin\ncup\nkey\n"))
    seen = look(tmp_path, Wanted(), Choices())
    assert (seen.format, seen.path) == ("imagefolder", tmp_path)
    assert {fields.answer[0] for fields in seen.fields} == set(NAMES)


@pytest.mark.parametrize("folders", [("images",), ("images/train", "images/val"), ("JPEGImages",)])
def test_names_of_picture_folders_are_no_classes(
    folders: Sequence[str], tmp_path: Path, pictures: list[Path], run: Callable[..., tuple[int, str]]
) -> None:
    for number, folder in enumerate(folders):
        put(pictures[number :: len(folders)], tmp_path / "data" / folder)
    code, text = run("init", "--data", tmp_path / "data", "--model", NO_MODEL, "--out", tmp_path / "own.yaml")
    assert code == 2
    assert "name no classes" in text


def test_a_column_of_pictures_without_suffix_is_not_left_out(
    tmp_path: Path, pictures: list[Path], run: Callable[..., tuple[int, str]]
) -> None:
    names = put(pictures, tmp_path / "data" / "train")
    rows = [(Path(name).stem, label) for name, label in named(names)]
    write_table(tmp_path / "data" / "labels.csv", [("id", "label"), *rows])
    words = ("--data", tmp_path / "data", "--model", NO_MODEL, "--out", tmp_path / "own.yaml")
    code, text = run("init", *words, "--option", "question=What?")
    assert code == 2
    assert "give --column image=NAME" in text
    code, text = run("init", *words, "--option", "question=What?", "--column", "image=id")
    assert code == 2
    assert "They have no suffix" in text


def test_a_table_without_a_header_is_said_to_be(
    tmp_path: Path, pictures: list[Path], run: Callable[..., tuple[int, str]]
) -> None:
    names = put(pictures, tmp_path)
    rows = [(n, *box, label) for (n, label), box in zip(named(names), corner_boxes(), strict=True)]
    data = write_table(tmp_path / "retina.csv", rows)
    code, text = run("init", "--data", data, "--model", NO_MODEL, "--out", tmp_path / "own.yaml")
    assert code == 2
    assert "it has no header" in text


def test_numbers_as_names_of_objects_are_pointed_out(tmp_path: Path, pictures: list[Path]) -> None:
    names = put(pictures, tmp_path)
    rows = [(n, k % 2, *box) for k, (n, box) in enumerate(zip(names, corner_boxes(), strict=True))]
    data = write_table(tmp_path / "a.csv", [("image", "class", "x1", "y1", "x2", "y2"), *rows])
    choices = Choices()
    look(data, Wanted(), choices)
    chosen = choices.of("column category")
    assert chosen is not None
    assert "Where is the 0 in the image?" in chosen.why


# --- answers that are all the same


def test_one_answer_to_every_picture_is_refused_by_init_and_check(
    tmp_path: Path, pictures: list[Path], run: Callable[..., tuple[int, str]]
) -> None:
    put(pictures, tmp_path / "data" / "dog")
    out = tmp_path / "own.yaml"
    code, text = run("init", "--data", tmp_path / "data", "--model", NO_MODEL, "--out", out)
    assert code == 2
    assert "answers of classification are 'dog'" in text
    assert not out.exists()
    out.write_text(recipe_of("{path: data}"))
    code, text = run("check", out, "--no-model")
    assert code == 2
    assert "data.files.train: all" in text


def recipe_of(entry: str, more: str = "test_fraction: 0.2") -> str:
    return (
        "name: own\nseed: 0\noutput: runs/own\nmodel: {path: /models/none}\n"
        f"data: {{kind: files, files: {{train: [{entry}], {more}}}}}\n"
        "curriculum: {total_steps: 2, stages: [{name: open, forms: {open: 1}, steps: rest}]}\n"
        "evaluation: {models: [base, curr_rl]}\n"
    )


def test_one_class_in_the_test_alone_is_no_problem(
    tmp_path: Path, pictures: list[Path], run: Callable[..., tuple[int, str]]
) -> None:
    put(pictures[:6], tmp_path / "train" / "dog")
    put(pictures[6:12], tmp_path / "train" / "cat")
    put(pictures[12:], tmp_path / "held" / "dog")
    out = tmp_path / "own.yaml"
    out.write_text(recipe_of("{path: train}", "test: [{path: held}]"))
    code, text = run("check", out, "--no-model")
    assert code == 0, text


def test_classes_in_a_file_each_are_different_answers(
    tmp_path: Path, pictures: list[Path], run: Callable[..., tuple[int, str]]
) -> None:
    names = put(pictures, tmp_path)
    for label, part in (("dog", names[:12]), ("cat", names[12:])):
        write_table(tmp_path / f"{label}.csv", [("question", "answer", "image"), *(("What?", label, n) for n in part)])
    out = tmp_path / "own.yaml"
    entries = "{path: dog.csv, task: classification}, {path: cat.csv, task: classification}"
    out.write_text(recipe_of(entries))
    code, text = run("check", out, "--no-model")
    assert code == 0, text


def test_one_number_as_every_answer_is_refused_too(tmp_path: Path, run: Callable[..., tuple[int, str]]) -> None:
    write_table(tmp_path / "a.csv", [("question", "answer"), *((f"How much is {n} - {n}?", "0") for n in range(20))])
    out = tmp_path / "own.yaml"
    out.write_text(recipe_of("{path: a.csv, task: math}"))
    code, text = run("check", out, "--no-model")
    assert code == 2
    assert "answers of math are '0'" in text


# --- boxes


def boxes_table(path: Path, pictures: list[Path], boxes: Sequence[Any], **more: Any) -> Path:
    names = put(pictures, path.parent / "imgs")
    rows = [
        {"image": f"imgs/{name}", "question": "Where is the coin?", "answer": box}
        for name, box in zip(names, boxes, strict=False)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


WRITTEN: dict[str, tuple[Callable[[Sequence[float]], Any], str, str]] = {  # box -> cell, box_format, boxes
    "corners": (list, "xyxy", "pixels"),
    "xywh": (as_xywh, "xywh", "pixels"),
    "xywh as text": (lambda box: str(as_xywh(box)), "xywh", "pixels"),
    "xywh with spaces": (lambda box: " ".join(map(str, as_xywh(box))), "xywh", "pixels"),
    "corners with spaces": (lambda box: " ".join(map(str, box)), "xyxy", "pixels"),
    "corners as numpy prints them": (lambda box: "[" + ". ".join(map(str, box)) + ".]", "xyxy", "pixels"),
    "xywh under a key": (lambda box: {"bbox": as_xywh(box)}, "xywh", "pixels"),
    "centre": (as_centre, "cxcywh", "pixels"),
    "centre, 0 to 1": (lambda box: as_unit(as_centre(box)), "cxcywh", "unit"),
    "xywh, 0 to 1": (lambda box: as_unit(as_xywh(box)), "xywh", "unit"),
    "corners, 0 to 1": (as_unit, "xyxy", "unit"),
    "named numbers": (
        lambda box: dict(zip(("x", "y", "width", "height"), as_xywh(box), strict=True)),
        "xywh",
        "pixels",
    ),
    "named corners": (lambda box: dict(zip(("left", "top", "right", "bottom"), box, strict=True)), "xyxy", "pixels"),
}


@pytest.mark.parametrize("name", WRITTEN)
def test_the_format_of_boxes_is_found_and_read(name: str, tmp_path: Path, pictures: list[Path]) -> None:
    write, box_format, unit = WRITTEN[name]
    true = corner_boxes()
    data = boxes_table(tmp_path / "rows.jsonl", pictures, [write(box) for box in true])
    choices = Choices()
    seen = look(data, Wanted(), choices)
    assert (seen.task, seen.box_format, seen.boxes) == ("detection", box_format, unit)
    (tmp_path / "own.yaml").write_text(
        recipe_of(f"{{path: rows.jsonl, format: table, task: detection, box_format: {box_format}, boxes: {unit}}}")
    )
    assert read_boxes(tmp_path / "own.yaml") == [pytest.approx(box, abs=0.01) for box in true]


def read_boxes(recipe: Path) -> list[Any]:
    loaded = load_recipe(recipe)
    items = load_data(loaded.data, truth_reader(loaded)).items
    return [item.truth for item in sorted(items, key=lambda item: int(item.source.split(":")[1]))]


def test_boxes_that_fit_two_formats_are_said_to_be(tmp_path: Path, pictures: list[Path]) -> None:
    # In the upper left quarter: inside as two corners, and as x, y, width, height.
    boxes = [[10 + n, 8 + n, 40 + n, 30 + n] for n in range(ROWS)]
    choices = Choices()
    seen = look(boxes_table(tmp_path / "rows.jsonl", pictures, boxes), Wanted(), choices)
    chosen = choices.of("box_format")
    assert chosen is not None
    assert (seen.box_format, chosen.value) == ("xyxy", "xyxy")
    assert "xywh (x, y, width, height)" in chosen.instead
    assert "curr-reft data show" in chosen.instead
    assert "--box-format" in chosen.instead


def test_a_recipe_for_xywh_is_written_checked_and_shown(
    tmp_path: Path, pictures: list[Path], run: Callable[..., tuple[int, str]]
) -> None:
    true = corner_boxes()
    data = boxes_table(tmp_path / "rows.jsonl", pictures, [as_xywh(box) for box in true])
    out = tmp_path / "own.yaml"
    code, text = run("init", "--data", data, "--model", NO_MODEL, "--out", out)
    assert code == 0, text
    assert "box_format: xywh: of 24 boxes 24 have an area and lie inside their picture as x, y, width, height" in text
    assert "bad_rows" not in text
    assert load_recipe(out).data.files.train[0].box_format == "xywh"
    code, text = run("check", out, "--no-model")
    assert code == 0, text
    code, text = run("data", "show", out, "--frame", "pixels", "--out", tmp_path / "page.html")
    assert code == 0, text
    page = (tmp_path / "page.html").read_text()
    drawn = re.findall(r'<rect class="mark truth" x="(\d+)" y="(\d+)" width="(\d+)" height="(\d+)"/>', page)
    assert drawn
    assert {tuple(map(int, box)) for box in drawn} <= {tuple(as_xywh(box)) for box in true}
    words = ("--data", data, "--model", NO_MODEL, "--out", tmp_path / "b.yaml")
    code, text = run("init", *words, "--box-format", "cxcywh")
    assert "box_format: cxcywh: --box-format says so" in text


def test_a_hand_written_recipe_over_xywh_is_told_so_and_not_to_skip(
    tmp_path: Path, pictures: list[Path], run: Callable[..., tuple[int, str]]
) -> None:
    boxes_table(tmp_path / "rows.jsonl", pictures, [as_xywh(box) for box in corner_boxes()])
    out = tmp_path / "own.yaml"
    out.write_text(recipe_of("{path: rows.jsonl, format: table, task: detection}"))
    code, text = run("check", out, "--no-model")
    assert code == 2
    assert "set box_format (xywh or cxcywh)" in text
    assert "Do not skip these rows" in text
    assert "set data.bad_rows: skip" not in text
    # Skipped all the same, the page begins with it.
    code, text = run("check", out, "--no-model", "--data.bad_rows", "skip")
    assert "Do not skip these rows" in text.splitlines()[1]


def test_box_format_does_not_apply_where_the_format_says_it(
    tmp_path: Path, pictures: list[Path], run: Callable[..., tuple[int, str]]
) -> None:
    write_coco(tmp_path / "coco.json", put(pictures, tmp_path))
    out = tmp_path / "own.yaml"
    out.write_text(recipe_of("{path: coco.json, format: coco, task: detection, box_format: xywh}"))
    code, text = run("check", out, "--no-model")
    assert code == 2
    assert "box_format xywh does not apply" in text


# --- tables with one object a row

SIDES: dict[str, tuple[tuple[str, ...], Callable[[Sequence[float]], Sequence[float]], str]] = {
    "tensorflow": (("xmin", "ymin", "xmax", "ymax"), list, "xyxy"),
    "numbers": (("x1", "y1", "x2", "y2"), list, "xyxy"),
    "words": (("left", "top", "right", "bottom"), list, "xyxy"),
    "open images": (("XMin", "XMax", "YMin", "YMax"), lambda b: [as_unit(b)[n] for n in (0, 2, 1, 3)], "xyxy"),
    "prefixed": (("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2"), list, "xyxy"),
    "xywh": (("x", "y", "w", "h"), as_xywh, "xywh"),
    "bbox_xywh": (("bbox_x", "bbox_y", "bbox_width", "bbox_height"), as_xywh, "xywh"),
    "centre": (("x_center", "y_center", "width", "height"), lambda box: as_unit(as_centre(box)), "cxcywh"),
}


@pytest.mark.parametrize("name", SIDES)
def test_a_class_column_and_four_box_columns_are_detection(
    name: str, tmp_path: Path, pictures: list[Path], run: Callable[..., tuple[int, str]]
) -> None:
    sides, write, box_format = SIDES[name]
    true = corner_boxes()
    names = put(pictures, tmp_path / "images")
    size = () if {"width", "height"} & set(sides) else ("width", "height")
    rows = [
        (n, *((WIDTH, HEIGHT) if size else ()), label, *write(box))
        for (n, label), box in zip(named(names), true, strict=True)
    ]
    write_table(tmp_path / "objects.csv", [("filename", *size, "class", *sides), *rows])
    out = tmp_path / "own.yaml"
    code, text = run("init", "--data", tmp_path / "objects.csv", "--model", NO_MODEL, "--out", out)
    assert code == 0, text
    assert "task: detection: each row is one object with its box" in text
    (entry,) = load_recipe(out).data.files.train
    assert entry.columns["category"] == "class"
    assert (entry.box_format or "xyxy") == box_format
    assert read_boxes(out) == [pytest.approx(box, abs=0.01) for box in true]
    loaded = load_recipe(out)
    questions = {item.question for item in load_data(loaded.data, truth_reader(loaded)).items}
    assert questions == {f"Where is the {label} in the image?" for label in NAMES}
    code, text = run("check", out, "--no-model")
    assert code == 0, text


def test_one_column_of_boxes_beside_a_class_is_detection_too(tmp_path: Path, pictures: list[Path]) -> None:
    names = put(pictures, tmp_path)
    rows = [(n, label, str(as_xywh(box))) for (n, label), box in zip(named(names), corner_boxes(), strict=True)]
    write_table(tmp_path / "wheat.csv", [("image_id", "source", "bbox"), *rows])
    seen = look(tmp_path / "wheat.csv", Wanted(columns={"category": "source"}), Choices())
    assert (seen.task, seen.box_format) == ("detection", "xywh")


def objects(folder: Path, pictures: list[Path]) -> Path:
    """Two coins and a cup in each picture; the last picture is empty."""
    names = put(pictures, folder)
    rows: list[tuple[Any, ...]] = []
    for number, name in enumerate(names[:-1]):
        rows += [(name, label, *corner_boxes(1, 9 * number + k)[0]) for k, label in enumerate(("coin", "cup", "coin"))]
    rows.append((names[-1], "", "", "", "", ""))
    return write_table(folder / "objects.csv", [("image", "label", "xmin", "ymin", "xmax", "ymax"), *rows])


@pytest.mark.parametrize(
    ("task", "count", "question"),
    [
        ("detection", ROWS - 1, "Where is the cup in the image?"),
        ("dense_detection", 2 * (ROWS - 1), "Where are all objects of the category coin in the image?"),
    ],
)
def test_only_what_has_one_answer_is_asked(
    task: str, count: int, question: str, tmp_path: Path, pictures: list[Path]
) -> None:
    seen = look(objects(tmp_path, pictures), Wanted(task=task), Choices())
    assert (len(seen.fields), len(seen.bad)) == (count, 0)
    assert question in {fields.question for fields in seen.fields}
    if task == "detection":
        assert all(len(fields.distractors) == 2 for fields in seen.fields)
    else:
        assert {len(fields.answer) for fields in seen.fields} == {1, 2}


def test_one_question_of_all_rows_joins_the_objects_of_a_picture(tmp_path: Path, pictures: list[Path]) -> None:
    data = objects(tmp_path, pictures)
    wanted = Wanted(task="dense_detection", options={"question": "Where is anything?"})
    assert {len(fields.answer) for fields in look(data, wanted, Choices()).fields} == {3}
    wanted = Wanted(task="detection", options={"question": "Point at the {category}."})
    assert {fields.question for fields in look(data, wanted, Choices()).fields} == {"Point at the cup."}


def test_several_of_every_category_name_the_task(
    tmp_path: Path, pictures: list[Path], run: Callable[..., tuple[int, str]]
) -> None:
    names = put(pictures, tmp_path)
    rows = [(n, "head", *box) for n in names for box in corner_boxes(2)]
    write_table(tmp_path / "heads.csv", [("image", "label", "xmin", "ymin", "xmax", "ymax"), *rows])
    code, text = run("init", "--data", tmp_path / "heads.csv", "--model", NO_MODEL, "--out", tmp_path / "own.yaml")
    assert code == 2
    assert "give --task dense_detection" in text


def test_a_broken_number_names_its_row_and_leaves_the_picture_out(tmp_path: Path, pictures: list[Path]) -> None:
    data = objects(tmp_path, pictures)
    lines = data.read_text().splitlines()
    lines[1] = f"{pictures[0].name},coin,10,zehn,20,30"
    data.write_text("\n".join(lines) + "\n")
    seen = look(data, Wanted(), Choices())
    (bad,) = seen.bad
    assert bad.source == "objects.csv:2"
    assert "no number in the column ymin, but 'zehn'" in bad.reason
    assert all(fields.images != (pictures[0].name,) for fields in seen.fields)


# --- questions, encodings, leaks, memory


def test_a_typed_text_is_the_question_of_every_row(
    tmp_path: Path,
    pictures: list[Path],
    run: Callable[..., tuple[int, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = put(pictures, tmp_path)
    rows = [(n, label, "ann", "train") for n, label in named(names)]
    data = write_table(tmp_path / "labels.csv", [("filename", "class_name", "annotator", "split"), *rows])
    typed = {"column with the answers": "class_name", "memory of the GPU": ""}
    asked: list[str] = []

    def answer(question: str) -> str:
        asked.append(question)
        if "column with the questions, or one question of all rows" in question:
            return "annotater" if "none of the columns" not in question else "What is shown?"
        return next(text for part, text in typed.items() if part in question)

    monkeypatch.setattr("builtins.input", answer)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    out = tmp_path / "own.yaml"
    code, text = run("init", "--data", data, "--model", NO_MODEL, "--out", out)
    assert code == 0, text
    (entry,) = load_recipe(out).data.files.train
    assert entry.options == {"question": "What is shown?"}
    assert entry.columns["answer"] == "class_name"
    assert any("'annotater' is none of the columns" in question for question in asked)


@pytest.mark.parametrize(
    ("encoding", "words"),
    [
        ("cp1252", ("Prüfer", "Löffel", "Münze")),
        ("gb18030", ("检查员姓名", "勺子", "硬币")),
        ("utf-16-le", ("Prüfer", "Löffel", "Münze")),
        ("shift_jis", ("けんさいん", "スプーン", "コイン")),
    ],
)
def test_another_encoding_is_named_with_the_flag_and_used(
    encoding: str, words: Sequence[str], tmp_path: Path, pictures: list[Path], run: Callable[..., tuple[int, str]]
) -> None:
    names = put(pictures, tmp_path)
    rows = [(n, words[1 + k % 2], "x") for k, n in enumerate(names)]
    data = write_table(tmp_path / "a.csv", [("image", "label", words[0]), *rows], delimiter=";", encoding=encoding)
    words_of_init = ("--data", data, "--model", NO_MODEL, "--out", tmp_path / "own.yaml")
    code, text = run("init", *words_of_init, "--option", "question=What?")
    assert code == 2
    assert f"--option encoding={encoding}" in text
    assert words[0] in text  # the header as that encoding reads it
    assert "\ufffd" not in text
    code, text = run("init", *words_of_init, "--option", "question=What?", "--option", f"encoding={encoding}")
    assert code == 0, text
    assert f"(instead: {words[0]} (--column" in text


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_byte_order_mark_needs_no_flag(encoding: str, tmp_path: Path, pictures: list[Path]) -> None:
    names = put(pictures, tmp_path)
    data = write_table(tmp_path / "a.csv", [("Bild", "label"), *named(names)], delimiter="\t", encoding=encoding)
    seen = look(data, Wanted(columns={"image": "Bild"}, options={"question": "Was?"}), Choices())
    assert [fields.answer for fields in seen.fields] == [label for _, label in named(names)]


def test_check_names_the_key_for_an_encoding(
    tmp_path: Path, pictures: list[Path], run: Callable[..., tuple[int, str]]
) -> None:
    names = put(pictures, tmp_path)
    write_table(tmp_path / "a.csv", [("image", "answer"), *((n, "Tür") for n in names)], encoding="cp1252")
    out = tmp_path / "own.yaml"
    out.write_text(recipe_of("{path: a.csv, task: classification}"))
    code, text = run("check", out, "--no-model")
    assert code == 2
    assert "options.encoding: cp1252" in text
    assert "--option" not in text


def test_the_first_line_of_excel_names_the_delimiter(tmp_path: Path, pictures: list[Path]) -> None:
    names = put(pictures, tmp_path)
    data = write_table(tmp_path / "a.csv", [("image", "label, or none"), *named(names)], delimiter=";")
    data.write_text("sep=;\n" + data.read_text())
    wanted = Wanted(columns={"answer": "label, or none"}, options={"question": "What?"})
    assert {fields.answer for fields in look(data, wanted, Choices()).fields} == set(NAMES)


def test_a_leak_advises_the_key_for_leaks(
    tmp_path: Path, pictures: list[Path], run: Callable[..., tuple[int, str]]
) -> None:
    for number, label in enumerate(NAMES):
        put(pictures[number::3], tmp_path / "learn" / label)
        put(pictures[number::3][:2], tmp_path / "held" / label)
    words = ("--data", tmp_path / "learn", "--test", tmp_path / "held", "--model", NO_MODEL)
    code, text = run("init", *words, "--out", tmp_path / "own.yaml")
    assert "data.leaking_rows: skip" in text
    assert "bad_rows" not in text, code


@pytest.mark.parametrize("gpu", [(), ("--gpu-memory", "24GB")])
def test_the_memory_of_init_is_that_of_check(
    gpu: tuple[str, ...], tmp_path: Path, pictures: list[Path], run: Callable[..., tuple[int, str]]
) -> None:
    model, out = build_spelling_model(tmp_path / "model"), tmp_path / "own.yaml"
    for number, label in enumerate(NAMES):
        put(pictures[number::3], tmp_path / "data" / label)
    code, text = run("init", "--data", tmp_path / "data", "--model", model, "--out", out, *gpu)
    assert code == 0, text
    estimated = text.split("about ")[1].split(" at the peak")[0]
    code, text = run("check", out, *gpu)
    assert code == 0, text
    assert f"fits: {estimated} of " in text


def test_a_data_set_of_the_hub_is_to_be_downloaded(tmp_path: Path, run: Callable[..., tuple[int, str]]) -> None:
    code, text = run(
        "init", "--data", "hf://datasets/someone/things", "--model", NO_MODEL, "--out", tmp_path / "a.yaml"
    )
    assert code == 2
    assert "hf://datasets/someone/things" in text
    assert "hf download" in text


def test_columns_on_the_command_make_json_rows_a_table(tmp_path: Path, pictures: list[Path]) -> None:
    names = put(pictures, tmp_path)
    rows = [{"images": [n], "query": "What is it?", "kind": label} for n, label in named(names)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    seen = look(tmp_path / "a.jsonl", Wanted(columns={"answer": "kind"}), Choices())
    assert (seen.format, seen.task) == ("table", "classification")
