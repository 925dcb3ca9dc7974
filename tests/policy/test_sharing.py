"""What forbids a shared prompt is found and named before weights are read; the plain path takes such models."""

import pytest
import tiny_models
import torch
from torch import nn
from transformers import AutoConfig, Gemma2Config, Gemma3Config, Lfm2VlConfig, PaliGemmaConfig

from curr_reft.errors import TrainingError, UsageError
from curr_reft.policy.config import ModelConfig, SamplingConfig
from curr_reft.policy.families import family_of
from curr_reft.policy.load import load_policy
from curr_reft.policy.logprobs import packed_logprobs
from curr_reft.policy.packing import pack
from curr_reft.policy.rollout import rollout
from curr_reft.policy.selfcheck import check_packed
from curr_reft.policy.sharing import check_shared_layers, check_shared_prefix

SAMPLING = SamplingConfig(group_size=2, max_new_tokens=12)
CONVOLUTIONS = ["conv", "full_attention", "conv"]
WINDOWS = {"use_sliding_window": True, "sliding_window": 8, "layer_types": ["sliding_attention"] * 3}


def config(model_type: str, **text):
    """A tiny configuration with some options of its language model changed."""
    ids = tiny_models.build_tokenizer(tiny_models.style_of(model_type)).get_vocab()
    made = tiny_models.CONFIGS[model_type](ids)
    for name, value in text.items():
        setattr(made.text_config, name, value)
    return made


def with_text(model_type: str, text_config):
    made = config(model_type)
    made.text_config = text_config
    return made


@pytest.mark.parametrize("model_type", tiny_models.EXACT)
def test_nothing_forbids_it(model_type):
    check_shared_prefix(config(model_type))


@pytest.mark.parametrize(
    ("made", "found"),
    [
        (
            lambda: config("qwen2_5_vl", **WINDOWS),
            r"sliding-window attention \(3 of 3 are sliding_attention\)",
        ),
        (lambda: config("llava_next", sliding_window=4096), r"sliding-window attention \(sliding_window 4096\)"),
        (lambda: config("gemma3"), r"2 of 3 are sliding_attention\); attention in which the tokens of an image"),
        (lambda: PaliGemmaConfig(), "tokens of an image see each other both ways"),
        (lambda: config("llava_next", use_bidirectional_attention=True), "see each other both ways"),
        (lambda: config("qwen3_5"), r"linear or recurrent layers \(2 of 3 are linear_attention\)"),
        (
            lambda: Lfm2VlConfig(
                text_config={"model_type": "lfm2", "layer_types": CONVOLUTIONS, "num_hidden_layers": 3}
            ),
            r"linear or recurrent layers \(2 of 3 .*a language model \('lfm2'\) that has not been checked",
        ),
        (lambda: with_text("internvl", AutoConfig.for_model("gpt_oss")), r"sliding-window .*'gpt_oss'"),
        (
            lambda: with_text("llava_next", Gemma2Config()),
            r"soft-capped attention scores .*50\.0\); soft-capped logits",
        ),
        (lambda: config("idefics3", attention_dropout=0.1), r"attention_dropout is 0\.1"),
    ],
    ids=[
        *("qwen window", "mistral window", "gemma 3", "paligemma", "both ways", "hybrid", "lfm2", "gpt-oss"),
        *("soft cap", "dropout"),
    ],
)
def test_what_forbids_it_is_named(made, found):
    with pytest.raises(UsageError, match=rf"{found}.*Set model\.packed to false"):
        check_shared_prefix(made())


def test_a_window_that_is_switched_off_is_none():
    check_shared_prefix(config("qwen2_5_vl", use_sliding_window=False, sliding_window=8))


@pytest.mark.parametrize(
    ("break_layer", "found"),
    [
        (
            lambda layer: setattr(layer, "sinks", nn.Parameter(torch.zeros(4))),
            r"attention sinks \(model\.language_model",
        ),
        (lambda layer: setattr(layer, "is_causal", False), "attention that is not causal"),
    ],
    ids=["sinks", "not causal"],
)
def test_what_only_the_layers_show(policy, fresh, break_layer, found):
    check_shared_layers(policy.core)
    core = fresh().core
    break_layer(core.model.language_model.layers[1].self_attn)
    with pytest.raises(UsageError, match=rf"{found}.*Set model\.packed to false"):
        check_shared_layers(core)


def narrow(config):
    """A window of 8 tokens, shorter than any prompt with an image."""
    config.text_config.sliding_window = 8


@pytest.mark.parametrize(("model_type", "change"), [("gemma3", None), ("llava_next", narrow)])
def test_refused_when_packed_and_sound_when_plain(tmp_path, picture, model_type, change):
    folder = tiny_models.build_folder(tmp_path, model_type, *([change] if change else []))
    weights = folder / "model.safetensors"
    weights.rename(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match=r"Set model\.packed to false"):  # before the weights are missed
        load_policy(folder)
    (tmp_path / "elsewhere").rename(weights)
    policy = load_policy(ModelConfig(path=str(folder), packed=False))
    prompts = [policy.processor.encode("find the red circle", [picture(0, 84, 84)])]
    batch = pack(rollout(policy, prompts, SAMPLING, seed=0), policy.family)
    assert (packed_logprobs(policy, batch) - batch.sampled_logprobs_S).abs().max() <= 1e-5


def test_the_refusal_is_needed(tmp_path, picture, monkeypatch):
    """Without it a window would be left out in silence, until the check at the start of the run."""
    folder = tiny_models.build_folder(tmp_path, "llava_next", narrow)
    for room in ("load", "policy"):
        monkeypatch.setattr(f"curr_reft.policy.{room}.check_shared_prefix", lambda config: None)
    policy = load_policy(folder)
    prompts = [policy.processor.encode("find the red circle", [picture(0, 84, 84)])]
    with pytest.raises(TrainingError, match=r"the packed row differs from the plain computation by \d"):
        check_packed(policy, rollout(policy, prompts, SAMPLING, seed=0)[0])


def test_unknown_families_are_refused():
    with pytest.raises(UsageError, match=r"'paligemma' is not supported; supported are gemma3, idefics3"):
        family_of(PaliGemmaConfig())
    assert family_of(Gemma3Config()).axes == 1
