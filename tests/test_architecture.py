"""The house's shape: imports run one way, and what users touch changes only on purpose."""

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

import pytest

from curr_reft.cli import COMMANDS
from curr_reft.recipe import Recipe
from curr_reft.recipe_schema import keys

SOURCE = Path(__file__).parents[1] / "src" / "curr_reft"

# From the top to the ground: a module may import its own level and those below. One line may hold several rooms that
# do not know each other.
LEVELS = (
    ("__main__", "cli", "commands", "recipe_docs"),
    ("init",),
    ("run", "steps_alone", "checks", "bench", "question_sets", "compare", "comparable", "status"),
    ("trainings", "difficulty", "integrations", "export", "judging"),
    ("prepare",),
    ("report",),
    ("evaluate",),
    ("improve",),
    ("curriculum",),
    ("train",),
    ("policy",),
    ("rewards",),
    ("questions",),
    ("tasks",),
    ("data",),
    ("run_plan", "run_history", "disk_plan"),
    ("run_dir",),
    ("run_record",),
    ("recipe_changes", "run_lock"),
    ("planned",),
    ("recipe", "recipe_schema", "recipe_source"),
    ("SECTIONS",),  # every room's config.py
    ("sqlite_cache", "integrity"),
    ("files", "parquet", "console", "seeding", "user_code", "process_state", "config", "rounds"),
    ("launch", "processes", "stopping", "time_limit", "errors", "escaping", "VERSION"),
)
# The making of the embedded model uses the whole house; its folder is known to the room that loads models.
ON_TOP = ("embedded.build", "embedded.measure", "embedded.pretrain", "embedded.lessons")
# Sections may name the options of the rooms below them, as long as nothing heavy comes with it (tests/test_cli.py).
SECTION_EXTRAS = {
    "rewards.config": {"tasks.base"},
    "tasks.config": {"tasks.names"},
    "curriculum.config": {"curriculum.wilson"},
    "data.config": {"data.sampling", "data.loaders"},
}


@functools.cache
def modules() -> dict[str, ast.Module]:
    found = {}
    for path in sorted(SOURCE.rglob("*.py")):
        name = ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")
        found["VERSION" if name == "__init__" else name] = ast.parse(path.read_text(encoding="utf-8"))
    return found


def imported(tree: ast.Module) -> Iterator[str]:
    """Names of our modules that ``tree`` imports anywhere, in functions and for types too."""
    known = modules()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (
                alias.name.removeprefix("curr_reft.") for alias in node.names if alias.name.startswith("curr_reft.")
            )
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are written in full"
            if node.module == "curr_reft":
                yield from ("VERSION" if alias.name == "__version__" else alias.name for alias in node.names)
            elif node.module and node.module.startswith("curr_reft."):
                base = node.module.removeprefix("curr_reft.")
                for alias in node.names:
                    inner = f"{base}.{alias.name}"
                    yield inner if inner in known else base


def level(module: str) -> int:
    """Place in LEVELS; smaller is higher."""
    if module in ON_TOP:
        return 1
    room, _, rest = module.partition(".")
    if room == "embedded":
        room = "policy" if not rest else "data"
    name = "SECTIONS" if rest == "config" else room
    for number, rooms in enumerate(LEVELS):
        if name in rooms:
            return number
    raise AssertionError(f"src/curr_reft/{module.replace('.', '/')}: give it a level here and in docs/architecture.md")


def violations(module: str, names: Iterator[str]) -> Iterator[str]:
    for name in names:
        if name not in SECTION_EXTRAS.get(module, ()) and level(name) < level(module):
            yield f"{module} imports {name}, which is above it"


def test_no_room_imports_a_higher_one() -> None:
    found = [line for module, tree in modules().items() for line in violations(module, imported(tree))]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("data.load", "from curr_reft.tasks import TASKS"),
        ("data.load", "import curr_reft.tasks.math"),
        ("tasks.math", "def f():\n    from curr_reft.questions.forms import FORMS"),
        ("train.loop", "from curr_reft.curriculum.gate import Gate"),
        ("train.config", "from curr_reft.train.loop import train_loop"),
        ("policy.load", "from curr_reft import run"),
        ("recipe", "from curr_reft.policy.load import load_policy"),
        ("run", "from curr_reft.commands import check"),
    ],
)
def test_the_test_above_can_fail(module: str, line: str) -> None:
    assert list(violations(module, imported(ast.parse(line))))


def test_the_commands_are_these() -> None:
    assert [" ".join(command.words) for command in COMMANDS] == [
        "run",
        "check",
        "init",
        "data build",
        "data show",
        "data difficulty",
        "eval",
        "compare",
        "status",
        "sample",
        "judge",
        "judge calibrate",
        "select",
        "sft",
        "report",
        "merge",
        "push",
        "base build",
        "bench",
        "grade",
    ]


def test_the_keys_of_a_recipe_are_these() -> None:
    """Users write these in files they keep: a key that goes or changes its name is a change to announce."""
    frozen = (Path(__file__).parent / "recipe_keys.txt").read_text().split()
    found = [info.path for info in keys(Recipe)]
    gone, new = sorted({*frozen} - {*found}), sorted({*found} - {*frozen})
    way = "note it in CHANGELOG.md and run: python -m curr_reft.recipe_docs docs/recipes.md tests/recipe_keys.txt"
    assert (gone, new) == ([], []), f"keys gone: {gone}, new: {new}; if it is meant, {way}"
