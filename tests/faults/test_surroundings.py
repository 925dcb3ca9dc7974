"""S12: clocks that are set back, kills between renames, changed data, other versions, odd and unwritable places."""

import errno
import json
import os
import shutil
import signal
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dying
import many
import pytest
import tiny_run
import yaml
from image_recipe import write_rows
from PIL import Image
from resealing import reseal

from curr_reft.cli import main
from curr_reft.errors import UsageError
from curr_reft.improve.judges.client import retry_after
from curr_reft.recipe import load_recipe
from curr_reft.run_dir import LONGEST, RunDir
from curr_reft.run_record import require_intact
from curr_reft.status import read_status

SMALL = (
    *many.SHORT,
    *("--curriculum.total_steps", "2", "--checkpoint.every", "1", "--checkpoint.keep_last", "1"),
    *("--evaluation.gallery", "0"),
)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An unbroken run of ``SMALL``."""
    folder = tmp_path_factory.mktemp("small")
    assert tiny_run.run("--output", folder / "run", *SMALL, log=folder / "log") == 0, (folder / "log").read_text()
    return folder / "run"


# Clocks


def _with_a_clock_that_goes_back(words: list[str], log: Path) -> None:
    """The wall clock loses an hour at every look; kernels, and what counts durations, know nothing of it."""
    from curr_reft import run_record

    tiny_run.begin(log)
    looks = [0]

    def now() -> float:
        looks[0] += 1
        return 1.7e9 - 3600 * looks[0]

    time.time = now
    run_record.timestamp = lambda: datetime.fromtimestamp(now(), UTC).isoformat(timespec="seconds")  # type: ignore[assignment]
    raise SystemExit(main(words))


def test_a_clock_that_is_set_back_changes_no_result_and_no_duration(small: Path, tmp_path: Path) -> None:
    run, log = tmp_path / "run", tmp_path / "log"
    words = ["run", str(tiny_run.RECIPE), "--output", str(run), *SMALL]
    assert tiny_run.wait(tiny_run.fork(_with_a_clock_that_goes_back, words, log)) == 0, log.read_text()
    tiny_run.assert_same(run, small)
    for row in tiny_run.rows(run):
        assert all(seconds >= 0 for seconds in row.get("seconds", {}).values())
    record = json.loads((run / "run.json").read_text())
    assert 0 < record["seconds"] < 3600
    assert all(phase["seconds"] >= 0 for phase in record["phases"].values())
    assert json.loads((run / "summary.json").read_text())["seconds"] > 0
    assert main(["report", str(run)]) == 0


@pytest.mark.parametrize("hours", [-25, -1, 1])
def test_status_orders_saves_by_the_run_and_not_by_the_clock(finished: Any, tmp_path: Path, hours: int) -> None:
    """Saves of the stages on the way bear times after those of the last ones, or none that has come yet."""
    run = tmp_path / "run"
    shutil.copytree(finished.path, run, ignore=shutil.ignore_patterns("*.safetensors"))
    states = sorted(run.glob("stages/*/checkpoints/step-*/state.json"))
    expected = read_status(run).last_save
    assert expected is not None
    for place, state in enumerate(states):
        os.utime(state, (time.time() + 3600 * (hours + len(states) - place),) * 2)
    found = read_status(run).last_save
    assert found is not None
    assert (found.stage, found.step) == (expected.stage, expected.step)
    assert found.seconds_ago >= 0


def test_a_date_to_wait_for_is_never_in_the_past(monkeypatch: pytest.MonkeyPatch) -> None:
    date = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=30)
    header = {"retry-after": date.strftime("%a, %d %b %Y %H:%M:%S GMT")}
    now = time.time()
    for set_by, waits in ((7200.0, 0.0), (0.0, 30.0)):
        monkeypatch.setattr(time, "time", lambda set_by=set_by: now + set_by)
        found = retry_after(header)
        assert found is not None
        assert waits - 5 <= found <= waits


# Renames


@pytest.mark.parametrize("number", [2, 5, 9, 14, 20])
def test_a_kill_before_any_rename_costs_nothing(small: Path, tmp_path: Path, number: int) -> None:
    """Of a run from its start: every file comes to its place by a rename."""
    run, log, journal = tmp_path / "run", tmp_path / "log", tmp_path / "journal"
    moment = dying.Moment(operation="os.rename", number=number)
    dying.killed(*SMALL, run=run, log=log, journal=journal, moment=moment)
    assert tiny_run.run("--output", run, "--resume", *SMALL, log=log) == 0, log.read_text()
    tiny_run.assert_same(run, small)
    assert require_intact(run) == []


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_kill_before_each_rename_of_a_run_costs_nothing(small: Path, tmp_path: Path) -> None:
    """At the n-th rename for n = 1, 2, ... until a run has fewer; each is resumed and compared."""
    number = 0
    while True:
        number += 1
        run, log, journal = tmp_path / f"{number}", tmp_path / f"{number}.log", tmp_path / f"{number}.journal"
        moment = dying.Moment(operation="os.rename", number=number)
        if dying.end(*SMALL, run=run, log=log, journal=journal, moment=moment) != -signal.SIGKILL:
            break
        assert tiny_run.run("--output", run, "--resume", *SMALL, log=log) == 0, f"{number}: {log.read_text()}"
        tiny_run.assert_same(run, small)
        assert require_intact(run) == []
        shutil.rmtree(run)
    assert number > 25
    print(f"{number - 1} renames, a kill before each")


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_resumed_run_killed_before_its_first_renames_costs_nothing(small: Path, tmp_path: Path) -> None:
    """One run, killed before the n-th rename of every process for n = 1 to 12, over and over until it is through."""
    run, log, journal = tmp_path / "run", tmp_path / "log", tmp_path / "journal"
    number = 0
    while number < 60:
        number += 1
        moment = dying.Moment(operation="os.rename", number=1 + number % 12)
        code = dying.end("--resume", *SMALL, run=run, log=log, journal=journal, moment=moment)
        assert code in (0, -signal.SIGKILL), log.read_text()
        if code == 0:
            break
    if code != 0:
        assert tiny_run.run("--output", run, "--resume", *SMALL, log=log) == 0, log.read_text()
    tiny_run.assert_same(run, small)


# Data


def _other_row(folder: Path) -> None:
    rows = folder / "train.jsonl"
    rows.write_text(rows.read_text().replace("1 plus 1", "2 plus 0", 1))


def _other_picture(folder: Path) -> None:
    Image.new("RGB", (32, 32), "blue").save(folder / "one.png")


def _other_composition(folder: Path) -> None:
    path = folder / "more.yaml"
    path.write_text(path.read_text().replace("end:2", "first:2"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_other_row, "namely train.jsonl"),
        (_other_picture, "namely pictures of train.jsonl"),
        (_other_composition, "more.jsonl, pictures of more.jsonl, composition {folder}/more.yaml"),
    ],
    ids=lambda each: getattr(each, "__name__", ""),
)
def test_data_that_changed_since_a_run_began_is_refused_with_what_changed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: Callable[[Path], None], said: str
) -> None:
    for name, colour in (("one", "red"), ("good", "green"), ("two", "yellow"), ("three", "black"), ("four", "white")):
        Image.new("RGB", (32, 32), colour).save(tmp_path / f"{name}.png")
    recipe = write_rows(tmp_path, ["one.png"])
    for split in ("train.jsonl", "test.jsonl"):  # in words that the embedded model knows
        (tmp_path / split).write_text((tmp_path / split).read_text().replace("1+1", "1 plus 1"))
    rows = [
        {"problem": f"what is {n} plus 1?", "solution": f"{n + 1}", "task": "math", "image": f"{name}.png"}
        for n, name in enumerate(("two", "three", "four"))
    ]
    (tmp_path / "more.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "more.yaml").write_text("train_datasets:\n  - {json_path: more.jsonl, sampling_strategy: 'end:2'}\n")
    text = recipe.read_text().replace("train: [{path: train.jsonl}]", "train: [{path: train.jsonl}, {path: more.yaml}]")
    recipe.write_text(text.replace("data:\n", f"output: {tmp_path}/run\ndata:\n  leaks: exact\n", 1))
    log = tmp_path / "log"
    process = tiny_run.start("run", recipe, log=log, command=())

    def begun() -> bool:
        state = tmp_path / "run" / "run.json"
        return state.is_file() and "data_sha256" in json.loads(state.read_text())

    assert tiny_run.end_when(process, begun) == -signal.SIGKILL, log.read_text()
    change(tmp_path)
    assert main(["run", str(recipe), "--resume"]) == 2
    refused = capsys.readouterr().err
    assert "the data changed since this run began" in refused
    assert said.format(folder=tmp_path) in refused
    assert "put the old one back and --resume" in refused


# Versions


@pytest.mark.parametrize("library", ["torch", "transformers", "tokenizers", "python"])
def test_another_version_at_resume_is_said_and_noted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, library: str
) -> None:
    """Not refused: a run that may differ by rounding is worth more than none. It is in run.json, status and report."""
    recipe = load_recipe(tiny_run.RECIPE, ["--output", str(tmp_path / "run")])
    RunDir.open(recipe.output, recipe).close()
    versions = json.loads((recipe.output / "run.json").read_text())["versions"]
    reseal(recipe.output / "run.json", versions={**versions, library: "0.0.1"})
    with RunDir.open(recipe.output, recipe, resume=True) as directory:
        (noted,) = directory.run["resumed_with"]
    assert noted["changes"] == [f"{library} 0.0.1 -> {versions[library]}"]
    assert "the result may differ from an unbroken run" in caplog.text
    (told,) = read_status(recipe.output).resumed_with
    assert told.changes == tuple(noted["changes"])


# Places


def test_a_read_only_run_directory_is_read_and_refused_in_words(
    small: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever runs the tests may write anywhere, so the system's answer is given for it."""
    real = open

    def read_only(name: Any, mode: str = "r", *rest: Any, **more: Any) -> Any:
        if str(name).startswith(str(small)) and set(mode) & set("wax+"):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(name))
        return real(name, mode, *rest, **more)

    def locked(name: Any, *_: Any) -> int:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(name))

    monkeypatch.setattr("builtins.open", read_only)
    assert main(["status", str(small)]) == 0
    assert require_intact(small) == []
    capsys.readouterr()
    assert main(["report", str(small)]) == 2
    assert "Read-only file system; choose another place" in capsys.readouterr().err
    monkeypatch.setattr("curr_reft.run_lock.os.open", locked)
    assert main(["run", str(tiny_run.RECIPE), "--output", str(small), "--resume", *SMALL]) == 2
    assert "cannot be written to (Read-only file system" in capsys.readouterr().err


def _without_shared_memory(words: list[str], log: Path) -> None:
    """As where there is no /dev/shm: no named semaphore and no shared memory is to be had."""
    import _multiprocessing
    import _posixshmem
    from multiprocessing import shared_memory, synchronize

    tiny_run.begin(log)

    def none(*_: Any, **__: Any) -> Any:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS), "/dev/shm")

    for module in (_multiprocessing, synchronize._multiprocessing):  # type: ignore[attr-defined]
        module.SemLock = none
    _posixshmem.shm_open = none
    shared_memory._posixshmem.shm_open = none  # type: ignore[attr-defined]
    raise SystemExit(main(words))


def test_a_run_needs_no_shared_memory(small: Path, tmp_path: Path) -> None:
    run, log = tmp_path / "run", tmp_path / "log"
    words = ["run", str(tiny_run.RECIPE), "--output", str(run), *SMALL]
    assert tiny_run.wait(tiny_run.fork(_without_shared_memory, words, log)) == 0, log.read_text()
    tiny_run.assert_same(run, small)


def _deep(folder: Path, length: int) -> Path:
    while len(str(folder)) < length - 201:
        folder = folder / ("d" * 200)
    return folder / ("e" * (length - len(str(folder)) - 1))


@pytest.mark.parametrize("length", [LONGEST + 1, 4000, 4090, 4200])
def test_a_path_of_thousands_of_characters_is_refused_before_anything(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], length: int
) -> None:
    output = _deep(tmp_path, length)
    for words in ((), ("--resume",)):
        assert main(["run", str(tiny_run.RECIPE), "--output", str(output), *words]) == 2
        said = capsys.readouterr().err
        assert f"has {length} bytes" in said
        assert f"at most {LONGEST} bytes" in said
    assert list(tmp_path.iterdir()) == []


def test_the_longest_path_carries_a_run(small: Path, tmp_path: Path) -> None:
    run, log = _deep(tmp_path, LONGEST), tmp_path / "log"
    assert tiny_run.run("--output", run, *SMALL, log=log) == 0, log.read_text()
    tiny_run.assert_same(run, small)
    shutil.rmtree(tmp_path / ("d" * 200))


def test_a_name_longer_than_a_file_system_takes_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(tiny_run.RECIPE), "--output", str(tmp_path / ("é" * 200))]) == 2
    assert "File name too long" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["two\nlines", "tab\there", " space ", "'quoted' \"twice\"", "Ölçüm – 测试", "-dash"])
def test_a_directory_of_any_name_is_resumed_reported_and_exported(
    small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    run = tmp_path / name
    shutil.copytree(small, run)
    assert main(["status", str(run)]) == 0
    assert main(["report", str(run)]) == 0
    assert main(["merge", str(run), "--out", str(tmp_path / "merged")]) == 0
    capsys.readouterr()
    (run / "summary.json").write_text("{}")
    assert main(["report", str(run)]) == 2
    assert str(run / "summary.json") in capsys.readouterr().err
    (run / "summary.json").unlink()
    recipe, log = tmp_path / "recipe.yaml", tmp_path / "log"
    recipe.write_text(json.dumps({**yaml.safe_load(tiny_run.RECIPE.read_text()), "output": str(run)}))
    assert tiny_run.run("--resume", *SMALL, log=log, command=("run", recipe)) == 0, log.read_text()
    tiny_run.assert_same(run, small)


def test_a_length_of_path_is_counted_in_bytes(tmp_path: Path) -> None:
    output = tmp_path
    while len(os.fsencode(output)) < LONGEST:
        output = output / ("é" * 100)
    assert len(str(output)) < LONGEST
    recipe = load_recipe(tiny_run.RECIPE, ["--output", str(output)])
    with pytest.raises(UsageError, match=r"has \d+ bytes"):
        RunDir.open(output, recipe)
