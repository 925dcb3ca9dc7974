"""The model card holds the facts of the run, and nothing that a model or a recipe wrote."""

import json
from pathlib import Path

import yaml

from curr_reft.report.build import build_report
from curr_reft.report.card import plain, write_card


def test_card(run: Path) -> None:
    (run / "model").mkdir()
    (run / "recipe.yaml").write_text("key: PLANTED-SECRET\n")
    text = write_card(run).read_text()
    front = text.split("---")[1]
    assert yaml.safe_load(front)["pipeline_tag"] == "image-text-to-text"
    for expected in (
        "# demo",
        "| Curr-ReFT | 94.0 (92.1 to 95.9) | 91.2 | 96.0 | 89.0 | 97.0 |",
        "| 03-open | open | budget | 70 | 70 | 75.0 |",
        "| train | detection | 600 |",
        "Self-improvement: 240 queries asked",
        "- seed: 0",
        "- torch: 2.13.0+cpu",
        "latent by design",
        "spread between seeds",
        'from_pretrained("model")',
    ):
        assert expected in text, expected
    assert "PLANTED-SECRET" not in text
    assert "I look at the picture" not in text
    assert text.count("\n\n\n") == 0


def test_a_split_that_the_recipe_does_not_have_is_not_a_table_of_dashes(run: Path) -> None:
    summary = json.loads((run / "summary.json").read_text())
    for scores in summary["evaluation"].values():
        del scores["out_of_domain"]
    (run / "summary.json").write_text(json.dumps(summary))
    for text in (write_card(run).read_text(), build_report(run).read_text()):
        before_data, _, _ = text.partition("Answers, side by side")
        assert "In-domain" in before_data
        assert "Out-of-domain" not in before_data


def test_card_of_an_unfinished_run(run: Path) -> None:
    for name in ("summary.json", "data/card.json", "self-improve/account.json"):
        (run / name).unlink()
    text = write_card(run).read_text()
    assert "a base model that the run does not name" in text
    assert "## Scores" not in text
    assert "## Training" in text


def test_hostile_names_are_text(run: Path) -> None:
    run_json = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(run_json | {"name": "a | b\n# <script> [x](http://example.com)"}))
    text = write_card(run).read_text()
    assert "<script>" not in text
    assert "# a \\| b \\# &lt;script&gt; \\[x\\](http" in text


def test_plain() -> None:
    # Within a word an underscore is text in CommonMark.
    assert plain("a_b _c_ *c* `d`\n| e") == "a_b \\_c\\_ \\*c\\* \\`d\\` \\| e"
