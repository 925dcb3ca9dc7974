"""How hard each question is for a model: the share of sampled answers that are right, kept so that none is asked twice.

An answer is decided by the model, the sampling, the question with its pixels, the rules of grading, and its number; the
hash of all but the number is the key of the cache, and the seed of an answer follows from the key and the number. So
neither the other questions asked for nor where an earlier measurement was cut off change an answer, and runs with
other seeds share what is the same for them.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from curr_reft import __version__, processes
from curr_reft.curriculum.difficulty import PassRate
from curr_reft.curriculum.wilson import wilson
from curr_reft.evaluate.intervals import mean_interval
from curr_reft.evaluate.profile import pass_cell
from curr_reft.evaluate.sample_cache import Sample, SampleCache
from curr_reft.files import sha256_file
from curr_reft.policy.answers import Answered, answer_all
from curr_reft.policy.config import ModelConfig, SamplingConfig
from curr_reft.policy.dealing import by_image
from curr_reft.policy.load import load_config, model_folder
from curr_reft.policy.policy import Policy
from curr_reft.questions.question import Question
from curr_reft.rewards.config import RewardsConfig
from curr_reft.seeding import derive_seed, stream

CHANCE_QUESTIONS = 60
"""Questions of a cell whose right answers are tried on each other: the pairs grow with the square."""

_READ = (".safetensors", ".json", ".jinja", ".txt", ".model")  # what is loaded of a model folder


def model_sha256(config: ModelConfig) -> str:
    """Hash of all of a model that decides its answers: weights, configuration, tokenizer, template, image sizes.

    A model on the hub is named by the commit it was resolved to. Raises UsageError.
    """
    folder = Path(model_folder(config.path))
    if folder.is_dir():
        names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.suffix in _READ)
        content: Any = [(name, sha256_file(folder / name)) for name in names]
    else:
        content = [config.path, getattr(load_config(config), "_commit_hash", None) or config.revision]
    bits = () if config.quantize is None else (config.quantize,)
    return _sha256([content, config.dtype, config.min_pixels, config.max_pixels, *bits]).hex()


def question_key(question: Question, model: str, sampling: SamplingConfig, rewards: RewardsConfig) -> bytes:
    """The hash of all that decides the answers to ``question`` and their grades, but for their number."""
    section = getattr(rewards, question.task, None)
    truth = sorted(question.truth) if isinstance(question.truth, frozenset) else question.truth
    return _sha256(
        [
            __version__,  # its graders
            model,
            sampling.model_dump(mode="json", include={"temperature", "top_p", "top_k", "max_new_tokens"}),
            section.model_dump(mode="json", exclude={"workers"}) if section is not None else None,
            [question.task, question.form, question.prompt, truth, question.options],
            [(image.key, image.size) for image in question.images],
        ]
    )


def measure(
    load: Callable[[], Policy],
    model: str,
    questions: Sequence[Question],
    samples: int,
    sampling: SamplingConfig,
    rewards: RewardsConfig,
    cache: SampleCache,
    say: Callable[[str], None],
) -> list[PassRate]:
    """The pass rate of each question over ``samples`` answers, in order. Only what ``cache`` lacks is asked, a batch a
    transaction; ``load`` is not called when it lacks nothing. ``model`` names the model (``model_sha256``) and whatever
    else decides answers and is not handed in.

    Raises UsageError for a cache that cannot be used, DiskFullError.
    """
    keys = [question_key(question, model, sampling, rewards) for question in questions]
    by_key = dict(zip(keys, questions, strict=True))  # equal questions are asked once
    missing = processes.on_main(lambda: _missing(by_key, samples, cache))
    total = sum((samples - have) * len(lacking) for have, lacking in missing.items())
    if total:
        say(f"difficulty: {total:,} of {samples * len(by_key):,} answers are not in {cache.path.name} yet")
        _ask(load(), by_key, missing, samples, sampling, rewards, cache, say, total)
    return processes.on_main(
        lambda: [_rate(question, cache.read(key, samples)) for key, question in zip(keys, questions, strict=True)]
    )


def _missing(keys: Iterable[bytes], samples: int, cache: SampleCache) -> dict[int, list[bytes]]:
    """Hashes with fewer answers than ``samples``, by how many they have."""
    missing: dict[int, list[bytes]] = {}
    for key in keys:
        have = len(cache.read(key, samples))
        if have < samples:
            missing.setdefault(have, []).append(key)
    return missing


def _ask(
    policy: Policy,
    by_key: Mapping[bytes, Question],
    missing: Mapping[int, Sequence[bytes]],
    samples: int,
    sampling: SamplingConfig,
    rewards: RewardsConfig,
    cache: SampleCache,
    say: Callable[[str], None],
    total: int,
) -> None:
    done, said = 0, 0.0
    for have, lacking in sorted(missing.items()):
        numbers = range(have, samples)
        drawn = sampling.model_copy(update={"group_size": len(numbers)})
        at_once = max(1, sampling.rows_at_once // len(numbers))
        ordered = [lacking[place] for place in by_image([by_key[key] for key in lacking])]
        for start in range(0, len(lacking), at_once):
            part = ordered[start : start + at_once]
            seeds = [[derive_seed(number, key.hex()) for number in numbers] for key in part]
            groups = answer_all(policy, [by_key[key] for key in part], drawn, rewards, seed=seeds)
            rows = [
                (key, number, _sample(answer))
                for key, group in zip(part, groups, strict=True)
                for number, answer in zip(numbers, group, strict=True)
            ]
            processes.on_main(partial(cache.add, rows))
            done += len(part) * len(numbers)
            if done / total - said >= 0.1 or done == total:
                said = done / total
                say(f"difficulty: {done:,} of {total:,} answers")


def _sample(answer: Answered) -> Sample:
    return Sample(correct=bool(answer.correct), accuracy=answer.grade.accuracy, status=str(answer.grade.status))


def _rate(question: Question, samples: Sequence[Sample]) -> PassRate:
    passes = sum(sample.correct for sample in samples)
    low, high = wilson(passes, len(samples))
    return PassRate(
        question=question.id,
        origin=question.origin,
        task=question.task,
        form=question.form,
        n=len(samples),
        passes=passes,
        rate=passes / len(samples),
        low=low,
        high=high,
        accuracy=sum(sample.accuracy or 0.0 for sample in samples) / len(samples),
    )


def pass_cells(
    questions: Sequence[Question], rates: Sequence[PassRate], rewards: RewardsConfig
) -> list[dict[str, Any]]:
    """One cell for each (task, form): the mean pass rate, chance, and how many questions are always right or wrong."""
    grouped: dict[tuple[str, str], list[tuple[Question, PassRate]]] = {}
    for question, rate in zip(questions, rates, strict=True):
        grouped.setdefault((question.form, question.task), []).append((question, rate))
    cells = []
    for (form, task), members in grouped.items():
        asked = [question for question, _ in members]
        tried = stream(0, "chance", form, task).sample(asked, min(CHANCE_QUESTIONS, len(asked)))
        own = [rate for _, rate in members]
        cell = pass_cell(task, form, [rate.rate for rate in own], own[0].n, tried, rewards)
        cell["questions"] = len(own)
        cell["always_right"] = sum(rate.passes == rate.n for rate in own)
        cell["always_wrong"] = sum(rate.passes == 0 for rate in own)
        cell["alike"] = intraclass_correlation([(rate.passes, rate.n) for rate in own])
        cells.append(cell)
    return cells


def intraclass_correlation(counts: Sequence[tuple[int, int]]) -> float | None:
    """How alike the answers to one question are, from (right, asked) of each: 0, all questions are equally hard and
    every difference between their rates is luck; 1, a question is right always or never.

    The estimator of Fleiss and Cuzick 1979 for binary data (Applied Psychological Measurement 3), at least 0. None
    where it is not defined: one answer a question, or all answers equal. Rates of k answers rank questions with a
    reliability of k alike / (1 + (k - 1) alike) (Spearman and Brown).
    """
    asked = sum(n for _, n in counts)
    share = sum(passes for passes, _ in counts) / asked
    spare = asked - len(counts)
    if spare == 0 or share in (0, 1):
        return None
    within = sum(passes * (n - passes) / n for passes, n in counts)
    return max(0.0, 1 - within / (spare * share * (1 - share)))


def form_means(rates: Sequence[PassRate]) -> list[dict[str, Any]]:
    """The pass rate of each form, a mean over its tasks, with its 95 % interval over questions; the easiest first."""
    by_form: dict[str, dict[str, list[float]]] = {}
    for rate in rates:
        by_form.setdefault(rate.form, {}).setdefault(rate.task, []).append(rate.rate)
    found = {form: mean_interval(tasks) for form, tasks in by_form.items()}
    ordered = sorted(found, key=lambda form: -found[form].mean)
    return [
        {"form": form, "mean": found[form].mean, "low": found[form].low, "high": found[form].high} for form in ordered
    ]


def _sha256(value: Any) -> Any:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode(errors="surrogatepass")).digest()
