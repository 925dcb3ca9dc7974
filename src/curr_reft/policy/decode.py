"""Attention of decoding: one token a row, for completions whose prompts' keys and values are kept once.

Rows stand in a rectangle of N groups x W rows. Queries of a group are folded together for the prompt's part of
attention; every row has its own preallocated suffix. Rows that have ended leave the batch; where groups are then of
different size, some places of the rectangle are empty, and only attention computes them.
"""

from collections.abc import Mapping

import torch


class DecodeLayout:
    """The layout of a decode step: A active rows, one token each (letters as in CONTRIBUTING.md; R heads a key head).

    Rows start as N groups of G in order. ``keep`` drops rows, and groups without rows.
    """

    def __init__(
        self,
        prefix: Mapping[int, tuple[torch.Tensor, torch.Tensor]],  # layer -> keys, values (N, K, P, D)
        prompt_lengths_N: torch.Tensor,
        group_size: int,
        max_new_tokens: int,
    ) -> None:
        keys = next(iter(prefix.values()))[0]
        N, K, P, D = keys.shape
        self.prefix = prefix
        hidden = torch.arange(P, device=keys.device) >= prompt_lengths_N[:, None]
        self.prefix_mask = keys.new_zeros((N, 1, 1, P)).masked_fill_(hidden[:, None, None], -torch.inf)
        self.padded = bool(hidden.any())
        self.suffix = {
            layer: tuple(keys.new_empty((N, K, group_size, max_new_tokens, D)) for _ in range(2)) for layer in prefix
        }
        self.rows = N * group_size
        self.step = 0
        self.group_of = [n for n in range(N) for _ in range(group_size)]  # of each active row
        self.width = group_size
        # Place of each row in the rectangle of groups x width; none: all places are taken, in order.
        self.slot_A: torch.Tensor | None = None

    def attend(
        self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float
    ) -> torch.Tensor:
        """As transformers calls it: query (1, H, A, D), key and value (1, K, A, D), rotated -> (1, A, H, D)."""
        query, key, value = (states[0].transpose(0, 1) for states in (query, key, value))
        return self.attend_rows(layer, query, key, value, scale)[None]

    def attend_rows(
        self, layer: int, query_AHD: torch.Tensor, key_AKD: torch.Tensor, value_AKD: torch.Tensor, scale: float
    ) -> torch.Tensor:
        """One token a row -> (A, H, D)."""
        prefix_k, prefix_v = self.prefix[layer]
        N, K, P, D = prefix_k.shape
        H = query_AHD.shape[1]
        R, W, T = H // K, self.width, self.step + 1
        suffix_k, suffix_v = self.suffix[layer]
        suffix_k[:, :, :, self.step] = self._to_rectangle(key_AKD).view(N, W, K, D).transpose(1, 2)
        suffix_v[:, :, :, self.step] = self._to_rectangle(value_AKD).view(N, W, K, D).transpose(1, 2)
        query = (
            self._to_rectangle(query_AHD).mul(scale).view(N, W, K, R, D).transpose(1, 2).contiguous()
        )  # (N, K, W, R, D)

        own_k, own_v = (states[:, :, :, :T].flatten(0, 2) for states in (suffix_k, suffix_v))  # (N*K*W, T, D)
        scores_prefix = query.view(N, K, W * R, D) @ prefix_k.transpose(2, 3)
        if self.padded:
            scores_prefix += self.prefix_mask
        scores_own = query.view(N * K * W, R, D) @ own_k.transpose(1, 2)
        scores = torch.cat((scores_prefix.view(-1, R, P), scores_own), dim=-1)
        weights = scores.softmax(-1, dtype=torch.float32).to(query.dtype)
        out = weights[..., :P].unflatten(0, (N * K, W)).flatten(1, 2) @ prefix_v.flatten(0, 1)
        out = torch.baddbmm(out.view(-1, R, D), weights[..., P:], own_v)
        return self._to_rows(out.view(N, K, W, R, D).transpose(1, 2).reshape(N * W, H, D))

    def _to_rectangle(self, rows: torch.Tensor) -> torch.Tensor:
        if self.slot_A is None:
            return rows
        places = rows.new_zeros((len(self.prefix_mask) * self.width, *rows.shape[1:]))
        return places.index_copy_(0, self.slot_A, rows)

    def _to_rows(self, places: torch.Tensor) -> torch.Tensor:
        return places if self.slot_A is None else places.index_select(0, self.slot_A)

    def keep(self, rows: list[int]) -> None:
        """Goes on with the active rows numbered ``rows`` (ascending)."""
        device = self.prefix_mask.device
        old_slots = list(range(self.rows)) if self.slot_A is None else self.slot_A.tolist()
        old_groups = [self.group_of[row] for row in rows]
        groups = sorted(set(old_groups))
        number = {group: n for n, group in enumerate(groups)}
        self.group_of = [number[group] for group in old_groups]
        counts = [0] * len(groups)
        slots = []
        for group in self.group_of:
            slots.append((group, counts[group]))
            counts[group] += 1
        width = max(counts)

        # From which old place each new one comes; an empty one copies any of its group, and nothing reads it.
        source_NW = torch.zeros((len(groups), width), dtype=torch.int64)
        for row, (group, place) in zip(rows, slots, strict=True):
            source_NW[group, place] = old_slots[row] % self.width
        kept, source_NW = torch.tensor(groups, device=device), source_NW.to(device)
        self.suffix = {
            layer: tuple(_regroup(states, kept, source_NW, self.step) for states in pair)
            for layer, pair in self.suffix.items()
        }
        if len(groups) < len(self.prefix_mask):
            self.prefix_mask = self.prefix_mask[kept]
            self.prefix = {layer: (keys[kept], values[kept]) for layer, (keys, values) in self.prefix.items()}
        self.width, self.rows = width, len(rows)
        full = len(rows) == width * len(groups)
        self.slot_A = None if full else torch.tensor([group * width + place for group, place in slots], device=device)


def _regroup(states: torch.Tensor, kept: torch.Tensor, source_NW: torch.Tensor, steps: int) -> torch.Tensor:
    """states (N, K, W, T, D), the first ``steps`` tokens written -> the same of the kept groups and rows."""
    _, K, _, T, D = states.shape
    N, W = source_NW.shape
    written = states[kept][:, :, :, :steps]
    index = source_NW[:, None, :, None, None].expand(N, K, W, steps, D)
    made = states.new_empty((N, K, W, T, D))
    made[:, :, :, :steps] = written.gather(2, index)
    return made
