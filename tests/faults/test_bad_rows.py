"""Bad rows: by the user's door, all of them are found and printed with file and line (the first ten, by ``check`` all).

They are left out only where the recipe says so, and then counted in what the run leaves behind. No row is replaced.
"""

import json
import re
from pathlib import Path

import pytest
import tiny_run

from curr_reft.cli import main
from curr_reft.data.load import LoadedData
from curr_reft.prepare import load_items
from curr_reft.recipe import load_recipe
from curr_reft.status import read_status
from curr_reft.tasks.user import use_tasks

GOOD = 24
# What may be wrong with a row -> what is said of it. Each is put between good rows.
BAD: dict[str, str] = {
    '{"problem": "one plus one", "solution": "2", "task": "math"': "not JSON",
    "": "",  # a blank line is no row
    "[1, 2]": "",
    '"text"': "",
    '{"problem": "one plus one", "task": "math"}': "solution",
    '{"solution": "2", "task": "math"}': "problem",
    '{"problem": 3, "solution": "2", "task": "math"}': "must be a text, not '3'",
    '{"problem": "one plus one", "solution": "2", "task": "maths"}': "maths",
    '{"problem": "one plus one", "solution": "", "task": "math"}': "",
    '{"problem": "where", "solution": "[5, 5, 1, 1]", "task": "detection", "image": "IMAGE"}': "",
    '{"problem": "where", "solution": "[0, 0, 9999, 9999]", "task": "detection", "image": "IMAGE"}': "outside",
    '{"problem": "where", "solution": "[0, 0, nan, 9]", "task": "detection", "image": "IMAGE"}': "",
    '{"problem": "what", "solution": "red circle", "task": "classification", "image": "images/none.png"}': "none.png",
    '{"problem": "what", "solution": "red circle", "task": "classification", "image": "../up.png"}': "holds ..",
    '{"problem": "\xff", "solution": "2", "task": "math"}': "not UTF-8",
    # A truth that can be read, and that its own grader would not pay: no answer with it could be right.
    '{"problem": "what", "solution": ["label: a"], "task": "classification"}': "classification: 'label: a' must earn",
    '{"problem": "what", "solution": "sofa", "task": "classification", "distractors": [["label: a"]]}': "distractor of",
}


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Drawn items as rows and images."""
    out = tmp_path_factory.mktemp("rows") / "rows"
    flags = ["--data.shapes.train", "{math: 8, classification: 8, detection: 8}", "--data.shapes.pool", "{}"]
    assert main(["data", "build", str(tiny_run.RECIPE), "--out", str(out), *flags]) == 0
    return out


@pytest.fixture
def hurt(rows: Path, tmp_path: Path) -> tuple[Path, list[int]]:
    """(a recipe over a file with bad rows among good ones, the numbers of their lines)."""
    good = (rows / "train.jsonl").read_text().splitlines()
    image = next(json.loads(line)["image"] for line in good if "image" in json.loads(line))
    lines: list[str] = []
    wrong: list[int] = []
    bad = iter(BAD)
    for number, line in enumerate(good):
        lines.append(line)
        if number < len(BAD):
            lines.append(next(bad).replace("IMAGE", image))
            if lines[-1]:
                wrong.append(len(lines))
    file = rows / f"{tmp_path.name}.jsonl"
    file.write_bytes("\n".join(lines).encode("latin-1") + b"\n")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"name: hurt\noutput: {tmp_path / 'run'}\n"
        f"data:\n  kind: files\n  files:\n    train: [{{path: {file}}}]\n"
        f"    validation: [{{path: {rows / 'validation.jsonl'}}}]\n    test: [{{path: {rows / 'test.jsonl'}}}]\n"
        "curriculum: {total_steps: 1, stages: [{name: open, forms: {open: 1}, steps: rest}], validation_items: 1}\n"
        "sampling: {group_size: 2, max_new_tokens: 8}\nrl: {prompts_per_step: 2}\n"
        "evaluation: {models: [curr_rl], gallery: 0, bootstrap: 100, profile: {items: 10, samples: 1}}\n"
    )
    return recipe, wrong


@pytest.mark.parametrize(("command", "shown"), [("run", 10), ("check", len(BAD) - 1)])
def test_all_are_found_and_the_first_are_printed(
    command: str, shown: int, hurt: tuple[Path, list[int]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe, wrong = hurt
    assert main([command, str(recipe)]) == 2
    said = capsys.readouterr().err
    told = {int(number): reason for number, reason in re.findall(r"\.jsonl:(\d+): (.*)", said)}
    assert list(told) == wrong[:shown]  # check is there to tell all of them
    assert all(told.values())
    reasons = [reason for text, reason in BAD.items() if text]
    for number, reason in zip(wrong[:shown], reasons[:shown], strict=True):
        assert reason in told[number], (number, told[number])
    assert (f"and {len(wrong) - shown} more" in said) is (shown < len(wrong))
    assert "bad_rows: skip" in said
    assert not (tmp_path / "run" / "stages").exists()  # refused before anything was done


def test_the_rest_is_trained_on_and_the_count_stands_in_the_run(
    hurt: tuple[Path, list[int]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recipe, wrong = hurt
    assert main(["run", str(recipe), "--data.bad_rows", "skip"]) == 0
    card = json.loads((tmp_path / "run" / "data" / "card.json").read_text())
    assert card["skipped_rows"] == len(wrong) == len(BAD) - 1
    assert len(card["skipped_first"]) == 10
    assert [int(line.split(":")[1]) for line in card["skipped_first"]] == wrong[:10]
    assert sum(card["items"]["train"].values()) == GOOD
    assert read_status(tmp_path / "run").faults.bad_rows_skipped == len(wrong)
    assert f"{len(wrong)} bad rows left out" in (tmp_path / "run" / "report.html").read_text()
    assert f"{len(wrong)} bad rows were left out" in caplog.text


def test_what_is_left_are_the_good_rows_and_no_others(hurt: tuple[Path, list[int]], rows: Path) -> None:
    """Item by item: no bad row became a copy of a good one, an empty one, or one with another image."""
    recipe, _ = hurt
    skip = ["--data.bad_rows", "skip"]
    left = load_items(load_recipe(recipe, skip))
    whole = load_items(load_recipe(recipe, ["--data.files.train", f"[{{path: {rows / 'train.jsonl'}}}]"]))

    def shown(data: LoadedData) -> list[tuple[str, ...]]:
        found = data.split("train")
        return sorted((item.task, item.question, str(item.truth), *(i.key for i in item.images)) for item in found)

    assert shown(left) == shown(whole)
    assert len(shown(left)) == GOOD


BUSY = """
import time
from curr_reft.tasks.simple import SimpleTask

asked = {}

class Busy(SimpleTask):
    # As on a machine that is busy with other things: some truths take their time, once; one never comes to its end.
    name = "busy"
    timeout = 0.2

    def parse(self, text):
        text = text.strip()
        asked[text] = asked.get(text, 0) + 1
        late = {"slow to read": 1, "slow to grade": 2}.get(text)
        if asked[text] == late or text == "endless":
            time.sleep(60 if text == "endless" else 0.5)
        return text

    def score(self, answer, truth):
        return float(answer == truth)

    def false_claim(self, truth, rng):
        return truth + "!"

    def distractors(self, truth, rng, n):
        return [truth + mark for mark in "!?.,"[:n]]
"""


def test_a_truth_that_took_too_long_is_asked_again_and_then_counted_apart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "tasks.py").write_text(BUSY)
    truths = ["one", "slow to read", "two", "slow to grade", "endless", "three"]
    for split in ("train", "validation", "test"):
        mine = truths if split == "train" else [f"{truth} of {split}" for truth in truths if truth != "endless"]
        rows = [{"problem": f"what is {truth}?", "solution": truth, "task": "busy"} for truth in mine]
        (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    files = ", ".join(f"{split}: [{{path: {split}.jsonl}}]" for split in ("train", "validation", "test"))
    (tmp_path / "recipe.yaml").write_text(
        'name: busy\ntasks: ["tasks.py:Busy"]\n'
        f"data: {{kind: files, files: {{{files}}}}}\nmodel: {{path: MODEL}}\n"
        "curriculum: {total_steps: 1, stages: [{name: open, forms: {open: 1}, steps: rest}]}\n"
        "evaluation: {models: [base]}\n"
    )
    build = ["data", "build", str(tmp_path / "recipe.yaml"), "--frame", "pixels"]
    try:
        assert main([*build, "--out", str(tmp_path / "out"), "--data.bad_rows", "skip"]) == 0, capsys.readouterr().err
        card = json.loads((tmp_path / "out" / "card.json").read_text())
        assert card["items"]["train"] == {"busy": 5}
        assert (card["skipped_rows"], card["unverified_rows"]) == (1, 1)
        (told,) = card["skipped_first"]
        assert re.search(
            r"train.jsonl:5: truth of busy: 'endless': read_truth of task busy .*timeout of 0.2 s, and", told
        )
        assert "the truths of 1 could not be verified in time and may be right" in caplog.text
        assert "1 bad rows (of 1 the truth could not be verified in time)" in (tmp_path / "out/card.md").read_text()
        assert main([*build, "--out", str(tmp_path / "other")]) == 2  # without skip it is refused, as any bad row is
        assert "train.jsonl:5: truth of busy: 'endless'" in capsys.readouterr().err
    finally:
        use_tasks(())
