"""Code that a recipe names: what is run is what was hashed, and every mistake is told with its place and way out."""

import dataclasses
import sys
from pathlib import Path

import pytest

from curr_reft.errors import RecipeError
from curr_reft.user_code import digest, load, split_call

GOOD = """\
from dataclasses import dataclass

@dataclass
class Box:
    side: int = 3

def area(side=Box().side):
    return side * side
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(GOOD)
    return path


def test_a_file_is_run_once_and_leaves_nothing_beside_it(file: Path) -> None:
    code = load(f"{file}:area", "rewards.custom.0.call")
    assert code.value() == 9
    assert load(f"{file}:area", "k").value is code.value
    assert dataclasses.asdict(load(f"{file}:Box", "k").value()) == {"side": 3}
    assert [each.name for each in file.parent.iterdir()] == ["mine.py"], "no cache of bytecode"
    assert str(file.parent) not in sys.path


def test_changed_code_is_other_code_even_within_a_second(file: Path) -> None:
    before = load(f"{file}:area", "k")
    file.write_text(GOOD.replace("side * side", "side + side"))
    after = load(f"{file}:area", "k")
    assert (before.value(), after.value()) == (9, 6)
    assert before.sha256 != after.sha256
    assert digest([before]) != digest([after])


def test_the_hash_is_that_of_the_code_not_of_its_place(file: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere" / "mine.py"
    moved.parent.mkdir()
    moved.write_text(GOOD)
    ours, theirs = load(f"{file}:area", "k"), load(f"{moved}:area", "k")
    assert digest([ours]) == digest([theirs])
    assert digest([ours]) != digest([load(f"{file}:Box", "k")])
    assert digest([]) is None


def test_a_module_is_found_by_its_dotted_path() -> None:
    code = load("curr_reft.rewards.length:length_part", "k")
    assert code.value(3, 0, 5, 1) == 0.0
    assert len(code.sha256) == 64
    assert load("math:sqrt", "k").value(4) == 2


@pytest.mark.parametrize("call", ["", "mine.py", "mine.py:", ":area", "mine:two words", "not a module:f", "../mine:f"])
def test_what_names_nothing_is_refused_with_the_rule(call: str) -> None:
    with pytest.raises(ValueError, match=r"write path/to/file\.py:NAME"):
        split_call(call)
    with pytest.raises(RecipeError, match=r"tasks\.0: "):
        load(call, "tasks.0")


@pytest.mark.parametrize(
    ("source", "name", "told"),
    [
        (None, "area", ["mine.py cannot be read (No such file or directory)", "from the recipe's folder"]),
        (GOOD, "aera", ["has no aera", "did you mean area?"]),
        (GOOD, "zzz", ["has no zzz", "it defines Box, area"]),
        ("", "area", ["it defines nothing"]),
        ("x = 1\ny = = 2\n", "area", ["mine.py:2: invalid syntax"]),
        ("x = 1\n\ny = x / 0\n", "area", ["mine.py:3: ZeroDivisionError: division by zero"]),
        ("def f():\n    raise KeyError('a')\nf()\n", "f", ["mine.py:2: KeyError: 'a'"]),
        ("import helper\n", "area", ["mine.py:1: ModuleNotFoundError", "helper.py beside it is not imported"]),
        ("import no_such_package\n", "area", ["mine.py:1: ModuleNotFoundError: No module named 'no_such_package'"]),
    ],
    ids=["missing", "near", "far", "empty", "syntax", "raises", "raises inside", "helper", "package"],
)
def test_a_file_that_cannot_be_used_is_told_with_its_line(
    file: Path, source: str | None, name: str, told: list[str]
) -> None:
    (file.parent / "helper.py").write_text("")
    if source is None:
        file.unlink()
    else:
        file.write_text(source)
    with pytest.raises(RecipeError) as error:
        load(f"{file}:{name}", "rewards.custom.2.call")
    text = str(error.value)
    assert text.startswith(f"rewards.custom.2.call = {file}:{name}: ")
    for part in told:
        assert part in text
    assert not [each for each in sys.modules if each.startswith("curr_reft_user") and "mine" in each]


@pytest.mark.parametrize(
    ("call", "told"),
    [
        ("no_such_package.rewards:f", "there is no module no_such_package"),
        ("curr_reft.no_such_module:f", "there is no module curr_reft.no_such_module"),
        ("math:squirt", "did you mean sqrt?"),
    ],
)
def test_a_module_that_cannot_be_used_is_told(call: str, told: str) -> None:
    with pytest.raises(RecipeError) as error:
        load(call, "k")
    assert told in str(error.value)


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("import sys\nsys.exit(0)", r"mine.py:2: SystemExit: 0; it would end the command: put what only a script"),
        ("def __getattr__(name):\n    raise RuntimeError(name)", r"asking .*mine.py for it raised RuntimeError: area"),
    ],
)
def test_a_file_that_ends_the_command_or_breaks_when_asked_is_told(file: Path, source: str, told: str) -> None:
    file.write_text(source)
    with pytest.raises(RecipeError, match=told):
        load(f"{file}:area", "k")


def test_a_path_that_no_system_takes_is_told(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="cannot be read"):
        load(f"{tmp_path}/a\0.py:area", "k")
