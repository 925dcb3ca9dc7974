"""The flat row of several groups: ids, positions, images, what is scored, and which token each score belongs to.

For every group the row holds ``[prompt, c1, ..., cG]`` without padding. The last token of a completion is never an
input; the last token of a prompt is scored once for each completion. Supervised examples are groups of one or
more given completions.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from curr_reft.policy.attention import GroupLayout
from curr_reft.policy.families import Family
from curr_reft.policy.types import EncodedPrompt, Group


@dataclass(frozen=True, kw_only=True)
class PackedImages:
    """The images of the prompts of a row; prompts that show the same pixels share one entry."""

    inputs: dict[str, torch.Tensor]  # of the vision tower, each distinct set of images once
    shown: dict[str, torch.Tensor]  # of these, what the model reads for every place: the inputs in the row's order
    sources: tuple[torch.Tensor, ...]  # the pixels of each distinct set as the processor made them: what it is known by
    entries: tuple[int, ...]  # for each prompt with images, in order: which set
    pieces: tuple[int, ...]  # rows of pixel_values (patches or tiles) of each set

    @property
    def repeated(self) -> bool:
        return len(self.entries) > len(self.pieces)

    def to(self, device: torch.device | str) -> "PackedImages":
        """The images with their tensors on ``device``."""
        inputs, shown = ({name: value.to(device) for name, value in each.items()} for each in (self.inputs, self.shown))
        return replace(self, inputs=inputs, shown=shown)


@dataclass(frozen=True, kw_only=True)
class PackedBatch:
    """Several groups as one row of L input tokens with S scored tokens."""

    input_ids_L: torch.Tensor  # int64
    positions_AL: torch.Tensor  # int64, rotary positions on A axes; restart after the prompt for each completion
    layout: GroupLayout
    images: PackedImages | None  # none: text only
    scored_S: torch.Tensor  # int64: the place in L whose output predicts the target
    targets_S: torch.Tensor  # int64: the token of the completion
    group_S: torch.Tensor  # int64: its group
    completion_S: torch.Tensor  # int64: its completion within the group
    token_S: torch.Tensor  # int64: its place within the completion
    sampled_logprobs_S: torch.Tensor  # float32: of the policy that sampled it (0 where a completion was given)
    groups: tuple[Group, ...]

    @property
    def length(self) -> int:
        return int(self.input_ids_L.shape[0])

    def to(self, device: torch.device | str) -> "PackedBatch":
        """The batch with its tensors on ``device``."""
        if self.input_ids_L.device == torch.device(device):
            return self
        layout, images = self.layout, self.images
        names = ("input_ids_L", "positions_AL", "scored_S", "targets_S", "group_S", "completion_S", "token_S")
        return replace(
            self,
            **{name: getattr(self, name).to(device) for name in (*names, "sampled_logprobs_S")},
            layout=layout.to(device),
            images=images and images.to(device),
        )


def pack(groups: Sequence[Group], family: Family) -> PackedBatch:
    """One row of all ``groups``. A group has at least one completion, a completion at least one token."""
    assert groups
    assert all(group.completions for group in groups)
    G = max(len(group.completions) for group in groups)
    lengths_NG = torch.tensor(
        [
            [completion.length for completion in group.completions] + [0] * (G - len(group.completions))
            for group in groups
        ]
    )
    row = _Row([group.prompt for group in groups], (lengths_NG - 1).clamp(min=0), family)
    completions = [completion for group in groups for completion in group.completions]
    row.fill([completion.tokens_T[:-1] for completion in completions])

    completion_S = lengths_NG.flatten().repeat_interleave(lengths_NG.flatten(), output_size=int(lengths_NG.sum()))
    slot_S = torch.arange(lengths_NG.numel()).repeat_interleave(lengths_NG.flatten())
    token_S = torch.arange(len(completion_S)) - (lengths_NG.flatten().cumsum(0) - lengths_NG.flatten())[slot_S]
    group_S = slot_S // G
    # The first token follows the prompt, every later one the token before it.
    scored_S = torch.where(token_S == 0, row.prompt_end_N[group_S], row.start_NG.flatten()[slot_S] + token_S - 1)
    return PackedBatch(
        input_ids_L=row.input_ids_L,
        positions_AL=row.positions_AL,
        layout=row.layout,
        images=pack_images([group.prompt for group in groups], family),
        scored_S=scored_S,
        targets_S=torch.cat([completion.tokens_T for completion in completions]),
        group_S=group_S,
        completion_S=slot_S % G,
        token_S=token_S,
        sampled_logprobs_S=torch.cat([completion.logprobs_T for completion in completions]).float(),
        groups=tuple(groups),
    )


def pack_prompts(
    prompts: Sequence[EncodedPrompt], family: Family
) -> tuple[torch.Tensor, torch.Tensor, GroupLayout, torch.Tensor]:
    """The row of prompts alone, for prefill: input_ids_L, positions_AL, layout, the last place of each prompt (N)."""
    row = _Row(prompts, torch.zeros((len(prompts), 0), dtype=torch.int64), family)
    row.fill([])
    return row.input_ids_L, row.positions_AL, row.layout, row.prompt_end_N


class _Row:
    """Where every token of a row stands. ``inputs_NG`` counts the input tokens of each completion."""

    def __init__(self, prompts: Sequence[EncodedPrompt], inputs_NG: torch.Tensor, family: Family) -> None:
        N, G = inputs_NG.shape
        self.prompts = prompts
        prompt_lengths_N = torch.tensor([prompt.length for prompt in prompts])
        segments = torch.cat((prompt_lengths_N[:, None], inputs_NG), dim=1)  # (N, 1 + G), in the order of the row
        starts = (segments.flatten().cumsum(0) - segments.flatten()).view(N, 1 + G)
        self.start_NG = starts[:, 1:]
        self.prompt_end_N = starts[:, 0] + prompt_lengths_N - 1

        segment_L = torch.arange(segments.numel()).repeat_interleave(segments.flatten())
        offset_L = torch.arange(len(segment_L)) - starts.flatten()[segment_L]
        group_L, part_L = segment_L // (1 + G), segment_L % (1 + G)
        self.is_prompt_L = part_L == 0

        P, T = int(prompt_lengths_N.max()), int(inputs_NG.max()) if G else 0
        place_L = torch.where(
            self.is_prompt_L, group_L * P + offset_L, N * P + (group_L * G + part_L - 1) * T + offset_L
        )
        pad_index_M = torch.zeros(N * P + N * G * T, dtype=torch.int64)
        pad_index_M[place_L] = torch.arange(len(place_L))
        self.layout = GroupLayout(
            pad_index_M=pad_index_M,
            unpad_index_L=place_L,
            prompt_lengths_N=prompt_lengths_N,
            P=P,
            G=G,
            T=T,
            lengths=segments,
        )

        positions = [prompt_positions(prompt, family) for prompt in prompts]
        # M-RoPE: text after an image goes on from the largest position on any axis.
        next_N = torch.stack([each.max() for each in positions]) + 1
        self.positions_AL = (next_N[group_L] + offset_L).repeat(family.axes, 1)
        self.positions_AL[:, self.is_prompt_L] = torch.cat(positions, dim=1)

    def fill(self, inputs: Sequence[torch.Tensor]) -> None:
        self.input_ids_L = torch.empty(len(self.is_prompt_L), dtype=torch.int64)
        self.input_ids_L[self.is_prompt_L] = torch.cat([prompt.input_ids_P for prompt in self.prompts])
        if inputs:
            self.input_ids_L[~self.is_prompt_L] = torch.cat(list(inputs))


def prompt_positions(prompt: EncodedPrompt, family: Family) -> torch.Tensor:
    """positions_AP of a prompt; one without images may leave them out."""
    if prompt.positions_AP is not None:
        return prompt.positions_AP
    assert not (prompt.pixel_inputs and family.axes == 3), "M-RoPE positions come from ChatProcessor.encode"
    return torch.arange(prompt.length).expand(family.axes, -1)


def pack_images(prompts: Sequence[EncodedPrompt], family: Family) -> PackedImages | None:
    """The images of ``prompts``, those with the very same pixel tensor once. None where no prompt has any."""
    first: dict[int, int] = {}
    distinct: list[Mapping[str, torch.Tensor]] = []
    entries = []
    for prompt in prompts:
        if not prompt.pixel_inputs:
            continue
        entry = first.setdefault(id(prompt.pixel_inputs["pixel_values"]), len(distinct))
        if entry == len(distinct):
            distinct.append(prompt.pixel_inputs)
        entries.append(entry)
    if not distinct:
        return None

    def join(sets: Sequence[Mapping[str, torch.Tensor]], names: Iterable[str]) -> dict[str, torch.Tensor]:
        return {
            name: torch.cat([each[name] for each in sets], dim=family.pixel_axes[name])
            for name in names
            if name in distinct[0]
        }

    return PackedImages(
        inputs=join(distinct, family.pixel_axes),
        shown=join([distinct[entry] for entry in entries], family.shown),
        sources=tuple(each["pixel_values"] for each in distinct),
        entries=tuple(entries),
        pieces=tuple(int(each["pixel_values"].shape[family.pixel_axes["pixel_values"]]) for each in distinct),
    )


def group_tokens(group: Group) -> int:
    """Input tokens of a group in a row: its prompt once, and each completion without its last token."""
    return group.prompt.length + sum(completion.length - 1 for completion in group.completions)


def split_groups(groups: Sequence[Group], token_budget: int) -> list[list[Group]]:
    """Micro-batches of at most ``token_budget`` input tokens, in order; a group above it stands alone."""
    batches: list[list[Group]] = []
    room = 0
    for group in groups:
        tokens = group_tokens(group)
        if not batches or tokens > room:
            batches.append([])
            room = token_budget
        batches[-1].append(group)
        room -= tokens
    return batches
