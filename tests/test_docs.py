"""The pages are true as far as a machine can tell: links lead somewhere, commands and keys exist.

What blocks do when they are carried out is shown elsewhere: ``test_readme.py``, ``examples/``, ``test_extending.py``,
``data/loaders/test_datasets_guide.py``, ``integrations/test_trl_doc.py``, ``improve/test_kept_elsewhere.py``.
"""

import ast
import functools
import importlib
import importlib.util
import re
import shlex
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
import yaml

from curr_reft.cli import COMMANDS, _options, main, parser
from curr_reft.commands.table import Command
from curr_reft.recipe import Recipe, load_recipe
from curr_reft.recipe_schema import keys

ROOT = Path(__file__).parents[1]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "examples/README.md")),
    *sorted((ROOT / "docs").glob("*.md")),
]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
RECIPE = """\
name: any
model: {path: embedded}
curriculum: {total_steps: 9, stages: [{name: binary, forms: {binary: 1}, steps: 2}, {name: choice, forms: {choice: 1},
  steps: 2}, {name: open, forms: {open: 1}, steps: rest}]}
evaluation: {models: [base, curr_rl]}
"""
ENTRY = {"path": "rows.jsonl"}
OF_OTHER_TOOLS = ("dataset_dir: DIR", "# mix.yaml")  # first lines of YAML that is no recipe


def prose(page: Path) -> str:
    return BLOCK.sub("", page.read_text(encoding="utf-8"))


def blocks(kinds: tuple[str, ...]) -> list[Any]:
    """(page, text) of every block of these languages, named by page and line."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for block in BLOCK.finditer(text):
            if block[1] in kinds:
                place = f"{page.relative_to(ROOT)}:{text[: block.start()].count(chr(10)) + 1}"
                found.append(pytest.param(page, block[2], id=place))
    return found


def typed() -> list[Any]:
    """Every line of the blocks that is a command, without prompt and comment."""
    found = []
    for param in blocks(("", "bash", "console")):
        text = str(param.values[1]).replace("\\\n", " ")
        for line in text.splitlines():
            command = line.removeprefix("$ ").strip()
            if re.match(r"(?:export |make |python3? |accelerate |curr-reft |\.venv/bin/curr-reft )", command):
                found.append(pytest.param(command, id=f"{param.id} {command[:60]}"))
    return found


@functools.cache
def anchors(page: Path) -> set[str]:
    """Of the headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    plain = [re.sub(r"\[([^\]]*)\]\([^)]*\)|[`*]", r"\1", heading) for heading in headings]
    return {re.sub(r"[^\w\- ]", "", each.lower()).strip().replace(" ", "-") for each in plain}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_a_file_and_a_heading(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if link.startswith("https://"):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), f"{link}: there is no {target}"
        assert not anchor or anchor in anchors(target), f"{link}: headings are {sorted(anchors(target))}"


def test_every_page_can_be_reached_from_the_readme() -> None:
    seen, todo = set(), [ROOT / "README.md"]
    while todo:
        page = todo.pop()
        if page in seen or page.suffix != ".md":
            continue
        seen.add(page)
        links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", prose(page))]
        todo += [(page.parent / link).resolve() for link in links if link and not link.startswith("https://")]
    assert {page for page in PAGES if page not in seen} == set()


@pytest.mark.parametrize("command", typed())
def test_a_command_of_a_block_is_one(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = shlex.split(command.partition(" < ")[0], comments=True)
    words = words[: words.index("&&")] if "&&" in words else words
    program = Path(words[0]).name
    if "curr_reft" in words:  # accelerate launch ... -m curr_reft
        program, words = "curr-reft", words[words.index("curr_reft") :]
    if program == "make":
        assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    elif program == "curr-reft":
        carried_out: list[Namespace] = []
        for each in COMMANDS:
            module = importlib.import_module(f"curr_reft.commands.{each.module}")
            monkeypatch.setattr(module, "execute", carried_out.append)
        monkeypatch.chdir(tmp_path)
        assert main(words[1:]) == 0
        (tmp_path / "recipe.yaml").write_text(RECIPE)
        load_recipe(tmp_path / "recipe.yaml", carried_out[0].overrides)
    elif words[:2] == ["python", "-m"]:
        assert importlib.util.find_spec(words[2]), words[2]
        assert all((ROOT / word).exists() for word in words[3:] if word.startswith("tests/"))
    elif words[0] == "python":
        assert (ROOT / words[1]).is_file(), words[1]
        source = (ROOT / words[1]).read_text(encoding="utf-8")
        assert all(f'"{word}"' in source for word in words[2:] if word.startswith("--"))
    else:
        assert words[0] in ("export", "python3"), command


def named(text: str) -> Command | None:
    fitting = [each for each in COMMANDS if tuple(text.split()[1 : len(each.words) + 1]) == each.words]
    return max(fitting, key=lambda each: len(each.words), default=None)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_and_flags_in_sentences_exist(page: Path) -> None:
    known = {re.sub(r"\.(N|NAME)\b", r".\\w+", re.escape(info.path).replace(r"\.", ".")) for info in keys(Recipe)}
    for text in re.findall(r"`(curr-reft [^`]+)`", prose(page)):
        command = named(text)
        assert command is not None, text
        options = _options(parser(), command)
        for flag in re.findall(r"(?<= --)[\w.]+[\w.-]*", text):
            valid = f"--{flag}" in options or (
                command.recipe_flags and any(re.fullmatch(pattern, flag) for pattern in known)
            )
            assert valid, f"{text}: there is no --{flag}"


@pytest.mark.parametrize(("page", "text"), blocks(("yaml",)))
def test_the_yaml_of_a_block_has_keys_that_a_recipe_knows(page: Path, text: str, tmp_path: Path) -> None:
    if text.splitlines()[0] in OF_OTHER_TOOLS:
        return
    for number, part in enumerate(_parts(text)):
        data = yaml.safe_load(part)
        if "path" in data:  # an entry of a split
            data = {"train": [data]}
        if set(data) <= {"train", "test"}:
            data = {"data": {"kind": "files", "files": {"train": [ENTRY], "test": [ENTRY], **data}}}
        if "kind" in data:
            data = {"self_improvement": {"judge": data}}
        if "self_improvement" in data:
            data["self_improvement"].setdefault("pools", {"math": {"queries": 9, "quota": 3}})
        file = tmp_path / f"{number}.yaml"
        file.write_text(yaml.safe_dump({**yaml.safe_load(RECIPE), **data}), encoding="utf-8")
        load_recipe(file)


def _parts(text: str) -> list[str]:
    """A block of entries has one on each line."""
    lines = text.splitlines()
    return lines if all(line.startswith("{") for line in lines) else [text]


@pytest.mark.parametrize(("page", "text"), blocks(("python",)))
def test_the_python_of_a_block_is_python(page: Path, text: str) -> None:
    """And what it takes of us is there. Nothing is imported: TRL alone takes seconds."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("curr_reft"):
            spec = importlib.util.find_spec(str(node.module))
            assert spec is not None, node.module
            assert spec.origin is not None, node.module
            source = Path(spec.origin).read_text(encoding="utf-8")
            assert all(re.search(rf"\b{name.name}\b", source) for name in node.names), ast.unparse(node)


def test_the_messages_of_the_troubleshooting_page_are_said() -> None:
    source = (ROOT / "Makefile").read_text(encoding="utf-8")
    for path in sorted((ROOT / "src").rglob("*.py")):  # a text over several lines is one
        source += re.sub(r'"\s*\n\s*f?"', "", path.read_text(encoding="utf-8"))
    page = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    cells = re.findall(r"^\| ([^|]*`[^|]*) \|", page.partition("## Another version")[0], re.MULTILINE)
    quoted = [text for cell in cells if "from `AutoProcessor`" not in cell for text in re.findall(r"`([^`]+)`", cell)]
    assert len(quoted) >= 24
    for text in quoted:
        for part in text.removeprefix("error: ").split("..."):
            assert part.strip(" ,;") in source, text
