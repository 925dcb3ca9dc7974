"""Rows that are JSON and no data: keys that stand twice, half characters, numbers that are none, marks nobody sees,
LaTeX that JSON has eaten, tokens of a chat template, and two classes that are compared as one."""

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from curr_reft.data.config import DataConfig, FileEntry, FilesConfig
from curr_reft.data.load import LoadedData, load_data
from curr_reft.errors import DataError
from curr_reft.tasks import TASKS

GOOD = {"problem": "one and one", "solution": "2", "task": "math"}


def row(**keys: Any) -> str:
    return json.dumps({**GOOD, **keys})


def loaded(folder: Path, lines: list[str], name: str = "train.jsonl", **entry: Any) -> LoadedData:
    whole = "[\n" + ",\n".join(lines) + "\n]" if name.endswith(".json") else "\n".join(lines)
    (folder / name).write_text(whole, encoding="utf-8")
    (folder / "test.jsonl").write_text(row(problem="ten and one", solution="11"))
    files = FilesConfig(
        train=(FileEntry(path=str(folder / name), **entry),), test=(FileEntry(path=str(folder / "test.jsonl")),)
    )
    config = DataConfig(kind="files", files=files, bad_rows="skip")
    return load_data(config, lambda task, raw: TASKS[task].read_truth(raw), quiet=True)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('{"problem": "a", "solution": "1", "solution": "2", "task": "math"}', "the key 'solution' stands twice"),
        ('{"problem": "a", "solution": {"x": 1, "x": 2}, "task": "math"}', "the key 'x' stands twice"),
        (row(problem="a \ud800 b"), "the question holds half a character, '\\ud800'"),
        (row(solution="\udfff"), "the truth holds half a character"),
        (row(solution=["dog", "\ud800"], task="classification"), "the truth holds half a character"),
        (row(image="\ud800.png"), ""),
        (row(problem="\u200b \u2060"), "must be a text that is not empty"),
        ('{"problem": "a", "solution": NaN, "task": "math"}', "must be a finite number, not nan"),
        ('{"problem": "a", "solution": -1e999, "task": "math"}', "must be a finite number, not -inf"),
        (row(distractors=[float("inf")]), "must be a finite number, not inf"),
        (row(solution="42\u200b"), "holds U+200B (zero width space)"),
        (row(solution="\u200f42"), "holds U+200F (right-to-left mark)"),
        (row(solution="４２"), "holds U+FF14 (fullwidth digit four)"),
        (row(solution="٤٢"), "holds U+0664 (arabic-indic digit four)"),
        (row(distractors=["4\u200b"]), "distractor of math: "),
    ],
)
def test_what_no_plain_answer_could_equal_is_a_bad_row(tmp_path: Path, line: str, told: str) -> None:
    data = loaded(tmp_path, [row(), line, row(problem="two and one", solution="3")])
    ((source, reason),) = data.skipped
    assert source == "train.jsonl:2"
    assert told in reason
    assert reason.encode()  # can be written to a file itself
    assert {item.truth for item in (*data.split("train"), *data.split("validation"))} == {"2", "3"}


def test_a_key_that_stands_twice_in_a_list_is_told_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"train\.json:3: .*the key 'task' stands twice in one object"):
        loaded(tmp_path, [row(), '{"problem": "a", "solution": "1", "task": "math", "task": "math"}'], "train.json")


def test_a_box_in_the_first_pixel_is_taken_for_fractions(tmp_path: Path) -> None:
    for name, size in (("a.png", (40, 30)), ("b.png", (1, 1))):
        Image.effect_noise((40, 30), 50).convert("RGB").resize(size).save(tmp_path / name)
    whole = {"problem": "where", "solution": [0, 0, 1, 1], "task": "detection"}
    lines = [json.dumps({**whole, "image": name}) for name in ("a.png", "b.png")]
    ((source, reason),) = loaded(tmp_path, lines).skipped
    assert source == "train.jsonl:1"
    assert "lies in the first pixel of its image of 40x30; if boxes are given as fractions" in reason
    data = loaded(tmp_path, lines, boxes="unit")
    assert not data.skipped
    truths = {item.source: item.truth for item in (*data.split("train"), *data.split("validation"))}
    assert truths == {"train.jsonl:1": (0, 0, 40, 30), "train.jsonl:2": (0, 0, 1, 1)}


# What a row holds where LaTeX was written with one backslash in JSON: the reader makes a control character of it.
EATEN = {
    r"\frac{1}{2}": "\f",
    r"\forall x": "\f",
    r"\beta": "\b",
    r"\boxed{3}": "\b",
    r"\binom{3}{2}": "\b",
    r"3 \times 4": "\t",
    r"\theta": "\t",
    r"12 \text{ cm}": "\t",
    r"\textbf{(C)}\ 12": "\t",
    r"\tfrac12": "\t",
    r"\triangle ABC": "\t",
    r"$\tan x$": "\t",
    r"$x \to 0$": "\t",
    r"x \neq 0": "\n",
    r"$a \neq b$": "\n",
    r"\nabla f": "\n",
    r"x \notin A": "\n",
    r"$\nu$": "\n",
    r"$\ne 3$": "\n",
    r"a \rightarrow b": "\r",
    r"\left( x \right)": "\r",
    r"$\rho$": "\r",
}
PLAIN = (
    "Find x.\nequal to what?",
    "a\nequation",
    "\new line",
    "the\nneq. (3)",
    "using\neq (1)",
    "Name\tan apple\tau lait",
    "x\tto y\nnot z\ne. g. w",
    "one\r\ntwo\r\nright",
    "old line ends\rroom\rangle",
    "$$\ne^{x} = 1\n$$",
    "$$\nu(x) = 2\n$$",
    "It is $5\nnot $6, or $7\nless than $8",
    "\\begin{aligned}\nu &= 3\n\\end{aligned}",
    "$x$\nnot\n$y$",
    "Options:\n\tA. one\n\tB. two",
)


def eaten(text: str, character: str) -> str:
    letter = {"\f": "f", "\b": "b", "\t": "t", "\n": "n", "\r": "r"}[character]
    assert f"\\{letter}" in text
    return text.replace(f"\\{letter}", character)


@pytest.mark.parametrize("key", ["problem", "solution", "distractors"])
@pytest.mark.parametrize(("text", "character"), EATEN.items(), ids=list(EATEN))
def test_latex_that_json_has_eaten_is_a_bad_row_with_the_remedy(
    tmp_path: Path, key: str, text: str, character: str
) -> None:
    value = eaten(text, character)
    data = loaded(tmp_path, [row(), row(**{key: [value] if key == "distractors" else value})])
    ((source, reason),) = data.skipped
    assert source == "train.jsonl:2"
    assert f"U+{ord(character):04X}" in reason
    command = text[text.index("\\" + {"\f": "f", "\b": "b", "\t": "t", "\n": "n", "\r": "r"}[character]) :]
    letters = "".join(itertools.takewhile(str.isalpha, command[1:]))
    assert f"write \\\\{letters} in JSON" in reason


@pytest.mark.parametrize("character", ["\x00", "\x07", "\x0b", "\x1b", "\x7f", "\x96"])
def test_a_control_character_is_no_text(tmp_path: Path, character: str) -> None:
    data = loaded(tmp_path, [row(problem=f"one {character} two"), row(solution=f"4{character}2"), row()])
    assert [source for source, _ in data.skipped] == ["train.jsonl:1", "train.jsonl:2"]
    assert all(f"(U+{ord(character):04X})" in reason for _, reason in data.skipped)


@pytest.mark.parametrize("text", PLAIN)
def test_tabs_and_new_lines_of_plain_text_stay(tmp_path: Path, text: str) -> None:
    data = loaded(tmp_path, [row(problem=text), row(problem=f"{text} once more")])
    assert not data.skipped


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("train.csv", "problem,solution,task\none \ftwo,3,math\n"),
        ("train.json", json.dumps([{**GOOD, "problem": "3 \times 4"}])),
        ("alpaca.json", json.dumps([{"instruction": "3 \times 4", "input": "", "output": "12"}])),
        ("trl.jsonl", json.dumps({"prompt": "what is \frac{1}{2}", "answer": "0.5"})),
        ("query.jsonl", json.dumps({"query": "what is \beta", "solution": "0.5"})),
    ],
)
def test_eaten_latex_is_found_in_every_row_format(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    (tmp_path / "test.jsonl").write_text(row(problem="ten and one", solution="11"))
    columns = {"question": "problem", "answer": "solution", "task": "task"} if name.endswith(".csv") else {}
    files = FilesConfig(
        train=(FileEntry(path=str(tmp_path / name), task="math", columns=columns),),
        test=(FileEntry(path=str(tmp_path / "test.jsonl")),),
    )
    with pytest.raises(DataError, match=r"the question holds a (form feed|tab|backspace)"):
        load_data(DataConfig(kind="files", files=files), lambda task, raw: TASKS[task].read_truth(raw), quiet=True)


def test_a_backslash_that_json_does_not_know_is_told_with_the_remedy(tmp_path: Path) -> None:
    line = '{"problem": "what is \\sqrt{4}", "solution": "2", "task": "math"}'
    ((_, reason),) = loaded(tmp_path, [row(), line]).skipped
    assert "Invalid \\escape" in reason
    assert "is written twice (\\\\sqrt for \\sqrt)" in reason


@pytest.mark.parametrize(
    ("truth", "meant"),
    [
        ("42<|im_end|>", "42"),
        ("42 </s>", "42"),
        ("42<|endoftext|>", "42"),
        ("42<|eot_id|>\n", "42"),
        ("42<end_of_turn>", "42"),
        ("42<eos>", "42"),
        ("42<｜end▁of▁sentence｜>", "42"),
        ("<|im_start|>assistant\n42<|im_end|>\n<|endoftext|>", "42"),
        ("<s>42</s>", "42"),
        ("<answer>42<|im_end|></answer>", "42"),
        ("<answer>42</answer><|im_end|>", "42"),
    ],
)
def test_tokens_of_a_chat_template_around_a_truth_are_no_part_of_it(tmp_path: Path, truth: str, meant: str) -> None:
    data = loaded(tmp_path, [row(), row(problem="two and one", solution=truth)])
    assert not data.skipped
    assert meant in {item.truth for item in (*data.split("train"), *data.split("validation"))}


@pytest.mark.parametrize("truth", ["42<|im_end|>43", "<|im_start|>user\n42<|im_end|>", "4</s>2"])
def test_tokens_of_a_chat_template_inside_a_truth_are_refused(tmp_path: Path, truth: str) -> None:
    ((source, reason),) = loaded(tmp_path, [row(), row(solution=truth)]).skipped
    assert source == "train.jsonl:2"
    assert "a token of a chat template" in reason
    assert "keep the text of the answer alone" in reason


def classes(*names: Any) -> list[str]:
    return [row(problem=f"which is {place}", task="classification", solution=name) for place, name in enumerate(names)]


@pytest.mark.parametrize(
    "names",
    [
        ("A+", "A-", "B+", "B-", "AB+", "AB-", "O+", "O-"),
        ("C++", "C#", "C", "F#", ".NET", "NET"),
        ("1. Liga", "2. Liga", "Liga"),
        ("5'", "5''", "5"),
        ("<5", ">5", "5"),
        ("-1", "0", "1"),
        ("कि", "का", "क"),
        ("AC/DC", "AC", "DC"),
        ("A*", "A", "B"),
        ("(25, 32)", "(0, 2)", "(38, 43)"),
    ],
)
def test_names_that_differ_in_a_sign_are_different_classes(tmp_path: Path, names: tuple[str, ...]) -> None:
    data = loaded(tmp_path, classes(*names))
    truths = [item.truth for item in (*data.split("train"), *data.split("validation"))]
    assert len(set(truths)) == len(names)
    assert all(isinstance(truth, tuple) and len(truth) == 1 and type(truth[0]) is str for truth in truths)


@pytest.mark.parametrize(
    "names",
    [
        ("Dog", "dog", "DOG", "dog."),
        ("traffic-light", "Traffic Light", "traffic_light"),
        ("T-Shirt / top", "t-shirt/top"),
        ("'dog'", '"dog"', "dog"),
        ("women's shoes", "women’s shoes", "womens shoes"),
        ("A −", "A-"),
    ],
)
def test_spellings_of_one_class_are_one(tmp_path: Path, names: tuple[str, ...]) -> None:
    data = loaded(tmp_path, classes(*names))
    assert len({item.truth for item in (*data.split("train"), *data.split("validation"))}) == 1


@pytest.mark.parametrize(
    ("first", "second", "name"),
    [
        ("crane (bird)", "crane bird", "crane bird"),
        ("A", "a", "a"),
        ("MW", "mW", "mw"),
        ("go", "go!", "go"),
        ("U.S.", "U S", "u s"),
        ("Coca-Cola®", "Coca-Cola", "coca cola"),
    ],
)
@pytest.mark.parametrize("as_list", [False, True])
def test_two_classes_that_are_compared_as_one_are_refused(
    tmp_path: Path, first: str, second: str, name: str, as_list: bool
) -> None:
    """Even where bad rows are skipped: to skip one of the classes, or to train on both as one, would be silent."""
    names = [[first], ["other", second]] if as_list else [first, second]
    with pytest.raises(DataError) as raised:
        loaded(tmp_path, classes("cat", *names))
    text = str(raised.value)
    assert text.startswith("train.jsonl:3: ")
    for part in (repr(first), repr(second), "(train.jsonl:2)", repr(name), "Spell them alike"):
        assert part in text
