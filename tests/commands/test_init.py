"""A first recipe by the user's door: rows of every common layout, and what is written passes ``curr-reft check``."""

import csv
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from checkpoints import published_folder
from PIL import Image, ImageDraw
from spelling_model import build_spelling_model

from curr_reft.cli import main
from curr_reft.errors import UsageError
from curr_reft.init.choices import Choices
from curr_reft.recipe import Recipe, load_recipe

COLOURS = {"red": (200, 30, 30), "green": (30, 160, 60), "blue": (30, 60, 200), "yellow": (220, 200, 40)}
ROWS = 40


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_spelling_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def told(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Carries out a command that must work, and gives what it printed."""

    def carry_out(*words: str | Path) -> str:
        code = main([*map(str, words)])
        printed = capsys.readouterr()
        assert code == 0, printed.err
        return printed.out

    return carry_out


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    def carry_out(*words: str | Path) -> str:
        assert main([*map(str, words)]) == 2
        return capsys.readouterr().err

    return carry_out


def photo(path: Path, seed: int, size: tuple[int, int] = (200, 150)) -> tuple[str, list[int]]:
    """A picture of blocks with one coloured box on it; its colour and the box."""
    rng = random.Random(seed)
    blocks = Image.new("RGB", (10, 8))
    blocks.putdata([(rng.randrange(256),) * 3 for _ in range(80)])
    image = blocks.resize(size, Image.Resampling.NEAREST)
    colour = list(COLOURS)[seed % len(COLOURS)]
    width, height = size[0] // 4, size[1] // 4
    x, y = rng.randrange(size[0] - width), rng.randrange(size[1] - height)
    ImageDraw.Draw(image).rectangle((x, y, x + width - 1, y + height - 1), fill=COLOURS[colour])
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, quality=90)
    return colour, [x, y, x + width, y + height]


def comments(path: Path) -> str:
    """Those of a recipe, as one text."""
    return " ".join(line.strip("# ") for line in path.read_text().splitlines() if line.strip().startswith("#"))


def write_jsonl(path: Path, rows: list[Any]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_csv(folder: Path) -> Path:
    with (folder / "labels.csv").open("w", newline="") as file:
        writer = csv.writer(file, delimiter=";")
        writer.writerow(["Photo", "Frage", "label"])
        for number in range(ROWS):
            colour, _ = photo(folder / "pictures" / f"{number}.jpg", number)
            writer.writerow([f"{number}.jpg", f"Which colour, photo {number}?", colour])
    return folder / "labels.csv"


def write_reference(folder: Path) -> Path:
    rows = []
    for number in range(ROWS):
        colour, box = photo(folder / "images" / f"{number}.jpg", number)
        thinking = "<thinking>I look.</thinking>" if number % 2 else ""
        rows.append(
            {"problem": f"Where is the {colour} box?", "solution": f"{thinking}<answer>{box}</answer>",
             "task": "detection", "image": f"images/{number}.jpg"}
        )  # fmt: skip
    write_jsonl(folder / "train.jsonl", rows)
    return folder / "train.jsonl"


def write_trl(
    folder: Path, size: tuple[int, int] = (200, 150), scale: tuple[float, float] = (1, 1), count: int = ROWS
) -> Path:
    rows = []
    for number in range(count):
        colour, box = photo(folder / f"{number}.png", number, size)
        box = [round(side * scale[place % 2]) for place, side in enumerate(box)]
        turn = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": f"Find the {colour} box."}]}
        rows.append({"prompt": [turn], "images": [f"{number}.png"], "solution": str(box)})
    write_jsonl(folder / "rows.jsonl", rows)
    return folder / "rows.jsonl"


def write_coco(folder: Path) -> Path:
    images, annotations = [], []
    for number in range(ROWS):
        colour, (x1, y1, x2, y2) = photo(folder / "train2017" / f"{number}.jpg", number)
        images.append({"id": number, "file_name": f"{number}.jpg", "width": 200, "height": 150})
        annotations.append(
            {"id": number, "image_id": number, "category_id": 1 + list(COLOURS).index(colour),
             "bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1), "iscrowd": 0}
        )  # fmt: skip
    categories = [{"id": 1 + n, "name": f"{name} box", "supercategory": "box"} for n, name in enumerate(COLOURS)]
    path = folder / "instances.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return path


def write_folders(folder: Path) -> Path:
    for number in range(ROWS):
        photo(folder / "photos" / list(COLOURS)[number % 4] / f"{number}.jpg", number)
    return folder / "photos"


Layout = tuple[Callable[[Path], Path], tuple[str, ...], dict[str, Any]]
LAYOUTS: dict[str, Layout] = {  # how it is written, what init says of it, what stands in the entry
    "csv": (
        write_csv,
        (
            "format: table: the suffix",
            "column answer: label",
            "column question: Frage: --column says so\n",
            "task: classification: its answers are names ('red')",
        ),
        {
            "format": "table",
            "task": "classification",
            "columns": {"image": "Photo", "question": "Frage", "answer": "label"},
        },
    ),
    "reference": (
        write_reference,
        (
            "format: reference: the keys of its rows",
            "task: as the rows say: of the first 40: 40 detection",
            "boxes: pixels: of 40 boxes whose picture was looked at, 40 lie inside it as pixels",
        ),
        {"format": "reference", "task": None, "boxes": "pixels", "image_root": None},
    ),
    "trl": (
        write_trl,
        ("format: trl: the keys of its rows", "task: detection: its answers are one box each"),
        {"format": "trl", "task": "detection"},
    ),
    "coco": (
        write_coco,
        (
            "format: coco: the file holds images, annotations and categories",
            "task: detection",
            "boxes: pixels: the format coco says what its boxes are given in",
            "/train2017: 40 of the first 40 pictures are there",
        ),
        {"format": "coco", "task": "detection"},
    ),
    "imagefolder": (
        write_folders,
        ("format: imagefolder: the folder holds pictures", "task: as the rows say: of the first 40: 40 classification"),
        {"format": "imagefolder"},
    ),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_what_is_written_passes_check(name: str, model: Path, tmp_path: Path, told: Callable[..., str]) -> None:
    write, says, expected = LAYOUTS[name]
    data, out = write(tmp_path), tmp_path / "own.yaml"
    columns = ("--column", "question=Frage") if name == "csv" else ()
    printed = told("init", "--data", data, "--model", model, "--gpu-memory", "24GB", "--out", out, *columns)
    recipe = load_recipe(out)
    (entry,) = recipe.data.files.train
    for part in says:
        assert part in printed
    assert {key: getattr(entry, key) for key in expected} == expected
    # What was chosen, and why, stands in the file as well.
    assert "Instead: " in comments(out)
    assert "at the peak of training, of 24.0 GB of --gpu-memory" in comments(out)
    checked = told("check", out)
    for place in (printed, comments(out), checked):
        assert "test has 4 items, 49 points either way" in place
    assert f"model {model}" in checked
    assert sum(len(stage.forms) for stage in recipe.curriculum.stages) >= 1


def test_a_model_of_another_family_gets_no_bounds_on_pixels(tmp_path: Path, told: Callable[..., str]) -> None:
    model = published_folder("smolvlm", tmp_path / "SmolVLM")
    out = tmp_path / "mine too" / "zählen.yaml"
    out.parent.mkdir()
    named = out.parent / ".." / model.name
    words = ("--data", write_folders(tmp_path), "--model", named, "--gpu-memory", "24GB")
    assert f"next: curr-reft check '{out}'" in told("init", *words, "--out", out)
    assert load_recipe(out).model.path == str(model.resolve())
    assert load_recipe(out).model.max_pixels is None
    assert load_recipe(out).name == "zahlen"
    told("check", out)


def test_columns_of_parquet_whose_names_are_half_of_a_known_style(
    model: Path, tmp_path: Path, told: Callable[..., str]
) -> None:
    rows = []
    for number in range(20):
        colour, _ = photo(tmp_path / "photo.png", number)
        picture = {"bytes": (tmp_path / "photo.png").read_bytes(), "path": None}
        rows.append({"image": picture, "query": "Which colour is the box?", "label": colour})
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "train.parquet")
    told("init", "--data", tmp_path / "train.parquet", "--model", model, "--out", tmp_path / "own.yaml")
    (entry,) = load_recipe(tmp_path / "own.yaml").data.files.train
    assert entry.columns == {"question": "query", "answer": "label"}


def test_boxes_that_do_not_fit_their_pictures_are_thousandths(
    model: Path, tmp_path: Path, told: Callable[..., str]
) -> None:
    data = write_trl(tmp_path, scale=(1000 / 200, 1000 / 150))
    printed = told("init", "--data", data, "--model", model, "--out", tmp_path / "own.yaml")
    assert "boxes: thousand: of 40 boxes whose picture was looked at" in printed
    assert load_recipe(tmp_path / "own.yaml").data.files.train[0].boxes == "thousand"
    told("check", tmp_path / "own.yaml")


def test_a_single_box_outside_of_its_picture_does_not_turn_all_others(
    model: Path, tmp_path: Path, refused: Callable[..., str], told: Callable[..., str]
) -> None:
    data, out = write_trl(tmp_path), tmp_path / "own.yaml"
    first, rest = data.read_text().split("\n", 1)
    data.write_text(json.dumps({**json.loads(first), "solution": "[10, 10, 900, 40]"}) + "\n" + rest)
    words = ("init", "--data", data, "--model", model, "--out", out)
    assert "39 lie inside it as pixels, and numbers go up to 900; give --boxes" in refused(*words)
    assert "boxes: pixels: --boxes says so" in told(*words, "--boxes", "pixels")


def test_boxes_that_could_be_either_are_said_to_be(model: Path, tmp_path: Path, told: Callable[..., str]) -> None:
    data = write_trl(tmp_path, size=(1200, 1000), scale=(0.8, 0.8), count=14)
    printed = told("init", "--data", data, "--model", model, "--out", tmp_path / "own.yaml")
    assert "boxes: pixels" in printed
    assert "instead: thousand (0-1000), as no number is above 1000" in printed
    assert "Instead: thousand (0-1000)" in comments(tmp_path / "own.yaml")


def test_nothing_is_overwritten(model: Path, tmp_path: Path, refused: Callable[..., str]) -> None:
    data, out = write_folders(tmp_path), tmp_path / "own.yaml"
    out.write_text("mine")
    assert "own.yaml is there already" in refused("init", "--data", data, "--model", model, "--out", out)
    assert out.read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["own.yaml", "photos"]


def test_a_folder_of_pictures_whose_table_lies_in_it_says_so(
    model: Path, tmp_path: Path, refused: Callable[..., str]
) -> None:
    photo(tmp_path / "a.png", 0)
    (tmp_path / "labels.csv").write_text("photo,label\na.png,red\n")
    text = refused("init", "--data", tmp_path, "--model", model, "--out", tmp_path / "own.yaml")
    assert f"--data {tmp_path / 'labels.csv'}" in text


def test_too_few_rows_for_any_stage_are_said_to_be(model: Path, tmp_path: Path, refused: Callable[..., str]) -> None:
    data = write_trl(tmp_path, count=7)
    text = refused("init", "--data", data, "--model", model, "--out", tmp_path / "own.yaml")
    assert "takes 8 questions to train on and one for validation: binary: 5 questions" in text
    assert not (tmp_path / "own.yaml").exists()


def of_no_format(rows: list[Any]) -> list[Any]:
    return [{"Frage": "Where?", "Bild": row["images"][0], "Ort": "at the left"} for row in rows]


def of_no_question(rows: list[Any]) -> list[Any]:
    return [{"Frage": "Where?", "image": row["images"][0], "answer": row["solution"]} for row in rows]


def of_two_tasks(rows: list[Any]) -> list[Any]:
    return [{**row, "solution": "red" if number % 2 else row["solution"]} for number, row in enumerate(rows)]


def without_pictures(rows: list[Any]) -> list[Any]:
    return [{**row, "images": [f"elsewhere/{number}.png"]} for number, row in enumerate(rows)]


@pytest.mark.parametrize(
    ("change", "flag"),
    [
        (of_no_format, "--column answer=NAME"),
        (of_no_question, '--column question=NAME, or --option "question=..."'),
        (of_two_tasks, "--task"),
        (without_pictures, "--image-root"),
    ],
)
def test_what_cannot_be_told_names_the_flag(
    change: Callable[[list[Any]], list[Any]], flag: str, model: Path, tmp_path: Path, refused: Callable[..., str]
) -> None:
    data = write_trl(tmp_path)
    rows = change([json.loads(line) for line in data.read_text().splitlines()])
    write_jsonl(data, rows)
    text = refused("init", "--data", data, "--model", model, "--out", tmp_path / "own.yaml")
    assert flag in text
    assert not (tmp_path / "own.yaml").exists()


def test_without_flags_nobody_is_asked_where_there_is_no_terminal(refused: Callable[..., str]) -> None:
    assert "give --data" in refused("init")


def test_a_person_is_asked(
    model: Path, tmp_path: Path, told: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    answers = {"file or folder": str(write_folders(tmp_path)), "model:": str(model), "memory of the GPU": "24GB"}

    def answer(question: str) -> str:
        asked.append(question)
        return next(text for part, text in answers.items() if question.startswith(part))

    monkeypatch.setattr("builtins.input", answer)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.chdir(tmp_path)
    told("init")
    assert [next(part for part in answers if question.startswith(part)) for question in asked] == list(answers)
    assert load_recipe(tmp_path / "photos.yaml").name == "photos"


def test_a_person_may_mistype_and_may_leave() -> None:
    typed = iter(["colour", "label"])
    assert Choices(ask=lambda _: next(typed)).pick("--column answer=NAME", ["label"], "answers", unclear="?") == "label"

    def leave(_: str) -> str:
        raise EOFError  # Ctrl-D

    with pytest.raises(UsageError, match="file or folder with rows is needed; give --data"):
        Choices(ask=leave).need("--data", None, "file or folder with rows")


def test_a_model_that_is_not_here_is_said_and_nothing_is_estimated(tmp_path: Path, told: Callable[..., str]) -> None:
    model, out = tmp_path / "models" / "none", tmp_path / "a.yaml"
    printed = told("init", "--data", write_folders(tmp_path), "--model", model, "--out", out)
    assert "memory: an adapter with recomputed activations: the model could not be looked at here" in printed
    recipe: Recipe = load_recipe(out)
    assert recipe.model.lora is not None
    assert recipe.model.gradient_checkpointing
    assert "not checked: tokens" in told("check", out, "--no-model")


def test_bad_rows_are_said_and_the_recipe_is_written(model: Path, tmp_path: Path, told: Callable[..., str]) -> None:
    data = write_reference(tmp_path)
    (tmp_path / "images" / "3.jpg").write_bytes(b"no picture")
    printed = told("init", "--data", data, "--model", model, "--out", tmp_path / "own.yaml")
    assert "1 problems of the rows, which a run refuses" in printed
    assert "train.jsonl:4: image 'images/3.jpg'" in printed
    assert main(["check", str(tmp_path / "own.yaml")]) == 2
