"""The kept answers in the form that other trainers read, and read back by our own loaders."""

import json
import shutil
from pathlib import Path

import pytest
from judged_rows import candidate, verdict
from PIL import Image

from curr_reft.data.config import DataConfig, FileEntry, FilesConfig
from curr_reft.data.frame import BoxFrame
from curr_reft.data.images import FileImage
from curr_reft.data.shapes import shapes_items
from curr_reft.data.stream import ItemStream
from curr_reft.errors import DataError
from curr_reft.files import read_json, read_jsonl
from curr_reft.improve.kept import read_examples, write_kept
from curr_reft.improve.select import Kept
from curr_reft.questions.compile import compile_questions
from curr_reft.questions.forms import FORMS
from curr_reft.questions.question import Question
from curr_reft.tasks import TASKS, TaskOptions

FRAME = BoxFrame("thousand")


@pytest.fixture
def asked(tmp_path: Path) -> list[Question]:
    """Drawn questions of each task, a text-only one, and one on a file, with boxes in thousandths."""
    items = shapes_items(0, "pool", {"detection": 2, "classification": 2, "math": 2, "arithmetic": 1})
    questions, _ = compile_questions(items, ["open"], seed=0, frame=FRAME)
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (40, 20), "red").save(tmp_path / "photos" / "a.jpg")
    photo = Question(
        id="p/open", origin="p", task="math", form="open", prompt="How many?", truth="1", domain="math",
        images=(FileImage(tmp_path / "photos", "a.jpg"),),
    )  # fmt: skip
    return [*questions["open"], photo]


def kept(question: Question) -> Kept:
    answered = candidate(question, f"<think> so </think> <answer> {FORMS['open'].write(question)} </answer>")
    assert answered.grade.correct
    return Kept(candidate=answered, verdict=verdict(answered, 90))


def test_rows_hold_messages_and_pictures_beside_them(asked: list[Question], tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    folder.mkdir()
    write_kept(folder, [kept(each) for each in asked], FRAME)
    rows = read_jsonl(folder / "kept.jsonl")
    for row, question in zip(rows, asked, strict=True):
        user, assistant = row["messages"]
        assert (user["role"], assistant["role"]) == ("user", "assistant")
        assert user["content"] == "<image>" * len(question.images) + question.prompt
        assert len(row["images"]) == len(question.images) == user["content"].count("<image>")
        for name, image in zip(row["images"], question.images, strict=True):
            assert not Path(name).is_absolute()
            with Image.open(folder / name) as written:
                assert written.convert("RGB").tobytes() == image.open().tobytes()
    assert rows[-2]["images"] == []  # text only
    description = read_json(folder / "dataset_info.json")["kept"]
    assert description["file_name"] == "kept.jsonl"


def test_the_loaders_read_them_back_with_their_truths(asked: list[Question], tmp_path: Path) -> None:
    """Auto-detected, and by the names that ms-swift's and LLaMA-Factory's layouts have."""
    folder = tmp_path / "kept"
    folder.mkdir()
    write_kept(folder, [kept(each) for each in asked], FRAME)
    shutil.copyfile(folder / "kept.jsonl", folder / "test.jsonl")  # what a recipe cannot do without
    for layout in ("auto", "swift", "llamafactory"):
        train, test = (FileEntry(path=str(folder / name), format=layout) for name in ("kept.jsonl", "test.jsonl"))
        files = FilesConfig(train=(train,), test=(test,), validation_fraction=0.01)
        stream = ItemStream(DataConfig(kind="files", files=files), lambda task, raw: TASKS[task].read_truth(raw))
        items = [item for item in stream if item.source.startswith("kept.jsonl")]
        assert len(items) == len(asked)
        for item, question in zip(items, asked, strict=True):
            task = TASKS[item.task]
            assert (item.task, item.domain) == (question.task, question.domain)
            assert item.question == question.prompt.strip()
            placed, _ = task.place(item, FRAME)
            answer = task.parse(FORMS["open"].write(question))
            assert task.score(answer, placed.truth, TaskOptions()) == pytest.approx(1.0)


def test_examples_are_read_back_equal(asked: list[Question], tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    folder.mkdir()
    entries = [kept(each) for each in asked]
    write_kept(folder, entries, FRAME)
    for example, entry in zip(read_examples(folder / "kept.jsonl"), entries, strict=True):
        question = entry.candidate.question
        assert example.completion == entry.candidate.completion
        assert example.question.prompt == question.prompt
        assert [i.open().tobytes() for i in example.question.images] == [i.open().tobytes() for i in question.images]


def test_bad_rows_are_named_all_of_them(tmp_path: Path) -> None:
    good = {"messages": [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "4"}]}
    rows = [
        good,
        {"messages": good["messages"][:1]},
        {**good, "images": ["../a.png"]},
        {**good, "images": "a.png"},
        {"query": "2 + 2?"},
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(DataError) as caught:
        read_examples(path)
    assert [source for source, _ in caught.value.problems] == [f"rows.jsonl:{line}" for line in (2, 3, 4, 5)]
    for text, expected in (("", "is an empty file"), ("\n", "nothing to learn")):
        path.write_text(text)
        with pytest.raises(DataError, match=expected):
            read_examples(path)
