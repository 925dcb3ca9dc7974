"""A tiny model that has learned one verdict by heart: poor as a judge, right in the protocol."""

import random
from pathlib import Path

import tiny_models
import torch
from byte_tokenizers import byte_level
from transformers import AutoModelForImageTextToText, PreTrainedTokenizerFast

from curr_reft.improve.records import Candidate
from curr_reft.improve.rubric import load_rubric
from curr_reft.policy.config import ModelConfig
from curr_reft.policy.load import load_policy
from curr_reft.questions.question import Question
from curr_reft.train.config import SftConfig
from curr_reft.train.sft import SftExample, SftObjective

VERDICT = '{"comment": "so", "accuracy": 90, "logic": 80, "format": 70, "fluency": 60, "total": 88}'
PEAK = 1e-2
LONGEST = 4096  # tokens
PAD, END = "<|endoftext|>", "<|im_end|>"


def _random_model(folder: Path) -> None:
    """A LLaVA-NeXT (``transformers serve`` opens Qwen's processors only beside torchvision) that spells any text."""
    marks = [tiny_models.START, *tiny_models.MARKS["llava"]]
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=byte_level([PAD, END, *marks]),
        pad_token=PAD,
        eos_token=END,
        extra_special_tokens=marks,
        model_max_length=LONGEST,
    )
    tokenizer.chat_template = tiny_models.build_tokenizer("llava").chat_template
    config = tiny_models.CONFIGS["llava_next"](tokenizer.get_vocab())
    config.text_config.max_position_embeddings = LONGEST
    core = AutoModelForImageTextToText.from_config(config)
    core.generation_config.eos_token_id = tokenizer.eos_token_id
    core.generation_config.pad_token_id = tokenizer.pad_token_id
    core.save_pretrained(folder)
    tiny_models.build_processor("llava_next", tokenizer).save_pretrained(folder)


def build_judge(folder: Path, seen: list[Candidate], steps: int) -> Path:
    """The model in ``folder``, taught ``VERDICT`` as its reply to the rubric's prompts about ``seen``."""
    torch.manual_seed(0)
    _random_model(folder)
    policy = load_policy(ModelConfig(path=str(folder)))
    rubric = load_rubric("1")
    examples = []
    for each in seen:
        prompt = rubric.prompt(each)
        question = Question(
            id=each.id, origin=each.id, task="math", form="open", prompt=prompt.prompt, truth="5", images=prompt.images
        )
        examples.append(SftExample(question=question, completion=VERDICT))
    random.Random(0).shuffle(examples)
    lesson = SftObjective(policy, examples, SftConfig(steps=steps, batch_size=2), seed=0)
    optimizer = torch.optim.AdamW(policy.model.parameters(), betas=(0.9, 0.95))
    for step in range(1, steps + 1):
        for group in optimizer.param_groups:
            group["lr"] = PEAK * min(step / 10, 1 - step / (steps + 1))
        for micro_batch in lesson.prepare(step).micro_batches:
            lesson.loss(micro_batch)[0].backward()
        torch.nn.utils.clip_grad_norm_(policy.model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    policy.core.save_pretrained(folder)
    return folder
