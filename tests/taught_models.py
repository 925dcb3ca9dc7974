"""Tiny models that answer in the form asked for, if seldom rightly: what a run on a random model cannot show.

A random model is never paid: every advantage is 0, nothing is kept by self-improvement, and "it trains" would mean
nothing. These have seen a few right answers, in a loop of their own.
"""

import random
from collections.abc import Sequence
from pathlib import Path

import torch
from checkpoints import PUBLISHED, published_folder, write_weights

from curr_reft.policy.config import ModelConfig
from curr_reft.policy.load import load_policy
from curr_reft.prepare import load_items, prepare
from curr_reft.questions.forms import FORMS
from curr_reft.questions.question import Question
from curr_reft.recipe import Recipe
from curr_reft.train.config import SftConfig
from curr_reft.train.sft import SftExample, SftObjective

BATCH, PEAK = 8, 3e-3


def taught_folder(family: str, path: Path, recipe: Recipe, steps: int = 80) -> Path:
    """A tiny ``family`` (a key of ``checkpoints.PUBLISHED``) in its published layout in ``path``, which has seen right
    answers to ``recipe``'s training questions."""
    policy = load_policy(ModelConfig(path=str(published_folder(family, path))))
    asked = prepare(recipe, load_items(recipe), policy.frame)
    examples = _examples([question for form in FORMS for question in asked.of("train", form)])
    lesson = SftObjective(policy, examples, SftConfig(steps=steps, batch_size=BATCH), seed=0)
    optimizer = torch.optim.AdamW(policy.model.parameters())
    for step in range(1, steps + 1):
        for group in optimizer.param_groups:
            group["lr"] = PEAK * min(step / 10, 1 - step / (steps + 1))
        for micro_batch in lesson.prepare(step).micro_batches:
            lesson.loss(micro_batch)[0].backward()
        torch.nn.utils.clip_grad_norm_(policy.model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    write_weights(policy.core, PUBLISHED[family], path)
    return path


def _examples(questions: Sequence[Question]) -> list[SftExample]:
    """Right answers in a random order; of open questions those that can be guessed three times as often as the rest.
    The thinking names the answer, as the judge of self-improvement expects."""
    often = [question for question in questions if (question.task, question.form) == ("math", "open")]
    examples = []
    for question in (*questions, *often, *often):
        answer = FORMS[question.form].write(question)
        examples.append(
            SftExample(question=question, completion=f"<think> {answer} </think> <answer> {answer} </answer>")
        )
    random.Random(0).shuffle(examples)
    return examples
