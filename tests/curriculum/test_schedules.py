"""Schedules: what each makes of the stages, and that an ablation trains as much as the curriculum it is one of."""

from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curr_reft.curriculum.config import CurriculumConfig, GateConfig, Schedule, StageConfig
from curr_reft.questions.forms import FORMS
from curr_reft.recipe import dump_recipe, load_recipe

ROOT = Path(__file__).parents[2]
GATE = GateConfig(accuracy=0.8)


def curriculum(schedule: Schedule, **last: Any) -> CurriculumConfig:
    return CurriculumConfig(
        schedule=schedule,
        total_steps=240,
        stages=(
            StageConfig(name="binary", forms={"binary": 1}, steps=60, gate=GATE),
            StageConfig(name="choice", forms={"choice": 1}, steps=40, gate=GATE, replay=0.3),
            StageConfig(name="open", forms={"open": 1}, **{"steps": "rest", "replay": 0.2, **last}),
        ),
    )


def facts(config: CurriculumConfig) -> list[tuple[Any, ...]]:
    return [(s.name, dict(s.forms), s.steps, s.replay, s.gate) for s in config.scheduled()]


def test_forward_is_what_was_written() -> None:
    assert curriculum("forward").scheduled() == curriculum("forward").stages


def test_reversed_keeps_what_belongs_to_the_stage_and_what_belongs_to_the_place() -> None:
    assert facts(curriculum("reversed")) == [
        ("open", {"open": 1}, 140, 0.0, None),
        ("choice", {"choice": 1}, 40, 0.3, GATE),
        ("binary", {"binary": 1}, "rest", 0.2, None),
    ]


def test_a_gate_on_the_last_stage_as_written_leaves_one_on_the_last_of_any_order() -> None:
    other = GateConfig(accuracy=None, plateau=0.01)
    assert [stage.gate for stage in curriculum("reversed", gate=other).scheduled()] == [other, GATE, GATE]


def test_mixed_asks_what_the_curriculum_asks_replay_counted() -> None:
    # binary 60 + 0.3 * 40 + 0.1 * 140, choice 0.7 * 40 + 0.1 * 140, open 0.8 * 140
    assert curriculum("mixed").planned_updates() == pytest.approx({"binary": 86, "choice": 42, "open": 112})
    ((name, forms, steps, replay, gate),) = facts(curriculum("mixed"))
    assert (name, steps, replay, gate) == ("mixed", 240, 0.0, None)
    assert forms == pytest.approx({"binary": 86, "choice": 42, "open": 112})


@pytest.mark.parametrize("form", ["binary", "choice", "open"])
def test_a_form_alone_takes_all_updates(form: Any) -> None:
    assert facts(curriculum(form)) == [(form, {form: 1.0}, 240, 0.0, None)]
    assert facts(curriculum(form, steps=100)) == [(form, {form: 1.0}, 200, 0.0, None)]


def test_every_form_has_its_schedule() -> None:
    assert get_args(Schedule) == ("forward", "reversed", "mixed", *FORMS)


@given(
    steps=st.lists(st.integers(1, 50), min_size=1, max_size=5),
    spare=st.integers(0, 40),
    rest=st.booleans(),
    replay=st.floats(0, 0.9),
    schedule=st.sampled_from(get_args(Schedule)),
)
def test_every_schedule_plans_the_same_number_of_updates(
    steps: list[int], spare: int, rest: bool, replay: float, schedule: Schedule
) -> None:
    forms = list(FORMS)
    stages = [
        StageConfig(name=f"s{n}", forms={forms[n % 3]: 1}, steps=count, replay=replay if n else 0.0)
        for n, count in enumerate(steps)
    ]
    total = sum(steps) + spare
    if rest:
        total += 1
        stages[-1] = stages[-1].model_copy(update={"steps": "rest"})
    planned = total if rest else sum(steps)
    config = CurriculumConfig(stages=tuple(stages), total_steps=total, schedule=schedule)
    scheduled = config.scheduled()
    fixed = sum(stage.steps for stage in scheduled if stage.steps != "rest")
    assert fixed + (total - fixed if scheduled[-1].steps == "rest" else 0) == planned
    assert sum(config.planned_updates().values()) == pytest.approx(planned)
    assert scheduled[0].replay == 0
    # What was scheduled is a curriculum that stands by itself, and scheduling it forward changes nothing.
    again = CurriculumConfig(stages=scheduled, total_steps=total)
    assert again.scheduled() == scheduled


@pytest.mark.parametrize("schedule", get_args(Schedule))
def test_one_flag_on_any_recipe_and_the_resolved_recipe_is_not_scheduled_twice(tmp_path: Path, schedule: str) -> None:
    for path in (ROOT / "recipes" / "demo.yaml", ROOT / "tests" / "recipes" / "tiny.yaml"):
        recipe = load_recipe(path, ["--curriculum.schedule", schedule])
        (tmp_path / "recipe.yaml").write_text(dump_recipe(recipe))
        again = load_recipe(tmp_path / "recipe.yaml")
        assert again == recipe
        assert again.curriculum.scheduled() == recipe.curriculum.scheduled()
        assert again.curriculum.stages == load_recipe(path).curriculum.stages


def test_shares_of_a_stage_replay_only_earlier_forms_that_are_not_its_own() -> None:
    def shares(forms: dict[str, float], replay: float, earlier: list[str]) -> dict[str, float]:
        return StageConfig(name="s", forms=forms, steps=1, replay=replay).shares(earlier)

    assert shares({"open": 1}, 0.3, ["binary", "choice"]) == {"open": 0.7, "binary": 0.15, "choice": 0.15}
    assert shares({"binary": 1}, 0.3, []) == {"binary": 1.0}
    assert shares({"open": 2, "binary": 2}, 0.3, ["binary"]) == {"open": 0.5, "binary": 0.5}
    assert shares({"open": 1}, 0.0, ["binary"]) == {"open": 1.0}
