"""The report is one page that shows the run, loads nothing and runs nothing, whatever a model wrote."""

import html
import json
import re
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from run_directory import make_run

from curr_reft.errors import UsageError
from curr_reft.recipe_source import write
from curr_reft.report.build import build_report
from curr_reft.report.card import export_card, write_card
from curr_reft.report.read import read_run

HOSTILE = [
    "<script>document.title='owned'</script>",
    "<img src=x onerror=\"document.title='owned'\">",
    "</style><script>document.title='owned'</script>",
    "</pre></details><svg onload=\"document.title='owned'\">",
    "{{ 7 * 7 }}{% raw %}",
    "\" onmouseover=\"document.title='owned'",
    "<iframe src='https://example.com'></iframe><link rel=stylesheet href='https://example.com/x.css'>",
    "$\\frac{1$ &lt;b&gt; \u202e \x00 \ud83d",
]


class Page(HTMLParser):
    """Tags and attributes of a page, and whether its tags close in order."""

    VOID = frozenset({"meta", "img", "br", "image", "link", "input", "use", "rect", "path", "wbr"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag, f"</{tag}> closes nothing"


def assert_harmless(text: str) -> None:
    """No script, no handler, no address that is not inside the page."""
    page = Page(text)
    names = {tag for tag, _ in page.tags}
    assert not names & {"script", "iframe", "object", "embed", "link", "base", "form", "img", "foreignobject"}
    for tag, attributes in page.tags:
        for key, value in attributes.items():
            assert not key.startswith("on"), (tag, key)
            if key in ("href", "src", "xlink:href", "action", "data"):
                assert (value or "").startswith(("#", "data:image/")), (tag, key, value)
    style = "".join(re.findall(r"<style>(.*?)</style>", text, re.DOTALL))
    assert "url(" not in style
    assert "@import" not in style
    policy = [attributes.get("content") for tag, attributes in page.tags if attributes.get("http-equiv")]
    assert policy == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]


def test_page_shows_the_run(run: Path) -> None:
    path = build_report(run)
    assert path == run / "report.html"
    text = path.read_text()
    assert_harmless(text)
    assert not re.search(r"https?://", text)
    for expected in (
        "demo", "6 min 42 s", "transformers&nbsp;5.17.0",
        "94.0", "92.1 to 95.9",  # score and interval
        "latent by design",
        "In-domain, intervals overlap, so that this run does not tell apart: RL and Curr-RL",
        "gate", "budget", "✓ as handed over",
        "at chance", "0 leaks between splits", "3 bad rows left out", "10 detection items have no choice question",
        "kept, above 85 of 100", "fluency",
    ):  # fmt: skip
        assert expected in text, expected
    assert "Not in this run directory" not in text
    identifiers = [attributes["id"] for _, attributes in Page(text).tags if "id" in attributes]
    assert len(identifiers) == len(set(identifiers))


def test_every_image_and_table_can_be_read_aloud(run: Path) -> None:
    page = Page(build_report(run).read_text())
    pictures = [attributes for tag, attributes in page.tags if tag == "svg"]
    assert len(pictures) > 20
    assert all(attributes.get("role") == "img" and attributes.get("aria-label") for attributes in pictures)
    tables = sum(tag == "table" for tag, _ in page.tags)
    assert tables == sum(tag == "caption" for tag, _ in page.tags) == 7
    assert ("html", {"lang": "en"}) in page.tags


def test_both_models_are_shown_with_boxes_and_failures(run: Path) -> None:
    text = build_report(run).read_text()
    assert text.count('class="mark truth"') == text.count('class="mark predicted"') > 8
    assert "✗</span> wrong" in text
    assert "✓</span> right" in text
    first = text.index('<article class="example">')
    article = text[first : text.index("</article>", first)]
    assert article.count('class="picture"') == 2
    assert "Base" in article
    assert "Curr-ReFT" in article


def test_note_on_the_embedded_model_only_where_it_is_one(run: Path) -> None:
    summary = json.loads((run / "summary.json").read_text())
    for model, shown in (("Qwen/Qwen2.5-VL-3B-Instruct", False), ({"kind": "embedded"}, True)):
        (run / "summary.json").write_text(json.dumps(summary | {"model": model}))
        assert ("latent by design" in build_report(run).read_text()) is shown


def poison(value: Any, text: str) -> Any:
    """Every text of a JSON value, and every key that is not part of the format, replaced by hostile ones."""
    keep = {"kind", "run", "stage", "split", "in_domain", "out_of_domain", "image", "folder", "name"}
    if isinstance(value, dict):
        return {key: each if key in keep else poison(each, text) for key, each in value.items()}
    if isinstance(value, list):
        return [poison(each, text) for each in value]
    return text if isinstance(value, str) else value


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_text_is_only_text(run: Path, text: str) -> None:
    for path in [*run.rglob("*.json"), *run.rglob("*.jsonl")]:
        lines = path.read_text().splitlines()
        path.write_text("".join(json.dumps(poison(json.loads(line), text)) + "\n" for line in lines))
    (run / "recipe.yaml").write_text(text, errors="replace")
    page = build_report(run).read_text()
    assert_harmless(page)
    assert "49{%" not in page  # templates inside texts are not run


def test_hostile_names_of_tasks_stages_models_and_domains(run: Path) -> None:
    name = HOSTILE[2]
    summary = json.loads((run / "summary.json").read_text())
    scores = summary["evaluation"].pop("curr_reft")
    summary["evaluation"][name] = {split: {name if task == "math" else task: cell for task, cell in cells.items()}
                                   for split, cells in scores.items()}  # fmt: skip
    (run / "summary.json").write_text(json.dumps(summary))
    metrics = (run / "metrics.jsonl").read_text().replace('"02-choice"', json.dumps(name + "$x_"))
    (run / "metrics.jsonl").write_text(metrics)
    (run / "self-improve" / "account.json").write_text(json.dumps({"by_domain": {name: {"kept": 1}}, "kept": 1}))
    (run / "data" / "card.json").write_text(
        json.dumps({"items": {name: {name: 1}}, "questions": {"splits": {name: {"questions": {name: {name: 2}}}}}})
    )
    assert_harmless(build_report(run).read_text())


def test_text_has_a_direction_of_its_own_and_long_names_may_break(run: Path) -> None:
    """Arabic reads from the right, and what turns letters around turns no more than its own paragraph."""
    path = run / "eval" / "curr_reft.predictions.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    texts = dict.fromkeys(("prompt", "completion", "truth"), "كم عدد الدوائر \u202e evil")
    path.write_text("".join(json.dumps(row | texts) + "\n" for row in rows))
    name = "a_task_of_somebody's_<own>"
    summary = json.loads((run / "summary.json").read_text())
    for scores in summary["evaluation"].values():
        scores["in_domain"][name] = scores["in_domain"]["math"]
    (run / "summary.json").write_text(json.dumps(summary))
    text = build_report(run).read_text()
    assert_harmless(text)
    for start in ('<p class="question" dir="auto">', '<p class="completion" dir="auto">', "<bdi>"):
        assert f"{start}كم عدد الدوائر \u202e evil" in text, start
    assert "a_<wbr>task_<wbr>of_<wbr>somebody&#39;s_<wbr>&lt;own&gt;" in text


def test_curves_are_told_apart_without_colour(run: Path) -> None:
    text = build_report(run).read_text()
    reward = text[text.index('aria-label="Reward over training steps') :]
    reward = reward[: reward.index("</svg>")]
    for series, dashed in ((1, False), (2, True)):  # Curr-RL, RL
        lines = re.findall(rf'style="[^"]*stroke: var\(--series-{series}\)[^"]*"', reward)
        assert any("stroke-dasharray" in line for line in lines) is dashed, series


def test_images_come_from_the_run_directory_only(run: Path, tmp_path: Path) -> None:
    Image.new("RGB", (50, 50), (1, 2, 3)).save(tmp_path / "secret.png")
    path = run / "eval" / "curr_reft.predictions.jsonl"
    rows = [json.loads(line) | {"image": "../secret.png"} for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    text = build_report(run).read_text()
    assert 'viewBox="0 0 50 50"' not in text
    assert "holds .." in text


OPTIONAL = ["run.json", "recipe.yaml", "metrics.jsonl", "data/card.json", "eval/profile.json", "stages",
            "self-improve", "eval/images", "eval/base.predictions.jsonl", "eval/curr_reft.predictions.jsonl",
            "summary.json"]  # fmt: skip


@pytest.mark.parametrize("name", OPTIONAL)
def test_what_is_missing_is_named_and_the_rest_is_shown(run: Path, name: str) -> None:
    path = run / name
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    text = build_report(run).read_text()
    assert_harmless(text)
    assert ("Not in this run directory" in text) is (
        not name.startswith("eval/") or name in ("eval/profile.json", "eval/images")
    )


def test_models_that_are_not_told_apart_are_named(run: Path) -> None:
    text = build_report(run).read_text()
    assert "does not tell apart: SFT and RL" not in text
    assert "their intervals overlap" not in text
    summary = json.loads((run / "summary.json").read_text())
    summary["evaluation"] = dict.fromkeys(summary["evaluation"], summary["evaluation"]["base"])
    (run / "summary.json").write_text(json.dumps(summary))
    text = build_report(run).read_text()
    assert text.count("does not tell apart: any two of the models.") == 2
    assert text.count("their intervals overlap") == 2


def test_stages_left_out_are_named(run: Path) -> None:
    summary = json.loads((run / "summary.json").read_text())
    (run / "summary.json").write_text(json.dumps(summary | {"stages_left_out": ["binary"]}))
    assert "no better than chance: binary." in build_report(run).read_text()


def test_broken_hand_over_is_marked(run: Path) -> None:
    assert build_report(run).read_text().count("✓ as handed over") == 3
    path = run / "stages" / "02-choice" / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"start_sha256": "ff" * 32}))
    text = build_report(run).read_text()
    assert text.count("✓ as handed over") == 2
    assert text.count("✗ not what was handed over") == 1


@pytest.mark.parametrize("content", ["", "{", "[]", "null", "17", '{"evaluation": 3, "cells": 4, "by_domain": []}\n'])
def test_damaged_files_do_not_stop_the_report(run: Path, content: str) -> None:
    for path in [*run.rglob("*.json"), *run.rglob("*.jsonl")]:
        path.write_text(content)
    assert_harmless(build_report(run).read_text())


def test_numbers_that_are_none_become_dashes(run: Path) -> None:
    text = (run / "summary.json").read_text()
    (run / "summary.json").write_text(re.sub(r'"(score|low|accuracy)": [\d.]+', r'"\1": null', text))
    assert "–" in build_report(run).read_text()


def test_only_a_run_directory_gives_a_report(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(UsageError, match="not a run directory"):
            build_report(path)


def test_the_page_is_the_same_each_time(run: Path, drawn: dict[Any, Any]) -> None:
    first = build_report(run).read_text()
    drawn.clear()
    assert build_report(run).read_text() == first


@pytest.mark.parametrize("models", [("base",), ("base", "curr_rl")])
def test_fewer_models(tmp_path: Path, models: tuple[str, ...]) -> None:
    assert_harmless(build_report(make_run(tmp_path / "few", models)).read_text())


@pytest.mark.browser
def test_a_browser_shows_tables_charts_and_pictures(run: Path, browser: Callable[..., str]) -> None:
    path = build_report(run)
    shown = browser(path, "--dump-dom")
    assert shown.count("<table") == 7
    assert shown.count('class="chart"') == 8
    assert shown.count('class="picture"') > 20

    shot = run / "shot.png"
    browser(path, f"--screenshot={shot}", "--window-size=1280,9000")
    pixels = np.asarray(Image.open(shot).convert("RGB"), dtype=int)
    assert pixels.shape == (9000, 1280, 3)
    assert blank_share(pixels[:1500]) < 0.9
    # The red, green, blue and yellow objects of the test images, and the blue of the first series, are on the page.
    for colour in ((225, 40, 40), (30, 170, 60), (45, 80, 235), (240, 215, 40), (31, 95, 168)):
        assert near(pixels, colour) > 100, colour


@pytest.mark.browser
def test_dark_and_narrow(run: Path, browser: Callable[..., str]) -> None:
    path = build_report(run)
    frame = run / "frame.html"  # Chromium opens no window as narrow as a telephone, but frames may be
    frame.write_text(
        f'<body style="margin:0"><iframe src="{path.as_uri()}" style="width:390px;height:3000px;border:0">'
    )
    shot = run / "shot.png"
    browser(frame, f"--screenshot={shot}", "--window-size=500,3000", "--blink-settings=preferredColorScheme=0")
    pixels = np.asarray(Image.open(shot).convert("RGB"), dtype=int)[:, :390]
    assert np.median(pixels) < 60
    assert blank_share(pixels) < 0.97
    # Nothing but tables is wider than the screen: the right margin of the page is empty.
    margin = pixels[:, 378:]
    assert blank_share(margin) > 0.99


@pytest.mark.browser
def test_hostile_text_does_nothing_in_a_browser(run: Path, browser: Callable[..., str]) -> None:
    path = run / "eval" / "curr_reft.predictions.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for index, row in enumerate(rows):
        row["completion"] = row["prompt"] = HOSTILE[index % len(HOSTILE)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    shown = browser(build_report(run), "--dump-dom")
    assert "<title>demo · curr-reft</title>" in shown
    assert "&lt;script&gt;" in shown
    assert not re.search(r"<(script|iframe|img)\b", shown)


def blank_share(pixels: np.ndarray) -> float:
    """Share of the pixels that have the most frequent colour."""
    flat = pixels.reshape(-1, 3) @ np.array([65536, 256, 1])
    return float(np.unique(flat, return_counts=True)[1].max() / len(flat))


def near(pixels: np.ndarray, colour: tuple[int, int, int]) -> int:
    return int((np.abs(pixels - np.array(colour)).max(axis=-1) <= 6).sum())


MAKER = "/home/maker/secret project"


def test_no_path_of_the_disk_it_was_made_on_is_in_what_others_are_shown(run: Path) -> None:
    """Data, base, code, output and messages: of each a path from the run directory is left, or the name."""
    away, beside = Path(MAKER), run.parent / "rows of mine"
    recipe = {
        "name": "demo",
        "output": str(run),
        "model": {"path": f"{MAKER}/models/Base-3B", "family": f"{MAKER}/family.py:Mine"},
        "data": {
            "files": {
                "train": [{"path": f"{away}/rows/train.jsonl", "image_root": f"{away}/images"}, {"path": str(beside)}],
                "test": [{"path": "C:\\Users\\maker\\rows.csv"}],
            }
        },
        "rewards": {"custom": [{"name": "mine", "call": f"{MAKER}/code/mine.py:score"}]},
        "judge": {"base_url": "http://localhost:8000/v1"},
        "prompt": "write yes/no, or 1/2/3",
    }
    (run / "recipe.yaml").write_text(write(recipe))
    for name, entries in {
        "run.json": {
            "state": "failed",
            "ended_by": "CheckpointError: the weights in /home/maker/runs/a/model.safetensors changed",
            "extended": [{"at": "2026-11-21T06:00:00+00:00", "changes": [f"data.path: {beside} -> {run}/rows.jsonl"]}],
        },
        "summary.json": {"model": f"{MAKER}/models/Base-3B"},
    }.items():
        (run / name).write_text(json.dumps(json.loads((run / name).read_text()) | entries))
    (run / "data" / "card.json").unlink()
    (run / "data" / "card.json").mkdir()  # "cannot be read: Is a directory: '/...'"
    page, card = html.unescape(build_report(run).read_text()), write_card(run).read_text()
    exported = export_card(read_run(run), "curr_rl", "qwen2_5_vl")
    for text in (page, card, exported):
        assert not re.search(r"/home|maker|C:\\|secret", text)
        assert str(run.parent) not in text
        assert "Base-3B" in text
    for kept in (
        "path: train.jsonl", "path: ../rows of mine", "path: rows.csv", "call: mine.py:score", "image_root: images",
        "output: demo\n", "http://localhost:8000/v1", "yes/no, or 1/2/3", "the weights in model.safetensors changed",
    ):  # fmt: skip
        assert kept in page, kept
    assert "data.path: " in page
