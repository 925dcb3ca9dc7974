"""The leanest decode step: what a language model of the Llama kind computes, read off its modules, as few operations.

A step of a few rows through the model's own modules is mostly the launching of small operations: seven products a layer
with norms of eight operations each between them. Here rotations are looked up, projections of one input are one
product, and attention works on rows as they lie. It computes the same numbers (a test holds every family to the module
path); whatever is not known here takes that path.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import torch
import torch.nn.functional as F
from torch import nn

from curr_reft.policy.sharing import CHECKED_TEXT_MODELS

JOINED_BYTES = 256 << 20
"""Projections of one input are joined to one product where copying all of them takes at most this: in larger models
products are long enough to hide what the joining saves."""

TURNED_BYTES = 8 << 20
"""On a CPU, more weights than this are joined with their inputs as rows: a product of a few completions then reads them
as they lie, in two thirds of the time. Fewer are used as they are stored, and give the same bits as ever."""

_ROTATIONS = {"default", "linear", "llama3", "yarn"}  # whose frequencies do not depend on the length of the text


class TokenLayout(Protocol):
    """Attention of one token a row."""

    def attend_rows(
        self, layer: int, query_AHD: torch.Tensor, key_AKD: torch.Tensor, value_AKD: torch.Tensor, scale: float
    ) -> torch.Tensor:
        """-> (A, H, D)."""
        ...


Projection: TypeAlias = Callable[[torch.Tensor], torch.Tensor]
Norm: TypeAlias = tuple[torch.Tensor, float]  # weight, epsilon


@dataclass(frozen=True, kw_only=True)
class _Layer:
    number: int
    norm: Norm
    queries_keys_values: Projection
    head_norms: tuple[Norm, Norm] | None  # of queries and of keys, each head by itself (Qwen3)
    scale: float
    out: Projection
    second_norm: Norm
    gate_up: Projection
    down: Projection


class LeanText:
    """The language model for one rollout: its weights as they are now."""

    def __init__(self, text: Any, join: bool) -> None:
        config = text.config
        self.heads = config.num_attention_heads
        self.kv_heads = config.num_key_value_heads
        self.embedding = text.embed_tokens.weight
        self.rotary = text.rotary_emb
        self.norm = _norm(text.norm)
        linears = [module for module in text.layers.modules() if isinstance(module, nn.Linear)]
        size = sum(module.weight.numel() * module.weight.element_size() for module in linears)
        join = join and size <= JOINED_BYTES
        turn = join and size > TURNED_BYTES and self.embedding.device.type == "cpu"
        self.layers = [_read(number, layer, join=join, turn=turn) for number, layer in enumerate(text.layers)]

    def rotations(self, positions_AT: torch.Tensor, axes: int) -> tuple[torch.Tensor, torch.Tensor]:
        """cos and sin for every row and step, (A, T, 1, D). Sampled text stands at one position on all axes."""
        A, T = positions_AT.shape
        positions = positions_AT.reshape(1, A * T)
        cos, sin = self.rotary(self.embedding, positions.expand(axes, 1, -1) if axes > 1 else positions)
        return cos.view(A, T, 1, -1), sin.view(A, T, 1, -1)

    def step(
        self, tokens_A: torch.Tensor, layout: TokenLayout, cos_A: torch.Tensor, sin_A: torch.Tensor
    ) -> torch.Tensor:
        """One token a row -> (A, width), ready for the output layer. cos and sin (A, 1, D)."""
        A, H, K, D = len(tokens_A), self.heads, self.kv_heads, cos_A.shape[-1]
        half = D // 2
        sin_half_A = sin_A[..., :half]
        rows = F.embedding(tokens_A, self.embedding)
        for layer in self.layers:
            states = layer.queries_keys_values(_rms(rows, layer.norm)).view(A, H + 2 * K, D)
            turned, values = states[:, : H + K], states[:, H + K :]
            if layer.head_norms is not None:
                heads = zip(turned.split((H, K), 1), layer.head_norms, strict=True)
                turned = torch.cat([_rms(states, norm) for states, norm in heads], 1)
            first, second = turned[..., :half], turned[..., half:]
            turned = turned * cos_A
            turned[..., :half].addcmul_(second, sin_half_A, value=-1)
            turned[..., half:].addcmul_(first, sin_half_A)
            seen = layout.attend_rows(layer.number, turned[:, :H], turned[:, H:], values, layer.scale)
            rows = rows + layer.out(seen.view(A, H * D))
            gate, up = layer.gate_up(_rms(rows, layer.second_norm)).chunk(2, -1)
            rows = rows + layer.down(F.silu(gate).mul_(up))
        return _rms(rows, self.norm)


def find_lean(core: Any, *, join: bool = True) -> LeanText | None:
    """The language model of ``core`` as a lean step, or None where its own modules have to be called. With ``join``
    false it reads the weights where they lie, so that it holds while they are trained in place."""
    text = core.get_decoder()
    config = text.config
    known = (
        config.model_type in CHECKED_TEXT_MODELS
        and config.hidden_act == "silu"
        and text.rotary_emb.rope_type in _ROTATIONS
        and not any(_is_changed(module) for module in text.modules())
    )
    return LeanText(text, join) if known else None


def _is_changed(module: nn.Module) -> bool:
    """Whether calling ``module`` does more than its class says: hooks (sharding, offloading), a new forward."""
    return bool(module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module))


def _read(number: int, layer: Any, *, join: bool, turn: bool) -> _Layer:
    attention, mlp = layer.self_attn, layer.mlp
    head_norms = None
    if hasattr(attention, "q_norm"):
        head_norms = _norm(attention.q_norm), _norm(attention.k_norm)
    return _Layer(
        number=number,
        norm=_norm(layer.input_layernorm),
        queries_keys_values=_projection([attention.q_proj, attention.k_proj, attention.v_proj], join, turn),
        head_norms=head_norms,
        scale=attention.scaling,
        out=_projection([attention.o_proj], turn, turn),
        second_norm=_norm(layer.post_attention_layernorm),
        gate_up=_projection([mlp.gate_proj, mlp.up_proj], join, turn),
        down=_projection([mlp.down_proj], turn, turn),
    )


def _norm(module: Any) -> Norm:
    return module.weight, module.variance_epsilon


def _rms(rows: torch.Tensor, norm: Norm) -> torch.Tensor:
    weight, epsilon = norm
    return F.rms_norm(rows, weight.shape, weight, epsilon)


def _projection(modules: Sequence[nn.Module], join: bool, turn: bool) -> Projection:
    """All of ``modules`` on the same rows, their outputs side by side. Adapters are called, not joined."""
    plain = [module for module in modules if type(module) is nn.Linear]
    biases = [module.bias for module in plain if module.bias is not None]
    if not join or len(plain) < len(modules) or len(biases) not in (0, len(plain)):
        return modules[0] if len(modules) == 1 else lambda rows: torch.cat([module(rows) for module in modules], -1)
    weights = [module.weight.detach() for module in plain]
    bias = torch.cat([each.detach() for each in biases]) if biases else None
    if turn:
        turned = torch.cat([weight.t() for weight in weights], 1)
        return lambda rows: rows @ turned if bias is None else torch.addmm(bias, rows, turned)
    weight = torch.cat(weights)
    return lambda rows: F.linear(rows, weight, bias)
