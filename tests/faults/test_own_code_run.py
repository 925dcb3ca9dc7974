"""A form and a judge of one's own through a whole run: killed, a judge that breaks down corrected, and the same end."""

from pathlib import Path
from typing import Any

import pytest
import tiny_run
import yaml

FORM = """
from dataclasses import replace
from curr_reft.questions.forms import DEFAULT_GRADING, OPTION_COUNT, Draft, Open, Skip
from curr_reft.tasks import TASKS

class Corrected(Open):
    name = "corrected"

    def draft(self, item, pool, rng, options=OPTION_COUNT, grading=DEFAULT_GRADING):
        wrong = TASKS[item.task].false_claims(item, pool, rng, 1)
        return Draft(item=item, right=(item.truth,), wrong=tuple(wrong)) if wrong else Skip("no wrong answer was found")

    def build(self, draft, layout, style, frame):
        asked = super().build(draft, layout, style, frame)
        return replace(asked, prompt=f"{asked.prompt}\\n{TASKS[draft.item.task].claim(draft.wrong[0])} no")
"""
JUDGE = """
from curr_reft.improve.records import CRITERIA, Verdict

class Brief:
    def judge(self, candidates):
        return [self.verdict(each) for each in candidates]

    def verdict(self, each):
        total = 100.0 * bool(each.grade.correct) / len(each.completion.split())
        return Verdict(candidate_id=each.id, scores=dict.fromkeys(CRITERIA, total), total=total)
"""
FAILED, REFUSED = 1, 2  # exit codes


def write_recipe(folder: Path) -> Path:
    recipe: dict[str, Any] = yaml.safe_load(tiny_run.RECIPE.read_text())
    recipe["forms"] = ["forms.py:Corrected"]
    recipe["curriculum"]["stages"][1] = {"name": "corrected", "forms": {"corrected": 1}, "steps": 3, "replay": 0.3}
    recipe["self_improvement"]["judge"] = {"kind": "own", "own": {"call": "judges.py:Brief"}}
    recipe["evaluation"]["models"] = ["base", "curr_rl", "curr_reft"]
    (folder / "own.yaml").write_text(yaml.safe_dump(recipe))
    (folder / "forms.py").write_text(FORM)
    (folder / "judges.py").write_text(JUDGE)
    return folder / "own.yaml"


@pytest.mark.slow
def test_killed_and_with_a_corrected_judge_it_comes_to_the_same(tmp_path: Path) -> None:
    command, log = ("run", write_recipe(tmp_path)), tmp_path / "log"
    unbroken, run = tmp_path / "unbroken", tmp_path / "run"
    assert tiny_run.run("--output", unbroken, log=log, command=command) == 0, log.read_text()

    (tmp_path / "judges.py").write_text(JUDGE.replace("100.0 *", "100.0 / 0 *"))
    process = tiny_run.start("--output", run, log=log, command=command)
    tiny_run.end_when(process, lambda: (run / "stages" / "02-corrected" / "checkpoints").is_dir())
    assert tiny_run.run("--output", run, "--resume", log=log, command=command) == FAILED
    told = f"judges.py:Brief raised ZeroDivisionError: float division by zero ({tmp_path / 'judges.py'}:9)"
    assert told in log.read_text()
    (tmp_path / "judges.py").write_text(JUDGE)
    process = tiny_run.start("--output", run, "--resume", log=log, command=command)
    tiny_run.end_when(process, lambda: (run / "self-improve" / "checkpoints").is_dir())

    (tmp_path / "judges.py").write_text(JUDGE + "\n")
    assert tiny_run.run("--output", run, "--resume", log=log, command=command) == REFUSED
    assert "the code of the judge changed since this run began" in log.read_text()
    (tmp_path / "judges.py").write_text(JUDGE)
    assert tiny_run.run("--output", run, "--resume", log=log, command=command) == 0, log.read_text()
    tiny_run.assert_same(run, unbroken)
