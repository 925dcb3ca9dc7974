"""Exports of label tools and saved data sets by the user's door: ``init`` writes a recipe, and ``check`` passes it."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import label_tools as tools
import pyarrow
import pytest
from label_tools import Drawn, drawn_pictures
from spelling_model import build_spelling_model

from curr_reft.cli import main
from curr_reft.recipe import load_recipe

PICTURES = 36


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_spelling_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def pictures() -> list[Drawn]:
    return drawn_pictures(PICTURES)


@pytest.fixture
def carry_out(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    def run(*words: str | Path) -> tuple[int, str]:
        code = main([*map(str, words)])
        printed = capsys.readouterr()
        return code, printed.out + printed.err

    return run


Run = Callable[..., tuple[int, str]]
FOLDERS = [
    (tools.yolo, ["ds", "--option", "split=train"], "yolo", "data.yaml"),
    (tools.label_studio_media, ["export.json"], "label_studio", "Label Studio"),
    (tools.labelme, ["ds"], "labelme", "labelme"),
]


@pytest.mark.parametrize(
    ("writer", "words", "format", "why"), FOLDERS, ids=lambda value: getattr(value, "__name__", "")
)
def test_an_export_becomes_a_recipe(
    tmp_path: Path,
    model: Path,
    pictures: Sequence[Drawn],
    carry_out: Run,
    writer: tools.Writer,
    words: list[str],
    format: str,
    why: str,
) -> None:
    writer(tmp_path, pictures)
    out = tmp_path / "own.yaml"
    data = ["--data", tmp_path / words[0], *words[1:]]
    code, printed = carry_out("init", *data, "--model", model, "--gpu-memory", "8GB", "--out", out)
    assert code == 0, printed
    assert f"format: {format}: " in printed
    assert why in printed
    assert "task: detection: its boxes of objects can be asked for in several ways" in printed
    recipe = load_recipe(out)
    (entry,) = recipe.data.files.train
    assert (entry.format, entry.task) == (format, "detection")
    code, printed = carry_out("check", out)
    assert code == 0, printed


def test_a_saved_data_set_becomes_a_recipe(
    tmp_path: Path, model: Path, pictures: Sequence[Drawn], carry_out: Run
) -> None:
    saved = tmp_path / "saved"
    saved.mkdir()
    cells = []
    for picture in pictures:
        picture.save(tmp_path / "p.png")
        cells.append({"bytes": (tmp_path / "p.png").read_bytes(), "path": None})
    columns = {
        "image": pyarrow.array(cells, pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])),
        "label": [picture.things[0][0] for picture in pictures],
    }
    table = pyarrow.table(columns)
    with pyarrow.ipc.new_stream(str(saved / "data-00000-of-00001.arrow"), table.schema) as writer:
        writer.write_table(table)
    (saved / "state.json").write_text(json.dumps({"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}))
    (saved / "dataset_info.json").write_text("{}")
    (tmp_path / "p.png").unlink()
    out = tmp_path / "own.yaml"
    words = ["--option", "question=Which of them stands alone?", "--model", model, "--gpu-memory", "8GB", "--out", out]
    code, printed = carry_out("init", "--data", saved, *words)
    assert code == 0, printed
    assert "format: arrow: what is there is a folder that datasets.save_to_disk wrote" in printed
    code, printed = carry_out("check", out)
    assert code == 0, printed


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ("hf://datasets/org/name", "hf download org/name --repo-type dataset --local-dir name"),
        ("photos.zip", "is a zip archive: unpack it"),
        ("rows.xlsx", "is an Excel workbook: save it as CSV"),
        ("lfs.jsonl", "run git lfs pull"),
        ("page.json", "is a web page (HTML)"),
        ("empty.jsonl", "is an empty file"),
        ("ds", "holds the splits train, val; name one"),
    ],
)
def test_what_is_not_read_is_said_in_one_line(tmp_path: Path, carry_out: Run, data: str, reason: str) -> None:
    tools.yolo(tmp_path, drawn_pictures(2))
    (tmp_path / "photos.zip").write_bytes(b"PK\x03\x04" + bytes(26) + b"photos/a.jpg")
    (tmp_path / "rows.xlsx").write_bytes(b"PK\x03\x04" + bytes(26) + b"[Content_Types].xml")
    (tmp_path / "lfs.jsonl").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    (tmp_path / "page.json").write_text("<!doctype html><title>Sign in</title>")
    (tmp_path / "empty.jsonl").write_text("")
    path = data if "://" in data else tmp_path / data
    code, printed = carry_out("init", "--data", path, "--model", "m", "--out", tmp_path / "own.yaml")
    assert code == 2
    assert reason in printed
    assert len(printed.strip().splitlines()) == 1
    assert not (tmp_path / "own.yaml").exists()
