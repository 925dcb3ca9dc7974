"""Tables with columns of any name: quoting, delimiters, encodings, and the right line for what is wrong."""

from pathlib import Path
from typing import Any

import pytest
from published_files import items, picture, problems, raw, write_lines

from curr_reft.data.config import FileEntry
from curr_reft.data.loaders import LOADERS, LoaderEntry
from curr_reft.errors import DataError

GERMAN = {"question": "Frage", "answer": "Antwort", "image": "Datei"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a", "b"):
        picture(tmp_path / f"{name}.png")
    return tmp_path


def test_a_spreadsheet_as_excel_saves_it(folder: Path) -> None:
    """Semicolons, a byte order mark, \\r\\n, quotes inside quotes and a line break inside a cell."""
    text = (
        "Nr;Frage;Antwort;Datei\r\n"
        '1;"Was sagt das Schild: ""Halt; Stopp""?";Halt;a.png\r\n'
        '2;"Zeile eins\r\nZeile zwei?";"Hund, Katze";b.png\r\n'
        "\r\n"
        "3;Größe?;12,5;\r\n"
    )
    (folder / "rows.csv").write_bytes(b"\xef\xbb\xbf" + text.encode())
    entry = {"path": "rows.csv", "columns": GERMAN, "task": "classification"}
    found = items(folder, entry)
    assert [(item.question, item.truth, len(item.images), item.source) for item in found] == [
        ('Was sagt das Schild: "Halt; Stopp"?', ("halt",), 1, "rows.csv:2"),
        ("Zeile eins\r\nZeile zwei?", ("hund", "katze"), 1, "rows.csv:3"),
        ("Größe?", ("12", "5"), 0, "rows.csv:6"),
    ]
    assert items(folder, entry | {"format": "table"}) == found


def test_names_of_our_own_need_no_mapping(folder: Path) -> None:
    (folder / "rows.tsv").write_text(
        'question\tanswer\timage\ttask\tdomain\tdistractors\nSame?\tno\t["a.png", "b.png"]\tmath\tscience\t["yes"]\n'
    )
    [item] = items(folder, {"path": "rows.tsv"})
    assert (item.question, item.truth, len(item.images)) == ("Same?", "no", 2)
    assert (item.task, item.domain, item.distractors) == ("math", "science", ("yes",))


def test_one_question_for_every_row(folder: Path) -> None:
    (folder / "rows.csv").write_text("photo,label\na.png,cat\nb.png,traffic light\n")
    columns = {"answer": "label", "image": "photo"}
    entry = {"path": "rows.csv", "format": "table", "columns": columns, "options": {"question": "Which animal?"}}
    first, second = items(folder, entry | {"task": "classification"})
    assert (first.question, first.truth, second.truth) == ("Which animal?", ("cat",), ("traffic light",))


def test_the_question_of_all_rows_wins_over_a_column_that_is_not_named(folder: Path) -> None:
    (folder / "rows.csv").write_text("question,answer\nWhat colour?,3\n")
    entry = {"path": "rows.csv", "format": "table", "task": "math", "options": {"question": "How many?"}}
    assert [item.question for item in items(folder, entry)] == ["How many?"]
    with pytest.raises(DataError, match=r"rows\.csv:2: has two questions: .*keep one"):
        items(folder, entry | {"columns": {"question": "question"}})


def test_json_lines_with_columns(folder: Path) -> None:
    write_lines(
        folder / "rows.jsonl", [{"Frage": "Wo?", "Antwort": [1, 2, 30, 40], "Datei": "a.png"}, {"Frage": "Wo?"}]
    )
    entry = {"path": "rows.jsonl", "columns": GERMAN, "task": "detection"}
    [item] = items(folder, entry, bad_rows="skip")
    assert item.truth == (1.0, 2.0, 30.0, 40.0)
    with pytest.raises(DataError, match=r"rows\.jsonl:2: has no column Antwort"):
        items(folder, entry)


@pytest.mark.parametrize(
    ("text", "options", "where", "reason"),
    [
        ("question,answer\na,1\nb\nc,3\n", {}, "rows.csv:3", "has 1 cells, and the header names 2 columns"),
        ('question,answer\n"a\nb",1\nc,,3\n', {}, "rows.csv:4", "has 3 cells"),
        ("question,answer\na,\n", {}, "rows.csv:2", "no answer"),
        (",answer\na,1\n", {}, "rows.csv:2", "no question"),
        ('question,answer,image\na,1,"[""x.png"""\n', {}, "rows.csv:2", "begins like a JSON list"),
    ],
)
def test_a_bad_row_is_named_by_the_line_it_begins_on(
    folder: Path, text: str, options: dict[str, str], where: str, reason: str
) -> None:
    (folder / "rows.csv").write_text(text)
    [(source, why)] = problems(raw("table", folder / "rows.csv", **options))
    assert source == where
    assert reason in why


@pytest.mark.parametrize(
    ("data", "columns", "options", "message"),
    [
        (b"question,answer\na,1\n", {"answer": "anser"}, {}, "rows.csv:1: has no column 'anser'.*did you mean answer"),
        (b"a,b,a\n1,2,3\n", {}, {}, "rows.csv:1: the column 'a' stands twice"),
        (b'question,answer\na,1\n"b,2\nc,3\n', {}, {}, "rows.csv:3: the row that begins here is broken"),
        (b'question,answer\na,1\nb,"2"x\n', {}, {}, "rows.csv:3: the row that begins here is broken"),
        ("question,answer\na,1\nGröße,2\n".encode("cp1252"), {}, {}, "rows.csv:3: not utf-8.*cp1252"),
        (b"question,answer\n", {}, {"encoding": "utf8000"}, "'utf8000' is not known"),
        (b"question,answer\n", {}, {"delimiter": "komma"}, "did you mean comma"),
    ],
)
def test_a_broken_file_is_an_error(
    folder: Path, data: bytes, columns: dict[str, str], options: dict[str, str], message: str
) -> None:
    path = folder / "rows.csv"
    path.write_bytes(data)
    with pytest.raises(DataError, match=message):
        list(LOADERS["table"].rows(LoaderEntry(path=path, name=path.name, columns=columns, options=options)))


def test_other_encodings_and_delimiters(folder: Path) -> None:
    (folder / "rows.csv").write_bytes("question|answer\nGröße, in cm|3\n".encode("cp1252"))
    [item] = items(folder, {"path": "rows.csv", "task": "math", "format": "table", "options": {"encoding": "cp1252"}})
    assert item.question == "Größe, in cm"


def test_sampling_counts_rows_and_not_lines(folder: Path) -> None:
    """Percentages of a file whose cells hold line breaks; bad rows count as rows."""
    lines = [f'"What\nis {number}?",{number}\n' if number != 7 else "bad\n" for number in range(10)]
    (folder / "rows.csv").write_text("question,answer\n" + "".join(lines))

    def picked(sampling: str) -> list[Any]:
        found = items(folder, {"path": "rows.csv", "task": "math", "sampling": sampling}, bad_rows="skip")
        return [item.truth for item in found]

    assert picked("first:30%") == ["0", "1", "2"]
    assert picked("first:2") == ["0", "1"]
    assert picked("end:40%") == ["6", "8", "9"]
    assert picked("end:2") == ["8", "9"]
    assert len(picked("random:100%")) == 9
    assert picked("random:50%") == picked("random:50%")
    assert picked("all") == [str(number) for number in range(10) if number != 7]


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ({"format": "tabel"}, "'tabel' is no format; did you mean table"),
        ({"format": "table", "columns": {"questoin": "Frage"}}, "'questoin' is not known; did you mean question"),
        ({"format": "table", "options": {"delimeter": ";"}}, "no option of the format table; did you mean delimiter"),
        ({"format": "trl", "columns": {"question": "Frage"}}, "trl has names of its own"),
        ({"options": {"split": "train"}}, "name the format first"),
    ],
)
def test_typos_in_the_recipe_are_refused(entry: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        FileEntry.model_validate({"path": "rows.csv", **entry})


def test_paths_of_another_machine(folder: Path) -> None:
    rows = [
        {"problem": "x?", "solution": "1", "task": "math", "image": f"/data/{place}a.png"} for place in ("", "x/../")
    ]
    write_lines(folder / "rows.jsonl", rows[:1])
    [item] = items(folder, {"path": "rows.jsonl", "image_prefix": "/data"})
    assert item.images[0].size == (64, 48)
    with pytest.raises(DataError, match="does not begin with image_prefix"):
        items(folder, {"path": "rows.jsonl", "image_prefix": "/home"})
    write_lines(folder / "rows.jsonl", rows[1:])
    with pytest.raises(DataError, match=r"holds \.\."):
        items(folder, {"path": "rows.jsonl", "image_prefix": "/data/"})
