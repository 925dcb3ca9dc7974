"""Large JSON is read an element at a time, and broken JSON is named by its line."""

import json
import tracemalloc
from pathlib import Path

import pytest

from curr_reft.data.loaders import json_elements
from curr_reft.data.loaders.json_elements import elements
from curr_reft.errors import DataError

VALUES = [{"a": [1, {"b": "ü]}"}], "c": None}, 12345, -1.5e3, 'a, "b" [', [], {}, True, None, "𝄞" * 50]


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 1 << 20])
@pytest.mark.parametrize("indent", [None, 1])
def test_elements_are_those_of_the_json_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int, indent: int | None
) -> None:
    monkeypatch.setattr(json_elements, "CHUNK", chunk)
    whole = {"info": {"year": 2014}, "images": VALUES, "none": [], "license": "x", "annotations": VALUES[:3]}
    for name, value in (("list.json", VALUES), ("object.json", whole)):
        (tmp_path / name).write_text(json.dumps(value, ensure_ascii=False, indent=indent), encoding="utf-8")
    found = list(elements(tmp_path / "list.json", "list.json"))
    assert [each.value for each in found] == VALUES
    assert [each.place for each in found] == [f"[{place}]" for place in range(len(VALUES))]
    rebuilt: dict[str, object] = {"none": []}
    for each in elements(tmp_path / "object.json", "object.json"):
        if each.index is None:
            rebuilt[each.key] = each.value
        else:
            part = rebuilt.setdefault(each.key, [])
            assert isinstance(part, list)
            assert len(part) == each.index
            part.append(each.value)
    assert rebuilt == whole


def test_lines_are_those_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('\ufeff{"x":\n [\n{"a":\n1},\n\n{"b": 2}],\n"y": 3}')
    assert [(each.place, each.line) for each in elements(tmp_path / "a.json", "a.json")] == [
        ("x[0]", 3),
        ("x[1]", 6),
        ("y", 7),
    ]


@pytest.mark.parametrize(
    ("content", "line", "reason"),
    [
        (b'{"a": [1,\n2,\n3', 3, "expected , and found the end of the file"),
        (b'[{"a": 1},\n{"a": }]', 2, "Expecting value"),
        (b"[1\n2]", 2, "expected , and found 2"),
        (b'{"a" 1}', 1, "expected : and found 1"),
        (b"{1: 2}", 1, "expected a key in quotes"),
        (b" ", 1, "expected a list or an object"),
        (b"17", 1, "expected a list or an object"),
        (b"[1]\n[2]", 2, "something follows the end"),
        (b'["\xff"]', 1, "not UTF-8"),
        (b"[" * 100_000, 1, "recursion"),
        (b"[" + b"9" * 5000 + b"]", 1, "digits"),
    ],
)
def test_broken_json_names_file_and_line(tmp_path: Path, content: bytes, line: int, reason: str) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(DataError) as caught:
        list(elements(tmp_path / "a.json", "a.json"))
    assert caught.value.source == f"a.json:{line}"
    assert reason in caught.value.reason


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.json: cannot be read"):
        list(elements(tmp_path / "none.json", "none.json"))


def test_memory_does_not_grow_with_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_elements, "CHUNK", 1 << 14)
    row = {"segmentation": [[1.25] * 40], "id": 1}
    (tmp_path / "a.json").write_text(json.dumps({"annotations": [row] * 4_000}))
    assert (tmp_path / "a.json").stat().st_size > 1_000_000
    tracemalloc.start()
    assert sum(1 for _ in elements(tmp_path / "a.json", "a.json")) == 4_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 500_000  # read whole it takes more than the file's size
