"""What the embedded model can do, measured the same way when it is built and when a test holds it to that."""

from pathlib import Path
from typing import Any

from curr_reft.data.shapes import shapes_items
from curr_reft.evaluate.config import ProfileConfig
from curr_reft.evaluate.profile import profile
from curr_reft.evaluate.suites import validate
from curr_reft.policy.config import ModelConfig, SamplingConfig
from curr_reft.policy.load import load_policy
from curr_reft.questions.compile import compile_questions
from curr_reft.questions.forms import FORMS
from curr_reft.rewards.config import RewardsConfig

ITEMS = 100  # of each task, from the validation split
SAMPLES = 4
SAMPLING = SamplingConfig(max_new_tokens=64)


def measure(folder: Path, items: int = ITEMS) -> dict[str, Any]:
    """``{"cells": pass rate by (task, form) at temperature 1 beside chance, "greedy": {form: {task: score}}}``."""
    policy = load_policy(ModelConfig(path=str(folder)))
    drawn = shapes_items(0, "validation", {"detection": items, "classification": items, "math": items})
    questions, _ = compile_questions(drawn, FORMS, seed=0, frame=policy.frame, style="short")
    rewards = RewardsConfig()
    cells = profile(policy, questions, ProfileConfig(items=items, samples=SAMPLES), SAMPLING, rewards, 0)
    keys = ("task", "form", "pass_rate", "low", "high", "chance", "n", "at_chance")
    greedy = {form: validate(policy, asked, SAMPLING, rewards) for form, asked in questions.items()}
    return {
        "cells": [{key: cell[key] for key in keys} for cell in cells],
        "greedy": {
            form: {"score": found.score, "tasks": {task: cell["score"] for task, cell in found.tasks.items()}}
            for form, found in greedy.items()
        },
    }
