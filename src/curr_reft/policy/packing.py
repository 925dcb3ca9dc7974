"""The flat row of several groups: ids, positions, images, what is scored, and which token each score belongs to.

For every group the row holds ``[prompt, c1, ..., cG]`` without padding. Groups that ask about one image share the
beginning of their prompts (``beginnings.py``) and stand together: ``[common, rest 1, c1, ..., cG, rest 2, c1, ...]``.
The last token of a completion is never an input; the last token of a prompt is scored once for each completion.
Supervised examples are groups of one or more given completions.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import torch

from curr_reft.policy.attention import GroupLayout
from curr_reft.policy.beginnings import repeated_tokens, shown_by
from curr_reft.policy.families import Family
from curr_reft.policy.row import Row
from curr_reft.policy.types import EncodedPrompt, Group


@dataclass(frozen=True, kw_only=True)
class PackedImages:
    """The images of the prompts of a row; prompts that show the same pixels share one entry."""

    inputs: dict[str, torch.Tensor]  # of the vision tower, each distinct set of images once
    shown: dict[str, torch.Tensor]  # of these, what the model reads for every place: the inputs in the row's order
    sources: tuple[torch.Tensor, ...]  # the pixels of each distinct set as the processor made them: what it is known by
    entries: tuple[int, ...]  # for each prompt with images, in order: which set
    pieces: tuple[int, ...]  # rows of pixel_values (patches or tiles) of each set
    counts: tuple[int, ...]  # images of each set, where the model reads something of every image (``Family.shown``)

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
    row = Row([group.prompt for group in groups], (lengths_NG - 1).clamp(min=0), family)
    row.fill([[completion.tokens_T[:-1] for completion in group.completions] for group in groups])

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
        images=pack_images(row.shown, family),
        scored_S=scored_S,
        targets_S=torch.cat([c.tokens_T for group in groups for c in group.completions]),
        group_S=group_S,
        completion_S=slot_S % G,
        token_S=token_S,
        sampled_logprobs_S=torch.cat([c.logprobs_T for group in groups for c in group.completions]).float(),
        groups=tuple(groups),
    )


@dataclass(frozen=True, kw_only=True)
class PackedPrompts:
    """The row of prompts alone, for prefill."""

    input_ids_L: torch.Tensor  # int64
    positions_AL: torch.Tensor  # int64
    layout: GroupLayout
    images: PackedImages | None
    end_N: torch.Tensor  # int64: the last place of each prompt


def pack_prompts(prompts: Sequence[EncodedPrompt], family: Family) -> PackedPrompts:
    """The row of all ``prompts``."""
    row = Row(prompts, torch.zeros((len(prompts), 0), dtype=torch.int64), family)
    row.fill([[] for _ in prompts])
    return PackedPrompts(
        input_ids_L=row.input_ids_L,
        positions_AL=row.positions_AL,
        layout=row.layout,
        images=pack_images(row.shown, family),
        end_N=row.prompt_end_N,
    )


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
        counts=tuple(len(each[family.shown[0]]) for each in distinct) if family.shown else (),
    )


def group_tokens(group: Group) -> int:
    """Input tokens of a group in a row: its prompt once, and each completion without its last token."""
    return group.prompt.length + sum(completion.length - 1 for completion in group.completions)


def row_tokens(groups: Sequence[Group]) -> int:
    """Input tokens of the row of ``groups``: what their prompts share once."""
    return sum(map(group_tokens, groups)) - repeated_tokens([group.prompt for group in groups])


def split_groups(groups: Sequence[Group], token_budget: int) -> list[list[Group]]:
    """Micro-batches of at most ``token_budget`` input tokens, in order; a group above it stands alone.

    Neighbours that show one image stay in one micro-batch wherever that can hold them.
    """
    batches: list[list[Group]] = []
    room = 0
    for _, members in groupby(groups, key=lambda group: shown_by(group.prompt)):
        for part in _fitting(list(members), token_budget):
            tokens = row_tokens(part)
            if not batches or tokens > room:
                batches.append([])
                room = token_budget
            batches[-1] += part
            room -= tokens
    return batches


def _fitting(groups: list[Group], token_budget: int) -> list[list[Group]]:
    """The groups of one image in parts of at most ``token_budget`` tokens."""
    parts = [groups[:1]]
    for group in groups[1:]:
        if row_tokens([*parts[-1], group]) <= token_budget:
            parts[-1].append(group)
        else:
            parts.append([group])
    return parts
