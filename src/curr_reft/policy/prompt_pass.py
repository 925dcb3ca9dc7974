"""The rollout's own pass over the prompts, kept with its graph: training goes on from it and computes completions only.

On-policy, the weights that sample are those that are trained, so prefill has computed what the training forward would
compute of the prompts again. A completion needs of its prompt the keys and values of every layer and the logits after
its last token; backward runs through the completions into those, and on through the prompt and the vision tower. The
gradients are the same but for rounding: that of a weight is a sum of two products, over prompts and over completions.

When that may be done is not said here (``train/one_pass.py``). The row with its prompts, ``packed_logprobs`` without a
kept pass, is the definition; a test holds every family to it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from curr_reft.policy.attention import GroupLayout
from curr_reft.policy.gather import Gather, Ungather
from curr_reft.policy.packing import PackedBatch
from curr_reft.policy.types import EncodedPrompt


@dataclass(frozen=True, kw_only=True)
class PromptPass:
    """What a forward over N prompts made, with its graph."""

    prompts: tuple[EncodedPrompt, ...]
    keys: Mapping[int, tuple[torch.Tensor, torch.Tensor]]  # layer -> keys, values (N, K, P, D)
    logits_NV: torch.Tensor  # after the last token of each prompt

    def of(self, prompts: Sequence[EncodedPrompt]) -> "PromptPass | None":
        """The pass of some of its prompts, in their order; None where one is not among them."""
        place = {id(prompt): number for number, prompt in enumerate(self.prompts)}
        places = [place.get(id(prompt), -1) for prompt in prompts]
        if places == list(range(len(self.prompts))):
            return self
        if -1 in places:
            return None
        index_N, P = torch.tensor(places, device=self.logits_NV.device), max(prompt.length for prompt in prompts)
        keys = {
            layer: (k.index_select(0, index_N)[:, :, :P], v.index_select(0, index_N)[:, :, :P])
            for layer, (k, v) in self.keys.items()
        }
        return PromptPass(prompts=tuple(prompts), keys=keys, logits_NV=self.logits_NV.index_select(0, index_N))


class PromptPasses:
    """The passes of the last rollout that are kept. A pass is handed out once: backward frees its graph."""

    def __init__(self) -> None:
        self._kept: list[PromptPass] = []

    def keep(self, made: PromptPass) -> None:
        self._kept.append(made)

    def take(self, prompts: Sequence[EncodedPrompt]) -> PromptPass | None:
        """The pass that holds all ``prompts``, for a forward with gradients. After that none is kept."""
        if not torch.is_grad_enabled():
            return None
        kept, self._kept = self._kept, []
        return next((found for made in kept if (found := made.of(prompts)) is not None), None)

    def drop(self) -> None:
        """Forgets what is kept, and with it frees what its backward would need."""
        self._kept = []


@dataclass(eq=False, kw_only=True)
class CompletionsLayout:
    """Attention of a row of completions alone, without padding, whose prompts were computed before."""

    whole: GroupLayout  # of the row with its prompts: who sees whom
    keys: Mapping[int, tuple[torch.Tensor, torch.Tensor]]  # layer -> keys, values of the prompts (N, K, P, D)
    pad_index_M: torch.Tensor  # int64: the token in each of the N x G x T places (an empty place holds token 0)
    unpad_index_L: torch.Tensor  # int64: the place of each token

    def attend(
        self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float
    ) -> torch.Tensor:
        """As transformers calls it: query (1, H, L, D), key and value (1, K, L, D), rotated -> (1, L, H, D)."""
        _, H, L, D = query.shape
        query_c, key_c, value_c = (
            Gather.apply(states.transpose(1, 2).reshape(L, -1), self.pad_index_M, self.unpad_index_L)
            for states in (query, key, value)
        )
        out = self.whole.attend_completions(query_c, key_c, value_c, *self.keys[layer], scale)
        return Ungather.apply(out, self.unpad_index_L).view(1, L, H, D)


@dataclass(frozen=True, kw_only=True)
class CompletionsRow:
    """The input tokens of all completions of a batch as a row of L tokens, and the S tokens that they predict."""

    input_ids_L: torch.Tensor  # int64
    positions_AL: torch.Tensor  # int64
    layout: CompletionsLayout
    scored_S: torch.Tensor  # int64: the place in L whose output predicts the target
    targets_S: torch.Tensor  # int64


def completions_alone(batch: PackedBatch, passed: PromptPass) -> CompletionsRow | None:
    """The row of ``batch`` without the prompts of ``passed``; None where no completion has a token for input."""
    whole = batch.layout
    N, places = len(batch.groups), len(batch.groups) * whole.G * whole.T
    first_place = len(whole.pad_index_M) - places
    inside_L = whole.unpad_index_L >= first_place
    if not places or not bool(inside_L.any()):
        return None
    assert len(passed.prompts) == N
    unpad_index_L = whole.unpad_index_L[inside_L] - first_place
    number_L = torch.arange(len(unpad_index_L), device=unpad_index_L.device)
    later_S = batch.token_S > 0
    return CompletionsRow(
        input_ids_L=batch.input_ids_L[inside_L],
        positions_AL=batch.positions_AL[:, inside_L],
        layout=CompletionsLayout(
            whole=whole,
            keys=passed.keys,
            pad_index_M=torch.zeros(places, dtype=torch.int64, device=number_L.device).index_copy_(
                0, unpad_index_L, number_L
            ),
            unpad_index_L=unpad_index_L,
        ),
        scored_S=(inside_L.cumsum(0) - 1)[batch.scored_S[later_S]],
        targets_S=batch.targets_S[later_S],
    )
