"""S3: every file a result is computed from is known by its hash: a change is refused by name, or what it was is made
again, and never used. By the user's doors."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dying
import many
import pytest
import tiny_run
from resealing import reseal, reseal_run

from curr_reft.cli import main
from curr_reft.comparable import scores_of
from curr_reft.errors import CheckpointError, DamagedError
from curr_reft.evaluate.general import general_table
from curr_reft.evaluate.summary import table
from curr_reft.export.source import require_published
from curr_reft.integrity import GrowingFile, read_record, write_sealed
from curr_reft.parquet import read_rows, write_rows
from curr_reft.recipe import load_recipe
from curr_reft.report.read import read_run
from curr_reft.run_dir import RunDir
from curr_reft.run_record import require_intact

Change = Callable[[Path], None]


def replaced(old: str, new: str) -> Change:
    def change(path: Path) -> None:
        text = path.read_text()
        assert old in text, f"{path} does not hold {old!r}"
        path.write_text(text.replace(old, new, 1))

    return change


def value(*keys: str, to: Any) -> Change:
    """Another value in a JSON file, written by somebody who leaves the hashes alone."""

    def change(path: Path) -> None:
        content = json.loads(path.read_text())
        inner = content
        for key in keys[:-1]:
            inner = inner[key]
        assert inner[keys[-1]] != to
        inner[keys[-1]] = to
        path.write_text(json.dumps(content))

    return change


def first_row(**columns: Any) -> Change:
    """Another value in the first row of a file of rows."""

    def change(path: Path) -> None:
        if path.suffix == ".parquet":
            rows = read_rows(path)
            assert rows[0] != {**rows[0], **columns}
            write_rows(path, [{**rows[0], **columns}, *rows[1:]])
        else:
            first, *others = path.read_text().splitlines(keepends=True)
            path.write_text("".join([json.dumps({**json.loads(first), **columns}) + "\n", *others]))

    return change


def of_another_model(path: Path) -> None:
    """A whole record of another model, with its own hash in order, and the answers it lists."""
    for kind in ("json", "predictions.jsonl"):
        shutil.copy(path.with_name(f"sft.{kind}"), path.with_name(f"base.{kind}"))
    content = json.loads(path.read_text())
    answers = {"base.predictions.jsonl": content["files"]["sft.predictions.jsonl"]}
    reseal(path, files=answers)


CHANGES: list[tuple[str, Change]] = [
    ("eval/base.json", value("splits", "in_domain", "mean", "score", to=0.948)),
    ("eval/base.json", of_another_model),
    ("eval/base.general.json", value("cells", "mean", "accuracy", to=0.77)),
    ("eval/base.predictions.jsonl", first_row(score=0.25)),
    ("eval/curr_rl.general.jsonl", first_row(correct=None)),
    ("eval/profile.json", lambda path: value("cells", to=[])(path)),
    ("metrics.jsonl", first_row(reward=1.9)),
    ("metrics.jsonl", lambda path: path.write_text("".join(path.read_text().splitlines(keepends=True)[1:]))),
    ("run.json", value("phases", "curr_rl/01-binary", "chosen_step", to=77)),
    ("run.json", value("sha256", to="0" * 64)),
    ("run.json", replaced('"sha256": "', '"sha257": "')),
    ("recipe.yaml", replaced("seed: 0", "seed: 7")),
    ("summary.json", value("stages", to=[])),
    ("data/card.json", value("skipped_rows", to=7)),
    ("stages/01-binary/manifest.json", value("chosen_step", to=77)),
    ("stages/01-binary/rollouts/until-000002.parquet", first_row(completion="another answer")),
    ("baselines/sft/manifest.json", value("start_sha256", to="0" * 64)),
    ("self-improve/kept.jsonl", first_row(domain="other")),
    ("self-improve/verdicts.jsonl", first_row(total=12.0)),
    ("self-improve/judge.json", value("verdicts", to=1)),
    ("self-improve/candidates.parquet", first_row(completion="<answer> red </answer>")),
    ("self-improve/account.json", value("kept", to=1)),
    ("self-improve/sampling.json", value("came_to", "drawn", to=1)),
]


def copy_of(finished: Any, run: Path) -> Path:
    """A finished run without its weights, which what is refused does not come to."""
    return Path(shutil.copytree(finished.path, run, ignore=shutil.ignore_patterns("*.safetensors", "checkpoints")))


@pytest.mark.parametrize(("name", "change"), CHANGES, ids=[f"{n}-{name}" for n, (name, _) in enumerate(CHANGES)])
def test_what_was_changed_is_refused_at_every_door(
    finished: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, change: Change
) -> None:
    run = copy_of(finished, tmp_path / "run")
    assert require_intact(run) == []
    file = run / name
    if not file.exists():  # the first of several of its kind
        file = sorted(file.parent.glob(f"*{file.suffix}"))[0]
    change(file)
    before = {path: path.read_bytes() for path in tiny_run.files(run).values()}
    recipe = str(tiny_run.RECIPE)
    for words in (
        ["report", str(run)],
        ["run", recipe, "--output", str(run), "--resume"],
        ["merge", str(run), "--out", str(tmp_path / "merged")],
        ["push", str(run), "--repo", "a/b", "--dry-run"],
        ["eval", str(run), recipe],
    ):
        capsys.readouterr()
        assert main(words) == 2, words
        said = capsys.readouterr().err
        assert str(file) in said, words
        assert "put it back" in said
        assert "Traceback" not in said
    after = {path: path.read_bytes() for path in tiny_run.files(run).values()}
    assert {path for path in after if after[path] != before.get(path)} <= {run / ".lock"}


def test_a_summary_that_is_removed_is_made_again_from_what_is_known(finished: Any, tmp_path: Path) -> None:
    run, log = tmp_path / "run", tmp_path / "log"
    shutil.copytree(finished.path, run)
    (run / "summary.json").unlink()
    assert tiny_run.run("--output", run, "--resume", log=log) == 0, log.read_text()
    assert f"{run / 'summary.json'} is missing: what is not there is made again" in log.read_text()
    tiny_run.assert_same(run, finished.path)
    assert require_intact(run) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["eval/base.json", "eval/sft.predictions.jsonl", "eval/profile.json", "data/card.json",
             "self-improve/account.json", "self-improve/kept.jsonl", "stages/02-choice/manifest.json"]
)  # fmt: skip
def test_what_is_removed_is_made_again(finished: Any, tmp_path: Path, name: str) -> None:
    """The way out that the messages name, for every kind of record."""
    run, log = tmp_path / "run", tmp_path / "log"
    shutil.copytree(finished.path, run)
    (run / name).unlink()
    assert tiny_run.run("--output", run, "--resume", log=log) == 0, log.read_text()
    tiny_run.assert_same(run, finished.path)
    assert require_intact(run) == []


def test_a_rollout_file_may_be_removed(finished: Any, tmp_path: Path) -> None:
    """Nothing is computed from it, and they are large."""
    run = copy_of(finished, tmp_path / "run")
    shutil.rmtree(run / "stages" / "01-binary" / "rollouts")
    assert require_intact(run) == []


def test_metrics_after_the_last_save_are_no_evidence(finished: Any, tmp_path: Path) -> None:
    """A line that somebody adds, and lines of a run that was killed, have no hash yet: no report shows them, and a
    resumed run makes those steps again."""
    run = copy_of(finished, tmp_path / "run")
    rows = read_run(run).train
    row = {**json.loads((run / "metrics.jsonl").read_text().splitlines()[0]), "kind": "train", "step": 900, "reward": 9}
    with (run / "metrics.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")
    assert read_run(run).train == rows
    assert require_intact(run) == []
    record = json.loads((run / "run.json").read_text())
    del record["phases"]["report"]
    reseal(run / "run.json", phases=record["phases"], state="failed")
    with RunDir.open(run, load_recipe(tiny_run.RECIPE, ["--output", str(run)]), resume=True) as directory:
        assert 900 not in [each["step"] for each in directory.metrics()]


def test_metrics_keep_their_hash_through_saves_kills_and_rewinds(tmp_path: Path) -> None:
    recipe = load_recipe(tiny_run.RECIPE, ["--output", str(tmp_path / "run")])

    def rows(stage: str, *steps: int) -> list[dict[str, Any]]:
        return [{"run": "a", "stage": stage, "step": step, "kind": "train", "reward": step / 3} for step in steps]

    def known() -> int:
        require_intact(recipe.output)
        return int(json.loads((recipe.output / "run.json").read_text())["metrics"]["size"])

    directory = RunDir.open(recipe.output, recipe)
    directory.append_metrics(rows("one", 1, 2, 3))
    assert known() == 0
    directory.sync_metrics()
    saved = known()
    assert saved == (recipe.output / "metrics.jsonl").stat().st_size
    directory.append_metrics(rows("one", 4))
    directory.append_metrics(rows("two", 1, 2))
    directory.mark_done("a/one", {})
    directory.truncate_after("a", "one", 2)  # out of the middle
    assert [(row["stage"], row["step"]) for row in directory.metrics()] == [
        ("one", 1), ("one", 2), ("two", 1), ("two", 2)
    ]  # fmt: skip
    assert known() == (recipe.output / "metrics.jsonl").stat().st_size
    directory.append_metrics(rows("one", 3))
    directory.close()  # as a kill leaves it
    with RunDir.open(recipe.output, recipe, resume=True) as directory:
        assert [row["step"] for row in directory.metrics()] == [1, 2, 1, 2]
        directory.append_metrics(rows("two", 3))
        directory.set_state("done")
        assert known() == (recipe.output / "metrics.jsonl").stat().st_size
    (recipe.output / "metrics.jsonl").unlink()
    with pytest.raises(DamagedError, match=r"metrics\.jsonl has 0 bytes, its record says at least"):
        RunDir.open(recipe.output, recipe, resume=True)


def test_a_growing_file_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "rows"
    path.write_bytes(b"a\n" * 50)
    growing, read = GrowingFile(path), []
    whole = growing._read
    monkeypatch.setattr(growing, "_read", lambda end: (read.append(end - growing._bytes), whole(end))[0])
    growing.entry()
    with path.open("ab") as file:
        file.write(b"b\n")
    entry = growing.entry()
    assert read == [100, 2]
    GrowingFile(path).require(entry)
    path.write_bytes(path.read_bytes() + b"more")
    GrowingFile(path).require(entry)
    path.write_bytes(b"c" + path.read_bytes()[1:])
    with pytest.raises(DamagedError, match="was changed after it was written"):
        GrowingFile(path).require(entry)


def test_a_rollout_file_changed_while_its_stage_is_under_way_is_refused(tmp_path: Path) -> None:
    run, log = tmp_path / "run", tmp_path / "log"
    flags = (*many.SHORT, "--curriculum.total_steps", "4", "--checkpoint.every", "1")
    moment = dying.at_save("stages/01-mixed/checkpoints", "step-000002")
    dying.killed(*flags, run=run, log=log, journal=tmp_path / "journal", moment=moment)
    rollouts = run / "stages/01-mixed/rollouts/until-000001.parquet"
    first_row(completion="another answer")(rollouts)
    assert tiny_run.run("--output", run, "--resume", *flags, log=log) == 1
    assert f"{rollouts} " in log.read_text()
    rollouts.unlink()
    assert tiny_run.run("--output", run, "--resume", *flags, log=log) == 0, log.read_text()


def test_the_final_model_and_published_ones_are_verified_as_folders_too(finished: Any, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished.path, run, ignore=shutil.ignore_patterns("checkpoints"))
    for folder in (run / "model", run / "stages" / "01-binary" / "model"):
        require_published(folder)
        dying.flip_a_bit(folder / "model.safetensors")
        with pytest.raises((DamagedError, CheckpointError), match=str(folder)):
            require_published(folder)


@pytest.mark.parametrize("low", [0.036, 0.96])
def test_a_mean_outside_its_interval_stops_every_table(finished: Any, tmp_path: Path, low: float) -> None:
    """Whoever writes the hashes anew too meets the invariant."""
    run = copy_of(finished, tmp_path / "run")
    summary = json.loads((run / "summary.json").read_text())
    cell = {"score": 0.948, "accuracy": 0.9, "low": low, "high": low + 0.01, "n": 9, "clusters": 9}
    for found in (summary["evaluation"]["base"]["in_domain"], summary["general"]["base"]):
        kept, found["mean"] = found["mean"], cell
        (run / "summary.json").write_text(json.dumps(summary))
        reseal_run(run)
        assert require_intact(run) == []
        for read in (scores_of, read_run):
            with pytest.raises(DamagedError, match=r"base.* mean: the score 0\.948 is outside its own interval"):
                read(run)
        assert main(["report", str(run)]) == 2
        found["mean"] = kept
    for tell in (lambda: table({"a": {"in_domain": {"mean": cell}}}), lambda: general_table({"a": {"mean": cell}})):
        with pytest.raises(DamagedError, match="outside its own interval"):
            tell()


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"a": 1}', '{"sha256": "", "a": ' + "[" * 3000])
def test_what_is_no_record_is_refused_in_words(tmp_path: Path, content: str) -> None:
    (tmp_path / "rows").write_text("1")
    path = tmp_path / "record.json"
    assert read_record(path) is None
    write_sealed(path, {"a": 0.1 + 0.2}, [tmp_path / "rows"])
    record = read_record(path)
    assert record is not None
    assert record["a"] == 0.1 + 0.2
    path.write_text(json.dumps(dict(reversed(record.items())), indent=7))  # as another program writes the same
    assert read_record(path) == record
    path.write_text(content)
    with pytest.raises(DamagedError, match=r"record\.json is not as it was written.*remove it"):
        read_record(path)
