"""S7: text from outside is shown, and does nothing, wherever a command prints, logs or writes Markdown."""

import ast
import io
import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny_run
import yaml
from hostile_text import EVERYTHING, MARKUP, TERMINAL, acting
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from rich.console import Console as Terminal

from curr_reft import console
from curr_reft.cli import main
from curr_reft.console import Console
from curr_reft.escaping import markdown, visible, visible_json

SOURCE = Path(__file__).parents[1] / "src" / "curr_reft"

MARKDOWN = (
    "![x](http://127.0.0.1/image)",
    "[click](http://127.0.0.1/link)",
    "[![x](http://127.0.0.1/a)](http://127.0.0.1/b)",
    "![x][ref]\n\n[ref]: http://127.0.0.1/ref",
    "<http://127.0.0.1/auto>",
    "<img src=http://127.0.0.1/raw>",
    "<script>document.title='owned'</script>",
    "a | b\n# heading",
    "```\ncode",
    "`code` | `more",
    "~~~\ncode",
    "---",
    "- item",
    "1. item",
    "> quote",
    "&lt;img src=x&gt; &#60;script&#62;",
    "\\![x](http://127.0.0.1/escaped) \\\\[y](http://127.0.0.1/twice)",
    "**bold** _it_ ~~gone~~ $x$",
    "a@127.0.0.1",
)


@pytest.mark.parametrize("name", TERMINAL)
def test_what_acts_on_a_terminal_is_shown_escaped(name: str) -> None:
    shown = visible(f"a {TERMINAL[name]} z")
    assert acting(shown) == []
    assert "\\x" in shown.lower() or "\\u" in shown.lower()
    assert visible(shown) == shown
    assert shown.encode()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "plain",
        "näher 猫 \u05e9\u05dc\u05d5\u05dd",
        "tab\tand\nline",
        "👩\u200d🔬",
        "नमस\u200dते",
        "C:\\x1b",
        "a\u00a0b",
    ],
)
def test_other_text_is_as_it_was(text: str) -> None:
    assert visible(text) == text


@given(st.text())
def test_any_text_can_be_shown(text: str) -> None:
    assert acting(visible(text)) == []
    assert acting(visible_json(json.dumps(text, ensure_ascii=False))) == []
    assert json.loads(visible_json(json.dumps(text, ensure_ascii=False))) == text


def rendered(text: str) -> str:
    return str(MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render(text))


@pytest.mark.parametrize("text", MARKDOWN)
def test_markdown_of_others_is_text(text: str) -> None:
    as_cell = f"| a | b |\n|---|---|\n| {markdown(text)} | x |\n"
    for page in (markdown(text), f"# {markdown(text)}", f"- {markdown(text)}", as_cell, f"a **{markdown(text)}** b"):
        html = rendered(page)
        for tag in (
            "<a",
            "<img",
            "<script",
            "<code",
            "<pre",
            "<em",
            "<s>",
            "<hr",
            "<blockquote",
            "<ol",
            '127.0.0.1/"',
            "<h2",
        ):
            assert tag not in html, (page, html)
    assert rendered(as_cell).count("<td>") == 2
    assert rendered(as_cell).count("<tr>") == 2


@pytest.mark.parametrize(
    "text", ["http://127.0.0.1/x", "HTTPS://a.example", "www.a.example", "ftp://a.example", "//a.example"]
)
def test_no_bare_address_becomes_a_link(text: str) -> None:
    """Extensions of Markdown look for these in the source (GitHub's does), and find none."""
    escaped = markdown(f"see {text} there")
    assert text not in escaped
    assert rendered(escaped) == f"<p>see {text} there</p>\n"


@pytest.fixture
def quiet_factory() -> Iterator[None]:
    """``console.configure`` changes what logging makes of a record, and the hook of exceptions."""
    before = logging.getLogRecordFactory(), sys.excepthook
    yield
    logging.setLogRecordFactory(before[0])
    sys.excepthook = before[1]
    console.configure()


@pytest.mark.parametrize("text", [*TERMINAL.values(), *MARKUP])
def test_console_log_and_bars_show_text_as_it_is(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], quiet_factory: None
) -> None:
    console.configure(verbose=True)
    console.open_log(tmp_path / "run.log", lambda: True)
    try:
        lines = Console()
        lines.say(f"say {text}")
        lines.result(f"result {text}")
        console.show(f"show {text}")
        console.show_error(f"error {text}")
        with console.progress(f"progress {text}", 3) as advance:
            advance()
        logging.getLogger("curr_reft.anywhere").warning("ours: %s", text)
        # pytest keeps the traceback as it came, and pytest-xdist cannot send half a character.
        error = ValueError(text.encode(errors="replace").decode())
        logging.getLogger("curr_reft.anywhere").debug(f"ours: {text}", exc_info=error)
        sys.excepthook(ValueError, ValueError(text), None)
        screen = io.StringIO()
        bars = Console()
        bars.terminal = Terminal(file=screen, force_terminal=True, width=400, color_system=None, legacy_windows=False)
        bars.begin(text, text, 60)
        bar = bars.add_bar(f"bar {text}", 3)
        bars.move_bar(bar, 1, f"text {text}")
        bars._bars.refresh()  # type: ignore[union-attr]
        bars.remove_bar(bar)
    finally:
        console.close_log()
    printed = capsys.readouterr()
    log = (tmp_path / "run.log").read_text()
    for out in (printed.out, printed.err, log):
        assert acting(out) == []
    shown = visible(text)
    assert f"say {shown}" in printed.out
    assert f"result {shown}" in printed.out
    assert f"show {shown}" in printed.out
    assert f"error {shown}" in printed.err
    assert f"ours: {shown}" in printed.err
    assert f"ValueError: {shown}" in printed.err
    assert f"bar {shown}" in screen.getvalue()
    assert f"text {shown}" in screen.getvalue()
    assert text not in screen.getvalue() or text == shown
    assert all(line[:2] == "20" for line in log.splitlines())  # no line of the log is forged by a separator


def test_logs_of_libraries_are_escaped(quiet_factory: None) -> None:
    """transformers prints fields of a model's configuration by a handler that is not ours."""
    console.configure()
    stream = io.StringIO()
    logger = logging.getLogger("some.library")
    handler = logging.StreamHandler(stream)
    logger.addHandler(handler)
    try:
        logger.warning("a model of type %s", EVERYTHING)
    finally:
        logger.removeHandler(handler)
    assert acting(stream.getvalue()) == []
    assert "\\x1b[31mred" in stream.getvalue()


def test_only_the_console_prints() -> None:
    """One filter: ``print`` elsewhere would go around it."""
    calls = [
        f"{path.relative_to(SOURCE)}:{node.lineno}"
        for path in SOURCE.rglob("*.py")
        if path not in (SOURCE / "console.py", SOURCE / "bench" / "link.py")  # link: JSON between two processes
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and (
            (isinstance(node.func, ast.Name) and node.func.id == "print")
            or (
                isinstance(node.func, ast.Attribute)
                and ast.unparse(node.func) in ("sys.stdout.write", "sys.stderr.write")
            )
        )
    ]
    assert calls == []


def recipe(folder: Path, **changed: Any) -> Path:
    made = yaml.safe_load(tiny_run.RECIPE.read_text()) | changed
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(made))
    return path


NAME = "".join(char for char in EVERYTHING if char not in "/\x00\udc9b")


@pytest.mark.parametrize(
    "door",
    [
        "key",
        "value",
        "nested key",
        "argument",
        "flag",
        "command",
        "run directory",
        "rows",
        "row file",
        "grade",
        "reward",
    ],
)
def test_commands_quote_what_they_refuse(
    door: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, quiet_factory: None
) -> None:
    # A question or truth with such characters is refused by their code point, and not quoted.
    row = {"problem": "one and one", "solution": "2", "task": NAME, NAME: NAME, "image": f"{NAME}.png"}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n")
    data: dict[str, Any] = {
        "kind": "files",
        "files": {split: [{"path": "rows.jsonl"}] for split in ("train", "validation", "test")},
    }
    words = {
        "key": lambda: ["check", recipe(tmp_path, **{NAME: 1})],
        "value": lambda: ["check", recipe(tmp_path, seed=NAME)],
        "nested key": lambda: ["check", recipe(tmp_path, rl={NAME: {NAME: NAME}})],
        "argument": lambda: ["check", tmp_path / f"{NAME[:60]}.yaml"],
        "flag": lambda: ["check", tiny_run.RECIPE, f"--{NAME}", NAME],
        "command": lambda: [NAME],
        "run directory": lambda: ["status", tmp_path / NAME[:60]],
        "rows": lambda: ["check", recipe(tmp_path, data=data), "--no-model"],
        "row file": lambda: [
            "check",
            recipe(tmp_path, data={"kind": "files", "files": {**data["files"], "train": [{"path": NAME[:60]}]}}),
        ],
        "grade": lambda: ["grade"],
        "reward": lambda: [
            "grade",
            "--recipe",
            recipe(tmp_path, rewards={"custom": [{"name": "own", "call": "own.py:own"}]}),
        ],
    }[door]()
    (tmp_path / "own.py").write_text(
        "import sys\ndef own(completions, **columns):\n"
        f"    print({NAME!r})\n    sys.stderr.write({NAME!r})\n    raise ValueError({NAME!r})\n"
    )
    line = {
        "task": "math",
        "form": "open",
        "truth": "3",
        "completion": "<think>x</think><answer>3</answer>",
        "note": NAME,
    }
    if door == "grade":
        line["task"] = NAME
    monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps(line) + "\n"))
    try:
        code = main([str(word) for word in words])
    except SystemExit as end:  # argparse
        code = end.code
    printed = capsys.readouterr()
    assert code == (0 if door == "reward" else 2), printed.err
    assert acting(printed.out + printed.err) == []
    assert "1b[31mred" in printed.out + printed.err  # the escape of Python, or that of JSON
    if door == "reward":
        assert json.loads(printed.out)["note"] == NAME  # the value is the same, only written otherwise


def test_status_of_a_hostile_run(tmp_path: Path, finished: Any, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    run.mkdir()
    for path in ("recipe.yaml", "metrics.jsonl", "run.json"):
        (run / path).write_bytes((finished.path / path).read_bytes())
    record = json.loads((run / "run.json").read_text())
    record |= {"name": EVERYTHING, "ended_by": EVERYTHING, "state": "failed"}
    (run / "run.json").write_text(json.dumps(record))
    assert main(["status", str(run)]) == 0
    printed = capsys.readouterr()
    assert acting(printed.out + printed.err) == []
    assert "\\x1b[31mred" in printed.out
    assert main(["status", str(run), "--json"]) == 0
    printed = capsys.readouterr()
    assert acting(printed.out) == []
    assert json.loads(printed.out)["name"] == EVERYTHING
