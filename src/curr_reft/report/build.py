"""``build_report``: a run directory becomes ``report.html``, one page that needs nothing else.

No script, no font, no picture is loaded from anywhere; the page's own policy forbids it. Every text that came from a
model or a row is escaped by the template.
"""

from importlib.resources import files as package_files
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from curr_reft.files import write_atomic
from curr_reft.questions.gallery import CONTENT_POLICY
from curr_reft.report import views, words
from curr_reft.report.card import public_name
from curr_reft.report.differences import difference_view, not_shown
from curr_reft.report.examples import gallery
from curr_reft.report.history import happenings, unfinished
from curr_reft.report.phase2 import general_view, phase2_view
from curr_reft.report.plots import score_charts, training_charts
from curr_reft.report.read import Improvement, RunFiles, as_dict, read_run

REPORT = "report.html"


def build_report(run_dir: Path) -> Path:
    """Writes ``run_dir/report.html`` from the files of ``run_dir`` and returns its path.

    Files that are missing or damaged leave their section out and are named at the end of the page.
    Raises UsageError when ``run_dir`` is no run directory.
    """
    files = read_run(Path(run_dir))
    # A model may write half of a surrogate pair, which no encoding holds; a question mark stands for it.
    page = render(files).encode("utf-8", errors="replace")
    path = files.path / REPORT
    write_atomic(path, page)
    return path


def render(files: RunFiles) -> str:
    """The page as text."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("curr_reft", "report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["breakable"] = words.breakable
    style = Markup(package_files("curr_reft.report").joinpath("page.css").read_text(encoding="utf-8"))
    examples = gallery(files)  # first: it may add to files.missing
    return environment.get_template("page.html.jinja").render(
        policy=CONTENT_POLICY,
        style=style,
        name=files.name,
        embedded=files.embedded,
        facts=_facts(files),
        versions=_versions(files.run),
        splits=files.splits,
        columns=["mean", *files.tasks],
        results=views.result_rows(files),
        headlines=views.headlines(files),
        unfinished=unfinished(files),
        unchanged=[] if unfinished(files) else files.unchanged.lines(),
        happenings=happenings(files),
        intervals=views.intervals_view(files),
        not_shown=not_shown(files),
        differences=difference_view(files),
        scores=score_charts(files),
        curves=training_charts(files),
        stages=views.stage_rows(files),
        left_out=views.left_out(files),
        profile=views.profile_rows(files),
        card=views.card_view(files.card) if files.card else None,
        rounds=views.round_rows(files),
        improvements=[_improvement(each) for each in files.rounds],
        general=general_view(files),
        examples=examples,
        recipe=files.recipe,
        missing=files.missing,
    )


def _improvement(each: Improvement) -> dict[str, Any]:
    """Phase 2 of a round, as its part of the page needs it."""
    return {
        "number": each.number,
        "account": views.account_view(each.account),
        "kept": views.kept_examples(each.kept),
        "phase2": phase2_view(each.account),
    }


def _facts(files: RunFiles) -> list[tuple[str, str]]:
    """What was run, in a few lines."""
    run, summary, alone = files.run, files.summary, as_dict(files.run.get("alone"))
    model = summary.get("model")
    if isinstance(model, dict):
        model = model.get("name") or model.get("path") or model.get("kind")
    facts = [
        ("Model", public_name(str(model)) if model else None),
        ("Seed", run.get("seed", summary.get("seed"))),
        ("Time", words.duration(summary.get("seconds")) if "seconds" in summary else None),
        ("Made by", f"curr-reft {alone['command']}, one step by itself" if "command" in alone else None),
        ("State", run.get("state")),
        ("Started", words.moment(run.get("started"))),
        ("Recipe", words.short_hash(run.get("recipe_sha256")) if run.get("recipe_sha256") else None),
    ]
    return [(name, str(value)) for name, value in facts if value not in (None, "")]


def _versions(run: dict[str, Any]) -> list[tuple[str, str]]:
    versions = run.get("versions")
    return [(str(name), str(version)) for name, version in versions.items()] if isinstance(versions, dict) else []
