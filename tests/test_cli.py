"""The commands by the user's door: quick, nothing heavy before it is needed, one message and an exit code."""

import importlib
import json
import os
import resource
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import pytest
import tiny_run

from curr_reft.cli import COMMANDS, _message, main
from curr_reft.commands.table import Command
from curr_reft.errors import CurrReftError, DataError, DiskFullError, RecipeError, TrainingError

RECIPE = """\
name: tiny
data: {shapes: {train: {math: 4}, validation: {math: 2}, test: {math: 2, detection: 2}, ood_test: {math: 2}}}
curriculum: {total_steps: 20, stages: [{name: open, forms: {open: 1}, steps: rest}]}
evaluation: {models: [base, curr_rl]}
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE)
    return path


def curr_reft(
    *words: str | Path, stdin: str = "", environment: Mapping[str, str] = MappingProxyType({})
) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).with_name("curr-reft")
    assert program.exists(), "the package is not installed beside this interpreter"
    command = f"exec {program} " + " ".join(f"'{word}'" for word in words)
    return subprocess.run(
        ["bash", "-c", command],
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={**os.environ, **environment},
    )


HEAVY = {"torch", "transformers", "accelerate", "pyarrow", "matplotlib", "sympy", "openai", "jinja2"}


def light(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a command that must answer before anything heavy is imported, which is what makes it quick."""
    done = curr_reft(*words, environment={"PYTHONPROFILEIMPORTTIME": "1"})
    lines = done.stderr.splitlines(keepends=True)
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in lines if line.startswith("import time:")}
    assert "curr_reft" in imported
    assert not imported & HEAVY
    rest = "".join(line for line in lines if not line.startswith("import time:"))
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout, rest)


def test_help_answers_at_once() -> None:
    done = light("--help")
    assert done.returncode == 0
    for word in ("run", "check", "data", "eval", "report", "base", "grade"):
        assert word in done.stdout


def test_help_lists_every_command_once(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    said = capsys.readouterr().out
    listed = [line.strip() for line in said.partition("commands:\n")[2].partition("\n\n")[0].splitlines()]
    assert [line.partition("  ")[0] for line in listed] == [" ".join(command.words) for command in COMMANDS]
    assert [line.partition("  ")[2].strip() for line in listed] == [command.help for command in COMMANDS]
    assert said.startswith("usage: curr-reft [-h] [--version] COMMAND ...\n")
    codes = said.partition("Exit codes:")[2].split()
    assert all(str(code) in codes for code in (0, 1, 2, 3, 130))
    with pytest.raises(SystemExit):
        main(["judge", "--help"])
    assert "judge calibrate  measure how far" in capsys.readouterr().out  # which argparse takes for another command


def test_verbose_and_quiet_stand_before_the_command_or_behind_it(
    recipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words in (["-v", "check", str(recipe)], ["check", str(recipe), "--verbose"]):
        assert main([*words, "--no-model", "--seed", "3"]) == 0
        assert "making questions: " in capsys.readouterr().err
    assert main(["-q", "check", str(recipe), "--no-model"]) == 0
    printed = capsys.readouterr()
    assert "recipe tiny" in printed.out  # the result
    assert printed.err == ""
    assert main(["check", str(recipe), "--quiet", "--data.kind", "files"]) == 2
    assert capsys.readouterr().err.startswith("error: ")
    with pytest.raises(SystemExit):
        main(["check", str(recipe), "-q", "-v"])
    assert "not allowed with argument" in capsys.readouterr().err


def test_a_verbose_error_says_where_it_comes_from_and_quotes_nobody(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", str(tmp_path / "none.yaml"), "-v"]) == 2
    printed = capsys.readouterr().err
    assert "raised at:\n  File " in printed
    assert printed.splitlines()[-1].startswith("error: ")


def test_the_keys_of_the_recipe_are_listed_all_or_those_below_one(capsys: pytest.CaptureFixture[str]) -> None:
    done = light("run", "--keys")
    assert done.returncode == 0
    for key in ("--seed (", "--rl.optimizer.lr (", "--curriculum.stages.N.steps (", "default 1e-06"):
        assert key in done.stdout
    with pytest.raises(SystemExit) as left:
        main(["check", "--keys", "rl.optimizer"])
    assert left.value.code == 0
    listed = [line.split()[0] for line in capsys.readouterr().out.splitlines() if line.startswith("  --")]
    assert listed[0] == "--rl.optimizer.lr"
    assert all(line.startswith("--rl.optimizer.") for line in listed)
    assert main(["run", "--keys", "rl.optimiser"]) == 2
    assert "did you mean rl.optimizer?" in capsys.readouterr().err


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: " ".join(command.words))
def test_help_is_short_fits_a_terminal_and_its_examples_are_read(
    command: Command, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        main([*command.words, "--help"])
    said = capsys.readouterr().out
    assert max(map(len, said.splitlines())) <= 80
    assert len(said.splitlines()) <= 50
    carried_out = []
    module = importlib.import_module(f"curr_reft.commands.{command.module}")
    monkeypatch.setattr(module, "execute", carried_out.append)
    for example in command.examples:
        typed = shlex.split(example.partition("<")[0])
        assert f"curr-reft {' '.join(command.words)} {example}".strip() in said
        assert main([*command.words, *typed]) == 0
    assert len(carried_out) == len(command.examples) > 0


def test_a_typo_is_refused_at_once(recipe: Path) -> None:
    recipe.write_text(RECIPE + "sede: 3\n")
    done = light("run", recipe, "--rl.optimiser.lr", "1")
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {recipe}: 2 problems\n")
    assert f"{recipe}:5: sede = 3: unknown key; did you mean seed?" in done.stderr
    assert "--rl.optimiser.lr: rl.optimiser: unknown key; did you mean rl.optimizer?" in done.stderr


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["run", "--help"],
        ["run", "RECIPE", "--sede", "1"],
        ["check", "RECIPE", "--seed", "x"],
        ["data"],
        ["eval"],
    ],
    ids=" ".join,
)
def test_nothing_heavy_is_imported_for_help_and_refusals(recipe: Path, words: list[str]) -> None:
    code = """
import sys
from curr_reft.cli import main
try:
    main(sys.argv[1:])
except SystemExit:
    pass
heavy = {"torch", "transformers", "tokenizers", "accelerate", "pyarrow", "sympy", "matplotlib", "jinja2"}
heavy &= set(sys.modules)
assert not heavy, heavy
if "--help" == sys.argv[1]:
    assert not {"pydantic", "yaml", "numpy", "PIL"} & set(sys.modules)
"""
    words = [str(recipe) if word == "RECIPE" else word for word in words]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_command_has_help(capsys: pytest.CaptureFixture[str]) -> None:
    for command in COMMANDS:
        with pytest.raises(SystemExit) as left:
            main([*command.words, "--help"])
        assert left.value.code == 0
        assert "usage: curr-reft " + " ".join(command.words) in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], "required: COMMAND"),
        (["rnu"], "unknown command 'rnu'; did you mean run?"),
        (["train"], "unknown command 'train'; did you mean run?"),
        (["version"], "unknown command 'version'; did you mean --version?"),
        (["merge-lora"], "did you mean merge?"),
        (["deploy"], "invalid choice: 'deploy' (choose from 'run', "),
        (["run", "RECIPE", "--dry-run"], "recipe.yaml: it checks everything and trains nothing"),
        (["run", "--dry-run", "RECIPE"], "curr-reft check "),
        (["run", "--dry-run"], "the dry run is curr-reft check RECIPE"),
        (["run", "dmo"], "did you mean demo? shipped are demo, general-points, "),
        (["run", "."], "is a directory, but not of a run"),
        (["run", "RECIPE", "--learning_rate", "1e-6"], "unknown key; learning_rate is rl.optimizer.lr here"),
        (["run", "RECIPE", "--learning-rate=1e-6"], "is rl.optimizer.lr here (sft.optimizer.lr for the SFT baseline)"),
        (["run", "RECIPE", "--report_to", "wandb"], "metrics are in metrics.jsonl"),
        (["run", "RECIPE", "--model", "Qwen/X"], "a model is named by its key path: --model.path Qwen/X"),
        (["eval", "embedded"], "embedded is no run directory and lies in none; give the recipe too"),
        (["run"], "required: RECIPE"),
        (["run", "missing.yaml"], "missing.yaml does not exist"),
        (["run", "RECIPE", "again.yaml"], "unrecognized arguments: again.yaml"),
        (["run", "RECIPE", "--seed"], "--seed needs a value"),
        (["run", "--seed", "-1", "RECIPE"], "--seed -1: must be greater than or equal to 0"),
        (["eval", "model", "RECIPE", "--split", "train"], "invalid choice: 'train'"),
        (["data", "build", "RECIPE"], "required: --out"),
        (["check", "RECIPE", "--json", "."], "--json: . is a folder; name a file"),
        (["data", "build", "RECIPE", "--out", "RECIPE"], "is a file; name a folder"),
        (["data", "show", "RECIPE", "--out", "RECIPE/page.html"], "recipe.yaml is no folder"),
        (["report", "missing"], "missing is not the directory of a run"),
        (["grade", "--rewards.timeout", "1"], "give the recipe with --recipe"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_use_is_refused_with_code_2(recipe: Path, words: list[str], expected: str) -> None:
    done = curr_reft(*[word.replace("RECIPE", str(recipe)) for word in words])
    assert done.returncode == 2
    assert expected in done.stderr
    assert "Traceback" not in done.stderr


def test_a_place_that_is_read_only_is_refused_before_the_work(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("os.access", lambda path, mode: Path(path) != tmp_path)  # root may write anywhere
    with pytest.raises(SystemExit) as left:
        main(["eval", "embedded", str(recipe), "--json", str(tmp_path / "new" / "scores.json")])
    assert left.value.code == 2
    assert f"{tmp_path} is read-only here; choose another place" in capsys.readouterr().err


def test_data_build_writes_rows_images_and_a_card(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "rows"
    assert main(["data", "build", "--data.shapes.train", "{math: 6}", str(recipe), "--out", str(out)]) == 0
    told = capsys.readouterr().out
    assert f"6 rows  {out}/train.jsonl" in told
    assert f"6 rows  {out}/questions/train/binary.jsonl" in told
    rows = [json.loads(line) for line in (out / "train.jsonl").read_text().splitlines()]
    assert len(rows) == 6
    assert all((out / row["image"]).is_file() for row in rows)
    card = json.loads((out / "card.json").read_text())
    assert card["items"]["train"] == {"math": 6}
    assert card["questions"]["leaks"] == 0
    assert main(["data", "build", str(recipe), "--out", str(out)]) == 2
    assert "in use" in capsys.readouterr().err


def test_data_show_writes_a_page(recipe: Path, tmp_path: Path) -> None:
    assert main(["data", "show", str(recipe), "--out", str(tmp_path / "new" / "page.html")]) == 0
    assert "<script" not in (tmp_path / "new" / "page.html").read_text()


def carry_out_with_small_files(words: list[str], log: Path) -> None:
    tiny_run.begin(log)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, resource.RLIM_INFINITY))
    sys.exit(main(words))


def test_no_space_is_code_3(recipe: Path, tmp_path: Path) -> None:
    # The limit on the size of a file stands for a full disk.
    words = ("data", "build", recipe, "--out", tmp_path / "rows", "--data.shapes.train", "{math: 200}")
    log = tmp_path / "log"
    assert tiny_run.wait(tiny_run.fork(carry_out_with_small_files, [*map(str, words)], log)) == 3
    assert "no space left" in log.read_text()
    assert "Traceback" not in log.read_text()


def test_a_used_or_held_directory_is_refused_before_anything_heavy(recipe: Path, tmp_path: Path) -> None:
    hold = """
import sys
from curr_reft.recipe import load_recipe
from curr_reft.run_dir import RunDir
with RunDir.open(sys.argv[1], load_recipe(sys.argv[2], ["--output", sys.argv[1]])):
    print("held", flush=True)
    sys.stdin.read()
"""
    output = tmp_path / "run"
    command = [sys.executable, "-c", hold, str(output), str(recipe)]
    holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    holder.stdout.readline()
    done = light("run", recipe, "--output", output, "--resume")
    holder.communicate()
    assert done.returncode == 2
    assert f"held by another run (process {holder.pid} on " in done.stderr
    done = light("run", recipe, "--output", output)
    assert done.returncode == 2
    assert "Three ways out" in done.stderr


def test_resume_says_that_it_begins_where_there_is_no_run(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("curr_reft.run.run", lambda recipe, resume: None)
    with caplog.at_level("INFO"):
        assert main(["run", str(recipe), "--output", str(tmp_path / "elsewhere"), "--resume"]) == 0
    assert caplog.messages == [f"--resume: there is no run in {tmp_path / 'elsewhere'}, so one begins"]
    (tmp_path / "run.json").write_text("{}")  # now the recipe stands in the folder of a run
    assert main(["run", str(recipe), "--output", str(tmp_path / "elsewhere"), "--resume"]) == 0
    assert f"to go on with that: --output {tmp_path}" in caplog.messages[-1]


def test_output_that_nobody_reads_is_no_error(recipe: Path) -> None:
    program = Path(sys.executable).with_name("curr-reft")
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {program} run --help | true"], capture_output=True, text=True, check=False
    )
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RecipeError("seed: wrong"), 2),
        (TrainingError("loss is nan"), 1),
        (DiskFullError("full"), 3),
        (KeyboardInterrupt(), 130),
        (OSError(28, "No space left on device"), 3),
        (PermissionError(13, "Permission denied", "a.json"), 2),
        (OSError(30, "Read-only file system", "a.json"), 2),
    ],
    ids=repr,
)
def test_exit_codes(
    error: BaseException, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_: list[str]) -> int:
        raise error

    monkeypatch.setattr("curr_reft.cli._dispatch", fail)
    assert main([]) == code
    text = capsys.readouterr().err
    assert text.count("\n") == 1
    if isinstance(error, CurrReftError):
        assert text == f"error: {error}\n"


def test_an_unexpected_error_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: list[str]) -> int:
        raise ZeroDivisionError

    monkeypatch.setattr("curr_reft.cli._dispatch", fail)
    with pytest.raises(ZeroDivisionError):
        main([])


def test_the_first_ten_bad_rows_are_shown() -> None:
    problems = tuple((f"rows.jsonl:{number}", "empty") for number in range(1, 25))
    lines = _message(DataError("rows.jsonl:1", "bad", problems)).split("\n")
    assert lines[0] == "rows.jsonl:1: bad"
    assert lines[9] == "rows.jsonl:10: empty"
    assert lines[10] == "... and 14 more"


def test_python_dash_m_does_the_same(recipe: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "curr_reft.cli", "--version"], capture_output=True, text=True, check=False
    )
    assert done.stdout.startswith("curr-reft 0.")


def test_the_makefile_refuses_an_old_python(tmp_path: Path) -> None:
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    root = Path(__file__).parents[1]
    if not (root / "Makefile").exists():
        pytest.skip("not a checkout")
    old = tmp_path / "python3"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    done = subprocess.run(
        ["make", "-C", str(root), "venv", f"VENV={tmp_path}/venv", f"PYTHON={old}"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "MAKEFLAGS": ""},
    )
    assert done.returncode == 2
    assert "is not Python 3.11 or newer" in done.stderr


def test_grade_reads_rows_and_writes_them_back_graded() -> None:
    rows = [
        {"id": 7, "task": "math", "form": "open", "truth": "42", "completion": "<think>a</think><answer>42</answer>"},
        {"task": "detection", "form": "open", "truth": [0, 0, 10, 10], "completion": "nothing"},
        {"task": "math", "form": "binary", "truth": "yes", "completion": "<think>a</think><answer>no</answer>"},
    ]
    done = curr_reft("grade", stdin="\n".join(json.dumps(row) for row in rows))
    assert done.returncode == 0, done.stderr
    graded = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(row["format"], row["accuracy"]) for row in graded] == [(1, 1), (0, 0), (1, 0)]
    assert graded[0]["id"] == 7
    refused = curr_reft("grade", stdin=json.dumps(rows[0]) + "\n{}\n")
    assert refused.returncode == 2
    assert "<stdin>:2: " in refused.stderr
