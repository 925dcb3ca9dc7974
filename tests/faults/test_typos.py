"""Recipe typos: every key of the schema, mistyped by one letter, is refused with file, line, key and the right key.

The keys are read off the schema, so a key that is added is tried here from its first day.
"""

import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny_run

from curr_reft.errors import RecipeError
from curr_reft.recipe import Recipe, load_recipe
from curr_reft.recipe_schema import keys
from curr_reft.recipe_source import read, write

KEYS = [info.path for info in keys(Recipe)]
SIBLINGS: dict[str, set[str]] = {}  # section -> the keys in it
for _path in KEYS:
    SIBLINGS.setdefault(_path.rpartition(".")[0], set()).add(_path.rpartition(".")[2])


def typos(word: str) -> Iterator[str]:
    """A letter doubled, two exchanged, one left out, one hit beside: each in the middle of the word."""
    middle = len(word) // 2
    yield word[:middle] + word[middle - 1] + word[middle:]
    if len(word) > 3:  # of a shorter word, half of it would be wrong
        yield word[: middle - 1] + word[middle] + word[middle - 1] + word[middle + 1 :]
        yield word[:middle] + word[middle + 1 :]
        yield word[:middle] + "q" + word[middle + 1 :]


def nested(path: str, value: Any) -> Any:
    """Data that holds ``value`` at ``path``: N is a list of one, NAME a name."""
    head, _, rest = path.partition(".")
    if head == "N":
        return [nested(rest, value) if rest else value]
    return {"mine" if head == "NAME" else head: nested(rest, value) if rest else value}


def over(data: Any, more: Any) -> Any:
    if isinstance(data, dict) and isinstance(more, dict):
        return {**data, **{key: over(data.get(key), value) for key, value in more.items()}}
    return more


def told(path: str, place: Path, wanted: slice = slice(None)) -> list[str]:
    """What is said of the ``wanted`` typos of the last word of ``path``, where that is not the right thing."""
    section, _, word = path.rpartition(".")
    here = section.replace(".NAME", ".mine").replace(".N", ".0")
    base = read(tiny_run.RECIPE).data
    complaints = []
    for typo in list(dict.fromkeys(typos(word)))[wanted]:
        if typo in SIBLINGS[section] or typo == word:
            continue
        text = write(over(base, nested(f"{section}.{typo}".lstrip("."), 1)))
        place.write_text(text)
        mistyped = [number for number, line in enumerate(text.splitlines(), 1) if f"{typo}: 1" in line]
        shown = f"{here}.{typo}".lstrip("."), f"{here}.{word}".lstrip(".")
        heads = {f"{place}:{number}: {shown[0]} = 1: unknown key; " for number in mistyped}
        try:
            load_recipe(place)
        except RecipeError as error:
            lines = str(error).splitlines()
            if not any(line.strip() == f"{head}did you mean {shown[1]}?" for head in heads for line in lines):
                complaints.append(f"{shown[0]}: {error}")
        else:
            complaints.append(f"{shown[0]} is taken")
    return complaints


def test_every_key_of_the_schema_is_suggested_for_a_typo(tmp_path: Path) -> None:
    """One typo a key, another kind for each of its neighbours."""
    place = tmp_path / "recipe.yaml"
    kinds = [slice(number % 4, number % 4 + 1) if len(path.rpartition(".")[2]) > 3 else slice(0, 1)
             for number, path in enumerate(KEYS)]  # fmt: skip
    wrong = [line for path, kind in zip(KEYS, kinds, strict=True) for line in told(path, place, kind)]
    assert len(KEYS) > 100
    assert not wrong, "\n".join(wrong)


@pytest.mark.slow
def test_every_key_of_the_schema_is_suggested_for_every_typo(tmp_path: Path) -> None:
    wrong = [line for path in KEYS for line in told(path, tmp_path / "recipe.yaml")]
    assert not wrong, "\n".join(wrong)


def test_a_key_in_another_section_is_found_there(tmp_path: Path) -> None:
    for key, right in (("lr", "optimizer.lr"), ("temperature", "sampling.temperature"), ("beta", "rl.objective.beta")):
        with pytest.raises(RecipeError, match=rf"--{key} 1: unknown key; (did you mean|{key} is) [a-z_.]*{right}\b"):
            load_recipe(tiny_run.RECIPE, [f"--{key}", "1"])


@pytest.mark.parametrize("command", ["run", "check"])
def test_the_command_refuses_in_under_a_second(command: str, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(tiny_run.RECIPE.read_text() + "checkpont: {every: 3}\n")
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = tiny_run.curr_reft(command, recipe, "--evaluation.galery", "2")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 2
    line = recipe.read_text().count("\n")
    assert f"{recipe}:{line}: checkpont: unknown key; did you mean checkpoint?" in done.stderr
    assert "--evaluation.galery 2: unknown key; did you mean evaluation.gallery?" in done.stderr
    assert "Traceback" not in done.stderr
    # Of a processor: how long it waits for one on a busy machine is not the program's doing.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1
