"""Where every token of a packed row stands, at which position, and in which place of attention's rectangles."""

from collections.abc import Sequence

import torch

from curr_reft.policy.attention import GroupLayout, Rests
from curr_reft.policy.beginnings import find_trunks
from curr_reft.policy.families import Family
from curr_reft.policy.types import EncodedPrompt


class Row:
    """Where every token of a row stands. ``inputs_NG`` counts the input tokens of each completion.

    Its parts, in order: for every trunk what its prompts share, then for each of them the rest of the prompt and the
    completions. Where no prompt shares anything, prompts are their own trunks and no rest is cut off; where some do,
    the last token of each of the others is its rest, so that every prompt has one.
    """

    def __init__(self, prompts: Sequence[EncodedPrompt], inputs_NG: torch.Tensor, family: Family) -> None:
        N, G = inputs_NG.shape
        self.prompts = prompts
        trunks = find_trunks(prompts)
        self.shares = len(trunks) < N
        self.order = [place for trunk in trunks for place in trunk.members]  # of the prompts in the row
        first = [trunk.members[0] for trunk in trunks]
        self.shown = [prompts[place] for place in first]  # one prompt for each trunk, in the order of the row

        # Of each prompt: its trunk, the tokens it shares, those it does not.
        self.trunk_N, self.common_N = torch.zeros((2, N), dtype=torch.int64)
        for number, trunk in enumerate(trunks):
            self.trunk_N[list(trunk.members)] = number
            self.common_N[list(trunk.members)] = trunk.length - int(self.shares and len(trunk.members) == 1)
        self.lengths_N = torch.tensor([prompt.length for prompt in prompts])
        self.rest_N = self.lengths_N - self.common_N
        first_N = torch.zeros(N, dtype=torch.bool)
        first_N[first] = True

        # Segments, (N, 2 + G): what a prompt shares (it stands with the first of its trunk), its rest, its completions.
        order = torch.tensor(self.order)
        counts = torch.cat(((self.common_N * first_N)[:, None], self.rest_N[:, None], inputs_NG), dim=1)[order]
        starts = (counts.flatten().cumsum(0) - counts.flatten()).view(N, 2 + G)
        segment_L = torch.arange(counts.numel()).repeat_interleave(counts.flatten())
        self.offset_L = torch.arange(len(segment_L)) - starts.flatten()[segment_L]
        self.group_L, self.part_L = order[segment_L // (2 + G)], segment_L % (2 + G)
        self.is_prompt_L = self.part_L < 2

        starts = torch.empty_like(starts).index_copy_(0, order, starts)  # in the order of the prompts
        self.start_NG, self.rest_start_N = starts[:, 2:], starts[:, 1]
        self.common_start_N = starts[first, 0][self.trunk_N]
        end_N = torch.where(self.rest_N > 0, self.rest_start_N + self.rest_N, self.common_start_N + self.common_N)
        self.prompt_end_N = end_N - 1

        segment_N = torch.empty_like(order).index_copy_(0, order, torch.arange(N)) * (2 + G)  # a prompt's first one
        above = torch.stack((torch.full((N,), -1), segment_N[first][self.trunk_N]), dim=1)[order]
        parents = torch.cat((above, (segment_N[order] + 1)[:, None].expand(N, G)), dim=1)
        self.layout = self._find_layout(inputs_NG, counts.flatten(), parents.flatten())

        positions = [prompt_positions(prompt, family) for prompt in prompts]
        # M-RoPE: text after an image goes on from the largest position on any axis.
        next_N = torch.stack([each.max() for each in positions]) + 1
        self.positions_AL = (next_N[self.group_L] + self.offset_L).repeat(family.axes, 1)
        # Of a prompt, what stands in the row at its own place: all of the first of a trunk, the rest of the others.
        self.skipped = (self.common_N * ~first_N).tolist()
        self.positions_AL[:, self.is_prompt_L] = torch.cat(
            [positions[place][:, self.skipped[place] :] for place in self.order], dim=1
        )

    def fill(self, inputs: Sequence[Sequence[torch.Tensor]]) -> None:
        """``inputs``: of each prompt, the input tokens of its completions."""
        self.input_ids_L = torch.empty(len(self.is_prompt_L), dtype=torch.int64)
        self.input_ids_L[self.is_prompt_L] = torch.cat(
            [self.prompts[place].input_ids_P[self.skipped[place] :] for place in self.order]
        )
        completions = [tokens_T for place in self.order for tokens_T in inputs[place]]
        if completions:
            self.input_ids_L[~self.is_prompt_L] = torch.cat(completions)

    def _find_layout(self, inputs_NG: torch.Tensor, lengths: torch.Tensor, parents: torch.Tensor) -> GroupLayout:
        N, G = inputs_NG.shape
        P, T = int(self.lengths_N.max()), int(inputs_NG.max()) if G else 0
        B, Q = int(self.common_N.max()), int(self.rest_N.max())
        trunks = int(self.trunk_N.max()) + 1
        trunk_L = self.trunk_N[self.group_L]
        before_rests = trunks * B
        before_completions = before_rests + N * Q
        place_L = self.offset_L + torch.where(
            self.part_L == 0,
            trunk_L * B,
            torch.where(
                self.part_L == 1,
                before_rests + self.group_L * Q,
                before_completions + (self.group_L * G + self.part_L - 2) * T,
            ),
        )
        pad_index_M = torch.zeros(before_completions + N * G * T, dtype=torch.int64)
        pad_index_M[place_L] = torch.arange(len(place_L))
        return GroupLayout(
            pad_index_M=pad_index_M,
            unpad_index_L=place_L,
            prompt_lengths_N=self.lengths_N,
            P=P,
            G=G,
            T=T,
            lengths=lengths,
            parents=parents,
            rests=self._find_rests(trunks, B, Q, P) if self.shares else None,
        )

    def _find_rests(self, trunks: int, B: int, Q: int, P: int) -> Rests:
        place_P = torch.arange(P)
        token_NP = torch.where(
            place_P < self.common_N[:, None],
            self.common_start_N[:, None] + place_P,
            (self.rest_start_N - self.common_N)[:, None] + place_P,
        )
        taken_NP = place_P < self.lengths_N[:, None]
        token_NP = token_NP * taken_NP
        number_N = torch.zeros_like(self.trunk_N)  # of a prompt in its trunk
        for trunk in range(trunks):
            members_N = self.trunk_N == trunk
            number_N[members_N] = torch.arange(int(members_N.sum()))
        copies = []
        for number in range(int(number_N.max()) + 1):
            places = torch.nonzero((taken_NP & (number_N == number)[:, None]).flatten())[:, 0]
            copies.append((token_NP.flatten()[places], places))
        return Rests(trunks=trunks, B=B, Q=Q, common_N=self.common_N, token_NP=token_NP, copies=tuple(copies))


def prompt_positions(prompt: EncodedPrompt, family: Family) -> torch.Tensor:
    """positions_AP of a prompt; one without images may leave them out."""
    if prompt.positions_AP is not None:
        return prompt.positions_AP
    assert not (prompt.pixel_inputs and family.axes == 3), "M-RoPE positions come from ChatProcessor.encode"
    return torch.arange(prompt.length).expand(family.axes, -1)
