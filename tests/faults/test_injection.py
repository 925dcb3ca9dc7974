"""What a model, a row or a file is called by is only text on our pages: nothing runs, and nothing is loaded.

In a real browser, with a server of our own that counts who asks. A page that does ask proves that it would be seen.
"""

import http.server
import itertools
import json
import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny_run
from hostile_text import EVERYTHING
from markdown_it import MarkdownIt
from PIL import Image

from curr_reft.cli import main
from curr_reft.judging.page import calibration_page
from curr_reft.report.build import build_report
from curr_reft.report.card import adapter_card, write_card

TITLE = "document.title='owned'"


class Counting(http.server.BaseHTTPRequestHandler):
    asked: list[str]  # of the class that ``server`` makes

    def do_GET(self) -> None:
        self.asked.append(self.path)
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *arguments: Any) -> None:
        """The requests are counted, not told."""


@pytest.fixture
def server() -> Iterator[tuple[str, list[str]]]:
    """(its address, the paths that were asked for)."""
    asked: list[str] = []
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Counting,), {"asked": asked})) as made:
        threading.Thread(target=made.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{made.server_port}", asked
        made.shutdown()


@pytest.fixture(scope="module")
def look(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], str]:
    """Headless Chromium on a file: the page as it stands after all scripts and loads."""
    name = next((name for name in ("chromium", "chromium-browser", "google-chrome") if shutil.which(name)), None)
    if name is None:
        pytest.skip("no Chromium in the path: the pages are not looked at")
    home = tmp_path_factory.mktemp("browser")

    def dump(page: Path) -> str:
        done = subprocess.run(
            [
                name, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync",
                "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage",
                "--no-proxy-server", "--virtual-time-budget=2000", f"--user-data-dir={home}", "--dump-dom",
                page.as_uri(),
            ],
            capture_output=True, text=True, timeout=200, check=False,
            env={"PATH": os.environ["PATH"], "HOME": str(home)},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-1000:]
        return done.stdout

    return dump


def payloads(address: str) -> list[str]:
    """Each would set the title or ask the server, in the place of text or in that of an attribute."""
    return [
        f"<script>{TITLE};fetch('{address}/fetch')</script>",
        f'"><img src=\'{address}/image\' onerror="{TITLE}">',
        f"</style></svg><link rel=stylesheet href='{address}/style'><iframe src='{address}/frame'></iframe>",
        f"<svg onload=\"{TITLE}\"><image href='{address}/svg'/></svg><style>@import '{address}/import'</style>",
    ]


def assert_nothing_happened(shown: str, asked: list[str]) -> None:
    assert "<title>owned" not in shown
    assert asked == []


@pytest.mark.browser
def test_a_page_that_acts_is_seen(look: Any, server: Any, tmp_path: Path) -> None:
    address, asked = server
    page = tmp_path / "page.html"
    page.write_text("<title>quiet</title>" + "".join(payloads(address)))
    shown = look(page)
    assert "<title>owned" in shown
    assert {"/fetch", "/image"} <= set(asked)


@pytest.mark.browser
def test_the_report(finished: Any, look: Any, server: Any, tmp_path: Path) -> None:
    """Completion, question, truth, reason, label and the name of the image file."""
    address, asked = server
    run = Path(shutil.copytree(finished.path, tmp_path / "run"))
    hostile = payloads(address)
    for file in run.glob("eval/*.predictions.jsonl"):
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        for number, row in enumerate(rows):
            text = hostile[number % len(hostile)]
            row |= {
                "completion": text,
                "prompt": text,
                "truth": text,
                "reason": text,
                "id": text,
                "image": f"{text}.png",
            }
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    kept = run / "self-improve" / "kept.jsonl"
    rows = [
        json.loads(line) | {"completion": hostile[0], "prompt": hostile[1]} for line in kept.read_text().splitlines()
    ]
    kept.write_text("".join(json.dumps(row) + "\n" for row in rows))
    shown = look(build_report(run))
    assert "&lt;script&gt;" in shown
    assert "curr-reft</title>" in shown
    assert_nothing_happened(shown, asked)


@pytest.mark.browser
def test_the_page_of_questions(look: Any, server: Any, tmp_path: Path) -> None:
    """By the user's door: rows whose question, labels and image files bear the payloads."""
    address, asked = server
    rows = []
    for number, text in enumerate(payloads(address)):
        name = f"{text.replace('/', '_')}.png"
        Image.new("RGB", (40, 40), (50 * number, 90, 10)).save(tmp_path / name)
        rows.append({"problem": f"{text} what is it?", "solution": "red", "task": "classification", "image": name,
                     "distractors": [[text], ["blue"], ["green"]]})  # fmt: skip
        rows.append({"problem": text, "solution": text, "task": "classification", "image": name})
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for split, colour in (("validation", "white"), ("test", "black")):
        Image.new("RGB", (40, 40), colour).save(tmp_path / f"{split}.png")
        row = {"problem": "what is it?", "solution": "red", "task": "classification", "image": f"{split}.png"}
        (tmp_path / f"{split}.jsonl").write_text(json.dumps(row) + "\n")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        tiny_run.RECIPE.read_text().partition("data:")[0]
        + "data: {kind: files, files: {train: [{path: train.jsonl}], validation: [{path: validation.jsonl}],"
        + " test: [{path: test.jsonl}]}, leaks: exact}\n"
        "curriculum: {total_steps: 1, stages: [{name: open, forms: {open: 1}, steps: rest}]}\n"
        "evaluation: {models: [base]}\n"
    )
    page = tmp_path / "page.html"
    assert main(["data", "show", str(recipe), "--out", str(page)]) == 0
    shown = look(page)
    assert "&lt;script&gt;" in shown
    assert_nothing_happened(shown, asked)


def markdown_payloads(address: str) -> list[str]:
    """Each loads, links or runs something once Markdown is rendered as hubs and editors do."""
    return [
        *payloads(address),
        f"![x]({address}/inline)",
        f"![x][ref]\n\n[ref]: {address}/reference",
        f"`![x]({address}/code)` ` | ![x]({address}/cell) |",
        f"\\![x]({address}/escaped)",
        f"[link]({address}/link) <{address}/auto> {address}/bare",
        f"\n\n<img src='{address}/block'>\n\n",
        f"&lt;img src='{address}/entity'&gt;",
        f"```\n```\n<img src='{address}/fence'>",
    ]


def assert_page_is_text(text: str, look: Any, asked: list[str], page: Path) -> str:
    """Render the Markdown as a hub does, open it, and look for what came of the payloads. Returns the page."""
    html = MarkdownIt("commonmark", {"html": True}).enable("table").render(text.partition("\n---\n")[2] or text)
    for tag in ("<a ", "<img", "<script", "<iframe", "<svg", "<link", "<style"):
        assert tag not in html
    page.write_text(f"<title>quiet</title>{html}", encoding="utf-8")
    shown = str(look(page))
    assert "<title>quiet" in shown
    assert_nothing_happened(shown, asked)
    return shown


@pytest.mark.browser
def test_markdown_that_acts_is_seen(look: Any, server: Any, tmp_path: Path) -> None:
    address, asked = server
    html = MarkdownIt("commonmark", {"html": True}).enable("table").render("\n\n".join(markdown_payloads(address)))
    (tmp_path / "page.html").write_text(f"<title>quiet</title>{html}")
    assert "<title>owned" in look(tmp_path / "page.html")
    assert {"/inline", "/reference", "/block"} <= set(asked)


@pytest.mark.browser
def test_the_data_card(look: Any, server: Any, tmp_path: Path) -> None:
    """Bad rows, names of files and of the recipe, repeated ids."""
    address, asked = server
    rows = []
    for number, text in enumerate(reversed(markdown_payloads(address))):  # the card shows the first ten bad rows
        Image.new("RGB", (40, 40), (20 * number, 90, 10)).save(tmp_path / f"{number}.png")
        good = {"problem": f"what is it? {number}", "solution": "red", "task": "classification", "id": text}
        good["image"] = f"{number}.png"
        bad = good | ({"task": text}, {"image": f"{text}.png"}, {"distractors": text})[number % 3]
        rows += [good, good | {"id": f"{text} again"}, bad]
    folder = tmp_path / f"![x]({address.replace('/', '_')})"
    folder.mkdir()
    file = folder / "train <img src=x>.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for split, colour in (("validation", "white"), ("test", "black")):
        Image.new("RGB", (40, 40), colour).save(tmp_path / f"{split}.png")
        row = {"problem": "what is it?", "solution": "red", "task": "classification", "image": f"{split}.png"}
        (tmp_path / f"{split}.jsonl").write_text(json.dumps(row) + "\n")
    train = {"path": str(file.relative_to(tmp_path)), "image_root": "."}
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        tiny_run.RECIPE.read_text().partition("data:")[0]
        + f"data: {{kind: files, files: {{train: [{json.dumps(train)}], validation: [{{path: validation.jsonl}}],"
        + " test: [{path: test.jsonl}]}, bad_rows: skip}\n"
        "curriculum: {total_steps: 1, stages: [{name: open, forms: {open: 1}, steps: rest}]}\n"
        "evaluation: {models: [base]}\n"
    )
    assert main(["data", "build", str(recipe), "--out", str(tmp_path / "out"), "--frame", "pixels"]) == 0
    text = (tmp_path / "out" / "card.md").read_text()
    assert "inline" in text
    assert_page_is_text(text, look, asked, tmp_path / "page.html")


def poisoned(value: Any, texts: Callable[[], str], kept: set[str]) -> Any:
    """``value`` with each of its texts replaced, but for those in ``kept``."""
    if isinstance(value, dict):
        return {key: poisoned(each, texts, kept) for key, each in value.items()}
    if isinstance(value, list):
        return [poisoned(each, texts, kept) for each in value]
    return texts() if isinstance(value, str) and value not in kept else value


@pytest.mark.browser
def test_report_and_card_of_a_run_whose_records_are_hostile(
    finished: Any, look: Any, server: Any, tmp_path: Path
) -> None:
    """All texts of the records, and the names of a task and a model, as a run directory from others may have them."""
    address, asked = server
    run = Path(shutil.copytree(finished.path, tmp_path / "run"))
    texts = itertools.cycle([*markdown_payloads(address), EVERYTHING.replace("\udc9b", "")])
    for name in ("run.json", "summary.json", "data/card.json", "self-improve/account.json"):
        path = run / name
        content = poisoned(json.loads(path.read_text()), lambda: next(texts), {"done"})
        if name == "run.json":
            content |= {"name": next(texts), "versions": {next(texts): next(texts)}, "ended_by": next(texts)}
        if name == "summary.json":
            content["evaluation"][next(texts)] = next(iter(content["evaluation"].values()))
        if name == "data/card.json":
            content["items"] = {next(texts): {next(texts): 3}}
        path.write_text(json.dumps(content))
    shown = look(build_report(run))
    assert_nothing_happened(shown, asked)
    assert_page_is_text(write_card(run).read_text(), look, asked, tmp_path / "page.html")


@pytest.mark.browser
def test_calibration_and_the_card_of_an_adapter(look: Any, server: Any, tmp_path: Path) -> None:
    """Names of the judge, its model, its rubric and the file; reasons of failures; settings of an adapter."""
    address, asked = server
    between: dict[str, Any] = {"value": 0.5, "low": 0.4, "high": 0.6}
    agreement = dict.fromkeys(("accuracy", "kappa", "spearman", "auc"), between)
    measured = {
        "agreement": agreement | {"right_kept": 1.0, "wrong_kept": 0.0},
        "recommended": {"threshold": None, "target": 0.95, "reached": False},
        "rows": 10, "right": 0.5, "verdicts": 7, "threshold": 80,
        "length": {"partial_spearman": between, "padding_characters": 100, "padding": {"mean": between}},
        "position": {"reversed": {"mean": between, "absolute": 1.0}},
        "consistency": {"repeats": 3, "spread": between, "one_side": between},
        "curve": [],
    }  # fmt: skip
    pages = []
    for text in markdown_payloads(address):
        judge = {"judge": text, "model": text, "rubric": text, "failures": {text: 3}}
        pages.append(calibration_page({**measured, "judge": judge}, text))
        card = adapter_card(text, {"target_modules": [text], "r": text, "lora_alpha": text}, "smolvlm")
        pages.append(card.partition("\n---\n")[2])
    assert_page_is_text("\n\n".join(pages), look, asked, tmp_path / "page.html")
