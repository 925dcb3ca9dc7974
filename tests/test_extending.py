"""docs/extending.md is true: its files are written, its commands typed, its Python run; the examples too."""

import io
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny_models
import torch
from judged_rows import RIGHT, WRONG_GUESS, candidate, question
from PIL import Image
from transformers import AutoModelForImageTextToText, LlavaConfig, LlavaProcessor
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from curr_reft.cli import main
from curr_reft.errors import JudgeError
from curr_reft.improve.judges import Workplace, judge_all
from curr_reft.policy.config import SamplingConfig
from curr_reft.policy.families import FAMILIES
from curr_reft.policy.load import load_policy
from curr_reft.policy.rollout import rollout
from curr_reft.policy.selfcheck import check_packed
from curr_reft.prepare import judge_code, recipe_code
from curr_reft.questions.forms import FORMS
from curr_reft.questions.user import use_own
from curr_reft.recipe import load_recipe
from curr_reft.rewards.signature import COLUMNS, GIVEN, OUTCOME

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", PAGE, re.DOTALL)
FILES = {
    found[1]: text for kind, text in BLOCKS if kind in ("python", "yaml") and (found := re.match(r"# (\S+)\n", text))
}
COMMANDS = [line[2:] for kind, text in BLOCKS if kind == "console" for line in text.splitlines()]
SMALL = "{train: {math: 8}, validation: {math: 4}, test: {math: 4}, ood_test: {math: 4}, pool: {math: 4}}"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with the files of the page, as a user would have it."""
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    use_own(())


def test_the_page_has_what_these_tests_look_for() -> None:
    assert list(FILES) == [
        *("rewards.py", "pets.yaml", "tasks.py", "scales.yaml", "forms.py", "corrected.yaml", "judges.py"),
        *("judged.yaml", "families.py", "llava.yaml"),
    ]
    assert COMMANDS == [
        "curr-reft grade --recipe pets.yaml < rows.jsonl",
        "curr-reft check pets.yaml",
        "curr-reft data build scales.yaml --frame pixels --out compiled",
        "curr-reft data build corrected.yaml --frame pixels --out asked",
    ]


def test_grade_with_the_rewards_of_the_page(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    long = "<think>one, then 1, 2 and 3, so three</think><answer>3</answer>"
    rows = [
        {"task": "math", "form": "open", "truth": "3", "completion": long},
        {"task": "math", "form": "open", "truth": "3", "completion": long.replace(">3<", ">4<")},
        {"task": "detection", "form": "binary", "truth": "yes", "completion": "yes " * 60},
    ]
    monkeypatch.setattr("sys.stdin", io.StringIO("".join(json.dumps(row) + "\n" for row in rows)))
    assert main(["grade", "--recipe", "pets.yaml"]) == 0
    told = capsys.readouterr()
    graded = [json.loads(line) for line in told.out.splitlines()]
    assert [row["parts"]["fingers"] for row in graded] == [1.0, 0.0, None]
    assert [row["parts"]["brief"] for row in graded] == [1.0, 1.0, 0.5]
    assert [row["parts"]["length"] for row in graded] == [0.0, 0.0, 0.0]
    assert [row["reward"] for row in graded] == pytest.approx([1 + 1 + 0.1 + 0.2, 1 + 0.1, 0.05])
    assert told.err == (
        "graded 3 rows: 2 ok, 1 no_answer\n"
        "means: reward 1.150; format 0.667, accuracy 0.333, length 0.000, brief 0.833, fingers 0.500 (of 2)\n"
    )


def test_check_loads_the_rewards_of_the_page(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "pets.yaml", "--data.shapes", SMALL]) == 0
    assert "recipe pets: model embedded" in capsys.readouterr().out
    (folder / "rewards.py").write_text(FILES["rewards.py"].replace("def brief(", "def breif("))
    assert main(["check", "pets.yaml", "--data.shapes", SMALL]) == 2
    told = capsys.readouterr().err
    assert f"rewards.custom.0.call = {folder / 'rewards.py'}:brief" in told
    assert "did you mean breif?" in told


def test_data_build_with_the_task_of_the_page(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    [row] = [json.loads(text) for kind, text in BLOCKS if kind == "json"]
    write_rows(folder, row, lambda number: f"{12.5 + 2 * number} kg")
    assert main(["data", "build", "scales.yaml", "--frame", "pixels", "--out", "compiled"]) == 0, (
        capsys.readouterr().err
    )
    card = json.loads((folder / "compiled" / "card.json").read_text())
    assert card["questions"]["splits"]["train"]["questions"]["weight"] == {"binary": 6, "choice": 6, "open": 6}
    assert card["questions"]["splits"]["train"]["decisions"]["weight"] == {"no": 3, "yes": 3}
    change = json.loads((folder / "test.jsonl").read_text().splitlines()[2]) | {"solution": "heavy"}
    lines = (folder / "test.jsonl").read_text().splitlines()
    (folder / "test.jsonl").write_text("\n".join([*lines[:2], json.dumps(change), *lines[3:]]))
    assert main(["data", "build", "scales.yaml", "--frame", "pixels", "--out", "again"]) == 2
    assert "test.jsonl:3: truth of weight: 'heavy' cannot be read by parse" in capsys.readouterr().err


def test_data_build_with_the_form_of_the_page(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    [row] = [json.loads(text) for kind, text in BLOCKS if kind == "json"]
    write_rows(folder, row, lambda number: f"{12.5 + 2 * number} kg")
    build = ["data", "build", "corrected.yaml", "--frame", "pixels", "--out"]
    assert main([*build, "asked"]) == 0, capsys.readouterr().err
    assert list(FORMS) == ["binary", "choice", "open", "corrected"]
    card = json.loads((folder / "asked" / "card.json").read_text())
    counts = {"binary": 6, "choice": 6, "open": 6, "corrected": 6}
    assert card["questions"]["splits"]["train"]["questions"]["weight"] == counts
    rows = [json.loads(line) for line in (folder / "asked/questions/train/corrected.jsonl").read_text().splitlines()]
    assert all(re.search(r"\nSomebody answered [\d.]+ kg. That is wrong.$", row["prompt"]) for row in rows)
    assert [row["truth"] for row in rows] == [f"{12.5 + 2 * number} kg" for number in range(6)]
    answers = [{**row, "completion": f"<think>x</think><answer>{row['truth']}</answer>"} for row in rows]
    (folder / "answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in answers))
    with pytest.MonkeyPatch.context() as patch, open(folder / "answers.jsonl") as file:
        patch.setattr("sys.stdin", file)
        assert main(["grade", "--recipe", "corrected.yaml"]) == 0
    assert [json.loads(line)["reward"] for line in capsys.readouterr().out.splitlines()[-6:]] == [2.0] * 6

    assert main(["data", "build", "scales.yaml", "--frame", "pixels", "--out", "compiled"]) == 0
    assert list(FORMS) == ["binary", "choice", "open"]  # that of another recipe is gone
    capsys.readouterr()
    flags = ["--curriculum.stages", "[{name: a, forms: {corected: 1}, steps: rest}]"]
    assert main([*build, "wrong", *flags]) == 2
    assert "curriculum.stages.0.forms.corected: unknown form; forms are binary, choice, open, corrected" in (
        capsys.readouterr().err
    )


def edited(name: str, change: dict[str, str]) -> str:
    """The page's file of that name with each text replaced by another."""
    text = FILES[name]
    for old, new in change.items():
        assert old in text
        text = text.replace(old, new)
    return text


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"class Corrected(Open)": "class Corrected"}, "lacks group, layouts, read, write, read_truth"),
        ({'name = "corrected"': 'name = "open"'}, "there is a form 'open' already"),
        ({'name = "corrected"': 'name = "Fixed it"'}, "its name is 'Fixed it'"),
        ({"class Corrected(Open):": "def Corrected():\n    return 1\n\nclass Other(Open):"}, "is no class"),
    ],
)
def test_a_form_that_cannot_be_one_is_refused_by_its_key(
    folder: Path, change: dict[str, str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "forms.py").write_text(edited("forms.py", change))
    assert main(["data", "build", "corrected.yaml", "--frame", "pixels", "--out", "asked"]) == 2
    said = capsys.readouterr().err
    assert f"forms.0 = {folder / 'forms.py'}:Corrected" in said
    assert told in said


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"return Draft(": "return 1 / 0 and Draft("}, "draft raised ZeroDivisionError: division by zero (FILE:16)"),
        ({"return replace(asked,": "return dict(made=asked,"}, "build returned {'made': Question("),
        ({'    name = "corrected"': '    name = "corrected"\n\n    def write(self, question):\n        exit(3)'},
         "write raised SystemExit: 3 (FILE:14)"),
        ({'    name = "corrected"': '    name = "corrected"\n\n    def layouts(self, draft):\n        return 0'},
         "layouts returned 0; a draft can be laid out in 1 way at least"),
    ],
)  # fmt: skip
def test_a_form_that_breaks_down_is_told_by_its_line(
    folder: Path, change: dict[str, str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "forms.py").write_text(edited("forms.py", change))
    [row] = [json.loads(text) for kind, text in BLOCKS if kind == "json"]
    write_rows(folder, row, lambda number: f"{12.5 + 2 * number} kg", rows=2)
    assert main(["data", "build", "corrected.yaml", "--frame", "pixels", "--out", "asked"]) == 2
    file = str(folder / "forms.py")
    assert f"forms.0 = {file}:Corrected: {told.replace('FILE', file)}" in capsys.readouterr().err


ASKED = [candidate(question("a"), RIGHT)]


@pytest.mark.parametrize(
    ("returned", "told"),
    [
        ("exit(3)", r"raised SystemExit: 3 \(.*judges.py:5\)"),
        ("[Verdict(candidate_id=each.id, scores=dict.fromkeys(CRITERIA, 9), total='9') for each in candidates]",
         r"scored a/open#0 by '9' \(str\); write plain numbers"),
        ("[Verdict(candidate_id=each.id, scores={}, total=None, failure=3) for each in candidates]",
         r"the failure of a/open#0 is 3; write why in words"),
        ("None", r"raised TypeError: 'NoneType' object is not iterable"),
    ],
)  # fmt: skip
def test_a_judge_that_breaks_its_contract_stops_by_name(folder: Path, returned: str, told: str) -> None:
    text = "from curr_reft.improve.records import CRITERIA, Verdict\nclass Brief:\n    def __init__(self, most): pass\n"
    (folder / "judges.py").write_text(f"{text}    def judge(self, candidates):\n        return {returned}\n")
    recipe = load_recipe("judged.yaml")
    assert recipe.self_improvement is not None
    with pytest.raises(JudgeError, match=told):
        judge_all(
            recipe.self_improvement.judge,
            [candidate(question("a"), RIGHT)],
            Workplace(cache=folder / "none", say=print),
        )


def test_what_a_judge_says_it_took_must_be_plain(folder: Path) -> None:
    (folder / "judges.py").write_text(FILES["judges.py"] + "\n    def account(self):\n        return {'asked': {1}}\n")
    recipe = load_recipe("judged.yaml")
    assert recipe.self_improvement is not None
    with pytest.raises(JudgeError, match=r"judges.py:Brief: account\(\) is to return names with plain values"):
        judge_all(
            recipe.self_improvement.judge,
            [candidate(question("a"), RIGHT)],
            Workplace(cache=folder / "none", say=print),
        )


def test_the_judge_of_the_page(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = load_recipe("judged.yaml")
    assert recipe.self_improvement is not None
    judge, place = recipe.self_improvement.judge, Workplace(cache=folder / "none", say=print)
    long = RIGHT.replace("so 5", "so 5 and again " * 10)
    asked = [candidate(question("a"), text, number) for number, text in enumerate((RIGHT, WRONG_GUESS, long))]
    judged = judge_all(judge, asked, place)
    assert [verdict.total for verdict in judged.verdicts] == [100, 0, pytest.approx(100 * 20 / len(long.split()))]
    assert judged.account["judge"] == "own (Brief)"
    with pytest.raises(JudgeError, match=r"off the scale"):
        judge_all(judge, [replace(asked[0], grade=replace(asked[0].grade, correct=3))], place)
    with pytest.raises(JudgeError, match=r"judges.py:Brief raised AttributeError.*judges.py:\d+\)"):
        judge_all(judge, [replace(asked[0], grade=None)], place)  # type: ignore[arg-type]
    assert main(["check", "judged.yaml", "--data.shapes", SMALL]) == 0
    assert main(["check", "judged.yaml", "--self_improvement.judge.own.call", "judges.py:Breif"]) == 2
    assert "did you mean Brief?" in capsys.readouterr().err
    before = recipe_code(recipe), judge_code(recipe)
    (folder / "judges.py").write_text(FILES["judges.py"] + "\n")
    assert recipe_code(recipe) == before[0]  # nothing that was trained depends on it
    assert judge_code(recipe) != before[1]  # so that --resume refuses it once it has judged


def test_the_family_of_the_page(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A model type that the house does not know: prompts are counted, and packed and plain rows are equal."""
    tiny_llava(folder / "LLAVA")
    assert main(["check", "llava.yaml", "--data.shapes", SMALL, "--model.family", "null"]) == 2
    assert "model family 'llava' is not supported" in capsys.readouterr().err
    try:
        words = ["--data.shapes", SMALL, "--questions.style", "short"]  # which the tiny model knows
        assert main(["check", "llava.yaml", *words]) == 0, capsys.readouterr().err
        policy = load_policy(load_recipe("llava.yaml").model)
        picture = Image.effect_noise((90, 60), 50).convert("RGB")
        prompts = [policy.processor.encode("how many red circle", images) for images in ([picture], [])]
        counted = policy.processor.processor.image_token_id
        assert [int((each.input_ids_P == counted).sum()) for each in prompts] == [16, 0]
        sampling = SamplingConfig(group_size=2, max_new_tokens=6)
        for group in rollout(policy, prompts, sampling, seed=0):
            check_packed(policy, group)  # raises where they differ
    finally:
        FAMILIES.pop("llava", None)


def tiny_llava(folder: Path) -> None:
    tokenizer = tiny_models.build_tokenizer("llava")
    config = LlavaConfig(
        text_config={**tiny_models.TEXT, "model_type": "qwen2", "vocab_size": len(tokenizer)},
        vision_config={**tiny_models.TOWER, "model_type": "siglip_vision_model", "vision_use_head": False},
        image_token_index=tokenizer.get_vocab()["<image>"],
        vision_feature_select_strategy="full",
    )
    torch.manual_seed(0)
    core = AutoModelForImageTextToText.from_config(config)
    core.generation_config.eos_token_id = 2
    core.save_pretrained(folder)
    square = {"height": tiny_models.EDGE, "width": tiny_models.EDGE}
    LlavaProcessor(
        SiglipImageProcessorPil(size=square),
        tokenizer,
        patch_size=tiny_models.PATCH,
        vision_feature_select_strategy="full",
        chat_template=tokenizer.chat_template,
    ).save_pretrained(folder)


def write_rows(folder: Path, row: dict[str, Any], truth: Any, rows: int = 6) -> None:
    """Rows of three splits like ``row``, each with a truth and an image of its own."""
    for place, split in enumerate(("train", "validation", "test")):
        lines = []
        for number in range(rows):
            image = Image.effect_noise((84, 84), 40 + 60 * place + 9 * number).convert("RGB")
            name = f"images/{split}-{number}.png"
            (folder / "images").mkdir(exist_ok=True)
            image.save(folder / name)
            lines.append(json.dumps({**row, "image": name, "solution": truth(number)}))
        (folder / f"{split}.jsonl").write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize(
    "text", [text for kind, text in BLOCKS if kind == "python" and not text.startswith("# ")], ids=["trl", "factory"]
)
def test_the_python_of_the_page_runs(text: str) -> None:
    exec(compile(text, "docs/extending.md", "exec"), {})


def test_the_page_names_every_argument() -> None:
    table = PAGE.split("| argument |")[1].split("\n\n")[0]
    named = set(re.findall(r"`(\w+)", table))
    assert set(GIVEN) <= named
    assert {*COLUMNS, *OUTCOME} <= named


def test_the_recipes_of_the_page_are_recipes() -> None:
    assert load_recipe("pets.yaml").rewards.weights() == {
        "format": 1.0, "accuracy": 1.0, "length": 0.2, "brief": 0.1, "fingers": 0.2,
    }  # fmt: skip
    assert load_recipe("scales.yaml").tasks == (str(Path.cwd() / "tasks.py") + ":Weight",)
