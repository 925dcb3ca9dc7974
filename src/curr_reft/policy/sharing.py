"""Whether completions may share the keys and values of their prompt in a model, and what in it forbids that.

Sharing is exact only where attention is plain softmax, causal over everything before a token. Models that look further
(images seen both ways), less far (sliding windows) or through a state (linear and recurrent layers), or that change
the scores (sinks, soft-capping), are refused with the reason, never approximated; they train on the plain path.
"""

from typing import Any

from torch import nn

from curr_reft.errors import UsageError

CHECKED_TEXT_MODELS = frozenset(
    {"qwen2_vl_text", "qwen2_5_vl_text", "qwen3_vl_text", "llama", "mistral", "qwen2", "qwen3"}
)
"""Language models whose packed row a test holds to the plain computation."""

_LAYERS = {
    "sliding_attention": "sliding-window attention",
    "chunked_attention": "attention in chunks",
    **dict.fromkeys(("linear_attention", "conv", "mamba"), "linear or recurrent layers"),
}
_BOTH_WAYS = {"gemma3", "gemma3n", "paligemma"}
"""Families whose masks let the tokens of an image (PaliGemma: of the whole prompt) see each other both ways. It is
written in their code, not in their configuration (later ones have ``use_bidirectional_attention``)."""


def check_shared_prefix(config: Any) -> None:
    """Raises UsageError if the configuration says that sharing would not be exact, and what to set instead."""
    _refuse(config, _configured(config))


def check_shared_layers(core: nn.Module) -> None:
    """The same for what only the built model shows."""
    _refuse(core.config, _built(core))


def _configured(config: Any) -> list[str]:
    text = config.get_text_config()
    kinds = list(getattr(text, "layer_types", None) or ())
    found = [
        f"{_LAYERS.get(kind, 'unknown layers')} ({kinds.count(kind)} of {len(kinds)} are {kind})"
        for kind in sorted(set(kinds) - {"full_attention"})
    ]
    if "sliding_attention" not in kinds and _has_window(text):
        found.append(f"sliding-window attention (sliding_window {text.sliding_window})")
    both_ways = getattr(text, "use_bidirectional_attention", None)
    if config.model_type in _BOTH_WAYS or both_ways:
        found.append("attention in which the tokens of an image see each other both ways")
    for name, what in (("attn_logit_softcapping", "attention scores"), ("final_logit_softcapping", "logits")):
        if getattr(text, name, None):
            found.append(f"soft-capped {what} ({name} {getattr(text, name)})")
    if getattr(text, "attention_dropout", 0.0):
        found.append(f"dropout in attention (attention_dropout is {text.attention_dropout}, and must be 0)")
    if text.model_type not in CHECKED_TEXT_MODELS:
        found.append(f"a language model ({text.model_type!r}) that has not been checked")
    return found


def _has_window(text: Any) -> bool:
    """Qwen's text models have a switch beside the number, Mistral's the number alone."""
    return bool(getattr(text, "use_sliding_window", True) and getattr(text, "sliding_window", None))


def _built(core: nn.Module) -> list[str]:
    found = []
    sinks = [name for name, _ in core.named_parameters() if name.rpartition(".")[2] == "sinks"]
    if sinks:
        found.append(f"attention sinks ({sinks[0]} and {len(sinks) - 1} more)")
    # Attention layers of a language model carry their number (for the cache); those of vision towers do not.
    uncausal = [
        name
        for name, module in core.named_modules()
        if hasattr(module, "layer_idx") and getattr(module, "is_causal", True) is False
    ]
    if uncausal:
        found.append(f"attention that is not causal ({uncausal[0]} and {len(uncausal) - 1} more)")
    return found


def _refuse(config: Any, found: list[str]) -> None:
    if found:
        raise UsageError(
            f"model.packed: the model ({config.model_type}) cannot share a prompt between completions: it has "
            f"{'; '.join(found)}. Set model.packed to false to train it on the plain path"
        )
