"""Files as people have them: packed, in other encodings, from Windows; and what is no data, named in one line."""

import base64
import gzip
import io
import json
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
from image_rows import small_png

from curr_reft.data.config import DataConfig
from curr_reft.data.item import Item
from curr_reft.data.load import load_data
from curr_reft.data.opening import excel_delimiter, is_base64, open_data
from curr_reft.errors import DataError
from curr_reft.tasks import TASKS

ROW = {"problem": "What is written on the sign, größer or 小心?", "solution": "小心", "task": "classification"}
JSONL = "".join(json.dumps({**ROW, "image": f"images/{number}.png"}, ensure_ascii=False) + "\n" for number in range(3))
CSV = "question,answer,image\n" + "".join(f"größer or 小心?,小心,images/{number}.png\n" for number in range(3))
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22e\nsize 12\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    for number in range(4):
        (tmp_path / f"images/{number}.png").write_bytes(small_png(number * 70_000))
    test = {**ROW, "image": "images/3.png"}
    (tmp_path / "test.jsonl").write_text(json.dumps(test), encoding="utf-8")
    return tmp_path


def load(folder: Path, entry: dict[str, Any]) -> list[Item]:
    config = DataConfig.model_validate(
        {"kind": "files", "files": {"train": [{"task": "classification", **entry}], "test": [{"path": "test.jsonl"}]}}
    )
    found = load_data(config, lambda task, truth: TASKS[task].read_truth(truth), folder).items
    return [item for item in found if item.split != "test"]


def reasons(folder: Path, entry: dict[str, Any]) -> list[str]:
    with pytest.raises(DataError) as caught:
        load(folder, entry)
    return [f"{source}: {reason}" for source, reason in caught.value.problems]


def packed(text: str, encoding: str) -> bytes:
    return gzip.compress(text.encode(encoding))


GOOD: list[tuple[str, bytes]] = [
    ("rows.jsonl", b"\xef\xbb\xbf" + JSONL.encode()),
    ("rows.jsonl", JSONL.replace("\n", "\r\n").encode()),
    ("rows.jsonl", JSONL.encode("utf-16")),
    ("rows.jsonl", JSONL.encode("utf-16-le")),
    ("rows.jsonl", JSONL.encode("utf-16-be")),
    ("rows.jsonl.gz", packed(JSONL, "utf-8")),
    ("rows.jsonl.gz", packed(JSONL, "utf-16")),
    ("rows.jsonl", packed(JSONL, "utf-8")),  # unpacked by nobody, renamed by somebody
    ("rows.json.gz", packed(f"[{','.join(JSONL.splitlines())}]", "utf-8-sig")),
    ("rows.json", f"[{','.join(JSONL.splitlines())}]".encode("utf-16")),
    ("rows.csv", b"\xef\xbb\xbf" + CSV.encode()),
    ("rows.csv.gz", packed(CSV, "utf-8")),
    ("rows.csv", CSV.encode("utf-16")),
    ("rows.tsv.gz", packed(CSV.replace(",", "\t"), "utf-8")),
    ("rows.csv", f"sep=;\r\n{CSV.replace(',', ';')}".encode("utf-8-sig")),
    ("rows.csv", f'"sep=|"\n{CSV.replace(",", "|")}'.encode()),
    ("rows.jsonl", JSONL.replace("images/", "images\\\\").encode()),
    ("rows.csv", CSV.replace("images/", ".\\images\\").encode()),
]


@pytest.mark.parametrize(("name", "content"), GOOD, ids=range(len(GOOD)))
def test_what_people_have_is_read(folder: Path, name: str, content: bytes) -> None:
    (folder / name).write_bytes(content)
    found = load(folder, {"path": name})
    assert len(found) == 3
    assert {item.truth for item in found} == {("小心",)}
    assert all("größer or 小心?" in item.question for item in found)
    assert len({item.images[0].key for item in found}) == 3


def zipped(*names: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in names:
            archive.writestr(name, "x" * 40)
    return file.getvalue()


def tarred() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("rows.jsonl"))
    return file.getvalue()


HTML = b"<!DOCTYPE html>\n<html><head><title>Sign in</title></head></html>"
REFUSED: list[tuple[str, bytes, str]] = [
    ("rows.jsonl", b"", "is an empty file"),
    ("rows.csv", b"", "is an empty file"),
    ("rows.csv.gz", gzip.compress(b""), "is an empty file"),
    ("rows.jsonl", LFS, "is a Git LFS pointer, not the file itself: run git lfs pull"),
    ("rows.csv", LFS, "is a Git LFS pointer"),
    ("rows.parquet", LFS, "is a Git LFS pointer"),
    ("rows.jsonl", HTML, "is a web page (HTML) saved in place of the file"),
    ("rows.csv", b"\n  " + HTML, "is a web page"),
    ("rows.json", b"<html>", "is a web page"),
    ("photos.zip", zipped("photos/a.jpg"), "is a zip archive: unpack it"),
    ("rows.csv", zipped("a.csv"), "is a zip archive: unpack it"),
    ("rows.xlsx", zipped("[Content_Types].xml", "xl/workbook.xml"), "is an Excel workbook: save it as CSV (UTF-8)"),
    ("rows.csv", zipped("[Content_Types].xml", "xl/workbook.xml"), "is an Excel workbook"),
    ("rows.xls", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(500), "is an old Excel workbook (.xls)"),
    ("rows.tar", tarred(), "is a tar archive: unpack it"),
    ("rows.tar.gz", gzip.compress(tarred()), "is a tar archive: unpack it"),
    ("rows.jsonl.bz2", b"BZh91AY&SY", "is packed by bzip2: unpack it first"),
    ("rows.jsonl.zst", b"\x28\xb5\x2f\xfd\x04\x00", "is packed by zstd: unpack it first"),
    ("rows.jsonl.gz", gzip.compress(JSONL.encode())[:-20], "its gz packing is damaged"),
    ("rows.jsonl", JSONL.encode("gb18030", "replace"), "it may be gb18030: write the file as UTF-8"),
    ("rows.json", f"[{','.join(JSONL.splitlines())}]".encode("gb18030"), "it may be gb18030: write the file as UTF-8"),
    ("rows.jsonl", '{"problem": "größer"}'.encode("cp1252"), "it may be cp1252"),
]


@pytest.mark.parametrize(("name", "content", "reason"), REFUSED, ids=range(len(REFUSED)))
def test_what_is_no_data_is_named_in_one_line(folder: Path, name: str, content: bytes, reason: str) -> None:
    (folder / name).write_bytes(content)
    first = reasons(folder, {"path": name})[0]
    assert reason in first
    assert first.startswith(name)
    assert "\n" not in first


def test_an_archive_where_a_folder_belongs(folder: Path) -> None:
    (folder / "VOC.zip").write_bytes(zipped("VOC2007/a.xml"))
    (first,) = reasons(folder, {"path": "VOC.zip", "format": "voc"})
    assert first == "VOC.zip: is a zip archive: unpack it and give the folder or file inside"


@pytest.mark.parametrize(
    ("content", "reason"),
    [(LFS, "is a Git LFS pointer"), (HTML, "is a web page (HTML)"), (b"", "is an empty file"), (b"no", "known format")],
)
def test_pictures_that_are_none(folder: Path, content: bytes, reason: str) -> None:
    (folder / "rows.jsonl").write_text(JSONL, encoding="utf-8")
    (folder / "images/1.png").write_bytes(content)
    (first,) = reasons(folder, {"path": "rows.jsonl"})
    assert first.startswith("rows.jsonl:2: image 'images/1.png' ")
    assert reason in first


PICTURE = base64.b64encode(small_png(1, side=200) + bytes(3000)).decode()


@pytest.mark.parametrize(
    "image",
    [
        PICTURE,
        f"data:image/png;base64,{PICTURE}",
        "data:image/jpeg;base64,/9j/4AAQSkZJRg==",
        "\n".join(PICTURE[start : start + 76] for start in range(0, len(PICTURE), 76)),
        [PICTURE],
        {"path": PICTURE, "bytes": None},
    ],
    ids=["raw", "url", "short", "wrapped", "list", "struct"],
)
def test_base64_pictures_are_named_and_never_printed(folder: Path, image: Any) -> None:
    (folder / "rows.jsonl").write_text(json.dumps({**ROW, "image": image}))
    (first,) = reasons(folder, {"path": "rows.jsonl"})
    characters = len(image if isinstance(image, str) else PICTURE)
    assert f"rows.jsonl:1: image is a base64 picture, {characters} characters" in first
    assert "write it to a file and give its path" in first
    assert len(first) < 200


def test_base64_elsewhere_is_never_printed(folder: Path) -> None:
    """Parts of a conversation as OpenAI's servers take them, and a picture where a question belongs."""
    url = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PICTURE}"}}
    for row in ({"prompt": [{"role": "user", "content": [url]}], "answer": "1"}, {**ROW, "problem": [PICTURE]}):
        (folder / "rows.jsonl").write_text(json.dumps(row))
        (first,) = reasons(folder, {"path": "rows.jsonl"})
        assert PICTURE[:20] not in first
        assert "base64 picture" in first


def test_paths_are_no_base64() -> None:
    for path in ("images/1.png", "a" * 150, f"{'/'.join(['folder'] * 40)}/1.png", "iVBORw0KGgo.png", "Qk/0001.jpg"):
        assert not is_base64(path), path
    assert excel_delimiter("sep=\t\n") == "\t"
    assert excel_delimiter("sep,eal\n") is None


def test_windows_paths_keep_their_rules(folder: Path) -> None:
    """Absolute paths and those that lead out stay refused; image_prefix is written as the rows have it, or with /."""
    for image, reason in (
        ("C:\\data\\1.png", "is absolute"),
        ("..\\1.png", "holds .."),
        ("\\\\host\\x\\1.png", "absolute"),
    ):
        (folder / "rows.jsonl").write_text(json.dumps({**ROW, "image": image}))
        assert reason in reasons(folder, {"path": "rows.jsonl"})[0]
    (folder / "rows.jsonl").write_text(JSONL.replace("images/", "D:\\\\set\\\\images\\\\"), encoding="utf-8")
    for prefix in ("D:\\set\\", "D:/set"):
        assert len(load(folder, {"path": "rows.jsonl", "image_prefix": prefix})) == 3


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("hf://datasets/org/name", "hf download org/name --repo-type dataset --local-dir name"),
        ("hf://datasets/org/name/train.parquet", "hf download org/name --repo-type dataset --local-dir name"),
        ("https://huggingface.co/datasets/org/name", "hf download org/name --repo-type dataset --local-dir name"),
        ("https://host/rows.jsonl", "is an address (https), and data are read from files"),
        ("s3://bucket/rows.jsonl", "is an address (s3)"),
    ],
)
def test_addresses_say_how_to_download(folder: Path, path: str, reason: str) -> None:
    (first,) = reasons(folder, {"path": path})
    assert first.startswith(path)
    assert reason in first


def test_large_files_are_read_in_pieces(tmp_path: Path) -> None:
    """UTF-16 with characters that straddle every border of a buffer."""
    text = "".join(f'{{"a": "{"小" * (number % 97)}{number}"}}\n' for number in range(20_000))
    (tmp_path / "a.jsonl.gz").write_bytes(packed(text, "utf-16"))
    with open_data(tmp_path / "a.jsonl.gz", "a") as file:
        assert b"".join(file).decode("utf-8") == text
