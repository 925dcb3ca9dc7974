"""A run's state machine: random sequences of start, kill, damage, resume, second start and change of recipe.

What must hold after every step of a walk: one owner; what is published never changes; no step is counted twice;
``status`` can be asked. And in the end: the files of the uninterrupted run of the last recipe, bit for bit; a changed
recipe was refused with the difference, unless it only extended a budget. Moments are file operations of the run itself
(``dying.py``), so that a walk is the same again with the same seed.
"""

import contextlib
import json
import os
import random
import re
import shutil
import signal
import socket
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import dying
import pytest
import tiny_run

from curr_reft.status import read_status
from curr_reft.train import checkpoint as checkpoints

FEW = "{detection: 2, classification: 2, math: 2}"
SPLITS = ", ".join(f"{split}: {FEW}" for split in ("train", "validation", "test", "ood_test", "pool"))
FLAGS = (
    *("--data.shapes", f"{{{SPLITS}, general: {{}}}}"),
    *("--model.lora", "{rank: 1}", "--sampling", "{group_size: 4, max_new_tokens: 24}", "--rl.prompts_per_step", "2"),
    *("--rl.optimizer", "{lr: 1e-2, schedule: constant}", "--self_improvement", "null"),
    *("--curriculum.stages", "[{name: one, forms: {binary: 1}, steps: 2}, {name: two, forms: {open: 1}, steps: rest}]"),
    *("--curriculum.validation_items", "1", "--checkpoint", "{every: 1, keep_last: 2, hand_on: last}"),
    *("--evaluation", "{models: [curr_rl], items: 1, bootstrap: 100, gallery: 0, profile: {items: 10, samples: 1}}"),
)
UPDATES = 4  # of the shortest run; 2 of the first stage, the rest of the second
LONGEST = 6
OPERATIONS = 250  # on files, of about 400 that a whole run makes
REFUSED = 2  # exit code
SAMPLE = 11  # seed of a walk in which every act meets what it is for
WALKS, LENGTH = 8, 10
OTHER_RECIPES = (  # (flags, what is said)
    (("--seed", "1"), "seed: 0 -> 1"),
    (("--rl.optimizer.lr", "0.02"), "rl.optimizer.lr: 0.01 -> 0.02"),
    (("--checkpoint.keep_last", "3"), "checkpoint.keep_last: 2 -> 3"),
    (("--curriculum.total_steps", "3"), "a budget can only grow"),
)
HURTS: dict[str, Callable[[Path], object]] = {
    "cut": lambda path: os.truncate(path, path.stat().st_size // 2),
    "removed": Path.unlink,
    "zeroed": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "a bit flipped": dying.flip_a_bit,
}

Unbroken = Callable[[int], Path]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Unbroken:
    """The uninterrupted run of so many updates."""

    def make(total: int) -> Path:
        folder = tmp_path_factory.mktemp("unbroken")
        assert start(folder, total).end() == 0, (folder / "log").read_text()
        moved = [row["grad_norm"] > 0 for row in tiny_run.rows(folder / "run") if row["kind"] == "train"]
        assert moved == [True] * total  # else equal weights would say nothing
        return folder / "run"

    return cache(make)


@dataclass(frozen=True)
class Started:
    """A process of ``curr-reft run``."""

    folder: Path
    process: tiny_run.BaseProcess

    def end(self) -> int:
        return tiny_run.wait(self.process)


def start(folder: Path, total: int, *more: str, moment: dying.Moment | None = None, log: str = "log") -> Started:
    words = (*FLAGS, "--curriculum.total_steps", str(total), *more)
    made = dying.start(*words, run=folder / "run", log=folder / log, journal=folder / "journal", moment=moment)
    return Started(folder, made)


@dataclass
class Walk:
    """One run directory, and what has been done to it."""

    folder: Path
    seed: int
    total: int = UPDATES  # updates of the recipe that the run was last gone on with
    done: bool = False
    hurt: bool = False  # the newest checkpoint was damaged and not yet looked at
    story: list[str] = field(default_factory=list)
    published: dict[str, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        self.run, self.log = self.folder / "run", self.folder / "log"

    def step(self, act: str) -> None:
        getattr(self, act)()
        self.check()

    def kill(self) -> None:
        """Start or go on, killed before some file operation, unless the run is through before."""
        number = self.rng.randrange(1, OPERATIONS)
        self.go_on(dying.Moment(number=number))

    def go_on(self, moment: dying.Moment | None = None) -> None:
        code = start(self.folder, self.total, "--resume", moment=moment).end()
        assert code in (0, -signal.SIGKILL), self.log.read_text()
        self.done, self.hurt = self.done or code == 0, False
        self.story.append("through" if code == 0 else f"killed before operation {moment.number if moment else 0}")

    def damage(self) -> None:
        """A file of the newest checkpoint of the stage that is under way; one that no start has looked at is enough."""
        under_way = [path for path in self.run.glob("stages/*") if not (path / "manifest.json").exists()]
        found = [path for stage in under_way for path in (stage / "checkpoints").glob("step-*")]
        if self.hurt or not found:
            self.story.append("nothing to damage")
            return
        path = self.rng.choice(sorted(max(found).iterdir()))
        how = self.rng.choice(sorted(HURTS))
        HURTS[how](path)
        self.hurt = True
        self.story.append(f"{path.relative_to(self.run)} {how}")

    def second_start(self) -> None:
        """While one process holds the run, another is refused by the name of the first, with --resume and without."""
        owner = start(self.folder, self.total, "--resume").process
        assert owner.pid is not None
        limit = time.monotonic() + tiny_run.LIMIT
        while owner.is_alive() and time.monotonic() < limit:
            if self.holder() == owner.pid:
                os.kill(owner.pid, signal.SIGSTOP)
                time.sleep(0.01)  # a signal takes a moment to arrive
                if self.holder() == owner.pid:
                    break
                os.kill(owner.pid, signal.SIGCONT)  # it was giving the lock back, after asking whether it is free
            time.sleep(0.001)
        try:
            if self.done or not owner.is_alive():  # a run that is finished is not held
                self.story.append("a second start met nobody")
                return
            for more in ((), ("--resume",)):
                code, said = self.refused(self.total, *more)
                assert code == REFUSED, said
                assert f"process {owner.pid} on {socket.gethostname()}" in said
            self.story.append("second start refused")
        finally:
            owner.kill()
            tiny_run.wait(owner)
        self.hurt = False  # the first may have looked at it

    def holder(self) -> int | None:
        """The process that is named in the lock file."""
        with contextlib.suppress(OSError, ValueError):
            return int(json.loads((self.run / ".lock").read_text())["process"])
        return None

    def refused(self, total: int, *more: str) -> tuple[int, str]:
        log = self.folder / "refusal"
        log.unlink(missing_ok=True)
        return start(self.folder, total, *more, log="refusal").end(), log.read_text()

    def other_recipe(self) -> None:
        """Another recipe, or the same without --resume: refused, and nothing is touched."""
        if not (self.run / "run.json").exists():
            self.story.append("no run to change the recipe of")
            return
        before = {name: path.read_bytes() for name, path in tiny_run.files(self.run).items() if name != ".lock"}
        flags, said = self.rng.choice((*OTHER_RECIPES, ((), "is in use")))
        code, text = self.refused(self.total, *flags, *(["--resume"] if flags else []))
        assert code == REFUSED, text
        assert said in text
        after = {name: path.read_bytes() for name, path in tiny_run.files(self.run).items() if name != ".lock"}
        assert after == before
        self.story.append(f"refused: {said}")

    def extend(self) -> None:
        """One update more: gone on with as long as the last stage is not over, else refused with the reason."""
        if self.total == LONGEST:
            self.story.append("long enough")
            return
        steps = [row["step"] for row in tiny_run.rows(self.run) if (row["stage"], row["kind"]) == ("02-two", "train")]
        if max(steps, default=0) < self.total - 2:
            self.total += 1
            self.kill()
            self.story.append(f"of {self.total} updates now")
            return
        code, text = self.refused(self.total + 1, "--resume")
        assert code == REFUSED, text
        assert f"curriculum.total_steps: {self.total} -> {self.total + 1}" in text
        assert "it is over, and what is published does not change" in text
        self.story.append("refused: an update more of a stage that is over")

    def check(self) -> None:
        """What must hold at any time."""
        counted = Counter((row["run"], row["stage"], row["kind"], row["step"]) for row in tiny_run.rows(self.run))
        assert [row for row, times in counted.items() if times > 1] == []
        for name, content in self.published.items():
            assert (self.run / name).read_bytes() == content, f"{name} was published and changed"
        for manifest in self.run.glob("stages/*/manifest.json"):
            for path in (manifest, *(manifest.parent / "model").rglob("*")):
                if path.is_file():
                    self.published.setdefault(path.relative_to(self.run).as_posix(), path.read_bytes())
        if (self.run / "run.json").exists():
            status = read_status(self.run)
            assert status.owner in ("none", "dead")
            assert all(training.step <= training.budget for training in status.trainings)

    def finish(self, unbroken: Unbroken) -> None:
        self.go_on()
        self.check()
        assert "Traceback" not in self.log.read_text()
        tiny_run.assert_same(self.run, unbroken(self.total))
        for stage in self.run.glob("stages/*/checkpoints"):
            assert checkpoints.last_complete(stage) is not None


ACTS = ("kill", "kill", "damage", "second_start", "other_recipe", "extend")


def walk(folder: Path, seed: int, acts: Sequence[str], unbroken: Unbroken) -> Walk:
    folder.mkdir(exist_ok=True)
    made = Walk(folder, seed)
    try:
        for act in acts:
            made.step(act)
        made.finish(unbroken)
    except Exception as error:
        error.add_note(f"seed {seed}: " + "; ".join(made.story))
        raise
    return made


def test_a_random_walk_ends_where_the_uninterrupted_run_ends(unbroken: Unbroken, tmp_path: Path) -> None:
    """One of each, so that the many below are known to say something."""
    made = walk(tmp_path, SAMPLE, ("kill", "damage", "extend", "second_start", "other_recipe"), unbroken)
    kinds = ("killed", "stages/01-one/checkpoints/", "killed", "of 5 updates now", "second start refused", "refused: ")
    assert len(made.story) == len(kinds) + 1, made.story
    for said, kind in zip(made.story, kinds, strict=False):
        assert said.startswith(kind), made.story
    assert "damaged checkpoint: " in made.log.read_text()


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_many_random_walks(unbroken: Unbroken, tmp_path: Path) -> None:
    """What they did is printed: pytest -s."""
    told: Counter[str] = Counter()
    for seed in range(WALKS):
        acts = random.Random(f"acts {seed}").choices(ACTS, k=LENGTH)
        made = walk(tmp_path / str(seed), seed, acts, unbroken)
        if made.total == UPDATES:
            made.step("extend")  # of a run that is through: no walk is sure to come by
        for line in made.story:
            told[
                line if line.startswith(("refused", "second")) else re.sub(r"(stages|killed|of) .*|/.*", r"\1", line)
            ] += 1
        shutil.rmtree(tmp_path / str(seed))
        print(f"walk {seed}: {'; '.join(made.story)}", flush=True)
    print(dict(told))
    assert told["killed"] > WALKS
    for kind in ("second start refused", "refused: an update more of a stage that is over", "of", "stages"):
        assert told[kind] > 0, told
