"""``curr-reft check``: all that can be found wrong before a run costs anything, and what it will cost.

No weights are loaded: the processor counts tokens, and the model's size is read off its configuration.
"""

import statistics
import time
from dataclasses import dataclass

import torch
from transformers import AutoModelForImageTextToText

from curr_reft.files import human_size
from curr_reft.policy.config import ModelConfig
from curr_reft.policy.load import load_chat_processor, load_config, weights_dtype
from curr_reft.policy.processor import ChatProcessor
from curr_reft.prepare import load_items, prepare, prompt_lengths
from curr_reft.recipe import Recipe

BYTES = {"float32": 4, "bfloat16": 2}
EFFICIENCY = 0.3  # share of this machine's matrix rate that small-batch training reaches; a rough figure


@dataclass(frozen=True, kw_only=True)
class Size:
    """Parameters of a model, without its weights."""

    parameters: int
    text: int  # without the vision tower and the embeddings


def check(recipe: Recipe) -> None:
    """Print what a run will use. Raises RecipeError, DataError, UsageError with everything found."""
    data = load_items(recipe)
    processor, size = describe_model(recipe.model)
    prepared = prepare(recipe, data, processor.frame)
    print(f"recipe {recipe.name}: model {recipe.model.path}, {size.parameters / 1e6:,.1f} M parameters")
    for split, forms in sorted(prepared.questions.items()):
        counts = {form: len(asked) for form, asked in forms.items()}
        print(f"  {split}: " + ", ".join(f"{count} {form}" for form, count in counts.items()))
    for split, card in prepared.card["questions"]["splits"].items():
        for task, by_form in card["skipped"].items():
            for form, reasons in by_form.items():
                for reason, count in reasons.items():
                    print(f"  {split}: {count} {task} items cannot be asked as {form}: {reason}")
    if recipe.difficulty is not None:
        asked = sum(len(prepared.of("train", form)) for form in recipe.curriculum.trained_forms())
        print(f"  difficulty: at most {asked * recipe.difficulty.samples:,} answers of the base before training")
    print(f"  rows skipped {prepared.card['skipped_rows']}, repaired {prepared.card['repaired_rows']}")
    by_form = prompt_lengths(prepared, processor)
    _print_tokens(by_form)
    _estimate(recipe, size, max(max(lengths) for lengths in by_form.values()))


def describe_model(config: ModelConfig) -> tuple[ChatProcessor, Size]:
    """The processor and the size of the recipe's model. Raises UsageError."""
    processor = load_chat_processor(config)
    family = processor.family
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(load_config(config), trust_remote_code=config.trust_remote_code)
    counts = {name: parameter.numel() for name, parameter in model.named_parameters()}
    text = sum(n for name, n in counts.items() if not name.startswith(family.vision) and "embed_tokens" not in name)
    return processor, Size(parameters=sum(counts.values()), text=text)


def _print_tokens(by_form: dict[str, list[int]]) -> None:
    for form, lengths in by_form.items():
        middle = statistics.median(lengths)
        print(f"  tokens of a {form} prompt: {min(lengths)} to {max(lengths)}, median {middle:.0f}")


def _estimate(recipe: Recipe, size: Size, prompt: int) -> None:
    """Print steps, memory, disk and time, roughly."""
    steps = recipe.curriculum.total_steps
    rollouts = steps * recipe.rl.prompts_per_step * recipe.sampling.group_size
    dtype = weights_dtype(recipe.model)
    weights = size.parameters * BYTES[dtype]
    trained = size.parameters if recipe.model.lora is None else size.text // 50
    masters = 4 if dtype == "bfloat16" and recipe.model.lora is None else 0  # float32 copies
    state = trained * (BYTES[dtype] + masters + 8)  # gradients, copies, AdamW's two moments
    anchor = weights if recipe.rl.objective.beta > 0 and recipe.model.lora is None else 0
    stages = len(recipe.curriculum.scheduled()) + sum(
        name in recipe.evaluation.models for name in ("sft", "rl", "curr_reft")
    )
    checkpoint = trained * 12  # float32: weights and two moments
    disk = stages * ((recipe.checkpoint.keep_last + 1) * checkpoint + weights) + weights
    tokens = steps * recipe.rl.prompts_per_step * (prompt + recipe.sampling.group_size * recipe.sampling.max_new_tokens)
    seconds = tokens * size.text * 8 / (_matrix_rate(dtype) * EFFICIENCY)
    for stage in recipe.curriculum.scheduled():
        forms = ", ".join(f"{form} {share:.0%}" for form, share in stage.shares([]).items())
        print(f"  stage {stage.name}: {forms}; {stage.steps} updates, replay {stage.replay:.0%}")
    print(f"  curriculum: {steps} updates, {rollouts:,} completions of at most {recipe.sampling.max_new_tokens} tokens")
    if recipe.rl.resample is not None:
        print(f"  resampling: up to {rollouts * recipe.rl.resample.rounds:,} completions more, in place of others")
    print(
        f"  memory: weights, gradients, optimizer, reference {human_size(weights + state + anchor)}, activations on top"
    )
    print(f"  disk: at most {human_size(disk)} in {recipe.output}")
    print(f"  time: very roughly {seconds / 60:.0f} min at most for the curriculum on this machine's default device")


def _matrix_rate(dtype: str) -> float:
    """Measured floating-point operations a second of a matrix product on the default device."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    side = 4096 if device == "cuda" else 512
    a = torch.randn(side, side, device=device, dtype=getattr(torch, dtype))
    best = float("inf")
    for _ in range(5):
        started = time.perf_counter()
        float((a @ a)[0, 0])
        best = min(best, time.perf_counter() - started)
    return 2 * side**3 / best
