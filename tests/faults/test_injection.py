"""What a model, a row or a file is called by is only text on our pages: nothing runs, and nothing is loaded.

In a real browser, with a server of our own that counts who asks. A page that does ask proves that it would be seen.
"""

import http.server
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
from PIL import Image

from curr_reft.cli import main
from curr_reft.report.build import build_report

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
