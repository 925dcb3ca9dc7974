"""``curr-reft init``: looks at rows, says what they are, and writes a recipe that passes ``curr-reft check``.

What cannot be told is asked where somebody is there, else refused with the flag that says it. Nothing is overwritten.
"""

import re
import shlex
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from curr_reft.checks import memory
from curr_reft.checks.check import Report, examine, remedies
from curr_reft.checks.few import few_items
from curr_reft.checks.model import describe_model
from curr_reft.console import show
from curr_reft.data.frame import BoxFormat
from curr_reft.data.loaders import LOADERS, nearest
from curr_reft.data.opening import refuse_address
from curr_reft.errors import CheckpointError, UsageError
from curr_reft.files import human_size, write_atomic
from curr_reft.init import labels, layout, rows
from curr_reft.init.choices import Choices
from curr_reft.init.page import Draft, recipe_text
from curr_reft.init.rows import Looked
from curr_reft.init.settings import Settings, fit, ladder
from curr_reft.policy.config import EMBEDDED, ModelConfig
from curr_reft.policy.families import family_of
from curr_reft.policy.load import load_config
from curr_reft.questions.forms import FORMS
from curr_reft.recipe import load_recipe

SHOWN = 10  # problems of the rows that are printed
LEAST = 8  # questions of a form and split below which it gets no stage
MOST_STEPS, LEAST_STEPS = 200, 20  # of a stage
LIKELY_MODEL = "Qwen/Qwen2.5-VL-3B-Instruct"


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """The flags."""

    data: str | None = None
    test: Path | None = None
    format: str | None = None
    task: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, str] = field(default_factory=dict)
    image_root: Path | None = None
    boxes: str | None = None
    box_format: BoxFormat | None = None
    model: str | None = None
    gpu_memory: str | None = None
    out: Path | None = None


def init(wanted: Wanted, choices: Choices) -> Path:
    """Writes the recipe and prints what was chosen. Returns its path. Raises UsageError."""
    data = choices.need("--data", wanted.data, "file or folder with rows")
    refuse_address(data)
    path = Path(data).expanduser()
    if not path.exists():
        raise UsageError(f"--data {path} does not exist")
    out = wanted.out or Path(f"{_name(path.stem)}.yaml")
    if out.exists():
        raise UsageError(f"{out} is there already, and is not overwritten; give another --out")
    if not out.parent.is_dir():
        raise UsageError(f"--out {out}: the folder {out.parent} does not exist")
    seen = look(path, wanted, choices)
    test = None if wanted.test is None else look(wanted.test, replace(wanted, format=seen.format), Choices())
    if wanted.test is None:
        choices.note(
            "test", "a tenth of the rows", "no --test names rows of its own; pictures stay together", "--test PATH"
        )
    model = choices.need("--model", wanted.model, f"model: a folder or hub name, as {LIKELY_MODEL}; or {EMBEDDED}")
    if Path(model).expanduser().is_dir():
        model = str(Path(model).expanduser().resolve())
    room, where = _room(wanted, choices)
    bounds_pixels, settings = _first_look(model, where)
    draft = Draft(
        name=_name(out.stem),
        file=shlex.quote(out.name),
        model=model,
        settings=settings,
        train=rows.entry_of(seen, out.parent),
        test=None if test is None else rows.entry_of(test, out.parent),
        forms=tuple(FORMS),
        bounds_pixels=bounds_pixels,
    )
    draft, report = _fitted(draft, out, room, where, choices)
    write_atomic(out, recipe_text(replace(draft, choices=choices.made)))
    _tell(out, choices, report)
    return out


def look(path: Path, wanted: Wanted, choices: Choices) -> Looked:
    """What the rows of ``path`` are. Raises UsageError where it cannot be told and nobody is there to be asked."""
    if not path.exists():
        raise UsageError(f"{path} does not exist")
    given, path = path, labels.find_rows(path, wanted.format, choices)
    name = layout.find_format(path, wanted.format, wanted.columns, choices)
    for key in wanted.options:
        if name != "auto" and key not in LOADERS[name].options:
            hint = nearest(key, LOADERS[name].options)
            raise UsageError(f"--option {key}: the format {name} has no option {key}; {hint}")
    columns, options = layout.find_columns(path, name, wanted.columns, wanted.options, choices)
    seen = Looked(path=path, format=name, columns=columns, options=options, task=wanted.task)
    asked_of = rows.OBJECTS if "category" in columns else rows.ASKED_OF.get(name)
    if asked_of is not None and seen.task is None:
        seen.task = choices.note("task", *asked_of)
    rows.read_rows(seen)
    if path != given and not any(fields.images for fields in seen.fields):
        raise UsageError(
            f"--data {path}: no column is known to hold the pictures of {given}; give --column image=NAME (file names "
            "with their suffix, as a.jpg)"
        )
    rows.find_pictures(seen, wanted.image_root, choices)
    if choices.of("task") is None:
        rows.find_task(seen, wanted.task, choices)
    rows.find_boxes(seen, wanted.boxes, wanted.box_format, choices)
    return seen


def _first_look(model: str, where: str) -> tuple[bool, Settings]:
    """(whether the model's family knows ``model.max_pixels``, the settings that are tried first). Of a model that
    cannot be read here its name must do. These settings decide the lengths that memory is estimated with."""
    unknown = Settings(dtype="float32" if model == EMBEDDED else "bfloat16")
    try:
        bounds = family_of(load_config(ModelConfig(path=model))).bounds_pixels
    except UsageError:  # the check of the draft says so
        return "qwen" in model.casefold(), unknown
    try:
        _, facts = describe_model(ModelConfig(path=model))
    except (UsageError, CheckpointError):
        return bounds, unknown
    return bounds, ladder(model, facts, on_gpu=not where.endswith("(no GPU)"))[0]


def _room(wanted: Wanted, choices: Choices) -> tuple[int, str]:
    if wanted.gpu_memory is not None:
        return memory.read_size(wanted.gpu_memory), "--gpu-memory"
    room, where = memory.present_memory()
    if choices.ask is not None and where.endswith("(no GPU)"):
        answer = choices.ask("memory of the GPU the run is for, as 24GB (empty: this machine without a GPU): ").strip()
        if answer:
            return memory.read_size(answer), "--gpu-memory"
    return room, where


def _fitted(draft: Draft, out: Path, room: int, where: str, choices: Choices) -> tuple[Draft, Report]:
    """The draft with settings that fit and stages that have questions, and what a check found."""
    report = _examined(draft, out, with_model=True)
    if same := report.found.of("answers"):
        reasons = "; ".join(problem.reason for problem in same)
        raise UsageError(f"{draft.train['path']}: {reasons}. For init: --data FILE, --column answer=NAME, --task")
    unreadable = report.found.of("model")
    if unreadable:
        choices.note(
            "memory",
            "an adapter with recomputed activations",
            f"the model could not be looked at here ({unreadable[0].reason.splitlines()[0]}), so nothing was estimated",
            "what curr-reft check says once the model is there",
        )
        draft = replace(draft, settings=Settings(lora=True, gradient_checkpointing=True))
        report = _examined(draft, out, with_model=False)
    elif report.facts is not None and report.longest is not None:
        on_gpu = not where.endswith("(no GPU)")
        recipe = report.recipe
        found = fit(recipe, report.facts, report.longest, room, where, on_gpu)
        assert found.memory is not None
        why = f"about {human_size(found.memory.peak)} at the peak of training, of {human_size(room)} of {where}"
        more = f"; more would be {found.tried[-1]}" if found.tried else ""
        choices.note("memory", found.settings.told(), why + more)
        draft = replace(draft, settings=found.settings)
    return _staged(draft, report, choices), report


def _staged(draft: Draft, report: Report, choices: Choices) -> Draft:
    """Stages of the forms that have questions to train on and to choose by. Raises UsageError for none."""
    prepared = report.found.prepared
    if prepared is None:
        raise UsageError("no recipe passes a check with these rows:\n" + _problems(report, SHOWN))
    skipped = prepared.card["questions"]["total"]["skipped"]
    left_out = {}
    for form in FORMS:
        counts = {split: len(prepared.of(split, form)) for split in ("train", "validation")}
        if min(counts.values()) >= 1 and counts["train"] >= LEAST:
            continue
        reasons = sorted({reason for by_form in skipped.values() for reason in by_form.get(form, {})})
        left_out[form] = (
            f"{counts['train']} questions to train on and {counts['validation']} for validation"
            f"{'; ' + '; '.join(reasons) if reasons else ''}"
        )
    forms = tuple(form for form in FORMS if form not in left_out)
    if not forms:
        why = "; ".join(f"{form}: {reason}" for form, reason in left_out.items())
        raise UsageError(
            f"too few rows for a stage, which takes {LEAST} questions to train on and one for validation: {why}\n"
            f"{_problems(report, SHOWN)}".rstrip()
        )
    few = list(few_items(prepared.card["questions"]["splits"]))
    if few:
        ways_out = "more rows, or larger shares" if draft.test is None else "more rows"
        choices.note("few rows", "scores will say little", "; ".join(few), ways_out)
    count = max(len(prepared.of("train", form)) for form in forms)
    prompts = min(draft.prompts_per_step, count)
    steps = min(MOST_STEPS, max(LEAST_STEPS, -(-count // prompts)))
    choices.note(
        "steps",
        f"{steps} updates a stage",
        f"{prompts} of {count} training questions each"
        + (", at most" if steps == MOST_STEPS else ", at least" if steps == LEAST_STEPS else ", about once over them"),
        "curriculum.total_steps and the steps of each stage",
    )
    return replace(draft, forms=forms, left_out=left_out, steps=steps, prompts_per_step=prompts)


def _examined(draft: Draft, out: Path, *, with_model: bool) -> Report:
    """Checks the draft as if it were written: paths are taken from where it will stand."""
    aside = out.with_name(f".{out.name}.draft.yaml")
    try:
        write_atomic(aside, recipe_text(draft))
        recipe = load_recipe(aside)
    finally:
        aside.unlink(missing_ok=True)
    return examine(recipe, with_model=with_model)


def _tell(out: Path, choices: Choices, report: Report) -> None:
    command = f"curr-reft check {shlex.quote(str(out))}"
    for choice in choices.made:
        instead = f" (instead: {choice.instead})" if choice.instead else ""
        show(f"{choice.what}: {choice.value}: {choice.why}{instead}")
    # What a check of the final recipe would still say: forms without questions have no stage there.
    report.found.problems[:] = [
        problem for problem in report.found.problems if problem.kind in ("rows", "files", "leaks", "truths", "tokens")
    ]
    if wrong := report.found.problems:
        show(f"{len(wrong)} problems of the rows, which a run refuses:")
        for problem in wrong[:SHOWN]:
            show(f"  {problem.place}: {problem.reason}")
        for remedy in remedies(report.found):
            show(f"  {remedy}")
        show(f"  {command} lists all")
    show(f"recipe: {out}; next: {command}")


def _problems(report: Report, most: int) -> str:
    return "\n".join(f"  {problem.place}: {problem.reason}" for problem in report.found.problems[:most])


def _name(text: str) -> str:
    """A name of a run, which is a folder too: letters with signs lose these (ä: a), all others become a dash."""
    plain = "".join(each for each in unicodedata.normalize("NFKD", text) if not unicodedata.combining(each))
    return re.sub(r"[^A-Za-z0-9._-]+", "-", plain).strip("-._") or "own"
